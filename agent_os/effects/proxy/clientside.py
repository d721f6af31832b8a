"""TLS with the client: its hello, and a handshake as the host it asked for; who takes no certificate of the guard's is told of.

A program may bring CA certificates of its own and then sees a certificate error where a denial, or an allowed host that is
looked into, was to be. Nobody can write into that; what can be done is to say so to the person at the end of the run, and to
give such a program the next denial in the answer to its CONNECT.
"""

from __future__ import annotations

import os
from typing import Final

from agent_os.effects.proxy.flows import Flow
from agent_os.effects.proxy.hello import ClientHello, parse_client_hello
from agent_os.effects.proxy.limits import UNTRUSTING_MAX
from agent_os.effects.proxy.parts import Parts
from agent_os.effects.proxy.stream import Stream, StreamClosedError

_UNTRUSTED: Final = ("certificate", "unknown ca")
"""What alerts say of a certificate that the client does not take (RFC 8446, 6.2)."""


async def read_hello(client: Stream) -> ClientHello:
    """Return the ClientHello a client begins with, left in its buffer. Raises HelloError, StreamClosedError."""
    while (hello := parse_client_hello(client.buffer)) is None:
        if not await client.more():
            raise StreamClosedError("peer closed inside its client hello")
    return hello


async def take_up_tls(parts: Parts, flow: Flow, host: str) -> None:
    """Take up TLS as `host`. Raises StreamClosedError, after a note where the client does not take the certificate."""
    try:
        await flow.client.start_tls(parts.authority.server_context(host), server_side=True)
    except StreamClosedError:
        if any(word in flow.client.tls_failure for word in _UNTRUSTED):
            _untrusted(parts, flow, host)
        raise


def _untrusted(parts: Parts, flow: Flow, host: str) -> None:
    executable = flow.peer.executable if flow.peer is not None else None
    program = os.path.basename(executable.path) if executable is not None else "the program"
    reason = f"{program} has CA certificates of its own and does not take the guard's (SSL_CERT_FILE names a bundle with both)"
    flow.reason = flow.reason or reason
    parts.failed(f"{host}:{flow.port}: {reason}")
    parts.flows.note("refused", flow, reason=reason, status=0)
    if len(parts.untrusting) < UNTRUSTING_MAX:
        parts.untrusting.add((flow.principal.session, host))
