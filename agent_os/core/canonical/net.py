"""Hosts, addresses and HTTP request parts. Pure: nothing is resolved here."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import idna

from agent_os.core.canonical.texts import text
from agent_os.core.errors import ActionError


def host(value: Any, *, field: str = "host") -> str:
    """Return a host name in lower-case A-label form without trailing dot, or a canonical IP literal."""
    raw = text(value, field=field).strip().rstrip(".")
    if not raw:
        raise ActionError("must be a host name", field=field)
    try:
        return str(ipaddress.ip_address(raw.strip("[]")))
    except ValueError:
        pass
    try:
        return raw.lower() if raw.isascii() else idna.encode(raw, uts46=True).decode()
    except idna.IDNAError:
        raise ActionError("is not a valid host name", field=field) from None


def ip(value: Any, *, field: str = "ip") -> str:
    """Return a canonical IP address; IPv4-mapped IPv6 becomes IPv4."""
    try:
        address = ipaddress.ip_address(text(value, field=field))
    except ValueError:
        raise ActionError("is not an IP address", field=field) from None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def method(value: Any, *, field: str = "method") -> str:
    """Return an HTTP method token; methods are case-sensitive (RFC 9110, 9.1)."""
    return text(value, field=field)


def request_path(value: Any, *, field: str = "path") -> str:
    """Return a canonical request path."""
    return unquote(text(value, field=field)) or "/"


def query(value: Any, *, field: str = "query") -> dict[str, list[str]]:
    """Return decoded query parameters, name -> values in order."""
    if not isinstance(value, Mapping):
        raise ActionError("must be an object of lists of strings", field=field)
    return {str(key): [str(item) for item in (items if isinstance(items, list) else [items])] for key, items in value.items()}


def headers(value: Any, *, field: str = "headers") -> dict[str, str]:
    """Return headers with lower-case names."""
    if not isinstance(value, Mapping):
        raise ActionError("must be an object of strings", field=field)
    return {str(key).lower(): str(item) for key, item in value.items()}
