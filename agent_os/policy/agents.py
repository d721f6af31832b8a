"""The `agents` section: which sub-agents may be started, and that agents of one task may write to each other. Pure.

Over several files the smallest depth and fan-out hold; a role of one name must satisfy every file that has it. What a
child may do is attenuated by the monitor from `role_capabilities`; here its start is judged. Threats: a fork bomb of
agents, a child that asks for more than its role, a role made up by the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from agent_os.core import canonical
from agent_os.core.action import Action, AgentSpawn, MessageSend
from agent_os.core.decision import Obligation, Verdict
from agent_os.core.errors import ActionError
from agent_os.core.facts import Facts
from agent_os.core.principal import Capability
from agent_os.policy.globs import compile_any
from agent_os.policy.rule import Context, Match

if TYPE_CHECKING:
    from agent_os.policy.schema.agents import AgentRole, Agents

KINDS: Final = frozenset({"agent.spawn", "message.send"})
BUDGET_UNITS: Final = ("tokens", "usd", "calls", "bytes", "seconds", "steps")


class AgentsSection:
    """Judges the start of sub-agents; built by `compile_agents`."""

    name = "agents"
    kinds = KINDS

    def __init__(self, parts: Sequence[tuple[Agents, Context]]) -> None:
        context = parts[0][1]
        self.max_depth = min(agents.max_depth for agents, _ in parts)
        self.max_children = min(agents.max_children for agents, _ in parts)
        self.max_total = min(agents.max_total for agents, _ in parts)
        self.messages = all(agents.messages for agents, _ in parts)
        self._depth_rule = context.rule("agents.max_depth", Verdict.DENY)
        self._children_rule = context.rule("agents.max_children", Verdict.DENY)
        self._messages_rule = context.rule("agents.messages", Verdict.ALLOW) if self.messages else ""
        self._roles: dict[str, list[tuple[str, AgentRole]]] = {}
        self._ask: dict[str, str] = {}
        for agents, part in parts:
            for name, role in agents.roles.items():
                rule = part.rule(f"agents.roles.{name}", Verdict.ALLOW)
                self._roles.setdefault(name, []).append((rule, role))
                if role.ask:
                    self._ask[name] = part.rule(f"agents.roles.{name}.ask", Verdict.ASK)

    def roles(self) -> Mapping[str, Sequence[tuple[str, AgentRole]]]:
        """Return rule ids and definitions of every role by name."""
        return self._roles

    @property
    def may_allow(self) -> frozenset[str]:
        """The kinds of action that something here can allow."""
        kinds = {"agent.spawn"} if self._roles else set()
        return frozenset(kinds | ({"message.send"} if self.messages else set()))

    def judge(self, action: Action, facts: Facts) -> Sequence[Match]:
        if isinstance(action, MessageSend):
            # Names alone: agents of the sender's own task. `task:` and `box:` need the `messages` section.
            allowed = (
                self.messages and action.channel == "agent" and bool(action.to) and not any(map(_elsewhere, action.to))
            )
            return (Match(Verdict.ALLOW, self._messages_rule),) if allowed else ()
        if not isinstance(action, AgentSpawn):
            return ()
        matches: list[Match] = []
        depth = max(facts.depth, len(action.principal.parents))
        if depth >= self.max_depth:
            reason = "the agent is as deep as agents may be"
            matches.append(Match(Verdict.DENY, self._depth_rule, reason, f"at most {self.max_depth} generations"))
        if facts.children >= self.max_children:
            reason = "the agent has as many children as it may have"
            matches.append(Match(Verdict.DENY, self._children_rule, reason, f"at most {self.max_children} children"))
        known = self._roles.get(action.role)
        name = action.role
        if known is None:
            known, name = self._roles.get("*", []), "*"
        for rule, role in known:
            over = _over(action, role, facts.workspace)
            if over:
                matches.append(Match(Verdict.DENY, rule, f"{over} is more than the role has"))
            else:
                matches.append(Match(Verdict.ALLOW, rule, obligations=_reserve(rule, role)))
        if known and name in self._ask:
            matches.append(Match(Verdict.ASK, self._ask[name], "starting this role asks a person"))
        return matches

    def advise(self, action: Action, _facts: Facts) -> str:
        """Say which roles may be started."""
        if action.kind == "message.send":
            return "messages between agents of one task are allowed" if self.messages else "no message is allowed"
        return "roles that may be started: " + ", ".join(self._roles) if self._roles else "no role may be started"


def _elsewhere(recipient: str) -> bool:
    return ":" in recipient or "@" in recipient


def _reserve(rule: str, role: AgentRole) -> tuple[Obligation, ...]:
    """A role's budgets go to the runtime, which carves them out of the parent's."""
    if role.budgets is None:
        return ()
    limits = {unit: amount for unit in BUDGET_UNITS if (amount := getattr(role.budgets, unit)) is not None}
    return (Obligation("log", {"role_budgets": limits}, rule),)


def _over(action: AgentSpawn, role: AgentRole, workspace: str) -> str:
    """Return what a spawn asks for beyond its role: a budget unit or a capability; empty if nothing."""
    for unit, wanted in action.budgets.items():
        if unit not in BUDGET_UNITS or isinstance(wanted, bool) or not isinstance(wanted, (int, float)) or wanted < 0:
            return f"budgets.{unit}"
        most = getattr(role.budgets, unit) if role.budgets is not None else None
        if most is not None and wanted > most:
            return f"budgets.{unit}"
    if action.capabilities is None:
        return ""
    if not isinstance(action.capabilities, list):
        return "capabilities"
    for index, wanted in enumerate(action.capabilities):
        if not _within(wanted, role, workspace):
            return f"capabilities[{index}]"
    return ""


def _within(wanted: Any, role: AgentRole, workspace: str) -> bool:
    """Return whether a capability asked for in plain JSON ({verb, scope}) lies within a role."""
    if not isinstance(wanted, Mapping) or set(wanted) - {"verb", "scope", "limits"}:
        return False
    verb, scope = str(wanted.get("verb")), wanted.get("scope")
    granted = _patterns(role).get(verb)
    if granted is None:
        return False
    if scope is None:
        return "*" in granted or "**" in granted
    if not isinstance(scope, list) or not all(isinstance(item, str) for item in scope):
        return False
    if verb.startswith("fs."):
        held = Capability(verb, frozenset(folder_of(path, workspace) for path in granted))
        try:
            return all(held.covers(verb, scope_entry(verb, item, workspace)) for item in scope)
        except ActionError:
            return False
    return all(map(compile_any(granted), scope))


def folder_of(path: str, workspace: str) -> str:
    """Return a folder of a role as an entry of a capability's scope."""
    return canonical.path(path, root=workspace).rstrip("/") + "/"


