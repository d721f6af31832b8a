"""`policy explain`: the path to one verdict. Pure.

Every rule that was considered and whether it matched, why not argument by argument, where the verdict is enforced, and
the least change that would allow the action (never one that a standing deny forbids).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from agent_os.core.action import Action, NetConnect, ToolCall
from agent_os.core.decision import Decision, Verdict
from agent_os.core.facts import Facts
from agent_os.policy.argument_tests import ConditionError
from agent_os.policy.compile import Governed, Layer, Unit
from agent_os.policy.conditions import compile_condition
from agent_os.policy.describe import describe
from agent_os.policy.engine import considered, decide
from agent_os.policy.globs import compile_glob
from agent_os.policy.policy import Policy
from agent_os.policy.values import MISSING
from agent_os.policy.workbench.learn import Seen, learn

ENFORCED: Final = {
    "tool.call": "process: the arguments of the call; the tool's own effects are judged where they happen",
    "fs.read": "process: the file effect; kernel: mounts and Landlock for sandboxed programs",
    "fs.write": "process: the file effect; kernel: mounts and Landlock for sandboxed programs",
    "fs.list": "process: the file effect; kernel: mounts and Landlock for sandboxed programs",
    "fs.delete": "process: the file effect; kernel: mounts and Landlock for sandboxed programs",
    "net.connect": "wire: the network guard; kernel: a sandbox has no other way out",
    "net.request": "wire: the network guard; kernel: a sandbox has no other way out",
    "model.call": "process: the wrapped model; wire: the gateway",
    "process.exec": "process: the command effect; kernel: the sandbox around what runs",
    "agent.spawn": "process: the monitor, with rights that can only narrow",
    "task.schedule": "process: the monitor, and again when the schedule fires",
    "secret.use": "wire: the guard puts the secret in, towards its destination only",
    "message.send": "process: the monitor",
    "memory.read": "process: the monitor",
    "memory.write": "process: the monitor",
}


@dataclass(frozen=True, slots=True)
class Considered:
    """One rule: `matched` is yes, no or unclear (could not be judged, which counts if it restricts)."""

    rule: str
    effect: str
    matched: str
    why: str
    place: str
    layer: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision with everything that led to it."""

    decision: Decision
    considered: tuple[Considered, ...]
    enforced: str
    change: dict[str, Any] | None
    change_note: str

    def to_json(self) -> dict[str, Any]:
        """Return the wire form, as `agentos policy explain --json` prints it."""
        return {
            **self.decision.to_json(),
            "considered": [
                {
                    "rule": item.rule,
                    "effect": item.effect,
                    "matched": item.matched,
                    "why": item.why,
                    "place": item.place,
                }
                for item in self.considered
            ],
            "enforced": self.enforced,
            "change": self.change,
            "change_note": self.change_note,
        }


def explain(policy: Policy, action: Action, facts: Facts) -> Explanation:
    """Return the explanation of one decision."""
    decision = decide(policy, action, facts)
    found: dict[str, Considered] = {}
    for layer, _, match in considered(policy, action, facts):
        why = match.reason or "every condition holds"
        matched = "unclear" if match.errored else "yes"
        if match.audit_only:
            why += " (recorded only)"
        effect = match.effect.value if match.grants or match.effect is not Verdict.ALLOW else "obligation"
        found.setdefault(
            match.rule, Considered(match.rule, effect, matched, why, _place(policy, match.rule), layer.name)
        )
    if isinstance(action, ToolCall):
        for item in _tool_rules(policy, action, facts):
            found.setdefault(item.rule, item)
    else:
        for rule, origin in policy.origins.items():
            layer = policy.compiled[origin.layer]
            if rule not in found and _governs(layer, origin.path, action):
                found[rule] = Considered(rule, origin.effect, "no", "does not match", str(origin.place), layer.name)
    change, note = _change(policy, action, facts, decision)
    return Explanation(decision, tuple(found.values()), ENFORCED[action.kind], change, note)


def _place(policy: Policy, rule: str) -> str:
    origin = policy.origins.get(rule)
    return str(origin.place) if origin is not None else ""


def _governs(layer: Layer, path: str, action: Action) -> bool:
    names = {governed.section.name for governed in layer.by_kind.get(action.kind, ())}
    return path.split(".", 1)[0].split("[", 1)[0] in names


def _tool_rules(policy: Policy, action: ToolCall, facts: Facts) -> list[Considered]:
    """Return the rules of `tools` that name this tool and did not match, with the arguments that failed."""
    items = []
    for rule, origin in policy.origins.items():
        if not origin.path.startswith("tools."):
            continue
        unit = next(
            (unit for unit in policy.layers[origin.layer].units if unit.pack == origin.pack), policy.layers[0].units[0]
        )
        for pattern, tool in (unit.file.tools or {}).items():
            base = f"tools.{pattern}."
            restricts = origin.effect != "allow"
            matches = compile_glob(pattern, crossing=restricts)
            named = matches(action.target) or (restricts and matches(action.tool))
            if not origin.path.startswith(base) or not named:
                continue
            clause = _clause(tool, origin.path[len(base) :])
            why = _why_not(clause, action, facts, restricts, unit)
            items.append(
                Considered(rule, origin.effect, "no", why, str(origin.place), policy.compiled[origin.layer].name)
            )
    return items


def _clause(tool: Any, rest: str) -> Any:
    if rest.startswith("rules["):
        index, _, name = rest.removeprefix("rules[").partition("].")
        return getattr(tool.rules[int(index)], name)
    return getattr(tool, rest, None)


def _why_not(clause: Any, action: ToolCall, facts: Facts, wide: bool, unit: Unit) -> str:
    if not isinstance(clause, (dict, list)) or not clause:
        return "is for other principals"
    reasons = []
    for arguments in clause if isinstance(clause, list) else [clause]:
        failed = []
        for name, condition in arguments.items():
            try:
                check = compile_condition(condition, wide=wide, data=unit.data)
            except ConditionError:
                continue
            given = action.args.get(name, MISSING)
            answer = check(given, facts)
            if answer is None:
                failed.append(f"{name} is missing" if given is MISSING else f"{name} is of the wrong type")
            elif answer is False:
                failed.append(f"{name} does not meet: {describe(condition)}")
        reasons.append(" and ".join(failed) or "is for other principals")
    return "; or ".join(reasons)


def _change(policy: Policy, action: Action, facts: Facts, decision: Decision) -> tuple[dict[str, Any] | None, str]:
    if decision.verdict is Verdict.ALLOW:
        return None, "nothing: it is allowed"
    if decision.verdict is Verdict.ASK:
        return None, "a person's approval, or without " + ", ".join(decision.rules)
    if decision.rules:
        places = ", ".join(f"{rule} ({_place(policy, rule) or 'the runtime'})" for rule in decision.rules)
        return None, f"denied by {places}: remove or narrow it, no rule can allow past it"
    wire = {**action.to_json()}
    if facts.executable is not None and isinstance(action, NetConnect):
        wire.update(binary=facts.executable.path, ancestors=list(facts.executable.ancestors))
    learnt = learn(policy, [Seen(wire, facts=facts)], workspace=facts.workspace)
    if learnt.proposals:
        return learnt.overlay(), "the least rule that would allow exactly this"
    reasons = [*learnt.forbidden, *learnt.unknown]
    return None, "; ".join(reasons) or "no rule can be proposed"


__all__ = ["ENFORCED", "Considered", "Explanation", "Governed", "explain"]
