"""The monitor of a task's run: every effect has an idempotency key, and an ask nobody answered parks the task.

A run that begins again after a crash asks for the same effects again. Each gets a key made of the task, the action's
digest and how many times this run asked for exactly that before: recorded ones are returned, in whatever order parallel
calls come back (a number by order of starting would swap the results of parallel calls). Reads, model calls and tools that
say they are idempotent may be repeated if they were interrupted; nothing else is. Pure but for its ports.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent_os.core.action import Action, AgentSpawn, ToolCall
from agent_os.core.approval import Approval, ApprovalStore
from agent_os.core.errors import DeniedError
from agent_os.core.manifest import Effect
from agent_os.core.ports import CANCELLED, Admission, Outcome, Pending
from agent_os.core.task import HELD, REPEATABLE, TaskParked, TaskStopped
from agent_os.monitor import Monitor
from agent_os.monitor.admitting import Attempt
from agent_os.monitor.carrying import Body
from agent_os.monitor.naming import canonical_action
from agent_os.monitor.stopping import stopped

_AGAIN: Final = frozenset({"fs.read", "fs.list", "memory.read", "model.call", "agent.spawn"})
"""Kinds that may be done again: reads, and a child, whose row has one id however often it is stored."""

REFUSED: Final = "refused-by-person"
"""Outcome of an effect that a person did not allow."""


@dataclass(frozen=True, slots=True)
class Lease:
    """How a run learns that it may still act. Each raises FencedError or TaskStopped when it may not."""

    check: Callable[[], Awaitable[None]]
    """Now, as the ledger has it."""
    confirm: Callable[[str], Awaitable[None]]
    """Once more for an effect under this key, if its claim is older than a lease can be sure of."""
    policy: Callable[[], Awaitable[None]]
    """Puts the policy in force that holds now."""


class TaskMonitor(Monitor):
    """A monitor for one run of one task. Bind it with `bind` before anything is performed."""

    _task_id = ""
    _task_lease: Lease | None = None
    _task_counts: dict[str, int]
    _task_refused: Approval | None = None
    _task_active = 0
    _task_quiet: asyncio.Event

    def bind(self, task: str, lease: Lease, refused: Approval | None = None) -> TaskMonitor:
        """Make this the monitor of a run of `task`; `refused` is the ask it waited for, if that was not approved."""
        self._task_id, self._task_lease, self._task_counts, self._task_refused = task, lease, {}, refused
        self._task_active, self._task_quiet = 0, asyncio.Event()
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
        if self._task_lease is not None:
            await self._task_lease.policy()
        final = canonical_action(action, self.session, self.ports.links)
        name = self._task_key(final, key)
        describe = getattr(self.ports.outcomes, "describe", None)
        if describe is not None:
            describe(name, f"{final.kind} {final.target}" if isinstance(final, ToolCall | AgentSpawn) else final.kind)
        self._task_active += 1
        self._task_quiet.clear()
        try:
            done = await super().perform(final, body=body, key=name, stated=stated)
        finally:
            self._task_active -= 1
            if self._task_active == 0:
                self._task_quiet.set()
        if isinstance(done, Outcome) and done.error == CANCELLED and self.halted() is not None:
            raise TaskStopped(HELD, done.detail)  # cut off by a stop: free again, or interrupted, once it goes on
        if isinstance(done, Pending) and self._task_refused is not None and done.approval_id == self._task_refused.id:
            done = await self._task_remember(name, final.digest, self._task_refused)
        if isinstance(done, Pending):
            await self.quiet()
            raise TaskParked(done.approval_id)
        if done.error == REFUSED:
            raise DeniedError(self._refusal("runtime.approval-denied", done.detail))
        return done

    async def quiet(self) -> None:
        """Wait until what runs here has ended: parking must not cut an effect in two."""
        while self._task_active:
            await self._task_quiet.wait()

    async def _task_remember(self, key: str, digest: str, refused: Approval) -> Outcome:
        """Record a person's no as the outcome of its effect, so that no later run asks again."""
        why = "nobody answered in time" if refused.state == "expired" else "a person denied this"
        said = why + (f": {refused.answer}" if refused.answer else "")
        outcome = Outcome(error=REFUSED, detail=said, memo={})  # nothing was done, nothing was read
        outcomes = self.ports.outcomes
        if outcomes is not None and await outcomes.claim(key, digest) is None:
            await outcomes.record(key, outcome)
        return outcome

    async def admit(
        self, action: Action | Mapping[str, Any], *, stated: Mapping[str, Any] | None = None, key: str = ""
    ) -> Admission:
        """Open the door for an effect that streams: it has no record to return, so only the fence holds it."""
        await self._task_holds()
        return await super().admit(action, stated=stated, key=key)

    def _go_on(self, action: Action, attempt: Attempt) -> None:
        """Stand still where a person halted or quarantined this agent: the task keeps what it has, and waits."""
        stop = stopped(self.ports, self.session, self.policy)
        if stop is not None:
            raise TaskStopped(HELD, stop.reason)

    async def admit_alike(
        self, action: Action, *, stated: Mapping[str, Any] | None = None, count: int
    ) -> Sequence[Admission] | None:
        """Open the door for several effects that stream, behind the fence."""
        await self._task_holds()
        return await super().admit_alike(action, stated=stated, count=count)

    async def _task_holds(self) -> None:
        if self._task_lease is not None:
            await self._task_lease.policy()
            await self._task_lease.check()

    async def _confirm(self, key: str) -> None:
        """A run that stood still between its claim and its effect (a frozen process, a slow disk) looks at its lease again."""
        if self._task_lease is not None:
            await self._task_lease.confirm(key)

    def _scoped(self, key: str) -> str:
        """Return the key as it is: it names the task, and a task has one principal for good."""
        return key

    def _task_key(self, action: Action, key: str) -> str:
        base = key or action.digest
        count = 0
        if not key:
            count = self._task_counts.get(base, 0)
            self._task_counts[base] = count + 1
        return f"{REPEATABLE if self._task_repeatable(action) else ''}{self._task_id}:{base}:{count}"

    def _task_repeatable(self, action: Action) -> bool:
        if isinstance(action, ToolCall):
            tool = self.ports.registry.find(action.tool, action.server)
            return tool is not None and (tool.spec.idempotent or tool.spec.effect is Effect.READ)
        return action.kind in _AGAIN


class AnsweredApprovals:
    """The approval store as a run sees it whose last ask was not approved: asking the same again gives that answer."""

    def __init__(self, inner: ApprovalStore, refused: Approval) -> None:
        self._inner, self._refused = inner, refused

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def request(self, approval: Approval) -> Approval:
        """Store an ask, unless it is the one that was refused: then return that."""
        old = self._refused
        same = (old.action_digest, old.policy_digest) == (approval.action_digest, approval.policy_digest)
        return old if same else await self._inner.request(approval)
