"""Whether a person stopped this agent: asked before anything is decided, and again after a person was waited for.

Fails closed: where nobody can say that there is no halt, there is one. A model's answer that is under way is cut off. Threats: an
effect that was asked for before a halt and begins after it; a halted agent that goes on being told what to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final, TypeVar

from agent_os.core.decision import Decision
from agent_os.core.errors import AgentOSError, StoppedError
from agent_os.core.stop import KILLED
from agent_os.monitor.gather import Session
from agent_os.monitor.judging import refusal
from agent_os.monitor.wiring import Ports
from agent_os.policy import Policy

UNREADABLE = "runtime.stops-unreadable"
LOOK_SECONDS: Final = 0.5
"""Between two looks, while a model answers, whether a person has stopped its agent."""
T = TypeVar("T")


class _End:
    """After the last piece."""


_END: Final = _End()
__all__ = ["KILLED", "UNREADABLE", "Cutting", "stopped", "unless_halted"]


def stopped(ports: Ports, session: Session, policy: Policy) -> Decision | None:
    """Return the denial of whatever this agent does while it is halted or quarantined, or None."""
    if ports.stops is None:
        return None
    try:
        held = ports.stops.current()
    except AgentOSError as error:
        return refusal(policy, UNREADABLE, str(error))
    stop = held.holding(session.principal, session.lineage) if held else None
    return None if stop is None else replace(refusal(policy, stop.rule, stop.said), advice=stop.advice)


class Cutting:
    """Cuts off what is waited for inside it, once a person has stopped the agent (`async with`, on one task's loop).

    `halted` is the monitor's. What comes in pieces is waited for piece by piece, so that nothing of the reader's is interrupted.
    """

    def __init__(self, halted: Callable[[], Decision | None]) -> None:
        self._halted = halted
        self._limit: asyncio.Timeout | None = None
        self._stop: Decision | None = None
        self._looking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Cutting:
        self._looking = asyncio.create_task(self._look(), name="cutting")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._looking is not None:
            self._looking.cancel()

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Wait inside this for one thing. Raises StoppedError once the agent is stopped."""
        self._refuse()
        try:
            async with asyncio.timeout(None) as limit:
                self._limit = limit
                yield
        except TimeoutError:
            if limit.expired():
                self._refuse()
            raise
        finally:
            self._limit = None

    def _refuse(self) -> None:
        if self._stop is not None:
            raise StoppedError(f"cut off: {self._stop.reason}")

    async def _look(self) -> None:
        while self._stop is None:
            await asyncio.sleep(LOOK_SECONDS)
            self._stop = self._halted()
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time())


async def unless_halted(pieces: AsyncIterator[T], halted: Callable[[], Decision | None]) -> AsyncIterator[T]:
    """Yield the pieces of an answer until there is none. Raises StoppedError once a person has stopped the agent."""
    async with Cutting(halted) as cutting:
        try:
            while True:
                async with cutting.waiting():
                    piece = await anext(pieces, _END)
                if isinstance(piece, _End):
                    return
                yield piece
        finally:
            close = getattr(pieces, "aclose", None)
            if close is not None:
                await close()
