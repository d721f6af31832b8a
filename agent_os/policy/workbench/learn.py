"""`policy learn`: the smallest rules that would have allowed what was denied, for a person to merge. Pure.

Exact values before sets, sets before folders, never a bare wildcard. A rule that a standing deny forbids is never
proposed: every proposal is compiled together with the policy and must turn each of its actions from denied to allowed
(or to ask). What cannot be known (arguments that were not recorded) is listed, not guessed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from agent_os.core.action import Action, ToolCall
from agent_os.core.decision import Verdict
from agent_os.core.errors import ActionError, PolicyError
from agent_os.core.facts import DEFAULTS, Facts
from agent_os.policy.compile import Unit
from agent_os.policy.engine import decide
from agent_os.policy.policy import Policy, PolicyLayer, _build
from agent_os.policy.problems import from_validation
from agent_os.policy.reader import read
from agent_os.policy.schema import PolicyFile
from agent_os.policy.workbench import proposals
from agent_os.policy.workbench.writing import comments, dumped

MAX_ACTIONS: Final = 1_000_000
MAX_EVIDENCE: Final = 5


@dataclass(frozen=True, slots=True)
class Seen:
    """One recorded action: its wire form (None if it cannot be told), facts, and where it stands in the record."""

    wire: Mapping[str, Any] | None
    evidence: str = ""
    why_not: str = ""
    facts: Facts = DEFAULTS


@dataclass(slots=True)
class Proposal:
    """One rule: its key path, the fragment of a policy file, the evidence, and how many actions it would allow."""

    path: str
    fragment: dict[str, Any]
    evidence: list[str] = field(default_factory=list)
    count: int = 0
    note: str = ""


@dataclass(slots=True)
class Learnt:
    """What was learnt: proposals, what a standing rule forbids, what could not be told."""

    proposals: list[Proposal] = field(default_factory=list)
    forbidden: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    allowed: int = 0

    def overlay(self) -> dict[str, Any]:
        """Return the proposals as one document."""
        document: dict[str, Any] = {}
        for proposal in self.proposals:
            _merge(document, proposal.fragment)
        return document


def learn(policy: Policy, seen: Iterable[Seen], *, workspace: str = "/workspace") -> Learnt:
    """Return what would have to be added to a policy to allow what it denied among the recorded actions."""
    learnt = Learnt()
    groups: dict[tuple[str, ...], list[tuple[Action, Seen]]] = {}
    for number, item in enumerate(seen):
        if number >= MAX_ACTIONS:
            break
        if item.wire is None:
            learnt.unknown[item.why_not] = learnt.unknown.get(item.why_not, 0) + 1
            continue
        try:
            action = Action.parse(item.wire, workspace=workspace)
        except ActionError as error:
            learnt.unknown[f"malformed: {error.field}"] = learnt.unknown.get(f"malformed: {error.field}", 0) + 1
            continue
        decision = decide(policy, action, _facts(item, action, workspace))
        if decision.verdict is not Verdict.DENY and not decision.audit_only:
            learnt.allowed += 1
        elif decision.verdict is Verdict.DENY and decision.rules:
            rule = ", ".join(decision.rules)
            learnt.forbidden[rule] = learnt.forbidden.get(rule, 0) + 1
        else:
            groups.setdefault(proposals.group_of(action), []).append((action, item))
    for key in [key for key in groups if proposals.covers(groups, key) != key]:
        groups[proposals.covers(groups, key)] += groups.pop(key)
    for group in groups.values():
        _propose(policy, group, learnt, workspace)
    return learnt


def _facts(item: Seen, action: Action, workspace: str) -> Facts:
    from dataclasses import replace  # noqa: PLC0415

    return replace(item.facts, workspace=workspace).with_stated(action.stated)


def _propose(policy: Policy, group: Sequence[tuple[Action, Seen]], learnt: Learnt, workspace: str) -> None:
    """Find the fragment for a group of like actions, and keep it only if it does what it should."""
    actions = [action for action, _ in group]
    made = proposals.fragment(actions, workspace=workspace)
    if made is None:
        kind = f"no rule can be proposed for {actions[0].kind}"
        learnt.unknown[kind] = learnt.unknown.get(kind, 0) + len(group)
        return
    path, fragment, note = made
    try:
        widened = with_overlay(policy, fragment)
    except PolicyError as error:
        reason = f"the proposal for {path} does not compile: {error.problems[0].message}"
        learnt.unknown[reason] = learnt.unknown.get(reason, 0) + len(group)
        return
    proposal = Proposal(path, fragment, note=note)
    for action, item in group:
        decision = decide(widened, action, _facts(item, action, workspace))
        if decision.verdict is Verdict.DENY:
            rule = ", ".join(decision.rules) or "another layer allows nothing of the kind"
            learnt.forbidden[rule] = learnt.forbidden.get(rule, 0) + 1
            continue
        proposal.count += 1
        if item.evidence and len(proposal.evidence) < MAX_EVIDENCE:
            proposal.evidence.append(item.evidence)
    if proposal.count:
        learnt.proposals.append(proposal)


def with_overlay(policy: Policy, fragment: Mapping[str, Any]) -> Policy:
    """Return the policy with a fragment added to its first layer, as merging the overlay would. Raises PolicyError."""
    document = read(json.dumps(fragment), file="<overlay>")
    try:
        parsed = PolicyFile.model_validate(document.value)
    except ValidationError as error:
        raise PolicyError(from_validation(error, document, PolicyFile)) from error
    unit = Unit(document, parsed, "overlay")
    first, *rest = policy.layers
    return _build((PolicyLayer(first.name, first.semantics, (*first.units, unit)), *rest))


def _merge(document: dict[str, Any], fragment: Mapping[str, Any]) -> None:
    for key, value in fragment.items():
        if isinstance(value, Mapping) and isinstance(document.get(key), dict):
            _merge(document[key], value)
        elif isinstance(value, list) and isinstance(document.get(key), list):
            document[key] = [*document[key], *(item for item in value if item not in document[key])]
        else:
            document[key] = json.loads(json.dumps(value))


def to_yaml(learnt: Learnt, policy: Policy, *, extends: str = "") -> str:
    """Return the overlay as a policy file with its evidence in comments; `extends` names the file it is to add to."""
    how = "run this file as it is" if extends else "name this file under its `extends`"
    lines = [
        f"Proposed rules: read each, then merge what you mean into the policy, or {how}.",
        f"Learnt against policy {policy.digest}.",
    ]
    for proposal in learnt.proposals:
        note = f" ({proposal.note})" if proposal.note else ""
        lines.append(f"{proposal.path}: would allow {proposal.count} recorded actions{note}")
        lines.extend(f"  evidence: {text}" for text in proposal.evidence)
    lines.extend(
        f"left denied, a rule forbids it: {rule} ({count})" for rule, count in sorted(learnt.forbidden.items())
    )
    lines.extend(f"not evaluable: {why} ({count})" for why, count in sorted(learnt.unknown.items()))
    head: dict[str, Any] = {"version": 1, "extends": [extends]} if extends else {"version": 1}
    return comments(lines) + dumped({**head, **learnt.overlay()})


def to_json(learnt: Learnt) -> dict[str, Any]:
    """Return the wire form, as `agentos policy learn --json` prints it."""
    return {
        "proposals": [
            {
                "path": item.path,
                "rule": item.fragment,
                "count": item.count,
                "evidence": item.evidence,
                "note": item.note,
            }
            for item in learnt.proposals
        ],
        "forbidden": learnt.forbidden,
        "not_evaluable": learnt.unknown,
        "already_allowed": learnt.allowed,
        "overlay": learnt.overlay(),
    }


__all__ = ["Learnt", "Proposal", "Seen", "ToolCall", "learn", "to_json", "to_yaml", "with_overlay"]
