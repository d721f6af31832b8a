"""What a sub-agent may hold: its role in every policy file, what its spawn asks for, and what its parent holds, in common.

Pure over policy and capabilities. Sub-agents of a session and children of a durable task get theirs here, so that both are
narrowed alike. Threat: a child that can do what its parent could not (law 11).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from agent_os.core.action import AgentSpawn
from agent_os.core.errors import ActionError
from agent_os.core.principal import Capability, common
from agent_os.monitor import Monitor
from agent_os.policy.agents import role_capabilities, scope_entry

if TYPE_CHECKING:
    from agent_os.core.ports import Links
    from agent_os.policy import Policy
    from agent_os.policy.schema.agents import AgentRole, Agents


def granted(policy: Policy, monitor: Monitor, action: AgentSpawn, tools: Iterable[str]) -> tuple[Capability, ...]:
    """Return what a child may do: its role in every file that has it, what the spawn asks for, what the parent holds."""
    session = monitor.session
    held = narrowed(policy, action.role, session.capabilities, workspace=session.workspace, tools=tools)
    if action.capabilities is not None:
        links = monitor.ports.links
        held = common(held, tuple(_capability(wanted, session.workspace, links) for wanted in action.capabilities))
    return held


def narrowed(
    policy: Policy, role_name: str, held: tuple[Capability, ...] | None, *, workspace: str, tools: Iterable[str]
) -> tuple[Capability, ...]:
    """Return what of `held` (None: everything) a role has in every file of the policy that names it.

    Raises ActionError for a role that no file has.
    """
    names, models = tuple(sorted(tools)), _models(policy)
    found = False
    for section, _, _ in policy.sections("agents"):
        role: AgentRole | None = section.roles.get(role_name, section.roles.get("*"))
        if role is None:
            continue
        found = True
        own = role_capabilities(role, workspace=workspace, tools=names, models=models)
        held = own if held is None else common(held, own)
    if not found:
        raise ActionError("no policy file has this role", field="role")
    return held or ()


def _models(policy: Policy) -> tuple[str, ...]:
    """Return the names that a role's globs of models are expanded over: every model and alias that the policy names."""
    found: set[str] = set()
    for section, _, _ in policy.sections("models"):
        found.update(section.aliases)
        for provider in section.providers.values():
            found.update(name for name in (*provider.models, provider.model) if name and "*" not in name)
    return tuple(sorted(found))


def _capability(wanted: Mapping[str, Any], workspace: str, links: Links | None) -> Capability:
    """Return what a spawn asks for, files by the places their paths lead to. Raises ActionError for what is no path."""
    verb, scope = str(wanted["verb"]), wanted.get("scope")
    if scope is None:
        return Capability(verb)
    entries = [scope_entry(verb, str(entry), workspace) for entry in scope]
    if links is not None and verb.startswith("fs."):
        entries = [links.resolve(entry.rstrip("/")) + ("/" if entry.endswith("/") else "") for entry in entries]
    return Capability(verb, frozenset(entries))


def limits_of(sections: list[Agents], action: AgentSpawn) -> dict[str, float]:
    """Return a child's limits by unit: the smaller of its role's and what the spawn asks for."""
    limits = {unit: float(amount) for unit, amount in action.budgets.items()}
    for section in sections:
        role = section.roles.get(action.role, section.roles.get("*"))
        if role is None or role.budgets is None:
            continue
        for unit, most in role.budgets.model_dump(exclude_none=True).items():
            limits[unit] = min(float(most), limits.get(unit, float(most)))
    return limits
