"""From a parsed head and body to the NetRequest that is judged, and from the admitted one to what is sent. Pure.

The path is canonical before it is judged and is sent as judged; the query is sent as it came after it was shown to
decode one way only. Bodies are read as JSON where they say so; duplicate keys, which two parsers read differently,
are refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from agent_os.core import canonical
from agent_os.core.action import NetRequest
from agent_os.core.errors import ActionError
from agent_os.core.principal import Principal
from agent_os.effects.proxy.http1 import Head, HttpError, forwarded
from agent_os.guards.egress.overrides import check_overrides

LOGGED_URL_CHARS_MAX: Final = 500
"""Characters of a request's place in the flow log."""
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_CHARSET: Final = re.compile(r"(?i)charset\*?\s*=\s*[\"']?([^\s;\"',]*)")
_UTF8: Final = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
_LIKE_ASCII: Final = ("iso-8859-", "iso8859-", "latin1", "latin-1", "windows-125", "cp125")
"""Charsets in which ASCII bytes are ASCII."""
NOT_JUDGED: Final = ("host", "authorization", "cookie", "x-api-key", "api-key")
"""Credentials never enter an action: it is recorded, and shown to approvers."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Where a request goes and what it names there; every part canonical."""

    host: str
    port: int
    path: str
    query: str | None
    scheme: str

    @property
    def target(self) -> str:
        """The origin-form target that is sent."""
        return self.path if self.query is None else f"{self.path}?{self.query}"

    @property
    def authority(self) -> str:
        """The Host field that is sent."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if DEFAULT_PORTS[self.scheme] == self.port else f"{name}:{self.port}"

    @property
    def url(self) -> str:
        """What the flow log says of it: no query, and of a long path the beginning."""
        return f"{self.scheme}://{self.authority}{self.path}"[:LOGGED_URL_CHARS_MAX]


def read_absolute(head: Head) -> tuple[str, int]:
    """Return host and port of an absolute-form `http` target whose Host field agrees. Raises HttpError."""
    if not head.target[:7].lower() == "http://":
        raise HttpError("a proxy request needs an absolute http target; https goes through CONNECT")
    try:
        authority = canonical.request_target(head.target, allow_encoded_slash=True).authority
        host, port = canonical.split_authority(authority, field="target")
        named = canonical.split_authority(head.get("host"), field="host") if head.has("host") else (host, port)
    except ActionError as error:
        raise HttpError(str(error)) from None
    if named[0] != host or (named[1] or 80) != (port or 80):
        raise HttpError("the Host field and the target name different hosts")
    return host, port or 80


def read_asked(head: Head, *, scheme: str, host: str, port: int, encoded_slash: bool) -> Asked:
    """Return what a request asks of the judged destination. Raises HttpError: 421 when it names another host."""
    try:
        target = canonical.request_target(head.target, allow_encoded_slash=encoded_slash)
        if not head.target.startswith("/") and not target.authority:
            raise HttpError("the target is neither a path nor absolute")
        for authority in (head.get("host"), target.authority):
            if not authority:
                continue
            name, given = canonical.split_authority(authority, field="host")
            if name != host or given not in (0, port):
                raise HttpError("the Host field is not the host that was judged", 421)
    except ActionError as error:
        raise HttpError(str(error)) from None
    if target.authority and head.target.partition(":")[0].lower() != scheme:
        raise HttpError("the target has another scheme than the connection", 421)
    check_overrides(head.fields, method=head.method, path=target.path, query=target.query, host=host, port=port)
    return Asked(host, port, target.path, target.query, scheme)


def plan_action(
    asked: Asked, head: Head, principal: Principal, *, body: bytes | None, size: int, method: str = ""
) -> NetRequest:
    """Return the action to be judged. `body` is None when it is streamed unread. Raises HttpError for ambiguity."""
    try:
        query = canonical.parse_query(asked.query) if asked.query else {}
        headers = dict[str, str]()
        for name, value in forwarded(head, NOT_JUDGED):
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return NetRequest(
            principal=principal,
            host=asked.host,
            port=asked.port,
            method=method or head.method,
            path=asked.path,
            scheme=asked.scheme,
            query=query,
            headers=headers,
            body=read_body(body, head.get("content-type")) if body else None,
            body_digest="sha256:" + hashlib.sha256(body).hexdigest() if body else "",
            size=size,
        )
    except ActionError as error:
        raise HttpError(str(error)) from None


def is_json(content_type: str) -> bool:
    """Whether a content type says JSON."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def read_body(body: bytes, content_type: str) -> Any:
    """Return a body as plain JSON where it is JSON, as text where it is UTF-8, else None. Raises HttpError.

    A `charset` that reads these bytes otherwise (UTF-7 is ASCII that says something else, UTF-16 is full of NUL) makes it no
    text: a server that follows it would read another body than the one that is judged.
    """
    text = _text(body, content_type)
    if text is None:
        if is_json(content_type):
            raise HttpError("the body says json and is not utf-8")
        return None
    if not is_json(content_type):
        return text
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
        return canonical.json_value(value, field="body")
    except (ValueError, RecursionError, ActionError) as error:
        reason = str(error) if isinstance(error, HttpError | ActionError) else "the body says json and is not"
        raise HttpError(reason) from None


def _text(body: bytes, content_type: str) -> str | None:
    stated = _CHARSET.findall(content_type)
    for charset in stated:
        plain = charset.lower() in _UTF8 or (charset.lower().startswith(_LIKE_ASCII) and body.isascii())
        if not plain:
            return None
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise HttpError("the body repeats a key of a json object")
    return result


def _refuse_constant(name: str) -> Any:
    raise HttpError(f"the body holds {name}, which is not json")


def sent_fields(final: Mapping[str, Any], judged: Mapping[str, Any], head: Head) -> list[tuple[str, str]]:
    """Return the fields to send: as they came, or, of those that were judged, as a rewrite left them."""
    came = forwarded(head, ("host",))
    if final is judged or final == judged:
        return came
    kept = [(name, value) for name, value in came if final.get(name) == judged.get(name)]
    return kept + [(name, str(value)) for name, value in final.items() if judged.get(name) != value]


def sent_target(final: NetRequest, judged: NetRequest, asked: Asked) -> str:
    """Return the target to send: as judged, or written anew from a rewritten action."""
    if final.path == judged.path and final.query == judged.query:
        return asked.target
    pairs = [
        f"{quote(name, safe='')}={quote(str(value), safe='')}"
        for name, values in final.query.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    return final.path + ("?" + "&".join(pairs) if pairs else "")


def sent_body(final: NetRequest, judged: NetRequest, body: bytes) -> bytes:
    """Return the body to send: the same bytes, or a rewritten body in canonical form."""
    if final.body == judged.body:
        return body
    if final.body is None:
        return b""
    return final.body.encode() if isinstance(final.body, str) else canonical.json_bytes(final.body)
