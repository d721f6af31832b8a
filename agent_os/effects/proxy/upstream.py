"""Connections towards upstreams: to exactly the judged addresses, with TLS always verified.

Threat: a second lookup that answers differently from the one that was judged (rebinding), a certificate of somebody
else, a corporate proxy that answers CONNECT with more than an answer. With a corporate proxy the address is the
proxy's to choose: that is the operator's declared trade, and names then stand for addresses.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from agent_os.core.errors import EffectError
from agent_os.effects.proxy import http1
from agent_os.effects.proxy.authority import UpstreamContexts, pin_matches
from agent_os.effects.proxy.limits import Limits
from agent_os.effects.proxy.rules import Treatment
from agent_os.effects.proxy.stream import Stream, StreamClosedError
from agent_os.effects.proxy.wire import connect_wire

ATTEMPTS_MAX: Final = 4
"""Addresses tried for one connection."""


class UpstreamError(EffectError):
    """The upstream cannot be reached or is not who it should be; `reason` is a short id for the agent."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class CorporateProxy:
    """An HTTP proxy that all traffic must take. `without`: host names and suffixes (`.corp.example`) that go direct."""

    host: str
    port: int
    credentials: str = field(default="", repr=False)
    without: tuple[str, ...] = ()

    def serves(self, host: str) -> bool:
        """Whether a destination is reached through this proxy."""
        return not any(host == name or (name.startswith(".") and host.endswith(name)) for name in self.without)


async def connect(
    loop: asyncio.AbstractEventLoop, addresses: Sequence[str], port: int, limits: Limits
) -> tuple[Stream, str]:
    """Return a stream to the first address that answers, and that address. Raises UpstreamError."""
    failure = "no address"
    for address in addresses[:ATTEMPTS_MAX]:
        stream = Stream(loop)
        try:
            await connect_wire(loop, address, port, stream, limits.connect_seconds)
            return stream, address
        except TimeoutError:
            failure = "timed out"
        except OSError as error:
            failure = (error.strerror or "failed").lower()
    raise UpstreamError("unreachable", f"cannot connect: {failure}")


async def connect_through(
    loop: asyncio.AbstractEventLoop, proxy: CorporateProxy, host: str, port: int, limits: Limits
) -> tuple[Stream, str]:
    """Return a tunnel through a corporate proxy. Raises UpstreamError."""
    try:
        async with asyncio.timeout(limits.connect_seconds):
            stream = await _to_proxy(loop, proxy, limits)
            name = f"[{host}]" if ":" in host else host
            fields = [("host", f"{name}:{port}")]
            if proxy.credentials:
                fields.append(("proxy-authorization", "Basic " + base64.b64encode(proxy.credentials.encode()).decode()))
            stream.write(http1.write_head(f"CONNECT {name}:{port} HTTP/1.1", fields))
            await _tunnel_answer(stream, limits)
            return stream, proxy.host
    except TimeoutError:
        raise UpstreamError("unreachable", "the corporate proxy timed out") from None
    except OSError as error:
        raise UpstreamError("unreachable", f"cannot connect to the corporate proxy: {error.strerror}") from None


async def _to_proxy(loop: asyncio.AbstractEventLoop, proxy: CorporateProxy, limits: Limits) -> Stream:
    """Connect to the operator's proxy, whose name the system resolves. Raises OSError, TimeoutError."""
    found = await loop.getaddrinfo(proxy.host, proxy.port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))[:ATTEMPTS_MAX]
    for last, address in enumerate(addresses, 1 - len(addresses)):
        stream = Stream(loop)
        try:
            await connect_wire(loop, address, proxy.port, stream, limits.connect_seconds)
        except OSError:
            if last == 0:
                raise
        else:
            return stream
    raise OSError("no address")


async def _tunnel_answer(stream: Stream, limits: Limits) -> None:
    """Read the answer to CONNECT: nothing of it reaches the client, and nothing may follow it before we speak."""
    try:
        raw = await http1.read_head(stream, limits.head_bytes)
        if raw is None:
            raise UpstreamError("upstream-proxy", "the corporate proxy closed the connection")
        head = http1.parse_response(raw, "HEAD")
        if not 200 <= head.status < 300:
            raise UpstreamError("upstream-proxy", f"the corporate proxy answered {head.status}")
        if stream.buffer:
            raise UpstreamError("upstream-proxy", "the corporate proxy sent bytes after its answer")
    except (http1.HttpError, StreamClosedError) as error:
        stream.abort()
        raise UpstreamError("upstream-proxy", f"malformed answer of the corporate proxy: {error}") from None
    except UpstreamError:
        stream.abort()
        raise


async def secure(stream: Stream, host: str, treatment: Treatment, contexts: UpstreamContexts, limits: Limits) -> None:
    """Start TLS towards `host`, verified. Raises UpstreamError."""
    try:
        context = contexts.context(treatment.tls_minimum, treatment.client_certificate)
    except (OSError, ssl.SSLError, KeyError):
        stream.abort()
        raise UpstreamError("tls", "the client certificate or tls version of this endpoint cannot be used") from None
    try:
        async with asyncio.timeout(limits.handshake_seconds):
            await stream.start_tls(context, server_side=False, server_hostname=host)
    except TimeoutError:
        stream.abort()
        raise UpstreamError("tls", "the tls handshake timed out") from None
    except StreamClosedError as error:
        stream.abort()
        raise UpstreamError("tls", str(error)) from None
    certificate = stream.tls.getpeercert(True) if stream.tls is not None else None
    if certificate is None or (treatment.pins and not pin_matches(certificate, treatment.pins)):
        stream.abort()
        raise UpstreamError("tls-pin", "the server's key is not one of the pinned ones")
