"""Tunnels: what a client asks for by CONNECT, SOCKS5 or by simply connecting. Passed through, or opened and
inspected.

Passed through, the first flight is still looked at: a TLS ClientHello must name the judged host and may not hide its
name (ECH), a plain HTTP head must name it too. Inspected, TLS is terminated with a leaf for the judged host and every
request goes through `exchange`; what is neither TLS nor HTTP cannot be inspected and is refused. Threat: domain
fronting, protocols inside protocols.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Final

from agent_os.core import canonical
from agent_os.core.errors import ActionError, DeniedError
from agent_os.core.ports import Outcome
from agent_os.effects.proxy import answers, http1
from agent_os.effects.proxy.exchange import serve_requests
from agent_os.effects.proxy.flows import Flow
from agent_os.effects.proxy.hello import ClientHello, HelloError, looks_like_tls, parse_client_hello
from agent_os.effects.proxy.parts import Parts
from agent_os.effects.proxy.route import Route, connect_upstream, denied, settle
from agent_os.effects.proxy.stream import Stream, StreamClosedError

_HTTP_LINE: Final = re.compile(rb"[A-Z]{3,16} [\x21-\x7e]{1,8192} HTTP/1\.[01]\r\n")
_HTTP_START: Final = re.compile(rb"[A-Z]{1,16}(?: [\x21-\x7e]{0,8192}(?: [HTP/1.0\r]{0,9})?)?")


async def run_tunnel(parts: Parts, flow: Flow, route: Route, accept: Callable[[], None]) -> None:
    """Serve one tunnel to its end; `accept` tells the client that it stands.

    Raises DeniedError, and UpstreamError before `accept`.
    """
    outcome = Outcome(error="closed")
    try:
        if route.treatment.inspect:
            accept()
            await _inspect(parts, flow, route)
        else:
            upstream = await connect_upstream(parts, flow, route, tls=False)
            accept()
            await _pass(parts, flow, route, upstream)
        outcome = Outcome()
    except DeniedError as error:
        outcome = Outcome(error="denied", detail=error.decision.rules[0] if error.decision.rules else "")
        raise
    finally:
        used = _usage(parts, flow)
        await settle(parts, route.admission, Outcome(error=outcome.error, detail=outcome.detail, usage=used))


def _usage(parts: Parts, flow: Flow) -> dict[str, float]:
    return {"bytes": float(flow.up + flow.down), "seconds": parts.clock.monotonic() - flow.started}


# ---- inspected ------------------------------------------------------------------------------------------------------


async def _inspect(parts: Parts, flow: Flow, route: Route) -> None:
    client = flow.client
    _by(flow, parts, parts.limits.handshake_seconds, "no first byte in time")
    if not client.buffer and not await client.more():
        return
    if looks_like_tls(client.buffer):
        hello = await _hello(client)
        _agree(parts, flow, route, hello, inspected=True)
        if route.treatment.sealed:
            raise _refuse(
                parts,
                flow,
                "egress.uninspectable",
                "policy must look into this, and the endpoint says that tls is never opened",
                "drop `tls: skip`, or say `uninspected: <reason>`",
            )
        flow.mode = "inspected tls"
        await client.start_tls(parts.authority.server_context(route.host), server_side=True)
        await serve_requests(parts, flow, scheme="https", route=route)
    elif await _speaks_http(client):
        flow.mode = "inspected http"
        await serve_requests(parts, flow, scheme="http", route=route)
    else:
        raise _refuse(
            parts, flow, "egress.uninspectable", "policy must look into this, and it is neither tls nor http/1.1",
            "an endpoint entry with `uninspected: <reason>` lets it pass unseen",
        )  # fmt: skip


async def _speaks_http(client: Stream) -> bool:
    """Whether the stream starts with an HTTP/1 request line; waits for its end."""
    while True:
        if _HTTP_LINE.match(client.buffer):
            return True
        start = bytes(client.buffer[:8300])
        if not _HTTP_START.fullmatch(start) or not await client.more():
            return False


async def _hello(client: Stream) -> ClientHello:
    while True:
        hello = parse_client_hello(client.buffer)
        if hello is not None:
            return hello
        if not await client.more():
            raise StreamClosedError("peer closed inside its client hello")


def _agree(parts: Parts, flow: Flow, route: Route, hello: ClientHello, *, inspected: bool) -> None:
    """Refuse a ClientHello that names another host than the judged one, or hides the name from a relay."""
    if hello.encrypted and not inspected:
        raise _refuse(
            parts, flow, "egress.ech", "the client hello hides its server name (ech)", "switch ech off in the client"
        )
    if not hello.server_name:
        return
    try:
        name = canonical.host(hello.server_name, field="sni")
    except ActionError:
        raise _refuse(parts, flow, "egress.sni", "the server name of the client hello is malformed") from None
    if name != route.host:
        raise _refuse(
            parts, flow, "egress.sni-mismatch", "the server name of the client hello is not the host that was judged",
            "connect to the host that is meant",
        )  # fmt: skip


def _refuse(parts: Parts, flow: Flow, rule: str, reason: str, advice: str = "") -> DeniedError:
    decision = parts.refusal(rule, reason, advice)
    denied(parts, flow, decision, "tunnel")
    return DeniedError(decision)


# ---- passed through -------------------------------------------------------------------------------------------------


async def _pass(parts: Parts, flow: Flow, route: Route, upstream: Stream) -> None:
    """Relay; the server may speak first, the client's first flight is looked at before it goes on."""
    client = flow.client
    flow.mode = "pass"
    flow.deadline, flow.idle_limit = 0.0, parts.limits.idle_seconds
    done, client_flows = _watch(parts, flow, client, upstream)
    upstream.pour_into(client)
    if not client.buffer:
        await client.more()  # an end of either side wakes it too
    _by(flow, parts, parts.limits.handshake_seconds, "first flight too slow")
    try:
        if looks_like_tls(client.buffer):
            hello = await _hello(client)
            _agree(parts, flow, route, hello, inspected=False)
            flow.mode = "pass tls"
        elif client.buffer and await _speaks_http(client):
            await _check_host(parts, flow, route)
            flow.mode = "pass http"
    except HelloError as error:
        raise _refuse(parts, flow, "egress.tls", f"malformed client hello: {error}") from None
    flow.deadline = 0.0
    client.pour_into(upstream)
    client_flows()
    await done


