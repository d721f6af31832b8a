"""Durable tasks and schedules of a session that an application embeds: what `AgentOS.submit` and `AgentOS.schedule` do.

Threat: a sub-agent that leaves its rights behind by submitting a task. Only the session that the application opened
submits; a sub-agent's session spawns.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from agent_os.core.decision import Decision, Verdict
from agent_os.core.errors import ActionError, DeniedError
from agent_os.core.schedule import Schedule, parse_trigger
from agent_os.core.task import DEFAULT_QUEUE, ROOT, Rights, TaskRequest
from agent_os.runtime.tasks.desk import own_id, task_request, tasks_of
from agent_os.runtime.tasks.handle import TaskHandle
from agent_os.runtime.tasks.runtime import TaskRuntime
from agent_os.runtime.tasks.session import has_read

if TYPE_CHECKING:
    from agent_os.runtime.compose import Composition
    from agent_os.runtime.loop import LoopThread


_TERMS = frozenset({"missed", "catch_up_max", "overlap", "jitter", "budgets"})


class RunOptions(TypedDict, total=False):
    """What runs: the built-in agent on the task's text with `model`, a list of `actions`, or a `program` that a worker of
    the application has, on `given` (plain JSON). `queue` is where.
    """

    model: str
    actions: Sequence[Mapping[str, Any]]
    program: str
    given: Mapping[str, Any]
    queue: str


class TaskOptions(RunOptions, total=False):
    """A task's: `priority` (1 is first), `within` seconds it must have started, `id` (submitting twice is once;
    another user's same id is another task).
    """

    priority: int
    within: float
    id: str


class ScheduleOptions(RunOptions, total=False):
    """A schedule's: missed runs (`skip`, `once`, `catch_up` up to `catch_up_max`), `overlap` (`skip`, `queue`, `cancel`),
    `jitter` in seconds, `budgets` of each run by unit.
    """

    missed: str
    catch_up_max: int
    overlap: str
    jitter: float
    budgets: Mapping[str, float]


class SessionTasks:
    """The ledger as one session uses it."""

    def __init__(
        self, composition: Composition, loop: LoopThread, policies: tuple[str, ...] | None, workspace: str
    ) -> None:
        self._composition, self._loop, self._policies, self._workspace = composition, loop, policies, workspace
        self._monitor = composition.monitor
        self._desk = tasks_of(composition.state, self._monitor.principal)

    def close(self) -> None:
        """Close the ledger; the state is the session's."""
        self._desk.ledger.storage.close()

    def handle(self, task_id: str) -> TaskHandle:
        """Return a handle of a task."""
        return TaskHandle(self._desk, self._loop, task_id)

    def worker(self, programs: Mapping[str, Any], queues: Sequence[str]) -> TaskRuntime:
        """Return a worker over the same state."""
        env = {**os.environ, "AGENTOS_STATE": str(self._composition.state.path)}
        return TaskRuntime(environment=env, programs=programs, queues=queues)

    async def submit(self, text: str, options: TaskOptions) -> TaskHandle:
        """Store a task and return its handle."""
        self._refuse_child("submits")
        parts = self._parts(text, options)
        within = options.get("within", 0.0)
        request = TaskRequest(
            **parts,
            principal=self._monitor.principal,
            priority=options.get("priority", 100),
            deadline=time.time() + within if within else 0.0,
            rights=self._rights(),
            id=own_id(chosen, self._monitor.principal) if (chosen := options.get("id", "")) else "",
        )
        return self.handle((await self._desk.submit(request)).id)

    async def schedule(self, name: str, when: Mapping[str, Any] | str, text: str, options: ScheduleOptions) -> Schedule:
        """Store a schedule, if the session's policy allows it."""
        self._refuse_child("makes schedules")
        parts = self._parts(text, options)
        terms = {key: value for key, value in options.items() if key in _TERMS}
        when = parse_trigger(when).to_json()
        data = {"name": name, "when": when, **parts, "policies": list(parts["policies"]), **terms}
        return await self._desk.store_schedule(data, self._monitor)

    def _rights(self) -> Rights:
        """Return what the task begins with: after untrusted text was read here, its text is no user's word any more.

        Who submits text of the user's own says so first with `prompt`.
        """
        flow = self._monitor.session.flow
        if flow is None or not has_read(flow):
            return ROOT
        return Rights(knowledge={"prompts": list(flow.prompts), "tainted": True})

    def _refuse_child(self, does: str) -> None:
        if self._monitor.session.capabilities is not None or self._monitor.principal.parents:
            reason = f"a sub-agent never {does}: what it starts would outlive the rights of its parent; it spawns"
            raise DeniedError(Decision(Verdict.DENY, ("runtime.child-submits",), reason))

    def _parts(self, text: str, options: RunOptions) -> dict[str, Any]:
        """Return program, input, workspace, policies and queue of what is to run. Raises ActionError."""
        if self._policies is None:
            hint = "AgentOS.open('policy.yaml'): a task reads its policy again at each run"
            raise ActionError("a session of a policy in memory submits no tasks", field="policy", hint=hint)
        queue, program = options.get("queue", DEFAULT_QUEUE), options.get("program", "")
        if program and program not in ("agent", "actions"):
            given = dict(options.get("given", {}))
            named = {"program": program, "input": {**given, "task": text} if text else given}
            return {**named, "workspace": self._workspace, "policies": self._policies, "queue": queue}
        parts = task_request(
            text,
            actions=options.get("actions"),
            policies=self._policies,
            model=options.get("model", ""),
            workspace=Path(self._workspace),
            principal=self._monitor.principal,
        )
        parts.pop("owner")
        return {**parts, "queue": queue}
