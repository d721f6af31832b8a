"""Tunnels: what a client asks for by CONNECT, SOCKS5 or by simply connecting. Passed through, or opened and
inspected.

Passed through, the first flight is still looked at: a TLS ClientHello must name the judged host and may not hide its
name (ECH), and every plain HTTP request must name it too, the first and all later ones. Inspected, TLS is terminated
with a leaf for the judged host and every request goes through `exchange`; what is neither TLS nor HTTP cannot be
inspected and is refused. Threat: domain fronting, protocols inside protocols.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from agent_os.core import canonical
from agent_os.core.decision import Decision
from agent_os.core.errors import ActionError, DeniedError
from agent_os.core.ports import Outcome
from agent_os.effects.proxy import answers
from agent_os.effects.proxy.clientside import read_hello, take_up_tls
from agent_os.effects.proxy.exchange import serve_requests
from agent_os.effects.proxy.flows import Flow
from agent_os.effects.proxy.hello import ClientHello, HelloError, looks_like_tls
from agent_os.effects.proxy.login import log_in
from agent_os.effects.proxy.parts import Parts
from agent_os.effects.proxy.repeated import Repeated
from agent_os.effects.proxy.route import Route, connect_upstream, denied, settle
from agent_os.effects.proxy.splice import Splice
from agent_os.effects.proxy.stream import Stream, StreamClosedError
from agent_os.guards.egress import HostWatch, HttpError, parse_request, speaks_http, split_head

_HTTP2: Final = b"PRI * HTTP/2"
"""What a client says first that speaks HTTP/2 without TLS (RFC 9113, 3.4)."""
_MISDIRECTED: Final = 421


async def run_tunnel(
    parts: Parts, flow: Flow, route: Route, accept: Callable[[], None], upstream: Stream | None = None
) -> None:
    """Serve one tunnel to its end; `accept` tells the client that it stands. With an `upstream` it stands already.

    Raises DeniedError, and UpstreamError before `accept`.
    """
    outcome = Outcome(error="closed")
    try:
        if upstream is not None:
            await _pass(parts, flow, route, upstream)
        elif route.treatment.inspect:
            accept()
            await _inspect(parts, flow, route)
        elif route.treatment.login:
            accept()
            await _after_login(parts, flow, route)
        else:
            upstream = await connect_upstream(parts, flow, route, tls=False)
            accept()
            await _pass(parts, flow, route, upstream)
        outcome = Outcome()
    except DeniedError as error:
        outcome = Outcome(error="denied", detail=error.decision.rules[0] if error.decision.rules else "")
        raise
    finally:
        flow.ending = True  # whoever would cut this flow now leaves the account to us
        used = flow.usage(parts.clock.monotonic())
        await settle(parts, flow, route.admission, Outcome(error=outcome.error, detail=outcome.detail, usage=used))


# ---- inspected ------------------------------------------------------------------------------------------------------


async def _inspect(parts: Parts, flow: Flow, route: Route) -> None:
    client = flow.client
    _by(flow, parts, parts.limits.handshake_seconds, "no first byte in time")
    if not client.buffer and not await client.more():
        return
    if looks_like_tls(client.buffer):
        hello = await read_hello(client)
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
        await take_up_tls(parts, flow, route.host)
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
    """Whether the stream starts with a request line; waits for its end."""
    while True:
        told = speaks_http(client.buffer)
        if told is not None:
            return told
        if not await client.more():
            return False


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


# ---- logged in by the guard -----------------------------------------------------------------------------------------


async def _after_login(parts: Parts, flow: Flow, route: Route) -> None:
    """Log in with the secret behind the client's placeholder, then relay."""
    upstream = await log_in(parts, flow, route)
    if upstream is None:
        return
    client = flow.client
    done, client_flows = _watch(client, upstream, parts.loop.create_future())
    upstream.pour_into(client)
    client.pour_into(upstream)
    client_flows()
    await done


# ---- passed through -------------------------------------------------------------------------------------------------


async def _pass(parts: Parts, flow: Flow, route: Route, upstream: Stream) -> None:
    """Relay; the server may speak first, the client's first flight is looked at before it goes on.

    Bulk that nobody looks into goes through the kernel. A side that broke off breaks off the other.
    """
    client = flow.client
    flow.mode = "pass"
    flow.deadline, flow.idle_limit = 0.0, parts.limits.idle_seconds
    done, client_flows = _watch(client, upstream, parts.loop.create_future())
    upward, downward = Splice(parts.pipes, client, upstream), Splice(parts.pipes, upstream, client, parts.lend)
    upstream.on_bulk = downward.offer
    repeated: Repeated | None = None
    try:
        upstream.pour_into(client)
        watch, upgrade = await _first_flight(parts, flow, route)
        if upgrade:
            upstream.stop_pouring()
            upstream.on_lost = upstream.on_eof = None
            upstream.close()
            await serve_requests(parts, flow, scheme="http", route=route)
            return
        if watch is None:
            client.on_bulk = upward.offer
            client.pour_into(upstream)
        else:
            repeated = Repeated(parts, watch, client, upstream, downward)
            client.pour_into(upstream, _held_to_host(parts, flow, watch, done, repeated))
        client_flows()
        await done
    finally:
        if repeated is not None:
            repeated.close()
        upward.close()
        downward.close()
    for broken, other in ((client, upstream), (upstream, client)):
        if broken.broken:
            other.break_off()


