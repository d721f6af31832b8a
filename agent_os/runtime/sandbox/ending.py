"""Ending what runs in a sandbox when its agent is stopped in a way that ends what runs (`agentos halt --kill`).

A halt keeps every new effect from beginning; a program that runs already, and what its tunnels carry, is ended here. Threat:
a program that goes on sending after everything was halted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

from agent_os.core.errors import AgentOSError, StoppedError
from agent_os.core.principal import Principal
from agent_os.core.stop import Stop, StopStore

T = TypeVar("T")
LOOK_SECONDS: Final = 0.2
"""Between two looks, while a program runs, whether it is to end."""


async def unless_ended(work: Coroutine[Any, Any, T], stops: StopStore | None, principal: Principal) -> T:
    """Return what work returns; cancel it, and raise StoppedError, once a stop ends what this agent runs."""
    if stops is None:
        return await work
    running = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_ended(stops, principal))
    try:
        await asyncio.wait({running, watching}, return_when=asyncio.FIRST_COMPLETED)
        if running.done() or not watching.done():
            return await running
        running.cancel()
        await asyncio.wait({running})
        raise StoppedError(f"ended: {watching.result().said}")
    except asyncio.CancelledError:
        running.cancel()
        await asyncio.wait({running})
        raise
    finally:
        watching.cancel()


async def _ended(stops: StopStore, principal: Principal) -> Stop:
    while True:
        with suppress(AgentOSError):  # what cannot be read lets nothing new begin; it ends nothing
            stop = stops.current().holding(principal, ends=True)
            if stop is not None:
                return stop
        await asyncio.sleep(LOOK_SECONDS)
