"""From what was read off the wire to actions that policy judges: requests and WebSocket messages. Pure.

The action holds canonical values; whoever sends the request sends these (the canonical path, one Host), so that the
thing judged is the thing sent. Threat: a Host that is not the destination, a body that says something else than the
check saw, a WebSocket that was opened as a harmless GET and then carries commands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from agent_os.core import canonical
from agent_os.core.action import NetRequest
from agent_os.core.errors import ActionError
from agent_os.core.principal import ANONYMOUS, Principal
from agent_os.guards.egress.http1 import HttpError, RequestHead
from agent_os.policy.network.graphql import classify, classify_message
from agent_os.policy.network.jsonrpc import BodyError, parse_messages, receive_stream

TEXT_METHOD: Final = "WEBSOCKET_TEXT"
"""The method under which rules speak of WebSocket text messages."""


def request_action(
    head: RequestHead,
    *,
    host: str,
    port: int,
    scheme: str = "https",
    body: bytes | None = None,
    inspection: Mapping[str, Any] | None = None,
    principal: Principal = ANONYMOUS,
) -> NetRequest:
    """Return the action of one request towards a destination that is already known (the tunnel's, or the target's).

    `inspection` is how the destination is looked at (see `policy.network`: `inspections`); with protocol json-rpc, mcp
    or graphql the body is parsed, and what cannot be read becomes an `error` that no rule allows. `body` is the whole
    body, decoded of its transfer coding. Raises HttpError when Host or target name another destination, and for
    content codings and multipart bodies where a body must be read.
    """
    inspection = inspection or {}
    try:
        host = canonical.host(host)
        _check_destination(head, host, port, scheme)
        target = canonical.request_target(head.target, allow_encoded_slash=True)
        query = canonical.parse_query(target.query or "")
        method = canonical.method(head.method)
    except ActionError as error:
        raise HttpError(str(error)) from None
    protocol = str(inspection.get("protocol", ""))
    if body and protocol in ("json-rpc", "mcp", "graphql"):
        _check_readable(head)
    return NetRequest(
        principal=principal,
        host=host,
        port=port,
        scheme=scheme,
        method=method,
        path=target.path,
        query=query,
        headers=_judged_fields(head),
        jsonrpc=_jsonrpc(protocol, head, body or b"") if protocol in ("json-rpc", "mcp") else None,
        graphql=classify(method, query, body or b"") if protocol == "graphql" else None,
        body_digest="sha256:" + hashlib.sha256(body).hexdigest() if body else "",
        size=len(body or b""),
    )


_JUDGED: Final = frozenset({"accept", "content-type", "user-agent", "upgrade", "origin"})


def _judged_fields(head: RequestHead) -> dict[str, str]:
    """Fields that rules may look at; credentials and cookies never enter an action."""
    return {name: head.get(name) for name, _ in head.fields if name in _JUDGED}


def _check_destination(head: RequestHead, host: str, port: int, scheme: str) -> None:
    if not head.authority:
        if head.minor == 1:
            raise HttpError("request names no host")
        return
    name, given = canonical.split_authority(head.authority)
    default = 443 if scheme in ("https", "wss") else 80
    if name != host or (given or default) != port:
        raise HttpError("request names another destination than its connection", 421)


def _check_readable(head: RequestHead) -> None:
    if head.get("content-encoding").lower() not in ("", "identity"):
        raise HttpError("body has a content coding and must be inspected", 415)
    if head.get("content-type").lower().startswith("multipart/"):
        raise HttpError("body is multipart and must be inspected", 415)


def _jsonrpc(protocol: str, head: RequestHead, body: bytes) -> Any:
    if head.method == "GET" and not body:
        return receive_stream(head.get("accept"))
    try:
        return parse_messages(body, mcp=protocol == "mcp")
    except BodyError as error:
        return {"method": None, "error": str(error)}


def message_action(opened: NetRequest, text: str, *, graphql: bool = False) -> NetRequest | None:
    """Return the action of one client text message on a WebSocket that `opened` opened.

    `graphql`: the endpoint has rules over operations, so messages are read as GraphQL over WebSocket; None is returned
    for messages of that protocol that carry no operation (connection_init, ping, complete), which may pass.
    """
    info = classify_message(text) if graphql else None
    if graphql and info is None:
        return None
    digest = "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    changed = replace(
        opened, method=TEXT_METHOD, graphql=info, jsonrpc=None, body=None, body_digest=digest, size=len(text)
    )
    return changed


def check_upgrade(head: RequestHead) -> bool:
    """Return whether a request opens a WebSocket. Raises HttpError for a malformed or another upgrade.

    Only version 13 is spoken; extensions must be stripped by whoever forwards the request, so that messages stay
    readable (RFC 6455, 4.1 and 9).
    """
    upgrade = head.get("upgrade").lower()
    tokens = {part.strip().lower() for part in head.get("connection").split(",")}
    if not upgrade and "upgrade" not in tokens:
        return False
    if upgrade != "websocket" or "upgrade" not in tokens:
        raise HttpError("only an upgrade to websocket is spoken", 501)
    if head.method != "GET" or head.chunked or head.length:
        raise HttpError("a WebSocket is opened by GET without a body")
    if head.get("sec-websocket-version") != "13" or len(head.get("sec-websocket-key")) != 24:
        raise HttpError("malformed WebSocket handshake")
    return True
