"""Durable tasks as an application holds them: submitted, followed, awaited.

A handle is an id and a way to look: it costs nothing while the task runs, and another process can make one of the same id.
Results and events come from the ledger, so they are there after a crash of whoever submitted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from agent_os.core.errors import EffectError
from agent_os.core.task import Task, TaskState
from agent_os.effects.durable.outcomes import steps_of

if TYPE_CHECKING:
    from agent_os.runtime.loop import LoopThread
    from agent_os.runtime.tasks.desk import TaskDesk

FOLLOW_SECONDS: Final = 0.1
"""Between two looks at a task that is followed."""


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """Something that happened to a task: `state` (what: the new one), `begun` or `done` (what: the effect, by kind and
    tool), `child` (what: its state; `task` is the child's id). `detail` is the reason of a state. No values.
    """

    kind: Literal["state", "begun", "done", "child"]
    task: str
    what: str
    detail: str = ""


async def follow(desk: TaskDesk, task_id: str) -> AsyncIterator[TaskEvent]:
    """Yield what happens to a task from its beginning until it has ended, its children's states too."""
    state = ""
    begun: set[str] = set()
    done: set[str] = set()
    children: dict[str, str] = {}
    since = 0.0
    while True:
        task = await desk.get(task_id)
        for step in await steps_of(desk.ledger, task.id, since):
            if step.key not in begun:
                begun.add(step.key)
                yield TaskEvent("begun", task.id, step.what)
            if step.done and step.key not in done:
                done.add(step.key)
                yield TaskEvent("done", task.id, step.what)
        if len(done) == len(begun):
            since = max(since, task.started)
        for child in reversed(await desk.ledger.list(parent=task.id, brief=True)):
            if children.get(child.id) != child.state.value:
                children[child.id] = child.state.value
                yield TaskEvent("child", child.id, child.state.value, child.reason)
        if task.state.value != state:
            state = task.state.value
            yield TaskEvent("state", task.id, state, task.reason)
        if task.state.ended:
            return
        await asyncio.sleep(FOLLOW_SECONDS)


class TaskHandle:
    """A task that was submitted. Coroutines may be awaited on any event loop."""

    def __init__(self, desk: TaskDesk, loop: LoopThread, task_id: str) -> None:
        self._desk, self._loop, self.id = desk, loop, task_id

    def __repr__(self) -> str:
        return f"TaskHandle({self.id!r})"

    async def task(self) -> Task:
        """Return the task as it stands."""
        return await self._loop.call(self._desk.get(self.id))

    async def result(self, *, within: float | None = None) -> Any:
        """Wait until the task has ended and return what its program returned.

        Raises EffectError when it failed, was killed or is a dead letter (the reason says why), TimeoutError after `within`
        seconds. A task that waits for a person or was suspended is waited for.
        """
        return await self._loop.call(self._result(within))

    def wait(self, *, within: float | None = None) -> Any:
        """The same for a caller without an event loop."""
        return self._loop.run(self._result(within))

    async def _result(self, within: float | None) -> Any:
        async with asyncio.timeout(within):
            while True:
                task = await self._desk.get(self.id)
                if task.state is TaskState.DONE:
                    return task.result
                if task.state.ended:
                    raise EffectError(f"task {task.id} is {task.state.value}: {task.reason or 'no reason was given'}")
                await asyncio.sleep(FOLLOW_SECONDS)

    async def events(self) -> AsyncIterator[TaskEvent]:
        """Yield what happens to the task, from its beginning until it has ended."""
        events = follow(self._desk, self.id)
        while (event := await self._loop.call(_next(events))) is not None:
            yield event

    async def cancel(self) -> None:
        """End the task and everything below it."""
        await self._loop.call(self._desk.stop(self.id, "kill"))

    async def suspend(self) -> None:
        """Let the task and everything below it stop before their next effect."""
        await self._loop.call(self._desk.stop(self.id, "suspend"))

    async def resume(self, *, redo: bool = False) -> None:
        """Let a suspended task go on; with `redo` run one again that ended badly."""
        await self._loop.call(self._desk.resume(self.id, redo=redo))


async def _next(events: AsyncIterator[TaskEvent]) -> TaskEvent | None:
    return await anext(events, None)
