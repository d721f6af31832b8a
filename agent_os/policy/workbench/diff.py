"""`policy diff`: which actions change verdict, or keep it for other reasons, between two policies. Behaviour, not text. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from agent_os.core.action import Action
from agent_os.core.decision import Decision
from agent_os.core.errors import ActionError
from agent_os.core.facts import Facts
from agent_os.policy.engine import decide
from agent_os.policy.policy import Policy
from agent_os.policy.workbench.learn import Seen

MAX_SHOWN: Final = 1000


@dataclass(frozen=True, slots=True)
class Change:
    """One action whose verdict or deciding rules differ."""

    name: str
    kind: str
    before: Decision
    after: Decision

    @property
    def looser(self) -> bool:
        """Whether the new policy is less strict on this action."""
        return self.after.verdict.strictness < self.before.verdict.strictness

    def to_json(self) -> dict[str, Any]:
        """Return the wire form."""
        return {
            "name": self.name,
            "kind": self.kind,
            "before": self.before.verdict.value,
            "after": self.after.verdict.value,
            "rules_before": list(self.before.rules),
            "rules_after": list(self.after.rules),
            "looser": self.looser,
            "reason": self.after.reason,
        }


@dataclass(slots=True)
class Difference:
    """What changes over a set of actions."""

    actions: int = 0
    changes: list[Change] = field(default_factory=list)
    """Other verdicts."""
    regrounded: list[Change] = field(default_factory=list)
    """The same verdict by other rules: an ask of other people, a denial that one more rule bears."""
    counts: dict[str, int] = field(default_factory=dict)
    """`allow -> deny` and the like, over every action."""
    unknown: int = 0
    rules_added: list[str] = field(default_factory=list)
    rules_removed: list[str] = field(default_factory=list)
    rules_changed: list[str] = field(default_factory=list)
    """Rules, and sets of `data:`, that stand in both and say something else."""

    def to_json(self) -> dict[str, Any]:
        """Return the wire form, as `agentos policy diff --json` prints it."""
        return {
            "actions": self.actions,
            "counts": self.counts,
            "changes": [change.to_json() for change in self.changes],
            "regrounded": [change.to_json() for change in self.regrounded],
            "not_evaluable": self.unknown,
            "rules_added": self.rules_added,
            "rules_removed": self.rules_removed,
            "rules_changed": self.rules_changed,
        }


def diff(old: Policy, new: Policy, seen: Iterable[Seen], *, workspace: str = "/workspace") -> Difference:
    """Return which of the actions get another verdict, or the same by other rules, and which rules came and went."""
    found = Difference(
        rules_added=[rule for rule in new.rules if rule not in old.origins],
        rules_removed=[rule for rule in old.rules if rule not in new.origins],
        rules_changed=_changed(old, new),
    )
    for item in seen:
        if item.wire is None:
            found.unknown += 1
            continue
        try:
            action = Action.parse(item.wire, workspace=workspace)
        except ActionError:
            found.unknown += 1
            continue
        facts: Facts = replace(item.facts, workspace=workspace).with_stated(action.stated)
        before, after = decide(old, action, facts), decide(new, action, facts)
        found.actions += 1
        change = Change(item.evidence or action.kind, action.kind, before, after)
        if before.verdict is after.verdict:
            if before.rules != after.rules and len(found.regrounded) < MAX_SHOWN:
                found.regrounded.append(change)
            continue
        key = f"{before.verdict.value} -> {after.verdict.value}"
        found.counts[key] = found.counts.get(key, 0) + 1
        if len(found.changes) < MAX_SHOWN:
            found.changes.append(change)
    return found


def _changed(old: Policy, new: Policy) -> list[str]:
    """Return the rules of both that are written otherwise, and the sets of data that hold something else."""
    rules = [rule for rule in old.rules if rule in new.origins and _written(old, rule) != _written(new, rule)]
    before, after = _data(old), _data(new)
    return rules + [f"data.{name}" for name in before if name in after and before[name] != after[name]]


def _written(policy: Policy, rule: str) -> list[Any]:
    origin = policy.origins[rule]
    units = [unit for unit in policy.layers[origin.layer].units if unit.pack == origin.pack]
    return [unit.document.at(origin.path) for unit in units]


def _data(policy: Policy) -> dict[str, Any]:
    return {name: value for layer in policy.layers for unit in layer.units for name, value in unit.data.items()}
