"""Fields by which servers take another request than the one in the request line: refused where they do not agree. Pure.

Frameworks read a method from `X-HTTP-Method-Override`, a path from `X-Original-URL`, a host from `X-Forwarded-Host`, and those
behind CGI and WSGI take `X_HTTP_Method_Override` for the same field; `Connection` may name fields that end at the next hop, so
that what was judged by them is sent without them; a path that is encoded twice is another one for a server that decodes
twice. Threat: a permitted request that the server carries out as one that is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote

from agent_os.core import canonical
from agent_os.core.errors import ActionError
from agent_os.guards.egress.http1 import HttpError

_METHODS: Final = frozenset(
    {"x-http-method-override", "x-http-method", "x-method-override", "x-original-method", "x-forwarded-method"}
)
_TARGETS: Final = frozenset(
    {"x-original-url", "x-rewrite-url", "x-override-url", "x-original-uri", "x-forwarded-uri", "x-original-path",
     "x-envoy-original-path"}
)  # fmt: skip
_HOSTS: Final = frozenset(
    {"x-forwarded-host", "x-host", "x-original-host", "x-forwarded-server", "x-http-host-override"}
)
_RESERVED: Final = frozenset({"WEBSOCKET_TEXT", "WEBSOCKET_BINARY", "CONNECT"})
"""Methods that rules speak of and no request may have: messages of a WebSocket, and a tunnel inside of a tunnel."""
_END_TO_END: Final = frozenset(
    {"content-type", "content-encoding", "content-length", "host", "authorization", "cookie", "range", "accept",
     "accept-encoding", "origin", "x-api-key", "api-key", *_METHODS, *_TARGETS, *_HOSTS}
)  # fmt: skip
"""Fields that were judged, or that the server's reading rests on: `Connection` may not take them off."""
_LIKE_FRAMING: Final = frozenset({"content_length", "transfer_encoding"})
_SPLIT: Final = re.compile(r"[/\\]")
_FORWARDED: Final = re.compile(r'(?i)(?:^|[;,\s])host\s*=\s*"?([^";,\s]*)')


def check_overrides(
    fields: Iterable[tuple[str, str]], *, method: str, path: str, query: str | None, host: str, port: int
) -> None:
    """Raise HttpError (400) when a request says two different things about its method, path or host."""
    fields = tuple(fields)
    if framing := _LIKE_FRAMING.intersection(name for name, _ in fields):
        raise HttpError(f"{min(framing)} is the framing of a body for some servers")
    fields = _hyphened(fields)
    if method in _RESERVED:
        raise HttpError(f"{method} is no method of a request here")
    if "%25" in path and any(segment in (".", "..") for segment in _SPLIT.split(unquote(unquote(path)))):
        raise HttpError("the path climbs for a server that decodes it twice")
    check_hosts(fields, host=host, port=port)
    present = {name for name, _ in fields}
    for name, value in fields:
        if name in _METHODS and value.strip() != method:
            raise HttpError(f"{name} names another method than the request line: send that method")
        if name in _TARGETS and not _same_target(value.strip(), path, query):
            raise HttpError(f"{name} names another target than the request line: ask for that one")
        if name == "connection":
            taken = {option.strip().lower().replace("_", "-") for option in value.split(",")} & _END_TO_END & present
            if taken:
                raise HttpError(f"connection takes off {sorted(taken)[0]}, which is not of one hop")


def check_hosts(fields: Iterable[tuple[str, str]], *, host: str, port: int) -> None:
    """Raise HttpError (421) when a field beside Host names another host than the judged one."""
    for name, value in _hyphened(fields):
        if name in _HOSTS and not _same_host(value.strip(), host, port):
            raise HttpError(f"{name} names another host than the request", 421)
        if name == "forwarded" and (named := _FORWARDED.search(value)) and not _same_host(named[1], host, port):
            raise HttpError("forwarded names another host than the request", 421)


def _hyphened(fields: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name.replace("_", "-"), value) for name, value in fields)


def _same_target(value: str, path: str, query: str | None) -> bool:
    try:
        target = canonical.request_target(value, allow_encoded_slash=True)
    except ActionError:
        return False
    return not target.authority and target.path == path and (target.query or "") in ("", query or "")


def _same_host(value: str, host: str, port: int) -> bool:
    try:
        name, given = canonical.split_authority(value, field="host")
    except ActionError:
        return False
    return name == host and given in (0, port)
