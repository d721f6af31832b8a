"""The front doors: what a client says first on each kind of listener, up to a destination. Then `tunnel` or
`exchange`.

Deny answers are in the language of the door: a 403 problem for HTTP (CONNECT too), reply 2 for SOCKS5, and for a
transparent connection a 403 inside TLS or HTTP where the client speaks one of them, else a close. Programs that show
nothing of an answer to CONNECT but its number are told inside the tunnel they asked for; nothing of it goes anywhere.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hmac
from collections.abc import Awaitable
from typing import Final

from agent_os.core import canonical
from agent_os.core.decision import Decision
from agent_os.core.errors import ActionError, DeniedError, EffectError, IntegrityError
from agent_os.effects.proxy import answers, http1, socks
from agent_os.effects.proxy.clientside import read_hello, take_up_tls
from agent_os.effects.proxy.exchange import serve_requests
from agent_os.effects.proxy.flows import Flow
from agent_os.effects.proxy.hello import HelloError, looks_like_tls
from agent_os.effects.proxy.http1 import HttpError
from agent_os.effects.proxy.identity import ForeignPeerError, ListenerIdentity, NotHashedError
from agent_os.effects.proxy.names import SyntheticNames
from agent_os.effects.proxy.parts import Parts
from agent_os.effects.proxy.route import Route, open_route
from agent_os.effects.proxy.stream import Stream, StreamClosedError
from agent_os.effects.proxy.tunnel import run_tunnel
from agent_os.effects.proxy.upstream import UpstreamError

_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
TELL_SECONDS: Final = 2.0
"""How long a client whose connection is denied has to say a first request, to be told why in the answer to it."""


async def serve(parts: Parts, flow: Flow, identity: ListenerIdentity, names: SyntheticNames, kind: str) -> None:
    """Serve one accepted connection to its end. Never raises for what a peer does."""
    await _to_its_end(parts, flow, _serve(parts, flow, identity, names, kind))


async def go_on(parts: Parts, flow: Flow, route: Route, upstream: Stream) -> None:
    """Serve a tunnel that stands, and of which the client's first bytes are here, to its end."""
    await _to_its_end(parts, flow, run_tunnel(parts, flow, route, lambda: None, upstream))


async def _serve(parts: Parts, flow: Flow, identity: ListenerIdentity, names: SyntheticNames, kind: str) -> None:
    flow.deadline = parts.clock.monotonic() + parts.limits.handshake_seconds
    flow.on_deadline = "nothing asked in time"
    if kind != "transparent" and not flow.client.buffer and not await flow.client.more():
        return
    if not await _identified(parts, flow, identity):
        return
    if kind == "transparent":
        await _transparent(parts, flow, names)
    elif kind == "socks":
        await _socks(parts, flow, identity, names)
    elif kind == "policy":
        await serve_requests(parts, flow, scheme="http", route=None, local_only=True)
    else:
        await _proxy(parts, flow, identity, names)


async def _to_its_end(parts: Parts, flow: Flow, work: Awaitable[None]) -> None:
    try:
        await work
    except (StreamClosedError, UpstreamError, EffectError) as error:
        flow.ended = flow.ended or str(error)
    except (DeniedError, HttpError, HelloError, ActionError) as error:
        flow.ended = flow.ended or f"denied: {error}"
    except IntegrityError as error:
        flow.ended = f"integrity: {error}"
        parts.flows.note("alert", flow, rule="runtime.integrity", reason=str(error))


async def _identified(parts: Parts, flow: Flow, identity: ListenerIdentity) -> bool:
    """Establish the peer; False ends the connection. A peer that is not found stays None: a missing fact.

    Asked when the first bytes are there, not at accept: whoever holds the socket then is who speaks.
    """
    connection = flow.client.transport.get_extra_info("socket")
    try:
        flow.peer = parts.identities.identify(connection, identity)
    except NotHashedError as error:
        await asyncio.to_thread(parts.identities.learn, error.pid)  # a large program takes a while, once
        with contextlib.suppress(OSError, ForeignPeerError):
            flow.peer = parts.identities.identify(connection, identity, hashing=True)
    except ForeignPeerError as error:
        flow.ended = str(error)
        parts.flows.note("alert", flow, rule="egress.foreign-peer", reason=str(error))
        return False
    except OSError:
        flow.peer = None
    if flow.peer is None and identity.uid is not None:
        flow.ended = "the peer's user is not known"
        return False
    return True


# ---- HTTP proxy -----------------------------------------------------------------------------------------------------


