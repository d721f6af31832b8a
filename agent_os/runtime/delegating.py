"""How the built-in agent starts sub-agents in a durable task: as tasks of their own.

The children are rows: while they work their parent is one too, and a crash at any step loses and repeats nothing. Elsewhere the
same tool starts sessions (`runtime/agent.py`), with the same answers. Threat: a child that would get more
than its parent holds; the door judges every `agent.spawn`, and what a role may do is fixed there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from agent_os.core.errors import ActionError, AgentOSError, DeniedError, EffectError, IntegrityError
from agent_os.core.task import FencedError

if TYPE_CHECKING:
    from agent_os.adapters.langchain.delegating import Wanted
    from agent_os.monitor import Monitor
    from agent_os.policy.schema.agents import AgentRole


def roles_offered(monitor: Monitor) -> list[tuple[str, str]]:
    """Return (name, what it is for) of the roles that this agent may start, as far as that can be told beforehand."""
    sections = [section for section, _, _ in monitor.policy.sections("agents")]
    if not sections or len(monitor.principal.parents) >= min(section.max_depth for section in sections):
        return []
    held = monitor.session.capabilities
    named: dict[str, str] = {}
    for section in sections:
        for name, role in section.roles.items():
            if name != "*" and (held is None or any(each.covers("agent.spawn", name) for each in held)):
                named.setdefault(name, role.description)
    return sorted(named.items())


def role_prompt(monitor: Monitor, role: str) -> str:
    """Return what the policy's files tell an agent of this role beside its task."""
    found = []
    for section, _, _ in monitor.policy.sections("agents"):
        named: AgentRole | None = section.roles.get(role, section.roles.get("*"))
        if named is not None and named.prompt:
            found.append(named.prompt)
    return "\n".join(found)


def delegate_tools(monitor: Monitor, delegation: Any) -> list[Any]:
    """Return the tool for starting sub-agents, or nothing for an agent that may start none."""
    roles = roles_offered(monitor)
    if not roles:
        return []
    from agent_os.adapters.langchain.delegating import DelegateTool  # noqa: PLC0415 - a second of imports

    return [DelegateTool.over(delegation, roles)]


class Run(Protocol):
    """A run of a task, as far as it starts children and waits for them (`TaskSession`)."""

    async def spawn(self, role: str, task: str = "", *, budgets: Mapping[str, float] | None = None) -> Any: ...
    async def gather(self, *children: Any) -> list[Any]: ...


class TaskDelegation:
    """Sub-agents of a task: tasks of their own, running the built-in agent on the text they are given."""

    def __init__(self, session: Run) -> None:
        self._session = session

    async def run_all(self, wanted: Sequence[Wanted]) -> list[dict[str, Any]]:
        """Start every one, then end this run while they work; begun again, it returns how each ended."""
        session, started = self._session, list[Any]()
        for each in wanted:
            try:
                started.append(await session.spawn(each.role, each.task, budgets=each.budgets))
            except (FencedError, IntegrityError):
                raise
            except (DeniedError, ActionError, EffectError) as error:
                started.append(failed(each.role, said(error)))
        results = iter(await session.gather(*(child for child in started if not isinstance(child, dict))))
        return [child if isinstance(child, dict) else _told(next(results)) for child in started]

    def run_all_sync(self, wanted: Sequence[Wanted]) -> list[dict[str, Any]]:
        """A task's programs run on its loop."""
        raise EffectError("a task's agent is run with `ainvoke`")


def _told(result: Any) -> dict[str, Any]:
    if not result.ok:
        return failed(result.agent, f"{result.state.value}: {result.error}")
    value = result.value
    answer = value["answer"] if isinstance(value, Mapping) and "answer" in value else value
    return {"agent": result.agent, "ok": True, "answer": answer}


def failed(agent: str, why: str) -> dict[str, Any]:
    return {"agent": agent, "ok": False, "error": why}


def said(error: AgentOSError) -> str:
    if isinstance(error, DeniedError):
        advice = f" (allowed: {error.decision.advice})" if error.decision.advice else ""
        return f"denied: {error.decision.reason}{advice}"
    return str(error)
