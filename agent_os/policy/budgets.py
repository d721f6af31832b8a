"""The `budgets` section: what an action needs of each budget, and denial when it is not there. Pure.

It never allows: it adds `reserve` obligations, which the monitor carries out atomically before the effect. Facts say
what is left; a budget that nobody could read (no facts) denies. Amounts are the worst case: the longest answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agent_os.core.action import KINDS as ALL_KINDS
from agent_os.core.action import Action, ModelCall, NetRequest, ToolCall
from agent_os.core.decision import Obligation, Verdict
from agent_os.core.facts import Facts
from agent_os.policy.globs import Matcher, PatternError, compile_any
from agent_os.policy.models import ModelsSection
from agent_os.policy.rule import Context, Match
from agent_os.policy.who import Holds, compile_who

if TYPE_CHECKING:
    from agent_os.policy.schema.models import Budget

UNITS: Final = ("tokens", "usd", "calls", "bytes", "seconds", "steps")
ANSWER_TOKENS_DEFAULT: Final = 4096
"""What is reserved for an answer whose length the call does not bound."""
_SPENDERS: Final = frozenset({"model.call", "tool.call", "net.request"})


@dataclass(frozen=True, slots=True)
class _Budget:
    name: str
    rule: str
    limits: dict[str, float]
    spec: Budget
    who: Holds | None
    model: Matcher | None
    tool: Matcher | None
    tier: Matcher | None
    audit_only: bool


class BudgetsSection:
    """Judges what actions cost; built by `compile_budgets`. `names` are the budgets of the file."""

    name = "budgets"

    def __init__(self, budgets: Sequence[_Budget], models: ModelsSection | None) -> None:
        self._budgets = tuple(budgets)
        self._models = models
        self.kinds = _SPENDERS if budgets else frozenset[str]()
        self.names = tuple(budget.name for budget in budgets)
        self.may_allow = False

    def judge(self, action: Action, facts: Facts) -> Sequence[Match]:
        matches = []
        for budget in self._budgets:
            if budget.who is not None and not budget.who(action.principal):
                continue
            if not self._concerns(budget, action):
                continue
            amounts = self._amounts(budget, action)
            if amounts:
                matches.append(_judge(budget, amounts, action, facts))
        return matches

    def _concerns(self, budget: _Budget, action: Action) -> bool:
        if budget.tool is not None:
            return isinstance(action, ToolCall) and budget.tool(action.target)
        if budget.model is not None and not (isinstance(action, ModelCall) and budget.model(action.model)):
            return False
        if budget.tier is not None:
            provider = (
                self._models.providers.get(action.provider) if self._models and isinstance(action, ModelCall) else None
            )
            return isinstance(action, ModelCall) and (provider is None or budget.tier(provider.tier))
        return True

    def _amounts(self, budget: _Budget, action: Action) -> dict[str, float]:
        needs: dict[str, float] = {}
        if isinstance(action, ModelCall):
            answer = action.max_tokens or ANSWER_TOKENS_DEFAULT
            needs = {"tokens": float(action.input_tokens + answer), "calls": 1.0}
            into, out = self._models.price(action) if self._models is not None else (0.0, 0.0)
            needs["usd"] = (action.input_tokens * into + answer * out) / 1e6
        elif isinstance(action, ToolCall):
            needs = {"calls": 1.0}
        elif isinstance(action, NetRequest):
            needs = {"bytes": float(action.size)}
        return {unit: amount for unit, amount in needs.items() if unit in budget.limits and amount > 0}


def _judge(budget: _Budget, amounts: dict[str, float], action: Action, facts: Facts) -> Match:
    if facts.budgets is None:
        reason = "what is left of the budget is not known"
        return Match(Verdict.DENY, budget.rule, reason, errored=True, audit_only=budget.audit_only)
    reserve = Obligation(
        "reserve",
        {
            "budget": budget.name,
            "per": budget.spec.per,
            "window": budget.spec.window,
            "amounts": amounts,
            "limits": budget.limits,
            "on_exceeded": budget.spec.on_exceeded,
        },
        budget.rule,
    )
    obligations = [reserve]
    left = next((item.left for item in facts.budgets if item.budget == budget.name), None)
    if left is None:
        if facts.budgets:
            reason = "what is left of this budget is not known"
            return Match(Verdict.DENY, budget.rule, reason, errored=True, audit_only=budget.audit_only)
        left = {}  # nobody keeps budgets behind this question: unlimited
    for unit, amount in amounts.items():
        if unit not in left or left[unit] >= amount:
            continue
        if unit == "tokens" and isinstance(action, ModelCall) and left[unit] > action.input_tokens:
            affordable = int(left[unit]) - action.input_tokens
            obligations.append(Obligation("clamp", {"max_tokens": affordable}, budget.rule))
            amounts[unit] = float(left[unit])
            continue
        effect = Verdict.ASK if budget.spec.on_exceeded == "ask" else Verdict.DENY
        advice = "a cheaper tier may still be affordable" if budget.spec.on_exceeded == "downgrade" else ""
        return Match(effect, budget.rule, f"not enough {unit} left", advice, audit_only=budget.audit_only)
    return Match(Verdict.ALLOW, budget.rule, obligations=tuple(obligations), grants=False, audit_only=budget.audit_only)


def budget_names(budgets: Sequence[Budget]) -> list[str]:
    """Return the name of each budget: its own, or `per/window`, numbered where that is taken."""
    names: list[str] = []
    for budget in budgets:
        name = budget.name or f"{budget.per}/{budget.window}"
        count = sum(1 for taken in names if taken == name or taken.startswith(name + "#"))
        names.append(f"{name}#{count + 1}" if count else name)
    return names


def compile_budgets(budgets: Sequence[Budget], context: Context) -> BudgetsSection:
    """Return the compiled section; names of budgets carry the prefix of their pack or layer."""
    compiled = []
    for index, (budget, name) in enumerate(zip(budgets, budget_names(budgets), strict=True)):
        path = f"budgets[{index}]"
        rule = context.rule(path)
        try:
            compiled.append(
                _Budget(
                    context.prefix + name,
                    rule,
                    {unit: getattr(budget, unit) for unit in UNITS if getattr(budget, unit) is not None},
                    budget,
                    compile_who(budget.who),
                    _names(budget.model),
                    _names(budget.tool),
                    _names(budget.tier),
                    budget.enforcement == "audit",
                )
            )
        except PatternError as error:
            context.problem(path, str(error))
    models: Any = context.file.models
    section = None
    if models is not None:
        from agent_os.policy.models import compile_models  # noqa: PLC0415

        # Prices only: a context of its own, so that the rules of `models` are not declared twice.
        section = compile_models([(models, Context(context.document, context.file, data=context.data))])
    return BudgetsSection(compiled, section)


def _names(patterns: list[str] | str | None) -> Matcher | None:
    if patterns is None:
        return None
    return compile_any([patterns] if isinstance(patterns, str) else patterns, crossing=True)


__all__ = ["ALL_KINDS", "ANSWER_TOKENS_DEFAULT", "BudgetsSection", "budget_names", "compile_budgets"]