async def _proxy(parts: Parts, flow: Flow, identity: ListenerIdentity, names: SyntheticNames) -> None:
    client = flow.client
    if client.buffer[0] == socks.VERSION:
        await _socks(parts, flow, identity, names)
        return
    try:
        raw = await http1.read_head(client, parts.limits.head_bytes)
        if raw is None:
            return
        head = http1.parse_request(raw)
        if identity.token and not authorised(head, identity.token):
            extra = 'proxy-authenticate: Basic realm="agentos"\r\n'
            client.write(answers.respond(407, {"title": "proxy token needed"}, extra=extra))
            return
        if head.method != "CONNECT":
            await serve_requests(parts, flow, scheme="http", route=None, first=raw)
            return
        host, port = connect_target(head)
        host = names.name(host) or host
    except HttpError as error:
        parts.flows.note("refused", flow, reason=str(error), status=error.status)
        client.write(answers.problem(error.status, "refused by the egress guard", str(error)))
        return
    if host == answers.POLICY_HOST:
        client.write(_ESTABLISHED)
        await _policy(parts, flow)
        return
    answered = False

    def accept() -> None:
        nonlocal answered
        answered = True
        client.write(_ESTABLISHED)

    try:
        route = await open_route(parts, flow, host, port)
        await run_tunnel(parts, flow, route, accept)
    except DeniedError as error:
        if answered:
            return
        trusts = identity.sandbox_pid and (flow.principal.session, host) not in parts.untrusting
        if trusts and answers.shows_numbers_only(head.get("user-agent")):
            client.write(_ESTABLISHED)  # in a sandbox programs trust this guard's certificates
            await _tell(parts, flow, error.decision, host, port)
        else:
            client.write(answers.denial(error.decision, host=host, port=port))
    except EffectError as error:
        if answered:
            raise
        reason = getattr(error, "reason", "unreachable")
        parts.failed(f"{host}:{port}: {error}")
        client.write(answers.problem(502, "upstream unreachable", str(error), reason=reason))


async def _policy(parts: Parts, flow: Flow) -> None:
    """Answer for `policy.local`, in TLS where the client speaks it."""
    client = flow.client
    if not client.buffer and not await client.more():
        return
    if looks_like_tls(client.buffer):
        await _secured(parts, flow, answers.POLICY_HOST)
    await serve_requests(parts, flow, scheme="http", route=None, local_only=True)


async def _secured(parts: Parts, flow: Flow, host: str) -> None:
    """Take up TLS as `host`. Raises HelloError, StreamClosedError."""
    await read_hello(flow.client)
    await take_up_tls(parts, flow, host)


def connect_target(head: http1.Head) -> tuple[str, int]:
    """Return host and port of a CONNECT whose Host field agrees. Raises HttpError."""
    try:
        host, port = canonical.split_authority(head.target, field="target")
        if not port or head.length:
            raise HttpError("CONNECT needs host:port and no body")
        if head.has("host"):
            named, given = canonical.split_authority(head.get("host"), field="host")
            if named != host or given not in (0, port):
                raise HttpError("the Host field and the CONNECT target name different hosts")
    except ActionError as error:
        raise HttpError(str(error)) from None
    return host, port


def authorised(head: http1.Head, token: str) -> bool:
    """Return whether a head carries the token of a listener as its proxy password."""
    scheme, _, encoded = head.get("proxy-authorization").partition(" ")
    try:
        given = base64.b64decode(encoded, validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return False
    return scheme.lower() == "basic" and hmac.compare_digest(given, token.encode())


# ---- SOCKS5 ---------------------------------------------------------------------------------------------------------


async def _socks(parts: Parts, flow: Flow, identity: ListenerIdentity, names: SyntheticNames) -> None:
    client = flow.client
    try:
        host, port = await socks.negotiate(client, identity.token)
    except socks.SocksError as error:
        if error.code is not None:
            client.write(socks.reply(error.code))
        raise
    host = names.name(host) or host
    answered = False

    def accept() -> None:
        nonlocal answered
        answered = True
        client.write(socks.reply(socks.SUCCEEDED))

    try:
        route = await open_route(parts, flow, host, port)
        await run_tunnel(parts, flow, route, accept)
    except DeniedError:
        if not answered:
            client.write(socks.reply(socks.NOT_ALLOWED))
        raise
    except EffectError:
        if not answered:
            client.write(socks.reply(socks.HOST))
        raise


# ---- transparent ----------------------------------------------------------------------------------------------------


async def _transparent(parts: Parts, flow: Flow, names: SyntheticNames) -> None:
    """The original destination is the local address; a synthetic one stands for the name it was given for."""
    local = flow.client.transport.get_extra_info("sockname")
    address, port = canonical.ip(local[0].partition("%")[0]), local[1]
    host = names.name(address) or address
    rules = parts.rules
    if address in _LOOPBACK and not rules.resolvable(address) and rules.resolvable("localhost"):
        host = "localhost"  # clients resolve this one name themselves (RFC 6761, 6.3)
    if host == answers.POLICY_HOST:
        await _policy(parts, flow)
        return
    try:
        route = await open_route(parts, flow, host, port)
        await run_tunnel(parts, flow, route, lambda: None)
    except DeniedError as error:
        await _tell(parts, flow, error.decision, host, port)
        raise
    except EffectError:
        flow.client.abort()
        raise


async def _tell(parts: Parts, flow: Flow, decision: Decision, host: str, port: int) -> None:
    """Tell a client why in the tunnel that it takes for open, if it speaks TLS or HTTP within a moment."""
    client = flow.client
    if client.tls is not None or flow.mode not in ("opening",):
        return
    try:
        async with asyncio.timeout(TELL_SECONDS):
            if not client.buffer and not await client.more():
                return
            if looks_like_tls(client.buffer):
                await _secured(parts, flow, host)
            raw = await http1.read_head(client, parts.limits.head_bytes)
            if raw is not None:
                asked = http1.parse_request(raw)
                agent, bare = asked.get("user-agent"), asked.method == "HEAD"
                client.write(answers.denial(decision, host=host, port=port, head_only=bare, agent=agent))
                await client.drain()
    except (TimeoutError, StreamClosedError, HelloError, HttpError):
        return


def refuse_connection(parts: Parts, stream: Stream, why: str) -> None:
    """Turn a connection away before it is served (too many, draining)."""
    stream.write(answers.problem(503, "too many connections", why))
    stream.close()
