"""Sub-agents: a child session with a part of its parent's rights, and nothing else.

`AgentOS.spawn(role, task, run)` is one `agent.spawn` action. What the child holds is the intersection of what its role grants in
every policy file, what the spawn asks for, and what the parent holds itself; its monitor checks that again at every action. Its
allowance hangs below its parent's; its labels begin with what the parent knows. Its built-in tools go through *its* door, so
that an inner effect has the child's rights too. A tool server it calls is started for it alone, confined to what the manifest
asks for, the policy grants and the child holds, with the child's door as its network, and ends with it.

Threats: a child that asks for more than its parent has; a fork bomb; work left behind that acts after the child is over; a
child that reaches its parent's rights through a tool the parent registered (law 11).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from agent_os.agents.builtin_tools import BUILTIN_TOOLS, register_builtin_tools
from agent_os.agents.toolbox import Toolbox
from agent_os.core.action import Action, AgentSpawn
from agent_os.core.canonical import json_value
from agent_os.core.decision import Decision, Verdict
from agent_os.core.errors import ActionError, AgentOSError, DeniedError, EffectError
from agent_os.core.ports import Outcome
from agent_os.core.principal import Capability
from agent_os.monitor import Monitor
from agent_os.monitor.allowance import Allowance
from agent_os.monitor.gather import Session
from agent_os.runtime.compose import reference_tools_of
from agent_os.runtime.rights import granted, limits_of
from agent_os.runtime.tool_servers.host import Caller

if TYPE_CHECKING:
    from agent_os.policy import Policy
    from agent_os.policy.schema.agents import Agents
    from agent_os.runtime.compose import Composition

RunChild = Callable[[Any, str], Any]
"""What a sub-agent does: gets its own session and its task, returns plain JSON; synchronous or not."""
CHILD_SECONDS_MAX: Final = 3600.0


@dataclass(slots=True)
class Family:
    """Every agent below one root: how many were started."""

    started: int = 0


class Parent(Protocol):
    """A session as its sub-agents need it."""

    def as_child(self, composition: Composition, family: Any) -> Any:
        """Return the session of a sub-agent over its own monitor and tools."""


async def run_child(parent: Parent, composition: Composition, action: Action, run: RunChild, family: Family) -> Any:
    """Carry out a permitted `agent.spawn`: start the child, run it, end it. Returns `{"agent", "result"}` as an Outcome."""
    if not isinstance(action, AgentSpawn):
        raise EffectError("only agent.spawn starts a sub-agent")
    monitor = composition.monitor
    policy, session = monitor.policy, monitor.session
    sections = [section for section, _, _ in policy.sections("agents")]
    _bounded(policy, session, family, sections)
    capabilities = granted(policy, monitor, action, composition.toolbox.names())
    held = session.allowance
    if held is not None and not isinstance(held, Allowance):
        raise EffectError("the children of a task are tasks: use its session's spawn")
    allowance = Allowance(limits_of(sections, action), held)
    family.started += 1
    name = f"{action.role}-{family.started}"
    child_session = Session(session.principal, session.workspace, privacy=session.privacy, allowance=allowance)
    if session.flow is not None:
        child_session.flow = session.flow.child(action.task)
    child_monitor, toolbox = _child_monitor(composition, name, capabilities, child_session)
    servers = composition.servers.branch(Caller(child_monitor.principal, capabilities, child_monitor), toolbox)
    child = parent.as_child(replace(composition, monitor=child_monitor, toolbox=toolbox, servers=servers), family)
    seconds = allowance.left().get("seconds", CHILD_SECONDS_MAX)
    session.children += 1  # INVARIANT: nothing awaits between the bounds check above and this count
    try:
        async with asyncio.timeout(min(seconds, CHILD_SECONDS_MAX)):
            value = await _run(run, child, action.task)
    except TimeoutError:
        return Outcome(error="timeout", detail=f"the sub-agent {name} ran out of time")
    except AgentOSError:
        raise
    except Exception as error:
        return Outcome(error="child-failed", detail=f"the sub-agent {name} failed: {type(error).__name__}")
    finally:
        child_session.ended = True
        session.children -= 1
        await child.roles.end()
        await servers.aclose()
    used = {unit: amount for unit, amount in allowance.used.items() if unit != "seconds"}
    return Outcome({"agent": name, "result": json_value(value, field="result")}, usage=used)


def role_session(parent: Parent, composition: Composition, role: str, family: Family) -> Any:
    """Return the session of every sub-agent of one role that a framework starts by itself (deepagents' `task`).

    It holds what the role has in every policy file and the parent holds, with one allowance for all of them; a role that no
    file has holds nothing. Labels are the parent's own, both ways: the framework hands texts over past any door of ours. Each
    start is an `agent.spawn` of its own besides. End it with `end_role`.
    """
    monitor = composition.monitor
    policy, session = monitor.policy, monitor.session
    sections = [section for section, _, _ in policy.sections("agents")]
    held = session.allowance
    if held is not None and not isinstance(held, Allowance):
        raise EffectError("the children of a task are tasks: use its session's spawn")
    start = AgentSpawn(role=role, task="", principal=monitor.principal)
    try:
        capabilities = granted(policy, monitor, start, composition.toolbox.names())
    except ActionError:
        capabilities = ()
    allowance = Allowance(limits_of(sections, start), held)
    own = Session(session.principal, session.workspace, session.flow, session.privacy, allowance=allowance)
    child_monitor, toolbox = _child_monitor(composition, f"{role}-0", capabilities, own)
    servers = composition.servers.branch(Caller(child_monitor.principal, capabilities, child_monitor), toolbox)
    return parent.as_child(replace(composition, monitor=child_monitor, toolbox=toolbox, servers=servers), family)


async def end_role(composition: Composition) -> None:
    """End the session of a role: whatever its sub-agents left behind may act no more."""
    composition.monitor.session.ended = True
    await composition.servers.aclose()


def count_start(composition: Composition, family: Family) -> None:
    """Count one sub-agent that a framework starts by itself. Raises DeniedError past the total."""
    policy = composition.monitor.policy
    _bounded(policy, composition.monitor.session, family, [section for section, _, _ in policy.sections("agents")])
    family.started += 1


def _bounded(policy: Policy, session: Session, family: Family, sections: list[Agents]) -> None:
    """Deny past the bounds, at the moment of starting: several spawns may have been decided at once."""
    most, total = min(part.max_children for part in sections), min(part.max_total for part in sections)
    for rule, over in (
        ("agents.max_children", session.children >= most),
        ("agents.max_total", family.started >= total),
    ):
        if over:
            reason = "as many sub-agents as there may be have been started"
            raise DeniedError(Decision(Verdict.DENY, (rule,), reason, policy_digest=policy.digest))


@dataclass(slots=True)
class _ChildDoor:
    """The child's session as its built-in tools see it."""

    composition: Composition
    monitor: Monitor | None = None

    @property
    def principal(self) -> Any:
        return self._bound().principal

    @property
    def workspace(self) -> str:
        return self._bound().session.workspace

    @property
    def carried(self) -> Any:
        return self.composition.carried

    @property
    def mail(self) -> Any:
        return self.composition.post

    async def perform(self, action: Action | Mapping[str, Any]) -> Any:
        return await self._bound().perform(action)

    def _bound(self) -> Monitor:
        if self.monitor is None:
            raise AgentOSError("the sub-agent is not open yet")
        return self.monitor


def _child_monitor(
    composition: Composition, name: str, capabilities: tuple[Capability, ...], session: Session
) -> tuple[Monitor, Toolbox]:
    door = _ChildDoor(composition)
    parent = composition.monitor
    tools = (*BUILTIN_TOOLS, *reference_tools_of(parent.policy, session.flow))
    toolbox = composition.toolbox.without({tool.spec.name for tool in tools})
    register_builtin_tools(toolbox, door, tools)
    ports = replace(parent.ports, registry=toolbox, effectors={**parent.ports.effectors, "tool.call": toolbox})
    monitor = parent.child(name, capabilities, session, ports=ports)
    door.monitor = monitor
    return monitor, toolbox


async def _run(run: RunChild, child: Any, task: str) -> Any:
    if inspect.iscoroutinefunction(run):
        return await run(child, task)
    value = await asyncio.to_thread(run, child, task)
    return await value if inspect.isawaitable(value) else value