def scope_entry(verb: str, entry: str, workspace: str) -> str:
    """Return an entry of a scope in canonical form: a path for files (a folder keeps its `/`), else as it is.

    Raises ActionError for what is no path: two spellings of one place must not be two rights.
    """
    if not verb.startswith("fs."):
        return entry
    return folder_of(entry, workspace) if entry.endswith("/") else canonical.path(entry, root=workspace)


def _patterns(role: AgentRole) -> dict[str, list[str]]:
    """Return verb -> globs of targets that a role grants; a verb that is not there is not granted."""
    granted: dict[str, list[str]] = {"message.send": ["agent"]}
    if role.tools:
        granted["tool.call"] = role.tools
    granted["model.call"] = ["*"] if role.models is None else role.models
    if role.read:
        granted["fs.read"] = granted["fs.list"] = role.read
    if role.write:
        granted["fs.write"] = granted["fs.delete"] = role.write
    if role.hosts:
        granted["net.connect"] = granted["net.request"] = role.hosts
    if role.secrets:
        granted["secret.use"] = role.secrets
    if role.may_spawn:
        granted["agent.spawn"] = role.may_spawn
    return {verb: scope for verb, scope in granted.items() if scope}


def role_capabilities(
    role: AgentRole,
    *,
    workspace: str,
    tools: Sequence[str] = (),
    models: Sequence[str] = (),
    ports: Sequence[int] = (443,),
) -> tuple[Capability, ...]:
    """Return what a role grants as capabilities, its globs expanded over the names that exist now.

    `tools` and `models` are the registered names; relative paths are taken against `workspace`; a host without a port
    is granted on each of `ports`.
    """
    found: list[Capability] = []
    for verb, patterns in _patterns(role).items():
        if verb == "model.call" and (role.models is None or "*" in patterns):  # every one, named in the policy or not
            found.append(Capability(verb))
            continue
        if verb in ("tool.call", "model.call"):
            known = tools if verb == "tool.call" else models
            matches = compile_any(patterns)
            scope = {name for name in known if matches(name)} | {name for name in patterns if "*" not in name}
        elif verb.startswith("fs."):
            scope = {folder_of(path, workspace) for path in patterns}
        elif verb.startswith("net."):
            scope = {host if ":" in host else f"{host}:{port}" for host in patterns for port in ports}
        else:
            scope = set(patterns)
        found.append(Capability(verb, frozenset(scope)))
    return tuple(found)


def compile_agents(parts: Sequence[tuple[Agents, Context]]) -> AgentsSection:
    """Return the section of every file of a layer together."""
    return AgentsSection(parts)
