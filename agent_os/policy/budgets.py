"""The `budgets` section: what an action needs of each budget, and denial when it is not there. Pure.

It never allows: it adds `reserve` obligations, which the monitor carries out atomically before the effect. Facts say
what is left; a budget that nobody could read (no facts) denies. Amounts are the worst case: the longest answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from agent_os.core.action import KINDS as ALL_KINDS
from agent_os.core.action import Action, ModelCall, NetRequest, ToolCall
from agent_os.core.budget import STATED
from agent_os.core.decision import Obligation, Verdict
from agent_os.core.facts import Facts
from agent_os.core.principal import Principal
from agent_os.policy.globs import Matcher, PatternError, compile_any
from agent_os.policy.prices import ANSWER_TOKENS_DEFAULT, Prices
from agent_os.policy.rule import Context, Match
from agent_os.policy.who import Holds, compile_who

if TYPE_CHECKING:
    from agent_os.policy.schema.models import Budget

UNITS: Final = ("tokens", "usd", "calls", "bytes", "seconds", "steps")
SECONDS_RESERVED: Final = 1.0
"""What is reserved of a budget of seconds: how long an effect takes is known at its end, and then counted in full."""
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

    def __init__(self, budgets: Sequence[_Budget], prices: Prices, teams: Mapping[str, Any] | None = None) -> None:
        self._budgets = tuple(budgets)
        self._teams = teams or {}
        self._prices = prices
        self.kinds = _SPENDERS if budgets else frozenset[str]()
        self.names = tuple(budget.name for budget in budgets)
        self.may_allow = False

    def judge(self, action: Action, facts: Facts) -> Sequence[Match]:
        matches = []
        for budget in self._budgets:
            if budget.who is not None and not _covers(budget, budget.who, action.principal):
                continue
            if not self._concerns(budget, action):
                continue
            amounts = self._amounts(budget, action)
            if amounts:
                matches.append(_judge(budget, self._stated(budget, action), amounts, action, facts))
        return matches

    def _stated(self, budget: _Budget, action: Action) -> str | None:
        """Return the name of the budget with its subject where no principal has it (`model/day:gpt-5`).

        Teams are those of the data set `teams` (user -> team). None: nobody knows the subject.
        """
        per = budget.spec.per
        if per not in STATED:
            return budget.name
        subject: Any = None
        if per == "team":
            subject = self._teams.get(action.principal.user)
        elif per == "tool":
            subject = action.target if isinstance(action, ToolCall) else None
        elif isinstance(action, ModelCall):
            subject = action.model if per == "model" else self._tier(action)
        return f"{budget.name}:{subject}" if isinstance(subject, str) and subject else None

    def _tier(self, action: ModelCall) -> str | None:
        """Return the price tier of a call; of one that is not aimed yet, the dearest it could get."""
        if self._prices.knows(action.provider):
            return self._prices.tier(action.provider) or None
        return self._prices.dearest_tier()

    def _concerns(self, budget: _Budget, action: Action) -> bool:
        if budget.spec.per == "tool" and not isinstance(action, ToolCall):
            return False
        if budget.spec.per in ("model", "tier") and not isinstance(action, ModelCall):
            return False
        if budget.tool is not None:
            return isinstance(action, ToolCall) and budget.tool(action.target)
        if budget.model is not None and not (isinstance(action, ModelCall) and budget.model(action.model)):
            return False
        if budget.tier is not None:
            return isinstance(action, ModelCall) and (
                not self._prices.knows(action.provider) or budget.tier(self._prices.tier(action.provider))
            )
        return True

    def _amounts(self, budget: _Budget, action: Action) -> dict[str, float]:
        needs = {"seconds": SECONDS_RESERVED}
        if isinstance(action, ModelCall):
            needs |= {**self._prices.reserved(action), "steps": 1.0}
        elif isinstance(action, ToolCall):
            needs["calls"] = 1.0
        elif isinstance(action, NetRequest):
            needs["bytes"] = float(action.size)
        return {unit: amount for unit, amount in needs.items() if unit in budget.limits and amount > 0}


def _covers(budget: _Budget, who: Holds, principal: Principal) -> bool:
    """Whether a budget is for this principal: by its own name or, where it names agents, by who started it."""
    if who(principal):
        return True
    above = {*principal.parents, principal.root} - {principal.agent}
    named = budget.spec.who is not None and budget.spec.who.agent is not None
    return named and any(who(replace(principal, agent=name)) for name in above)


def _judge(budget: _Budget, name: str | None, amounts: dict[str, float], action: Action, facts: Facts) -> Match:
    if facts.budgets is None or name is None:
        reason = "what is left of the budget is not known" if name else f"whose {budget.spec.per} this is is not known"
        return Match(Verdict.DENY, budget.rule, reason, errored=True, audit_only=budget.audit_only)
    reserve = Obligation(
        "reserve",
        {
            "budget": name,
            "per": budget.spec.per,
            "window": budget.spec.window,
            "amounts": amounts,
            "limits": budget.limits,
            "on_exceeded": budget.spec.on_exceeded,
        },
        budget.rule,
    )
    obligations = [reserve]
    left = next((item.left for item in facts.budgets if item.budget == name), None)
    if left is None:
        if facts.budgets and budget.spec.per not in STATED:  # those are read where they are reserved
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


def budget_name(budget: Budget) -> str:
    """Return the name a budget is counted under: its own, or `per/window` and what narrows it (`user/day[tool=pay]`).

    Names carry neither pack nor layer: a budget must not start anew because a file was added. Where two files name one
    budget, the smaller limit of each unit holds.
    """
    if budget.name:
        return budget.name
    narrowed = []
    for key in ("tier", "model", "tool"):
        value = getattr(budget, key)
        if value is not None:
            narrowed.append(f"{key}={'+'.join([value] if isinstance(value, str) else sorted(value))}")
    if budget.zone not in (None, "UTC"):
        narrowed.append(f"zone={budget.zone}")
    if budget.who is not None:
        narrowed.append("who=" + json.dumps(budget.who.model_dump(exclude_none=True), sort_keys=True))
    name = f"{budget.per}/{budget.window}"
    return f"{name}[{','.join(narrowed)}]".replace(":", ".") if narrowed else name


def compile_budgets(budgets: Sequence[Budget], context: Context) -> BudgetsSection:
    """Return the compiled section; what cannot be compiled is recorded in the context."""
    compiled = []
    for index, budget in enumerate(budgets):
        path = f"budgets[{index}]"
        rule = context.rule(path)
        try:
            compiled.append(
                _Budget(
                    budget_name(budget),
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
    teams = context.data.get("teams")
    return BudgetsSection(compiled, context.prices, teams if isinstance(teams, Mapping) else {})


def _names(patterns: list[str] | str | None) -> Matcher | None:
    if patterns is None:
        return None
    return compile_any([patterns] if isinstance(patterns, str) else patterns, crossing=True)


__all__ = ["ALL_KINDS", "ANSWER_TOKENS_DEFAULT", "BudgetsSection", "budget_name", "compile_budgets"]
