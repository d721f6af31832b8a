"""The monitor of a task's run: every effect has an idempotency key, and an ask nobody answered parks the task.

A run that begins again after a crash asks for the same effects again. Each gets a key made of the task, the action's
digest and how many times this run asked for exactly that before: recorded ones are returned, in whatever order parallel
calls come back (a number by order of starting would swap the results of parallel calls). Reads, model calls and tools that
say they are idempotent may be repeated if they were interrupted; nothing else is. Pure but for its ports.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from agent_os.core.action import Action, ToolCall
from agent_os.core.manifest import Effect
from agent_os.core.ports import Admission, Outcome, Pending
from agent_os.core.task import TaskParked
from agent_os.monitor import Monitor
from agent_os.monitor.door import Body

REPEATABLE: Final = "r:"
"""Prefix of keys whose effect may be done again when it was interrupted."""
_READS: Final = frozenset({"fs.read", "fs.list", "memory.read", "model.call"})

Fence = Callable[[], Awaitable[None]]
"""Raises FencedError or TaskStopped unless this run may still act."""


class TaskMonitor(Monitor):
    """A monitor for one run of one task. Bind it with `bind` before anything is performed."""

    _task = ""
    _fence: Fence | None = None
    _asked: dict[str, int]
    _active = 0
    _quiet: asyncio.Event

    def bind(self, task: str, fence: Fence) -> TaskMonitor:
        """Make this the monitor of a run of `task`."""
        self._task, self._fence, self._asked = task, fence, {}
        self._active, self._quiet = 0, asyncio.Event()
        return self

    async def perform(
        self,
        action: Action | Mapping[str, Any],
        *,
        body: Body | None = None,
        key: str = "",
        stated: Mapping[str, Any] | None = None,
    ) -> Outcome | Pending:
        """Do one action under a key of its own. Raises TaskParked for an ask that nobody answered, besides the rest."""
        final = self._canonical(action)
        self._active += 1
        self._quiet.clear()
        try:
            done = await super().perform(final, body=body, key=self._keyed_by(final, key), stated=stated)
        finally:
            self._active -= 1
            if self._active == 0:
                self._quiet.set()
        if isinstance(done, Pending):
            await self._quiet.wait()  # what runs beside it ends first: parking must not cut an effect in two
            raise TaskParked(done.approval_id)
        return done

    async def admit(
        self, action: Action | Mapping[str, Any], *, stated: Mapping[str, Any] | None = None, key: str = ""
    ) -> Admission:
        """Open the door for an effect that streams: it has no record to return, so only the fence holds it."""
        if self._fence is not None:
            await self._fence()
        return await super().admit(action, stated=stated, key=key)

    def _keyed_by(self, action: Action, key: str) -> str:
        base = key or action.digest
        count = 0
        if not key:
            count = self._asked.get(base, 0)
            self._asked[base] = count + 1
        return f"{REPEATABLE if self._repeatable(action) else ''}{self._task}:{base}:{count}"

    def _repeatable(self, action: Action) -> bool:
        if isinstance(action, ToolCall):
            tool = self.ports.registry.find(action.tool, action.server)
            return tool is not None and (tool.spec.idempotent or tool.spec.effect is Effect.READ)
        return action.kind in _READS
