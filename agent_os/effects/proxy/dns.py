"""The DNS doors: only names that policy can allow are answered, with synthetic addresses (`names.py`).

Threat: a name as a channel out. Nothing is ever asked of another server here; a name that no rule could allow does not exist.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Final

from agent_os.effects.proxy.flows import Flow
from agent_os.effects.proxy.identity import ListenerIdentity
from agent_os.effects.proxy.inference import serves_inference
from agent_os.effects.proxy.limits import DNS_MESSAGE_BYTES_MAX, DNS_TCP_QUERIES_MAX
from agent_os.effects.proxy.names import SyntheticNames, answer_query
from agent_os.effects.proxy.parts import Parts
from agent_os.effects.proxy.stream import StreamClosedError

DATAGRAMS_PER_TURN_MAX: Final = 64
_IP_PKTINFO: Final = 8  # linux/in.h; the socket module has no name for it


class DnsUdp:
    """Answers datagrams from the address they were sent to (every address is local in a sandbox)."""

    def __init__(self, parts: Parts, names: SyntheticNames, identity: ListenerIdentity, sock: socket.socket) -> None:
        self._parts, self._names, self._identity, self._socket = parts, names, identity, sock
        if sock.family == socket.AF_INET6:
            self._level, self._kind = socket.IPPROTO_IPV6, socket.IPV6_PKTINFO
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            self._level, self._kind = socket.IPPROTO_IP, _IP_PKTINFO
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        parts.loop.add_reader(sock.fileno(), self._readable)

    def close(self) -> None:
        """Answer nothing more."""
        if self._socket.fileno() >= 0:
            self._parts.loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _readable(self) -> None:
        for _ in range(DATAGRAMS_PER_TURN_MAX):
            try:
                data, ancillary, _, address = self._socket.recvmsg(DNS_MESSAGE_BYTES_MAX + 1, 256)
            except OSError:
                return
            answer = _dns_answer(self._parts, data, self._names, self._identity.principal.agent)
            if answer is None:
                continue
            back = [
                (level, kind, info) for level, kind, info in ancillary if (level, kind) == (self._level, self._kind)
            ]
            if self._level == socket.IPPROTO_IP:
                # in_pktinfo: interface, local address, destination; the answer's source is the local address
                back = [(level, kind, b"\0" * 4 + info[8:12] + b"\0" * 4) for level, kind, info in back]
            with contextlib.suppress(OSError):
                self._socket.sendmsg([answer], back, 0, address)


def _dns_answer(parts: Parts, query: bytes, names: SyntheticNames, agent: str) -> bytes | None:
    def noted(name: str, verdict: str) -> None:
        if verdict != "allow":
            parts.flows.counts["denied"] += 1
            parts.told(f"name {name}: no rule could allow it")
            parts.flows.note("dns", None, agent=agent, name=name, verdict=verdict)

    resolvable = (lambda _: True) if parts.observe else parts.rules.resolvable
    return answer_query(
        query, names, lambda name: name == "policy.local" or serves_inference(parts, name) or resolvable(name), noted
    )


async def serve_dns(parts: Parts, flow: Flow, names: SyntheticNames) -> None:
    """Answer the queries of one TCP connection."""
    flow.mode = "dns"
    flow.idle_limit, flow.idle_since = parts.limits.handshake_seconds, flow.started
    try:
        for _ in range(DNS_TCP_QUERIES_MAX):
            if not flow.client.buffer and not await flow.client.more():
                return
            size = int.from_bytes(await flow.client.exactly(2), "big")
            if size > DNS_MESSAGE_BYTES_MAX:
                return
            answer = _dns_answer(parts, await flow.client.exactly(size), names, flow.principal.agent)
            if answer is None:
                return
            flow.client.write(len(answer).to_bytes(2, "big") + answer)
            await flow.client.drain()
    except StreamClosedError:
        return
