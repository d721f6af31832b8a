"""WebSocket: the upgrade is a request, every message of the client's is judged as one of its own (RFC 6455).

Text messages are `WEBSOCKET_TEXT` requests to the path of the upgrade, binary ones `WEBSOCKET_BINARY`; an allowed GET
thus opens no unseen channel. Extensions are not offered on, so that nothing is compressed past the judge; pings are
answered here and passed on empty, and a close carries the client's code without its words. Frames are parsed and written
anew by wsproto in both directions.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from typing import Final, Protocol

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, Pong, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from agent_os.core.action import NetRequest
from agent_os.core.errors import DeniedError
from agent_os.core.ports import Admission, Outcome
from agent_os.effects.proxy import answers, http1
from agent_os.effects.proxy.content import (
    Content,
    ContentError,
    run_head_stages,
    run_request_stages,
    run_stages,
    wanted,
)
from agent_os.effects.proxy.destination import Destination
from agent_os.effects.proxy.fill import Resolved, resolve_secrets
from agent_os.effects.proxy.flows import Flow
from agent_os.effects.proxy.http1 import Head, HttpError
from agent_os.effects.proxy.parts import Parts
from agent_os.effects.proxy.request import Asked, plan_action
from agent_os.effects.proxy.response import read_response_head
from agent_os.effects.proxy.route import Account, Route, denied, settle, settle_request
from agent_os.effects.proxy.rules import Treatment
from agent_os.effects.proxy.stream import Stream, StreamClosedError
from agent_os.effects.proxy.upstream import UpstreamError
from agent_os.guards.egress import classify_message
from agent_os.guards.egress.placeholders import PlaceholderError, fill_body, fill_fields, fill_target

PIECES_MAX: Final = 512
"""Pieces of one message that are held before they are put together."""
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_NOT_OFFERED: Final = ("host", "sec-websocket-extensions")
_POLICY_VIOLATION, _TOO_BIG, _BAD_DATA = 1008, 1009, 1007


class Requests(Protocol):
    """What is needed of the client connection that an upgrade came on."""

    parts: Parts
    flow: Flow
    there: Destination

    async def admit(self, action: NetRequest, route: Route, what: str, url: str) -> Admission | None:
        """Admit a request; None for one that is only observed. Raises DeniedError."""
        ...


async def serve_websocket(requests: Requests, head: Head, asked: Asked, route: Route) -> bool:
    """Serve one upgrade request, and the messages after it; False, since the connection is spent then."""
    parts, flow, client = requests.parts, requests.flow, requests.flow.client
    if (
        head.method != "GET"
        or head.length
        or head.get("sec-websocket-version") != "13"
        or not head.get("sec-websocket-key")
    ):
        raise HttpError("malformed websocket upgrade")
    action = plan_action(asked, head, flow.principal, body=None, size=0)
    try:
        await run_request_stages(parts.stages, action, head.fields, parts.limits)
        admission = await requests.admit(action, route, f"websocket {asked.host}", asked.url)
    except ContentError as error:
        decision = parts.refusal(error.rule, error.reason)
        denied(parts, flow, decision, f"websocket {asked.host}", method=head.method, url=asked.url)
        client.write(answers.denial(decision, host=asked.host, port=asked.port))
        return False
    except DeniedError as error:
        client.write(answers.denial(error.decision, host=asked.host, port=asked.port))
        return False
    outcome, began = Outcome(error="broken-off"), Account.of(parts, flow)
    try:
        outcome = await _upgrade(requests, head, asked, route)
    finally:
        await settle_request(parts, flow, admission, outcome, began, method=head.method, url=asked.url)
    return False


async def _upgrade(requests: Requests, head: Head, asked: Asked, route: Route) -> Outcome:
    parts, flow, client = requests.parts, requests.flow, requests.flow.client
    fields = http1.forwarded(head, _NOT_OFFERED)
    try:
        secrets = await resolve_secrets(parts, flow, route, asked.target, fields, b"", scheme=asked.scheme)
        target, fields = fill_target(asked.target, secrets.values), fill_fields(fields, secrets.values)
        upstream = await requests.there.upstream(route)
        upgrade = [("connection", "Upgrade"), ("upgrade", "websocket")]
        upstream.write(http1.write_head(f"GET {target} HTTP/1.1", [("host", asked.authority), *fields, *upgrade]))
        response = await read_response_head(upstream, "GET", parts.limits)
    except DeniedError as error:
        client.write(answers.denial(error.decision, host=asked.host, port=asked.port))
        return Outcome(error="denied")
    except PlaceholderError as error:
        decision = parts.refusal(f"secrets.{error.name}".rstrip("."), str(error))
        denied(parts, flow, decision, "secret")
        client.write(answers.denial(decision, host=asked.host, port=asked.port))
        return Outcome(error="denied")
    except (UpstreamError, StreamClosedError, HttpError) as error:
        client.write(answers.problem(502, "bad response from upstream", str(error)))
        return Outcome(error="bad-response", detail=str(error))
    expected = base64.b64encode(
        hashlib.sha1(head.get("sec-websocket-key").encode() + _GUID, usedforsecurity=False).digest()
    )
    if response.status != 101:
        client.write(answers.problem(502, "upgrade refused by upstream", f"the upstream answered {response.status}"))
        return Outcome({"status": response.status}, error="not-upgraded")
    if response.get("sec-websocket-accept").encode() != expected or response.has("sec-websocket-extensions"):
        client.write(answers.problem(502, "bad response from upstream", "the upstream did not answer this upgrade"))
        return Outcome(error="bad-response")
    kept = http1.forwarded(response, ("sec-websocket-extensions",))
    try:
        kept = await run_head_stages(parts.stages, kept, route.host, route.treatment, parts.limits)
    except ContentError as error:
        decision = parts.refusal(error.rule, error.reason)
        denied(parts, flow, decision, "response")
        client.write(answers.denial(decision, host=asked.host, port=asked.port))
        return Outcome(error="denied", detail=error.rule)
    if secrets.masker is not None:
        kept = [(name, secrets.masker.text(value)) for name, value in kept]
    client.write(http1.write_head("HTTP/1.1 101 Switching Protocols", [*kept, *upgrade]))
    flow.mode = "websocket"
    await _Messages(requests, asked, route, upstream, secrets).run()
    return Outcome({"status": 101})


def _kind(raw: bytes) -> str:
    """Return how a message is read: one that begins as JSON does is JSON."""
    return "application/json" if raw[:1] in (b"{", b"[") else "text/plain"


def _together(held: list[str | bytes], data: str | bytes | bytearray) -> list[str | bytes]:
    """Return what is held of a message with one more piece; a message in a million pieces costs no more than in one."""
    if data:  # frames without a byte are no pieces
        held.append(data if isinstance(data, str) else bytes(data))
    if len(held) < PIECES_MAX:
        return held
    return ["".join(held)] if isinstance(data, str) else [b"".join(held)]  # type: ignore[arg-type]


class _Messages:
    """The two directions of one WebSocket."""

    def __init__(self, requests: Requests, asked: Asked, route: Route, upstream: Stream, secrets: Resolved) -> None:
        self._requests, self._asked, self._route, self._secrets = requests, asked, route, secrets
        self._parts, self._flow = requests.parts, requests.flow
        self._client_stream, self._upstream_stream = requests.flow.client, upstream
        self._client = Connection(ConnectionType.SERVER)
        self._upstream = Connection(ConnectionType.CLIENT)
        self._head = Head("GET", asked.target, 0, (), 0, True)

    @property
    def _treatment(self) -> Treatment:
        """How the policy in force, which may be another one than at the upgrade, looks at this destination."""
        return self._parts.rules.treatment(self._route.host, self._route.port)

    async def run(self) -> None:
        up = asyncio.ensure_future(self._pump(self._client_stream, self._client, self._upstream_stream, self._upstream))
        down = asyncio.ensure_future(
            self._pump(self._upstream_stream, self._upstream, self._client_stream, self._client)
        )
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({up, down}, timeout=1.0)
        finally:
            for task in (up, down):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    async def _pump(self, source: Stream, reader: Connection, sink: Stream, writer: Connection) -> None:
        outward = reader is self._client
        held: list[str | bytes] = []
        size = 0
        try:
            while data := await source.some():
                reader.receive_data(data)
                for event in reader.events():
                    if isinstance(event, Message):
                        size += len(event.data)
                        if size > self._parts.limits.message_bytes:
                            self._end(_TOO_BIG, "message is too large")
                            return
                        held = _together(held, event.data)
                        if not event.message_finished:
                            continue
                        message = "".join(held) if isinstance(event, TextMessage) else b"".join(held)  # type: ignore[arg-type]
                        held, size = [], 0
                        sink.write(writer.send(await self._judged(message, outward=outward)))
                    elif isinstance(event, Ping):
                        source.write(reader.send(event.response()))
                        sink.write(writer.send(Ping()))  # its payload is nobody's message, and judged by nobody
                    elif isinstance(event, CloseConnection):
                        reason = "" if outward or self._looked_at() else event.reason
                        sink.write(writer.send(CloseConnection(event.code, reason or None)))
                        with contextlib.suppress(LocalProtocolError):
                            source.write(reader.send(event.response()))
                        return
                    elif isinstance(event, Pong):
                        continue
                await sink.drain()
        except DeniedError as error:
            rule = error.decision.rules[0] if error.decision.rules else "policy"
            self._end(_POLICY_VIOLATION, f"denied by policy: {rule}"[:120])
        except (RemoteProtocolError, LocalProtocolError, HttpError):
            self._end(_BAD_DATA, "malformed websocket data")
        except StreamClosedError:
            return

    def _looked_at(self) -> bool:
        """Whether what the server says is looked at: then its words come in messages only."""
        wants = wanted(self._parts.stages, "response", self._route.host, self._treatment)
        return self._secrets.masker is not None or wants

    async def _judged(self, message: str | bytes, *, outward: bool) -> TextMessage | BytesMessage:
        """Return the message to send on. Raises DeniedError."""
        if not outward:
            return await self._brought(message)
        text = isinstance(message, str)
        raw = message.encode() if isinstance(message, str) else message
        if self._treatment.messages:
            await self._admit(raw, text=text)
        await self._secrets.learn(raw, place="websocket", filled=text)
        raw = fill_body(raw, _kind(raw), self._secrets.values) if text else raw
        return TextMessage(raw.decode()) if text else BytesMessage(raw)

    async def _brought(self, message: str | bytes) -> TextMessage | BytesMessage:
        """Return a message of the server's as it goes on: shown to content stages, echoes masked. Raises DeniedError."""
        parts, route, masker, treatment = self._parts, self._route, self._secrets.masker, self._treatment
        raw = message.encode() if isinstance(message, str) else message
        if wanted(parts.stages, "response", route.host, treatment):
            content = Content("response", route.host, route.port, _kind(raw), raw, treatment)
            try:
                raw = await run_stages(parts.stages, content, parts.limits)
            except ContentError as error:
                decision = parts.refusal(error.rule, error.reason)
                denied(parts, self._flow, decision, "websocket")
                raise DeniedError(decision) from None
        clean = masker.feed(raw, last=True) if masker is not None else raw
        return TextMessage(clean.decode()) if isinstance(message, str) else BytesMessage(clean)

    async def _admit(self, raw: bytes, *, text: bool) -> None:
        if text and self._treatment.graphql_messages and classify_message(raw.decode()) is None:
            return  # connection_init, ping, complete: carries no operation
        kind = _kind(raw) if text else "text/plain"
        method = "WEBSOCKET_TEXT" if text else "WEBSOCKET_BINARY"
        head = Head(method, self._asked.target, 0, (("content-type", kind),), len(raw), True)
        body = raw if text else None
        action = plan_action(self._asked, head, self._flow.principal, body=body, size=len(raw), method=method)
        self._flow.requests += 1
        admission = await self._requests.admit(action, self._route, f"{method} {self._asked.host}", self._asked.url)
        if admission is not None and admission.action != action:
            await settle(self._parts, self._flow, admission, Outcome(error="rewrite"))
            raise DeniedError(
                self._parts.refusal("egress.websocket-rewrite", "a message cannot be rewritten in its stream")
            )
        await settle(self._parts, self._flow, admission, Outcome(usage={"bytes": float(len(raw))}))

    def _end(self, code: int, reason: str) -> None:
        """Close both sides with a code."""
        for stream, connection in ((self._client_stream, self._client), (self._upstream_stream, self._upstream)):
            with contextlib.suppress(LocalProtocolError):
                stream.write(connection.send(CloseConnection(code, reason)))