async def _check_host(parts: Parts, flow: Flow, route: Route) -> None:
    """Compare the Host of a tunnel's first plain request; later ones reach the same judged address."""
    client = flow.client
    while (end := client.buffer.find(b"\r\n\r\n")) < 0:
        if len(client.buffer) > parts.limits.head_bytes:
            raise _refuse(parts, flow, "egress.http", "the request head is too large")
        if not await client.more():
            return
    try:
        head = http1.parse_request(bytes(client.buffer[: end + 4]))
        authority = head.get("host")
        name, _ = canonical.split_authority(authority, field="host") if authority else (route.host, 0)
    except (http1.HttpError, ActionError) as error:
        raise _refuse(parts, flow, "egress.http", f"malformed request: {error}") from None
    if name != route.host:
        decision = parts.refusal("egress.host-mismatch", "the Host field is not the host that was judged")
        denied(parts, flow, decision, "tunnel")
        client.write(answers.denial(decision, host=route.host, port=route.port))
        raise DeniedError(decision)


def _watch(
    parts: Parts, flow: Flow, client: Stream, upstream: Stream
) -> tuple[asyncio.Future[None], Callable[[], None]]:
    """Return what ends when the relay does, and a function that passes the client's end on once its bytes flow.

    It ends when either side is lost, or both have ended; half-closes are passed on where the loop allows.
    """
    done: asyncio.Future[None] = parts.loop.create_future()

    def finish() -> None:
        if not done.done():
            done.set_result(None)
            client.wake()

    def ended(this: Stream, other: Stream) -> Callable[[], None]:
        def on_eof() -> None:
            if not this.half_close or other.ended:
                finish()
            else:
                other.write_eof()

        return on_eof

    def arm(this: Stream, other: Stream) -> None:
        this.on_eof = ended(this, other)
        if this.ended:
            this.on_eof()

    client.on_lost = upstream.on_lost = finish
    if client.lost or upstream.lost:
        finish()
    arm(upstream, client)
    return done, lambda: arm(client, upstream)


def _by(flow: Flow, parts: Parts, seconds: float, reason: str) -> None:
    flow.deadline, flow.on_deadline = parts.clock.monotonic() + seconds, reason