async def _first_flight(parts: Parts, flow: Flow, route: Route) -> tuple[HostWatch | None, bool]:
    """Look at what a client says first; return what its later requests pass through, and whether it asks for an upgrade.

    Raises DeniedError.
    """
    client = flow.client
    watch, upgrade = None, False
    if not client.buffer:
        await client.more()  # an end of either side wakes it too
    _by(flow, parts, parts.limits.handshake_seconds, "first flight too slow")
    try:
        if looks_like_tls(client.buffer):
            hello = await read_hello(client)
            _agree(parts, flow, route, hello, inspected=False)
            flow.mode = "pass tls"
        elif client.buffer and await _speaks_http(client):
            flow.mode = "pass http"
            if not (route.treatment.raw and client.buffer.startswith(_HTTP2)):
                upgrade = await _first_request(parts, flow, route)
                watch = HostWatch(route.host, route.port)
    except HelloError as error:
        raise _refuse(parts, flow, "egress.tls", f"malformed client hello: {error}") from None
    flow.deadline = 0.0
    return watch, upgrade


async def _first_request(parts: Parts, flow: Flow, route: Route) -> bool:
    """Hold the first plain request of a passed tunnel to the judged host; a denial is told to the client.

    Returns whether it asks for an upgrade: that is served as inspected requests are. Raises DeniedError.
    """
    client = flow.client
    try:
        while (split := split_head(bytes(client.buffer))) is None:
            if len(client.buffer) > parts.limits.head_bytes:
                raise HttpError("head is too large", 431)
            if not await client.more():
                raise StreamClosedError("peer closed inside a head")
        if parse_request(split[0]).get("upgrade"):
            return True
        HostWatch(route.host, route.port).feed(split[0])
    except HttpError as error:
        decision = _unlike(parts, error)
        denied(parts, flow, decision, "tunnel")
        if error.status == _MISDIRECTED:
            client.write(answers.denial(decision, host=route.host, port=route.port))
        else:
            client.write(answers.problem(error.status, "refused by the egress guard", decision.reason))
        raise DeniedError(decision) from None
    return False


def _unlike(parts: Parts, error: HttpError) -> Decision:
    if error.status == _MISDIRECTED:
        return parts.refusal("egress.host-mismatch", str(error), "open a connection to the host that is meant")
    advice = "HTTP/2 without TLS passes where the endpoint says `protocol: tcp` or `uninspected: <reason>`"
    return parts.refusal("egress.http", f"malformed request: {error}", advice)


def _held_to_host(
    parts: Parts, flow: Flow, watch: HostWatch, done: asyncio.Future[None], repeated: Repeated
) -> Callable[[bytes], bytes]:
    """Return what every later byte of a client passes through: a request for another host ends the tunnel."""

    def through(data: bytes) -> bytes:
        if done.done():
            return b""
        try:
            ready = watch.feed(data)
            repeated.look()
            return ready
        except HttpError as error:
            decision = _unlike(parts, error)
            denied(parts, flow, decision, "tunnel")
            parts.flows.note("alert", flow, rule=decision.rules[0], reason=decision.reason)
            done.set_exception(DeniedError(decision))
            return b""

    return through


def _watch(
    client: Stream, upstream: Stream, done: asyncio.Future[None]
) -> tuple[asyncio.Future[None], Callable[[], None]]:
    """Return `done`, ended when the relay is, and a function that passes the client's end on once its bytes flow.

    It ends when either side is lost, or both have ended; half-closes are passed on.
    """

    def finish() -> None:
        if not done.done():
            done.set_result(None)
            client.wake()

    def arm(this: Stream, other: Stream) -> None:
        this.on_eof = lambda: finish() if other.ended else other.write_eof()
        if this.ended and not this.broken:
            this.on_eof()

    client.on_lost = upstream.on_lost = finish
    if client.lost or upstream.lost:
        finish()
    arm(upstream, client)
    return done, lambda: arm(client, upstream)


def _by(flow: Flow, parts: Parts, seconds: float, reason: str) -> None:
    flow.deadline, flow.on_deadline = parts.clock.monotonic() + seconds, reason
