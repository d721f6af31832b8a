"""URLs: parsed once, into parts that are each canonical, or refused. Pure.

Threat: parsers that disagree about where the host ends (`https://good:x@evil/`, `https://good\\@evil/`,
`https:evil`, tabs and newlines inside), so that one host is judged and another one is called.
Sources: RFC 3986, the WHATWG URL standard (what it repairs is refused here), the SSRF research of Orange Tsai (2017).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from agent_os.core.canonical.hosts import host
from agent_os.core.canonical.requests import MAX_TARGET_CHARS, parse_query, request_path
from agent_os.core.errors import ActionError

DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL)
_AUTHORITY: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]*))?")


@dataclass(frozen=True, slots=True)
class Url:
    """A URL in canonical parts; `str()` gives it back. The fragment is never sent and is dropped."""

    scheme: str
    host: str
    port: int
    path: str = "/"
    query: str = ""
    """The query as it is sent, after checking that it decodes one way."""
    parameters: dict[str, list[str]] = field(default_factory=dict, compare=False)

    @property
    def authority(self) -> str:
        """Host and, where it is not the scheme's default, the port; IPv6 in brackets."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if DEFAULT_PORTS.get(self.scheme) == self.port else f"{name}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}" + (f"?{self.query}" if self.query else "")


def url(value: Any, *, field: str = "url") -> Url:
    """Return the parts of an absolute http, https, ws or wss URL.

    Raises ActionError for user information, backslashes, spaces and control characters, other schemes, a missing host,
    an empty or out-of-range port, and whatever the canonical forms of host, path and query refuse.
    """
    if not isinstance(value, str) or len(value) > MAX_TARGET_CHARS:
        raise ActionError(f"must be a string of at most {MAX_TARGET_CHARS} characters", field=field)
    if any(char <= " " or char == "\x7f" for char in value):
        raise ActionError("holds a space or control character", field=field)
    if "\\" in value:
        raise ActionError("holds a backslash", field=field, hint="some parsers read it as '/'")
    parts = _URL.fullmatch(value)
    if parts is None:
        raise ActionError("must be an absolute URL", field=field, hint="scheme://host/path")
    scheme = parts[1].lower()
    if scheme not in DEFAULT_PORTS:
        raise ActionError("has a foreign scheme", field=field, hint="one of " + ", ".join(DEFAULT_PORTS))
    name, port = split_authority(parts[2], field=field)
    raw_query = parts[4] or ""
    if not raw_query.isascii():
        raw_query = "".join(c if c < "\x80" else "".join(f"%{b:02X}" for b in _utf8(c, field)) for c in raw_query)
    return Url(
        scheme=scheme,
        host=name,
        port=port or DEFAULT_PORTS[scheme],
        path=request_path(parts[3] or "/", field=field),
        query=raw_query,
        parameters=parse_query(raw_query, field=field),
    )


def _utf8(char: str, field: str) -> bytes:
    try:
        return char.encode()
    except UnicodeEncodeError:
        raise ActionError("holds a lone surrogate", field=field) from None


def split_authority(value: str, *, field: str = "host") -> tuple[str, int]:
    """Return the canonical host and the port (0: none given) of `host[:port]`. User information is refused."""
    if "@" in value:
        raise ActionError("holds user information", field=field, hint="credentials belong into the policy")
    parts = _AUTHORITY.fullmatch(value)
    if parts is None or not parts[1]:
        raise ActionError("must be host or host:port", field=field)
    if parts[2] is None:
        return host(parts[1], field=field), 0
    if not parts[2] or len(parts[2]) > 5 or not 0 < int(parts[2]) <= 65535:
        raise ActionError("has a port out of range", field=field)
    return host(parts[1], field=field), int(parts[2])
