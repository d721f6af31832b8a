"""A section that is lists of rules (`allow`, `ask`, `deny`): programs, messages, schedules, memory, secrets. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from agent_os.core.action import Action
from agent_os.core.decision import Verdict
from agent_os.core.facts import Facts
from agent_os.policy.globs import PatternError
from agent_os.policy.rule import Context, Match
from agent_os.policy.who import Holds, compile_who

Tell = Callable[[Action, Facts], "bool | None"]
"""Whether a rule matches; None when it cannot be judged."""


@dataclass(frozen=True, slots=True)
class ListRule:
    """One compiled rule."""

    match: Match
    errored: Match | None
    test: Tell
    who: Holds | None
    words: str = ""


class ListSection:
    """Judges actions by compiled rules, each looked at; `words` of the allows make the advice."""

    def __init__(self, name: str, kinds: frozenset[str], rules: Sequence[ListRule], subject: str) -> None:
        self.name, self.kinds, self._subject = name, kinds, subject
        self._rules = tuple(rules)
        self.may_allow = any(rule.match.effect is Verdict.ALLOW for rule in rules)

    def judge(self, action: Action, facts: Facts) -> Sequence[Match]:
        matches = []
        for rule in self._rules:
            if rule.who is not None and not rule.who(action.principal):
                continue
            answer = rule.test(action, facts)
            if answer:
                matches.append(rule.match)
            elif answer is None and rule.errored is not None:
                matches.append(rule.errored)
        return matches

    def advise(self, _action: Action, _facts: Facts) -> str:
        """Say what is allowed."""
        words = list(
            dict.fromkeys(rule.words for rule in self._rules if rule.match.effect is Verdict.ALLOW and rule.words)
        )
        if not words:
            return f"no {self._subject} is allowed"
        more = f" and {len(words) - 8} more" if len(words) > 8 else ""
        return f"{self._subject} that is allowed: " + ", ".join(words[:8]) + more


def list_rule(
    entry: Any, effect: Verdict, path: str, test: Tell, context: Context, *, words: str = "", what: str = ""
) -> ListRule | None:
    """Return the compiled rule of a schema entry (its who, enforcement and reason are read where it has them)."""
    name = context.rule(path, effect)
    try:
        who = compile_who(getattr(entry, "who", None))
    except PatternError as error:
        context.problem(path, f"who: {error}")
        return None
    if effect is Verdict.ALLOW:
        return ListRule(Match(effect, name), None, test, who, words)
    audit = getattr(entry, "enforcement", "enforce") == "audit"
    reason = getattr(entry, "reason", None) or what or words
    errored = Match(effect, name, "cannot be judged", errored=True, audit_only=audit)
    return ListRule(Match(effect, name, reason, audit_only=audit), errored, test, who, words)


def present(rules: Iterable[ListRule | None]) -> list[ListRule]:
    """Return the rules that compiled."""
    return [rule for rule in rules if rule is not None]
