"""One loop thread: the thin synchronous face of an asynchronous core.

Inside everything is async. A synchronous caller hands a coroutine to the loop thread and waits; doing that from the loop
thread itself would wait for ever, so it raises instead.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from agent_os.core.errors import AgentOSError
from agent_os.runtime.event_loop import new_loop

T = TypeVar("T")
STOP_TIMEOUT_S: Final = 10.0


class LoopThread:
    """An event loop in a daemon thread of its own, or the loop that is running where it was adopted."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._thread: threading.Thread | None = None
        self._process = os.getpid()
        if loop is not None:
            self.loop = loop
            return
        self.loop = new_loop()
        self._thread = threading.Thread(target=self._main, name="agent-os-loop", daemon=True)
        self._thread.start()

    def _main(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop from another thread and return its result.

        Raises AgentOSError where waiting would never end: on the loop's own thread (use the async method there), and in a
        process forked from the one that opened the session (a fork takes no threads along, and two would write one audit).
        """
        self._same_process(coroutine)
        if _running() is self.loop:
            coroutine.close()
            raise AgentOSError("a synchronous call on the loop thread would wait for ever: await the async method")
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    async def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await a coroutine of this loop from any loop. Raises AgentOSError in a forked process."""
        self._same_process(coroutine)
        if _running() is self.loop:
            return await coroutine
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self.loop))

    def _same_process(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        if os.getpid() != self._process:
            coroutine.close()
            raise AgentOSError("this session belongs to the process that opened it: open another one after the fork")

    def stop(self) -> None:
        """End the loop's thread; a loop that was adopted goes on. Idempotent."""
        if self._thread is None or not self._thread.is_alive():
            return
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(STOP_TIMEOUT_S)
        if not self._thread.is_alive():
            self.loop.close()


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
