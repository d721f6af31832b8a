"""The `approvals` section: on what terms a person answers an ask. Pure.

It decides nothing: `terms` is the `approve` obligation that goes with an ask. Over several files the strictest wins:
the shortest timeout, two people if any file says so, approvers that every file names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agent_os.core.action import Action
from agent_os.core.decision import Obligation
from agent_os.core.facts import Facts
from agent_os.policy.argument_tests import ConditionError
from agent_os.policy.conditions import compile_arguments
from agent_os.policy.globs import PatternError, compile_any
from agent_os.policy.rule import Context

if TYPE_CHECKING:
    from agent_os.policy.schema.agents import Approvals, TwoPerson

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
