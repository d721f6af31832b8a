"""Which policy is in force for a task, at its start and at each of its effects.

Policy files are read again when they changed, looked at every POLICY_SECONDS at most; a run goes on under what they say
now, its rights narrowed by it. A file that does not load ends no run and loosens nothing: what was in force stays, and the
next run fails. Threat: a right that was taken away and holds on in a task that runs for days.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agent_os.agents.task_monitor import TaskMonitor
from agent_os.core.errors import AgentOSError
from agent_os.core.schedule import Schedule
from agent_os.core.task import Task
from agent_os.monitor.gather import Needs
from agent_os.policy import Policy
from agent_os.runtime.agent_terms import agent_policy
from agent_os.runtime.compose import Composition
from agent_os.runtime.engines import needs_of
from agent_os.runtime.reload import Stamps, load_settled, stamps_of
from agent_os.runtime.rights import narrowed

POLICY_SECONDS: Final = 1.0
"""A policy that was looked at so lately is not looked at again."""
POLICIES_KEPT: Final = 256
_log = logging.getLogger("agent_os.durable")


@dataclass(slots=True)
class _Held:
    policy: Policy
    stamps: Stamps
    looked: float
    needs: Needs
    error: AgentOSError | None = None
    """Why its files did not load when they were looked at last."""

    def said(self) -> Policy:
        """Return the policy, or raise what its files' last load raised."""
        if self.error is not None:
            raise self.error
        return self.policy


class TaskPolicies:
    """The policies of one worker's tasks, by their files."""

    def __init__(self) -> None:
        self._held: dict[tuple[tuple[str, ...], str], _Held] = {}

    async def of(self, task: Task | Schedule) -> Policy:
        """Return the policy of a task's files as they stood at most POLICY_SECONDS ago.

        Raises PolicyError for files that do not load, as long as they do not.
        """
        model = str(task.input.get("model", "")) if not task.policies and task.program == "agent" else ""
        name = (tuple(task.policies), model)
        now, held = time.monotonic(), self._held.get(name)
        if held is not None:
            if now - held.looked < POLICY_SECONDS:
                return held.said()
            held.looked = now
            if held.error is None and await asyncio.to_thread(stamps_of, held.policy) == held.stamps:
                held.needs = await asyncio.to_thread(needs_of, held.policy)  # where its files lie may have changed
                return held.policy
        try:
            policy, stamps = await asyncio.to_thread(_load, *name)
        except AgentOSError as error:
            if held is not None:
                held.error = error
            raise
        if len(self._held) >= POLICIES_KEPT:
            self._held.clear()
        self._held[name] = _Held(policy, stamps, now, await asyncio.to_thread(needs_of, policy))
        return policy

    def needs(self, policy: Policy) -> Needs:
        """Return which facts a policy that `of` returned can ask for, as they were when it was looked at last."""
        return next((held.needs for held in self._held.values() if held.policy is policy), None) or needs_of(policy)


def _load(policies: Sequence[str], model: str) -> tuple[Policy, Stamps]:
    if not model:
        return load_settled(list(policies) or ["pack:baseline"])
    policy = agent_policy((), model)
    return policy, stamps_of(policy)


class InForce:
    """Keeps the door of one run under the policy that is in force: call it before an effect."""

    def __init__(self, policies: TaskPolicies, task: Task, composition: Composition, monitor: TaskMonitor) -> None:
        self._policies, self._task, self._composition, self._monitor = policies, task, composition, monitor
        self._broken = ""
        composition.doors.append(monitor)

    async def __call__(self) -> None:
        """Put the policy in force whose files changed meanwhile; one that does not load changes nothing."""
        try:
            policy = await self._policies.of(self._task)
        except AgentOSError as error:
            self._tell(str(error))
            return
        monitor = self._monitor
        if policy is monitor.policy or policy.digest == monitor.policy.digest:
            return
        self._composition.reload(policy)
        narrow(monitor, self._composition, self._task)

    def _tell(self, why: str) -> None:
        if why != self._broken:
            self._broken = why
            _log.error("policy of %s, the one before stays in force: %s", self._task.id, why)


def narrow(monitor: TaskMonitor, composition: Composition, task: Task) -> None:
    """Give a sub-agent's run what it was given, as far as the policy in force still has it."""
    held = task.rights.capabilities
    if held is None:
        return
    named = {name for each in held if each.verb == "tool.call" for name in each.scope or ()}
    monitor.session.capabilities = narrowed(
        monitor.policy, task.rights.role, held, workspace=task.workspace, tools=composition.toolbox.names() | named
    )
