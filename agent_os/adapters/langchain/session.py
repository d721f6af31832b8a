"""What the adapter needs of a runtime session, and the two ways to put an effect through its door.

Pure but for the door. The body of an effect (the wrapped tool or model) runs where its caller runs: in the caller's
thread for synchronous calls, on the caller's event loop for asynchronous ones, never on the monitor's loop unless that
is the caller's. So no body can stall the monitor and nested synchronous agents cannot run out of threads.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from agent_os.core.action import Action
from agent_os.core.errors import AgentOSError
from agent_os.core.ports import Outcome, Pending, RegisteredTool
from agent_os.core.principal import Principal
from agent_os.monitor import Monitor

T = TypeVar("T")


class Loop(Protocol):
    """The event loop a session runs on."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    def run(self, coroutine: Coroutine[Any, Any, T]) -> T: ...
    async def call(self, coroutine: Coroutine[Any, Any, T]) -> T: ...


class Tools(Protocol):
    """The registry of tools of a session (`agents.toolbox.Toolbox`)."""

    def register(self, spec: Any, run: Any, *, code: bytes, server: str = "") -> RegisteredTool: ...
    def find(self, tool: str, server: str = "") -> RegisteredTool | None: ...
    def names(self) -> frozenset[str]: ...
    def check(self, tool: str, args: Mapping[str, Any], server: str = "") -> None: ...


class Session(Protocol):
    """One open session of the runtime (`runtime.AgentOS`)."""

    @property
    def loop(self) -> Loop: ...
    @property
    def monitor(self) -> Monitor: ...
    @property
    def toolbox(self) -> Tools: ...
    @property
    def principal(self) -> Principal: ...
    @property
    def workspace(self) -> str: ...
    def prompt(self, text: str) -> None: ...


def perform_sync(
    session: Session, action: Action, body: Callable[[Action], Any] | None, *, key: str = ""
) -> Outcome | Pending:
    """Perform an action from a thread other than the session's loop; `body` runs in this thread.

    Raises what `Monitor.perform` raises, and AgentOSError on the loop's own thread, where waiting would never end.
    """
    loop = session.loop.loop
    if _running() is loop:
        raise AgentOSError("a synchronous call on the loop thread would wait for ever: use the asynchronous method")
    if body is None:
        return session.loop.run(session.monitor.perform(action, key=key))
    wanted: queue.SimpleQueue[tuple[Action, asyncio.Future[Any]] | None] = queue.SimpleQueue()

    async def elsewhere(final: Action) -> Any:
        done: asyncio.Future[Any] = loop.create_future()
        wanted.put((final, done))
        return await done

    performed = asyncio.run_coroutine_threadsafe(session.monitor.perform(action, body=elsewhere, key=key), loop)
    performed.add_done_callback(lambda _: wanted.put(None))
    while True:
        item = wanted.get()
        if item is None:
            return performed.result()
        final, done = item
        try:
            value = body(final)
        except Exception as error:
            loop.call_soon_threadsafe(_fail, done, error)
        except BaseException:
            loop.call_soon_threadsafe(done.cancel)
            raise
        else:
            loop.call_soon_threadsafe(_finish, done, value)


async def perform_async(
    session: Session, action: Action, body: Callable[[Action], Awaitable[Any]] | None, *, key: str = ""
) -> Outcome | Pending:
    """Perform an action from any event loop; `body` runs on the caller's. Raises what `Monitor.perform` raises."""
    here = asyncio.get_running_loop()
    if body is None or here is session.loop.loop:
        return await session.loop.call(session.monitor.perform(action, body=body, key=key))
    work = body

    async def there(final: Action) -> Any:
        async def run() -> Any:
            return await work(final)

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(run(), here))

    return await session.loop.call(session.monitor.perform(action, body=there, key=key))


def _finish(done: asyncio.Future[Any], value: Any) -> None:
    if not done.done():
        done.set_result(value)


def _fail(done: asyncio.Future[Any], error: Exception) -> None:
    if not done.done():
        # a StopIteration would end the coroutine that awaits it (PEP 479)
        done.set_exception(RuntimeError("the tool raised StopIteration") if isinstance(error, StopIteration) else error)


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
