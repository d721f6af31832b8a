"""What a program of a task gets: the door of this run, children as tasks of their own, and LangChain's view of a session.

A child is a row: `spawn` is one `agent.spawn` action whose effect stores it, and `gather` lets the run end while children
are open (state `waiting-children`); it begins again when all of them have ended, and gets their results. What a child may
do is the part of its role, of what the spawn asked for and of its parent, fixed when it was spawned and narrowed by the
policy again whenever it runs. What it was told by its parent vouches for nothing in its information flow.
Threats: a fork bomb; a child whose parent is over; two equal spawns that swap their results after a crash.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from agent_os.agents.task_monitor import TaskMonitor
from agent_os.core.action import Action, AgentSpawn
from agent_os.core.canonical import json_bytes
from agent_os.core.decision import Decision, Verdict
from agent_os.core.errors import DeniedError, EffectError
from agent_os.core.guards import FlowGuard
from agent_os.core.label import Integrity
from agent_os.core.ports import Outcome, Pending
from agent_os.core.principal import Principal
from agent_os.core.task import Rights, Task, TaskRequest, TaskState, TaskWaits
from agent_os.effects.durable.family import Family
from agent_os.monitor import Monitor
from agent_os.runtime.delegating import TaskDelegation
from agent_os.runtime.rights import granted, limits_of

HANDLES_APART: Final = 10_000
HANDLE_RANGES: Final = 90_000
"""A child's handles begin in a range of its own: one that its parent wrote into its text means nothing to it."""
BOUND: Final = "past-a-bound"
"""Outcome of a spawn that would be one child too many: `detail` names the rule."""


@dataclass(frozen=True, slots=True)
class Child:
    """A child that was started: its task's id and its name."""

    task: str
    agent: str


