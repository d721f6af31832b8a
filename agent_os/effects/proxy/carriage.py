"""Tunnels in the carrier: what the guard does for those it neither opens nor reads, many of them in one turn.

A connection stays there while everything about it is plain: a whole CONNECT head, a peer that is established, a name that
resolves, a verdict that is an allow without obligations, no byte budget, no login, no corporate proxy. Whatever is not goes to
`front`, as if it had been accepted here: nothing is denied, answered or explained in this file. Heads are read by the same
function as there; each tunnel has its own intent, durable before the carrier is told an address, its own row in the flow
table, its own outcome. What a client says first and is no plain ClientHello comes back, and `tunnel` goes on from there.
Threat: a second, faster way out that judges less.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from agent_os.core.action import NetConnect
from agent_os.core.errors import ActionError, AgentOSError
from agent_os.core.executable import Executable
from agent_os.core.ports import Admission, Outcome
from agent_os.effects.proxy import answers, front
from agent_os.effects.proxy.carried import Carried, Served, plain_route
from agent_os.effects.proxy.carrier import LISTENERS_MAX, PROGRAM, Carrier
from agent_os.effects.proxy.flows import Flow, end_flow
from agent_os.effects.proxy.identity import Peer
from agent_os.effects.proxy.loans import Loans
from agent_os.effects.proxy.parts import Parts
from agent_os.effects.proxy.route import Route, settle
from agent_os.effects.proxy.stream import Stream
from agent_os.effects.proxy.wire import Wire

CARRY_FROM: Final = 32
"""Connections that a guard serves alone before it starts a carrier: short runs never need one."""
Ask = tuple[int, int, Peer]
"""Slot, generation, and who asks."""
Key = tuple[int, bytes, Executable | None]
"""Listener, head, program: those that ask the same."""
Known = tuple[str, int, tuple[str, ...]]
"""Host, port, and the addresses that the host resolved to for this very connection."""


class Carriage:
    """The carrier of one guard, and the connections in it. Everything runs on the guard's loop."""

    def __init__(
        self, parts: Parts, state: Path, accepted: Callable[[Served, Stream, Known | None], None],
        run: Callable[[Flow, Coroutine[Any, Any, None]], None],
    ) -> None:  # fmt: skip
        """`accepted` serves a connection from its first byte; `run` serves a flow to its end with this work."""
        self._parts, self._state, self._accepted, self._run = parts, state, accepted, run
        self._carrier: Carrier | None = None
        self._loans: Loans | None = None
        self._starting = False
        self.missing = ""
        """Why there is no carrier, once that is known."""
        self._listeners: dict[int, Served] = {}
        self._offered: list[Served] = []
        self._count = 0
        self._groups: dict[Key, list[Ask]] = {}
        self._busy: set[Key] = set()
        """Those that are being opened; who asks the same meanwhile waits for the next round."""
        self._ended: list[Carried] = []
        self._carried: dict[int, Carried] = {}
        self._giving: dict[tuple[int, int], tuple[Served, bytes, Known | None]] = {}
        self._opening = 0
        self._quiet: asyncio.Future[None] | None = None

    @property
    def pid(self) -> int:
        """The carrier's process id, 0 while there is none."""
        return self._carrier.pid if self._carrier is not None else 0

    # ---- listeners ---------------------------------------------------------------------------------------------------

    def offer(self, served: Served) -> Callable[[], None]:
        """Let the carrier accept there once it runs; return what ends the listener."""
        self._offered.append(served)
        if self._carrier is not None:
            self._take_on(served)

        def close() -> None:
            if served in self._offered:
                self._offered.remove(served)
            if self._listeners.pop(served.number, None) is not None and self._carrier is not None:
                self._carrier.unlisten(served.number)
            served.accepting.close()

        return close

    def accepted_here(self) -> None:
        """Count a connection that the guard accepted itself; after some of them a carrier is worth its start."""
        self._count += 1
        if self._count >= CARRY_FROM and not (self._starting or self.missing or self._carrier):
            self._background(self.start())

    async def start(self) -> None:
        """Start the carrier; where there is none to be had, `missing` says why and nothing changes."""
        self._starting = True
        try:
            program = await asyncio.to_thread(PROGRAM.sealed, self._state)
            try:
                self._carrier = Carrier(self._parts.loop, program, self)
                self._loans = Loans(self._carrier)
                self._parts.lend = self._loans.lend
            finally:
                os.close(program)
        except AgentOSError as error:
            self.missing = str(error)
            return
        finally:
            self._starting = False
        for served in self._offered:
            self._take_on(served)

    def _take_on(self, served: Served) -> None:
        free = next((number for number in range(LISTENERS_MAX) if number not in self._listeners), None)
        if free is not None and self._carrier is not None and not self._parts.draining:
            served.number = free
            self._listeners[free] = served
            served.accepting.pause()
            self._carrier.listen(free, served.accepting.sock, who=not served.anonymous)

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._parts.loop.create_task(work)
        self._parts.background.add(task)
        task.add_done_callback(self._parts.background.discard)

    # ---- asked -------------------------------------------------------------------------------------------------------

    def asked(self, slot: int, generation: int, listener: int, ends: bytes, head: bytes) -> None:
        """Put a request to those of this turn that ask the same."""
        served = self._listeners.get(listener)
        if served is None or self._parts.draining:
            self._told.cut(slot, generation)
            return
        peer = served.peer(ends)
        if peer is None:
            self._give(served, head, ((slot, generation, peer),))
            return
        self._groups.setdefault((listener, head, peer.executable), []).append((slot, generation, peer))

    @property
    def _told(self) -> Carrier:
        if self._carrier is None:
            raise RuntimeError("there is no carrier")
        return self._carrier

    def heard(self) -> None:
        """Serve what this turn brought."""
        ended, self._ended = self._ended, []
        for key in [key for key in self._groups if key not in self._busy]:
            self._busy.add(key)
            self._background(self._open_all(key, ended))
            ended = []
        if ended:
            self._background(self._settle(ended))
        if self._carrier is not None:
            self._carrier.flush()

    def _give(
        self, served: Served, head: bytes, asks: Sequence[tuple[int, int, Any]], known: Known | None = None
    ) -> None:
        """Have connections handed over, to be served by `front` from their first byte."""
        if self._carrier is None:
            return  # they ended with it
        for slot, generation, _ in asks:
            self._giving[slot, generation] = (served, head, known)
            self._carrier.give(slot, generation)

    async def _open_all(self, key: Key, ended: Sequence[Carried]) -> None:
        """Serve those that ask the same until there are none: what comes during one round is the next (group commit).

        `ended`: what is settled before; the records of both go to the disk together.
        """
        try:
            if ended:
                await self._settle(ended)
            while asks := self._groups.pop(key, None):
                served = self._listeners.get(key[0])
                if served is None:
                    self._cut(asks)  # its listener was closed meanwhile
                else:
                    await self._open(served, key[1], asks)
        finally:
            self._busy.discard(key)
            self._calm()

    def _cut(self, asks: Sequence[Ask]) -> None:
        if self._carrier is not None:
            for slot, generation, _ in asks:
                self._carrier.cut(slot, generation)
            self._carrier.flush()

    async def _open(self, served: Served, head: bytes, asks: list[Ask]) -> None:
        """Judge requests that are equal in every byte and admit them together, or give each to `front`."""
        left, parts = asks, served.parts
        self._opening += len(asks)
        known: Known | None = None
        try:
            flows, limits = parts.flows, parts.limits
            held = max(
                len(flows.live) - limits.connections,
                flows.held_by(served.identity.principal) - limits.connections_per_agent,
            )
            room = max(0, len(asks) - self._opening - held)
            if room:
                rules = parts.rules
                route = await plain_route(served, head, asks[0][2])
                if route is not None:
                    known = (route.host, route.port, route.addresses)
                    action = NetConnect(principal=served.identity.principal, host=route.host, port=route.port)
                    admissions = await parts.door.admit_alike(action, stated=route.stated, count=min(room, len(asks)))
                    if admissions is not None:
                        if parts.rules is not rules or parts.draining or self._carrier is None:
                            for admission in admissions:  # judged by what is no longer in force
                                await settle(parts, None, admission, Outcome(error="cancelled"))
                        else:
                            left = asks[len(admissions) :]
                            self._admitted(served, route, asks, admissions)
        except (AgentOSError, ActionError):
            pass  # `front` meets it again, and says it
        except Exception as error:  # a defect of ours: `front` serves them
            parts.loop.call_exception_handler({"message": "carried connections failed", "exception": error})
        finally:
            self._opening -= len(asks)
            self._give(served, head, left, known)
            if self._carrier is not None:
                self._carrier.flush()

    def _admitted(self, served: Served, route: Route, asks: Sequence[Ask], admissions: Sequence[Admission]) -> None:
        parts, identity, now = served.parts, served.identity, served.parts.clock.monotonic()
        for (slot, generation, peer), admission in zip(asks, admissions, strict=False):
            flow = Flow("proxy", identity.principal, identity.label, NO_STREAM, now)
            flow.peer, flow.host, flow.port, flow.addresses = peer, route.host, route.port, route.addresses
            flow.mode, flow.verdict, flow.rules = "pass", "allow", admission.decision.rules
            flow.idle_limit, flow.idle_since, flow.passes = parts.limits.idle_seconds, now, True
            flow.stands(parts.door, admission)
            flow.carried = carried = Carried(self._told, slot, generation, served, flow, route, admission)
            parts.flows.open(flow)
            self._carried[slot] = carried
            carried.try_next()

    # ---- under way ---------------------------------------------------------------------------------------------------

    def unreached(self, slot: int, generation: int, number: int) -> None:
        """Try the next address; after the last one the client is told here."""
        carried = self._mine(slot, generation)
        if carried is not None and not carried.try_next():
            carried.failed = True
            self._told.give(slot, generation)

    def ended(self, slot: int, generation: int, up: int, down: int, secure: bool, broken: bool) -> None:
        """Take a connection out of the table."""
        carried = self._mine(slot, generation)
        if carried is not None:
            self._out(carried, (up, down), "pass tls" if secure else "pass")
            self._ended.append(carried)

    def given(
        self, slot: int, generation: int, listener: int, counts: tuple[int, int], first: bytes, kept: bytes,
        sockets: Sequence[socket.socket],
    ) -> None:  # fmt: skip
        """Serve a connection here from now on."""
        carried = self._mine(slot, generation)
        if carried is None:
            served, head, known = self._giving.pop((slot, generation), (self._listeners.get(listener), first, None))
            for sock in sockets[1 if served is not None else 0 :]:
                sock.close()
            if served is not None:
                self._fresh(served, sockets[0], head, known)
            return
        self._out(carried, counts, "pass")
        flow, loop = carried.flow, self._parts.loop
        try:
            flow.client = _stream(loop, sockets[0])
            if len(sockets) > 1 and not flow.ending:
                flow.upstream = _stream(loop, sockets[1])
        except OSError:
            flow.ending = True
        if flow.ending or flow.upstream is None:
            if carried.failed and not flow.ending:
                reason = answers.problem(502, "upstream unreachable", "cannot connect", reason="unreachable")
                flow.client.write(reason)
                flow.client.close()
            else:
                flow.client.abort()
            for sock in sockets[1:]:
                sock.close()
            flow.ended = flow.ended or "cannot connect"
            self._ended.append(carried)
            return
        if kept:
            flow.client.write(kept)
        flow.client.data_received(first)
        route = replace(carried.route, admission=carried.admission)
        self._run(flow, front.go_on(carried.served.parts, flow, route, flow.upstream))

    def returned(self, slot: int, moved: int, how: int, unlike: bytes) -> None:
        """Go on with a direction that was lent."""
        if self._loans is not None:
            self._loans.returned(slot, moved, how, unlike)

    def gone(self, why: str) -> None:
        """Every connection in the carrier ended with it; new ones are accepted here again."""
        self._carrier, self.missing, self._parts.lend = None, why, None
        if self._loans is not None:
            self._loans.gone()
        self._parts.flows.note("alert", None, rule="runtime.carrier", reason=why)
        ended = list(self._carried.values())
        for carried in ended:
            carried.flow.ended = carried.flow.ended or why
            self._out(carried, carried.counts, carried.mode)
        self._giving.clear()
        self._groups.clear()
        for served in self._listeners.values():
            served.accepting.resume()
        self._listeners.clear()
        if ended:
            self._background(self._settle(ended))

    def _mine(self, slot: int, generation: int) -> Carried | None:
        carried = self._carried.get(slot)
        return carried if carried is not None and carried.generation == generation else None

    def _out(self, carried: Carried, counts: tuple[int, int], mode: str) -> None:
        flow = carried.flow
        del self._carried[carried.slot]
        flow.carried = None
        flow.earlier_up, flow.earlier_down = counts
        flow.mode = mode

    async def _settle(self, ended: Sequence[Carried]) -> None:
        for carried in ended:
            parts, flow = carried.served.parts, carried.flow
            flow.ending = True
            now = parts.clock.monotonic()
            outcome = Outcome(error="closed" if flow.ended else "", usage=flow.usage(now))
            await settle(parts, carried.flow, carried.admission, outcome)
            parts.flows.close(flow, now)
        self._calm()

    def _fresh(self, served: Served, sock: socket.socket, head: bytes, known: Known | None) -> None:
        """Serve a connection as one that was accepted here."""
        try:
            stream = Stream(self._parts.loop, lambda stream: self._accepted(served, stream, known))
            sock.setblocking(False)
            wire = Wire(self._parts.loop, sock, stream)
        except OSError:
            sock.close()  # gone before it was served
            return
        if head:
            stream.data_received(head)
        else:
            wire.read_now()

    # ---- the end -----------------------------------------------------------------------------------------------------

    def _calm(self) -> None:
        if self._quiet is not None and not self._carried and not self._busy and not self._quiet.done():
            self._quiet.set_result(None)

    async def drained(self) -> None:
        """Wait until no connection is left in the carrier."""
        if self._carried or self._busy:
            self._quiet = self._parts.loop.create_future()
            await self._quiet

    def cut_all(self, why: str) -> None:
        """End every connection in the carrier."""
        for carried in list(self._carried.values()):
            end_flow(carried.flow, why)

    async def close(self) -> None:
        """End the carrier."""
        carrier, self._carrier, self._parts.lend = self._carrier, None, None
        if carrier is not None:
            await carrier.close()


NO_STREAM: Final[Any] = Stream(None)  # type: ignore[arg-type]
"""What a flow in the carrier has as its client: everything asked of it does nothing."""
NO_STREAM.lost = True


def _stream(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> Stream:
    stream = Stream(loop)
    sock.setblocking(False)
    Wire(loop, sock, stream)
    return stream
