"""Which event loop our own processes run on: uvloop where it is installed (extra `fast`), else asyncio's. One place chooses.

For processes and threads that are ours (`agentos run`, `serve`, `worker`, the loop thread of the synchronous SDK): an application
that awaits us runs on the loop it chose. `AGENTOS_LOOP` says otherwise. What is enforced is the same on both; only speed differs.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from agent_os.core.errors import EffectError

T = TypeVar("T")
VARIABLE: Final = "AGENTOS_LOOP"
LOOPS: Final = ("uvloop", "asyncio")


def loop_kind() -> str:
    """Return the loop that `run` and `new_loop` take: `uvloop` or `asyncio`. Raises EffectError for one that is not to be had."""
    asked = os.environ.get(VARIABLE, "")
    if asked and asked not in LOOPS:
        raise EffectError(f"{VARIABLE} is `uvloop`, `asyncio` or empty, not `{asked[:40]}`")
    here = importlib.util.find_spec("uvloop") is not None
    if asked == "uvloop" and not here:
        raise EffectError(f"{VARIABLE} asks for uvloop, which is not installed: pip install 'agent-os-runtime[fast]'")
    return asked or ("uvloop" if here else "asyncio")


def _factory() -> Callable[[], asyncio.AbstractEventLoop]:
    if loop_kind() == "asyncio":
        return asyncio.new_event_loop
    import uvloop  # noqa: PLC0415 - optional

    made: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return made


def new_loop() -> asyncio.AbstractEventLoop:
    """Return a new loop. Raises EffectError."""
    return _factory()()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a loop of its own, as `asyncio.run`. Raises what it raises, EffectError before it began."""
    try:
        factory = _factory()
    except EffectError:
        work.close()
        raise
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)