@dataclass(frozen=True, slots=True)
class ChildResult:
    """How a child ended. `value` is what its program returned; `error` why it has none."""

    task: str
    agent: str
    state: TaskState
    value: Any = None
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether the child did what it was started for."""
        return self.state is TaskState.DONE


@dataclass(slots=True)
class TaskSession:
    """One run of a task as its program sees it."""

    task: Task
    monitor: TaskMonitor
    toolbox: Any
    loop: Any
    workspace: str
    family: Family
    prompts: list[str] = field(default_factory=list)
    records_streams: bool = True
    """Tells adapters that a streamed answer must be recorded whole."""
    _spawned: Counter[str] = field(default_factory=Counter)

    @property
    def principal(self) -> Principal:
        """On whose behalf the task runs."""
        return self.monitor.principal

    @property
    def role(self) -> str:
        """The role that a child was started in; empty for a root task."""
        return self.task.rights.role

    @property
    def delegation(self) -> TaskDelegation:
        """What starts sub-agents for an agent loop, and gathers them."""
        return TaskDelegation(self)

    def prompt(self, text: str) -> None:
        """Tell the session what was asked. Of a root task that is trusted text, from which the scope of effects is taken;
        what a child is told are its parent's words, and what was submitted by a session that had read untrusted text are
        that session's: they widen nothing.
        """
        flow = self.monitor.session.flow
        if self.task.rights.knowledge is None:
            self.prompts.append(text)
            if flow is not None:
                flow.prompt(text)

    def untrusted(self, text: str, source: str) -> None:
        """Tell the session of text from outside that the model is shown beside the results of actions."""
        if self.monitor.session.flow is not None:
            self.monitor.session.flow.untrusted(text, source)

    async def perform(self, action: Mapping[str, Any], *, key: str = "") -> Outcome:
        """Do one action of the task: recorded outcomes are returned, an unanswered ask parks the task."""
        done = await self.monitor.perform(action, key=key)
        if isinstance(done, Pending):
            raise EffectError(f"waits for approval {done.approval_id}")
        return done

    # ---- children ---------------------------------------------------------------------------------------------------

    async def spawn(
        self,
        role: str,
        task: str = "",
        *,
        program: str = "",
        given: Mapping[str, Any] | None = None,
        capabilities: Sequence[Mapping[str, Any]] | None = None,
        budgets: Mapping[str, float] | None = None,
    ) -> Child:
        """Start a child of a role of the policy's `agents:` section as a task of its own; it runs whether or not this run
        goes on.

        `program` is what it runs (default: the same as this task) on `given`, and on `task`. Raises DeniedError,
        ActionError, EffectError.
        """
        wire: dict[str, Any] = {"kind": "agent.spawn", "role": role, "task": task, "budgets": dict(budgets or {})}
        if capabilities is not None:
            wire["capabilities"] = [dict(each) for each in capabilities]
        program, inherited = program or self.task.program, dict(given or {})
        if program == "agent" and "model" in self.task.input:
            inherited.setdefault("model", self.task.input["model"])
        base = hashlib.sha256(json_bytes([wire, program, inherited])).hexdigest()
        self._spawned[base] += 1
        key = f"spawn:{base}:{self._spawned[base]}"
        task_id = f"tsk_{hashlib.sha256(f'{self.task.id} {key}'.encode()).hexdigest()[:20]}"
        self.monitor.session.children = await self.family.live()

        async def start(final: Action) -> Any:
            return await self._start(final, task_id, program, inherited)

        done = await self.monitor.perform(wire, body=start, key=key)
        if isinstance(done, Pending):
            raise EffectError(f"waits for approval {done.approval_id}")
        if done.error == BOUND:
            reason = "as many sub-agents as there may be have been started"
            digest = self.monitor.policy.digest
            raise DeniedError(Decision(Verdict.DENY, (done.detail,), reason, policy_digest=digest))
        if not done.ok:
            raise EffectError(done.detail or done.error)
        return Child(done.value["task"], done.value["agent"])

    async def _start(self, action: Action, task_id: str, program: str, given: Mapping[str, Any]) -> Outcome:
        """Carry out a permitted spawn: store the child's row."""
        if not isinstance(action, AgentSpawn):
            raise EffectError("only agent.spawn starts a sub-agent")
        parent, monitor = self.task, self.monitor
        sections = [section for section, _, _ in monitor.policy.sections("agents")]
        name = f"{action.role}-{task_id[4:10]}"
        rights = Rights(
            role=action.role,
            capabilities=granted(monitor.policy, monitor, action, self.toolbox.names()),
            limits=limits_of(sections, action),
            knowledge=self._knowledge(),
        )
        request = TaskRequest(
            id=task_id,
            program=program,
            input={**given, "task": action.task} if action.task else given,
            principal=replace(parent.principal, session="-").child(name),
            workspace=parent.workspace,
            policies=parent.policies,
            queue=parent.queue,
            priority=parent.priority,
            parent=parent.id,
            lineage=(*parent.lineage, parent.id),
            rights=rights,
        )
        over = await self.family.start(
            request.checked(),
            children_max=min(part.max_children for part in sections),
            total_max=min(part.max_total for part in sections),
        )
        return Outcome(error=BOUND, detail=over) if over else Outcome({"task": task_id, "agent": name})

    def _knowledge(self) -> Mapping[str, Any]:
        """Return what a child's information flow begins with: the user's words, and whether anything else was read."""
        return {"prompts": list(self.prompts), "tainted": has_read(self.monitor.session.flow)}

    def know(self, knowledge: Mapping[str, Any]) -> None:
        """Take what the parent knew, at the start of a child's run."""
        flow = self.monitor.session.flow
        self.prompts.extend(knowledge["prompts"])
        if flow is not None:
            for text in self.prompts:
                flow.prompt(text)
            if knowledge["tainted"]:
                flow.distrust()
            flow.begin_handles(HANDLES_APART * (1 + zlib.crc32(self.task.id.encode()) % HANDLE_RANGES))

    async def gather(self, *children: Child | str) -> list[ChildResult]:
        """Return how children ended, in the order asked for; while one is open this run ends and its task waits.

        A child that failed is a result like the others. Raises EffectError for a task that is no child of this one.
        """
        ids = [each.task if isinstance(each, Child) else each for each in children]
        tasks = await self.family.results(ids)
        if any(not task.state.ended for task in tasks):
            await self.monitor.quiet()
            raise TaskWaits(ids)
        results = []
        for task in tasks:
            self.untrusted(json_bytes([task.result, task.reason]).decode(), f"agent:{task.principal.agent}")
            results.append(ChildResult(task.id, task.principal.agent, task.state, task.result, task.reason))
        return results

    async def result(self, child: Child | str) -> Any:
        """Return what one child returned; waits like `gather`. Raises EffectError when it has not done its work."""
        (found,) = await self.gather(child)
        if not found.ok:
            raise EffectError(f"the sub-agent {found.agent} is {found.state.value}: {found.error}")
        return found.value


def has_read(flow: FlowGuard | None) -> bool:
    """Return whether a session has read anything that an attacker could have written."""
    return flow is not None and flow.context.integrity is Integrity.UNTRUSTED


__all__ = ["Child", "ChildResult", "Monitor", "TaskSession"]
