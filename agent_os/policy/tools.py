"""The `tools` section: which tools may be called, with which arguments. Pure.

A key without `/` allows only tools of the runtime itself (a tool server cannot take the name of one) and restricts
every tool of that name; `server/tool` names a server's tool. Threats: a server that offers `read_file`, a missing
argument that slips past a deny, an argument of another type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agent_os.core.action import Action, ToolCall
from agent_os.core.decision import Obligation, Verdict
from agent_os.core.facts import Facts
from agent_os.policy.argument_tests import ConditionError
from agent_os.policy.conditions import compile_arguments
from agent_os.policy.describe import describe_clause, fields_of
from agent_os.policy.globs import PatternError, is_literal
from agent_os.policy.names import MAX_REMEMBERED, NameIndex
from agent_os.policy.rule import Context, Match
from agent_os.policy.who import Holds, compile_who

if TYPE_CHECKING:
    from agent_os.policy.schema.base import Rate
    from agent_os.policy.schema.tools import Tool

KINDS: Final = frozenset({"tool.call"})
MAX_ADVISED: Final = 12
_EFFECTS: Final = {"allow": Verdict.ALLOW, "ask": Verdict.ASK, "deny": Verdict.DENY}

Judge = Callable[[Mapping[str, Any], Facts], "bool | None"]


@dataclass(frozen=True, slots=True)
class _Rule:
    """One compiled rule: the match it gives, the match if it cannot be judged, and its check (None: always)."""

    match: Match
    errored: Match | None
    check: Judge | None
    who: Holds | None
    words: str


@dataclass(frozen=True, slots=True)
class _Rate:
    """A limit on calls: an obligation while calls are left, a denial when none are or nobody can tell."""

    rule: str
    obligation: Obligation
    audit_only: bool


class ToolsSection:
    """Judges tool calls; built by `compile_tools`."""

    name = "tools"
    kinds = KINDS

    def __init__(self) -> None:
        self._allows: NameIndex[_Rule] = NameIndex(crossing=False)
        self._restricts: NameIndex[_Rule | _Rate] = NameIndex(crossing=True)
        self._found: dict[str, tuple[_Rule | _Rate, ...]] = {}
        self._allowed_names: list[str] = []
        self.may_allow = False
        self._listings: dict[int, str] = {}

    def add(self, pattern: str, rule: _Rule | _Rate) -> None:
        """Add a compiled rule under a tool name or glob."""
        if isinstance(rule, _Rule) and rule.match.effect is Verdict.ALLOW:
            self._allows.add(pattern, rule)
            self._allowed_names.append(pattern)
            self.may_allow = True
        else:
            self._restricts.add(pattern, rule)

    def _find(self, target: str, tool: str) -> tuple[_Rule | _Rate, ...]:
        found: list[_Rule | _Rate] = [*self._allows.find(target), *self._restricts.find(target)]
        if tool != target:
            found.extend(rule for rule in self._restricts.find(tool) if rule not in found)
        if len(self._found) >= MAX_REMEMBERED:
            self._found.clear()
        rules = self._found[target] = tuple(found)
        return rules

    def judge(self, action: Action, facts: Facts) -> Sequence[Match]:
        if not isinstance(action, ToolCall):
            return ()
        target = action.target
        rules = self._found.get(target)
        if rules is None:
            rules = self._find(target, action.tool)
        matches = []
        for rule in rules:
            if isinstance(rule, _Rate):
                matches.append(_judge_rate(rule, facts))
                continue
            if rule.who is not None and not rule.who(action.principal):
                continue
            answer = True if rule.check is None else rule.check(action.args, facts)
            if answer:
                matches.append(rule.match)
            elif answer is None and rule.errored is not None:
                matches.append(rule.errored)
        return matches

    def offers(self, target: str, tool: str) -> bool:
        """Return whether some call of a tool could be let through: an allow names it, and no unconditional deny."""
        rules = [rule for rule in self._find(target, tool) if isinstance(rule, _Rule)]
        always = (rule for rule in rules if rule.match.effect is Verdict.DENY and rule.check is None)
        if any(rule.who is None and not rule.match.audit_only for rule in always):
            return False
        return any(rule.match.effect is Verdict.ALLOW for rule in rules)

    def advise(self, action: Action, facts: Facts) -> str:
        """Say what would have been allowed for this tool, or which tools are."""
        return self.advise_all((self,), action, facts)

    @staticmethod
    def advise_all(sections: Sequence[ToolsSection], action: Action, facts: Facts) -> str:
        """Say it for the files of a layer together: what any of them allows of this tool, else which tools any allows."""
        if not isinstance(action, ToolCall):
            return ""
        words = [
            rule.words
            for section in sections
            for rule in section._find(action.target, action.tool)
            if isinstance(rule, _Rule) and rule.match.effect is Verdict.ALLOW
        ]
        conditions = [text for text in words if text]
        if conditions:
            return "this tool is allowed when " + ", or when ".join(conditions[:3])
        if words:
            return "this tool is allowed for other principals"
        kept = sections[0]._listings
        if len(sections) not in kept:  # made once: a denial must not cost more the more rules there are
            names = sorted({name for section in sections for name in section._allowed_names})
            more = f" and {len(names) - MAX_ADVISED} more" if len(names) > MAX_ADVISED else ""
            listed = "tools that are allowed: " + ", ".join(names[:MAX_ADVISED]) + more
            kept[len(sections)] = listed if names else "no tool is allowed"
        return kept[len(sections)]


def _judge_rate(rule: _Rate, facts: Facts) -> Match:
    if facts.rates is None:
        return Match(Verdict.DENY, rule.rule, "the rate is not known", errored=True, audit_only=rule.audit_only)
    left = facts.rates.get(rule.rule)
    if left is not None and left < 1:
        return Match(Verdict.DENY, rule.rule, "the limit on calls is reached", "wait", audit_only=rule.audit_only)
    return Match(Verdict.ALLOW, rule.rule, obligations=(rule.obligation,), grants=False, audit_only=rule.audit_only)


def compile_tools(tools: Mapping[str, Tool], context: Context) -> ToolsSection:
    """Return the compiled section; what cannot be compiled is recorded in the context."""
    section = ToolsSection()
    for pattern, tool in tools.items():
        path = f"tools.{pattern}"
        try:
            for rule in _rules(tool, path, context):
                section.add(pattern, rule)
            if tool.rate is not None:
                section.add(pattern, _rate(tool, tool.rate, path, context))
        except PatternError as error:
            context.problem(path, str(error), "quote special characters with a backslash")
    return section


def _rules(tool: Tool, path: str, context: Context) -> list[_Rule]:
    rules = []
    for name, effect in _EFFECTS.items():
        clause = getattr(tool, name)
        rule = _rule(clause, effect, f"{path}.{name}", "", tool.who, tool.enforcement, tool.reason, context)
        if rule is not None:
            rules.append(rule)
    for index, long in enumerate(tool.rules):
        place = f"{path}.rules[{index}]"
        name = next(name for name in _EFFECTS if getattr(long, name) is not None)
        rule = _rule(
            getattr(long, name),
            _EFFECTS[name],
            f"{place}.{name}",
            f"{path}.{long.id}" if long.id else place,
            long.who,
            long.enforcement,
            _cited(long.reason, long.cites),
            context,
        )
        if rule is not None:
            rules.append(rule)
    return rules


def _cited(reason: str | None, cites: Sequence[str]) -> str | None:
    if not cites:
        return reason
    return (reason + " " if reason else "") + "[" + ", ".join(cites) + "]"


def _rule(
    clause: Any,
    effect: Verdict,
    path: str,
    rule_id: str,
    who: Any,
    enforcement: str,
    reason: str | None,
    context: Context,
) -> _Rule | None:
    """Compile one clause; `false` and an absent clause are no rule."""
    if clause is None or clause is False:
        return None
    name = context.rule(path, effect, id=rule_id)
    wide = effect is not Verdict.ALLOW
    check: Judge | None = None
    if clause is not True and clause != {}:
        try:
            check = _compile_clause(clause, wide, context)
        except ConditionError as error:
            context.problem(path + error.path, str(error))
            return None
    try:
        holds = compile_who(who)
    except PatternError as error:
        context.problem(path, f"who: {error}")
        return None
    words = describe_clause(clause)
    fields = ", ".join(fields_of(clause))
    audit = wide and enforcement == "audit"
    if not wide:
        return _Rule(Match(effect, name), None, check, holds, words)
    said = reason or words or ("the tool is denied" if effect is Verdict.DENY else "a person must approve this tool")
    unclear = f"cannot be judged: {fields} missing or of the wrong type"
    errored = Match(effect, name, unclear, errored=True, audit_only=audit)
    return _Rule(Match(effect, name, said, audit_only=audit), errored, check, holds, words)


def _compile_clause(clause: Any, wide: bool, context: Context) -> Judge | None:
    if not isinstance(clause, list):
        return compile_arguments(clause, wide=wide, data=context.data) if clause else None
    parts: list[Judge] = []
    for index, item in enumerate(clause):
        if not item:
            return None
        try:
            parts.append(compile_arguments(item, wide=wide, data=context.data))
        except ConditionError as error:
            raise ConditionError(str(error), f"[{index}]{error.path}") from None

    def judge(given: Mapping[str, Any], facts: Facts) -> bool | None:
        result: bool | None = False
        for part in parts:
            answer = part(given, facts)
            if answer is True:
                return True
            if answer is None:
                result = None
        return result

    return judge


def _rate(tool: Tool, rate: Rate, path: str, context: Context) -> _Rate:
    name = context.rule(f"{path}.rate", None)
    params = {"rule": name, "calls": rate.calls, "window_s": rate.window, "per": rate.per}
    return _Rate(name, Obligation("rate", params, name), tool.enforcement == "audit")


def allowed_tools(section: ToolsSection) -> tuple[str, ...]:
    """Return the names and globs that an allow rule names, for hiding tools that can never be called."""
    return tuple(dict.fromkeys(section._allowed_names))


__all__ = ["KINDS", "ToolsSection", "allowed_tools", "compile_tools", "is_literal"]
