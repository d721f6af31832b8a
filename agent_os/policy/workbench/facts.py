"""Facts written by people: in tests, and beside actions on a stream. Pure.

Only what a decision may know can be said; an unknown key is an error. What is not said takes the documented defaults
(`Facts.defaults()`), and `null` says that a fact is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from agent_os.core import canonical
from agent_os.core.action import Action
from agent_os.core.decision import Obligation, Verdict
from agent_os.core.errors import ActionError
from agent_os.core.facts import DEFAULTS, BudgetLeft, ExternalVerdict, Facts, Finding, FlowConcern
from agent_os.core.label import Confidentiality, Integrity, Label
from agent_os.core.principal import Capability

Judge = Callable[[Action], tuple[ExternalVerdict, ...]]
"""Asks the engines that a policy's `rego:` names about one action."""

KEYS: Final = (
    "now", "workspace", "resolved_ips", "findings", "budgets", "rates", "flow", "verdicts", "depth", "children",
    "capabilities", "registered_tools", "unavailable", "context", "labels", "data", "detector_error",
)  # fmt: skip


def parse_facts(given: Mapping[str, Any], base: Facts = DEFAULTS) -> Facts:
    """Return `base` with the facts of a plain mapping. Raises ActionError naming the field."""
    if not isinstance(given, Mapping):
        raise ActionError("must be an object", field="facts")
    unknown = sorted(set(given) - set(KEYS))
    if unknown:
        raise ActionError(f"unknown key {unknown[0]!r}", field="facts", hint=canonical.nearest(unknown[0], KEYS))
    changes: dict[str, Any] = {}
    for key, value in given.items():
        try:
            changes[key] = None if value is None and key in _MAY_BE_MISSING else _PARSERS[key](value)
        except (TypeError, ValueError, KeyError, AttributeError):
            raise ActionError("is malformed", field=f"facts.{key}", hint=_HINTS.get(key, "")) from None
    return replace(base, **changes)


def judged(facts: Facts, action: Action, judge: Judge | None) -> Facts:
    """Return facts with the verdicts of engines, unless they hold some already (said by a person)."""
    return facts if judge is None or facts.verdicts else replace(facts, verdicts=judge(action))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _finding(value: Any) -> Finding:
    if isinstance(value, str):
        return Finding(value, 0, 0)
    return Finding(
        _text(value["type"]), int(value.get("start", 0)), int(value.get("end", 0)), _number(value.get("score", 1.0))
    )


def _concern(value: Any) -> FlowConcern:
    if isinstance(value, str):
        return FlowConcern(value)
    return FlowConcern(_text(value["sink"]), _text(value.get("argument", "")), _text(value.get("source", "")))


def _verdict(value: Any) -> ExternalVerdict:
    obligations = tuple(
        Obligation(_text(item["kind"]), {key: part for key, part in item.items() if key != "kind"}, value["engine"])
        for item in value.get("obligations", ())
    )
    return ExternalVerdict(
        _text(value["engine"]),
        Verdict(value.get("verdict", "deny")),
        tuple(map(_text, value.get("rules", ()))),
        _text(value.get("reason", "")),
        obligations,
        _text(value.get("error", "")),
    )


def _label(value: Any) -> Label:
    return Label(
        Integrity[value.get("integrity", "trusted").upper()],
        Confidentiality[value.get("confidentiality", "public").upper()],
        frozenset(map(_text, value.get("readers", ()))),
        frozenset(map(_text, value.get("tags", ()))),
        tuple(map(_text, value.get("sources", ()))),
    )


def _capability(value: Any) -> Capability:
    scope = value.get("scope")
    return Capability(
        _text(value["verb"]),
        None if scope is None else frozenset(map(_text, scope)),
        {_text(name): _number(limit) for name, limit in value.get("limits", {}).items()},
    )


_MAY_BE_MISSING: Final = frozenset(
    {
        "now",
        "resolved_ips",
        "findings",
        "budgets",
        "rates",
        "flow",
        "capabilities",
        "registered_tools",
        "context",
        "labels",
    }
)
_PARSERS: Final[Mapping[str, Any]] = {
    "now": _number,
    "workspace": lambda value: canonical.path(value, root="/"),
    "resolved_ips": lambda value: tuple(canonical.ip(item, field="facts.resolved_ips") for item in value),
    "findings": lambda value: tuple(map(_finding, value)),
    "budgets": lambda value: tuple(
        BudgetLeft(_text(name), {_text(unit): _number(left) for unit, left in units.items()})
        for name, units in value.items()
    ),
    "rates": lambda value: {_text(rule): _number(left) for rule, left in value.items()},
    "flow": lambda value: tuple(map(_concern, value)),
    "verdicts": lambda value: tuple(map(_verdict, value)),
    "depth": lambda value: canonical.integer(value, field="facts.depth", minimum=0, maximum=10_000),
    "children": lambda value: canonical.integer(value, field="facts.children", minimum=0, maximum=1_000_000),
    "capabilities": lambda value: tuple(map(_capability, value)),
    "registered_tools": lambda value: frozenset(map(_text, value)),
    "unavailable": lambda value: frozenset(map(_text, value)),
    "context": _label,
    "labels": lambda value: {_text(pointer): _label(label) for pointer, label in value.items()},
    "data": dict,
    "detector_error": _text,
}
_HINTS: Final = {
    "budgets": "budget name -> unit -> what is left",
    "findings": "entity names, or {type, start, end, score}",
    "flow": "sink classes, or {sink, argument, source}",
    "verdicts": "{engine, verdict, rules, reason} or {engine, error}",
    "labels": "RFC 6901 pointer -> {integrity, confidentiality, readers, tags}",
}
