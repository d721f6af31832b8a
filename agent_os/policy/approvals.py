"""The `approvals` section: on what terms a person answers an ask. Pure.

It decides nothing: `terms` is the `approve` obligation that goes with an ask. Over several files the strictest wins:
the shortest timeout, two people if any file says so, approvers that every file names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from agent_os.core.action import Action
from agent_os.core.canonical import json_bytes
from agent_os.core.decision import Obligation
from agent_os.core.facts import Facts
from agent_os.policy.conditions import ConditionError, compile_arguments
from agent_os.policy.globs import PatternError, compile_any
from agent_os.policy.rule import Context

if TYPE_CHECKING:
    from agent_os.policy.policy import Policy
    from agent_os.policy.schema.agents import Approvals, TwoPerson

_FINGERPRINTS_KEPT: Final = 64
Needed = Callable[[Action, Facts, Sequence[str]], bool]


class ApprovalTerms:
    """The terms of one layer."""

    def __init__(self, rule: str, params: Mapping[str, Any], two: Sequence[Needed]) -> None:
        self._rule, self._params, self._two = rule, dict(params), tuple(two)

    def terms(self, action: Action, facts: Facts, rules: Sequence[str]) -> Obligation:
        """Return the `approve` obligation for an ask of these rules: people, timeout_s, approvers and what is offered.

        A two-person condition that cannot be judged needs two people.
        """
        people = 2 if any(needed(action, facts, rules) for needed in self._two) else 1
        return Obligation("approve", {"people": people, **self._params}, self._rule)


def compile_approvals(parts: Sequence[tuple[Approvals, Context]]) -> ApprovalTerms:
    """Return the terms that hold over every file of a layer."""
    rule = parts[0][1].rule("approvals")
    sections = [section for section, _ in parts]
    approvers: list[str] = []
    named = [section.approvers for section in sections if section.approvers]
    if named:
        approvers = [name for name in named[0] if all(name in other for other in named[1:])]
        if not approvers:
            parts[0][1].problem("approvals.approvers", "leaves nobody who may approve under every file it extends")
    params: dict[str, Any] = {
        "timeout_s": min(section.timeout for section in sections),
        "approvers": approvers,
        "requester_may_approve": all(section.requester_may_approve for section in sections),
        "allow_edit": all(section.allow_edit for section in sections),
        "allow_session": all(section.allow_session for section in sections),
        "allow_always": all(section.allow_always for section in sections),
        "max_waiting": min(section.max_waiting for section in sections),
    }
    two = [
        needed
        for section, context in parts
        if section.two_person is not None and (needed := _two_person(section.two_person, context)) is not None
    ]
    return ApprovalTerms(rule, params, two)


def _two_person(two: TwoPerson, context: Context) -> Needed | None:
    clauses = two.when if isinstance(two.when, list) else [two.when] if two.when is not None else []
    path = "approvals.two_person"
    try:
        checks = [compile_arguments(clause, wide=True, data=context.data) for clause in clauses if clause]
    except ConditionError as error:
        context.problem(f"{path}.when{error.path}", str(error))
        return None
    try:
        matches = compile_any(two.rules, crossing=True) if two.rules else None
    except PatternError as error:
        context.problem(f"{path}.rules", str(error))
        return None
    always = not checks

    def needed(action: Action, facts: Facts, rules: Sequence[str]) -> bool:
        if matches is not None and not any(matches(rule) for rule in rules):
            return False
        if always:
            return True
        arguments = action.arguments
        given = arguments.get("args") if action.kind == "tool.call" else arguments
        if not isinstance(given, Mapping):
            return True
        # An ask about something that has no such argument (another tool) needs one person.
        return any(
            check(given, facts) is not False
            for clause, check in zip([clause for clause in clauses if clause], checks, strict=True)
            if any(name in given or name.startswith("/") for name in clause)
        )

    return needed


@lru_cache(_FINGERPRINTS_KEPT)
def fingerprint(policy: Policy, rules: tuple[str, ...]) -> str:
    """Return what an answer that outlives a revision is bound to: the sections of the rules that asked, as written.

    The `approvals` and `data` of every file belong to it. A rule that stands in no section of its own (an external
    engine's) binds to the whole policy.
    """
    parts: list[Any] = []
    for rule in sorted(set(rules)):
        origin = policy.origins.get(rule)
        key = "" if origin is None else origin.path.partition(".")[0].partition("[")[0]
        units = [] if origin is None else [u for u in policy.layers[origin.layer].units if u.pack == origin.pack]
        sections = [unit.file.model_dump(mode="json", include={key}) for unit in units]
        if not key or key == "rego" or not any(section.get(key) for section in sections):
            parts.append([rule, policy.digest])
            continue
        data = [sorted((name, repr(value)) for name, value in unit.data.items()) for unit in units]
        parts.append([rule, sections, data])
    for layer in policy.layers:
        parts.append([unit.file.model_dump(mode="json", include={"approvals"}) for unit in layer.units])
    form = hashlib.sha256(json_bytes(_texts(parts))).hexdigest()
    return f"rules:sha256:{form}"


def _texts(value: Any) -> Any:
    """Return a value as JSON that every canonicaliser takes: what is no plain JSON is written as text."""
    if isinstance(value, Mapping):
        return {str(key): _texts(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_texts(item) for item in value]
    return value if value is None or isinstance(value, bool | str) else repr(value)
