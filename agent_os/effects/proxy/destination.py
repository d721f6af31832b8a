"""Where the requests of one client connection go: the route that was admitted, one upstream connection, memory for bodies.

A tunnel has one destination for good; a forward proxy's client may name another with each request, and each is admitted anew.
Threat: bytes for one destination on a connection to another.
"""

from __future__ import annotations

from agent_os.core.ports import Outcome
from agent_os.effects.proxy.flows import Flow
from agent_os.effects.proxy.http1 import HttpError
from agent_os.effects.proxy.parts import Parts
from agent_os.effects.proxy.route import Route, connect_upstream, open_route, settle
from agent_os.effects.proxy.stream import Stream


class Destination:
    """See the module. `fixed` is the route of a tunnel, which its owner settles; None for a forward proxy."""

    def __init__(self, parts: Parts, flow: Flow, scheme: str, fixed: Route | None) -> None:
        self._parts, self._flow, self._scheme = parts, flow, scheme
        self.fixed = fixed
        self._route = fixed
        self._upstream: Stream | None = None
        self._held = 0

    async def route_to(self, host: str, port: int) -> Route:
        """Return the admitted route to a destination. Raises DeniedError, EffectError."""
        held = self._route
        if held is not None:
            held.treatment = self._parts.rules.treatment(held.host, held.port)  # after a reload too
            if self.fixed is not None or ((held.host, held.port) == (host, port) and self._upstream is not None):
                return held
            await self.leave()
        self._route = await open_route(self._parts, self._flow, host, port)
        self._flow.mode, self._flow.passes = "forward", False
        return self._route

    async def upstream(self, route: Route) -> Stream:
        """Return the connection of this client to the route's destination; a new one where the old has ended."""
        held = self._upstream
        if held is not None and not held.ended and not held.lost and not held.buffer:
            return held
        self.drop()
        self._upstream = await connect_upstream(self._parts, self._flow, route, tls=self._scheme == "https")
        return self._upstream

    def drop(self) -> None:
        """End the upstream connection."""
        if self._upstream is not None:
            self._upstream.close()
            self._upstream = None

    async def leave(self) -> None:
        """End the upstream connection, and settle what a forward proxy's client was admitted to."""
        self.drop()
        if self.fixed is None and self._route is not None:
            route, self._route = self._route, None
            await settle(self._parts, self._flow, route.admission, Outcome())

    def hold(self, size: int) -> None:
        """Take memory for a body that is read whole. Raises HttpError when all connections together hold too much."""
        if self._parts.inspecting.value + size > self._parts.limits.inspect_bytes_total:
            raise HttpError("the guard holds as many bodies as it may; try again", 503)
        self._parts.inspecting.value += size
        self._held += size

    def release(self) -> None:
        """Give back what was taken."""
        self._parts.inspecting.value -= self._held
        self._held = 0
