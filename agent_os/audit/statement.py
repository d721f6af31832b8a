"""Statements of usage: what models cost a tenant in a period, summed from the audit itself. Pure.

A call belongs to the period in which its intent was written, whatever its outcome says later; its price, tier and team are
those of that moment, as the records say. Each call is whole millionths of a dollar, rounded up as the budgets do it, so
lines add up to the total and the total to what budgets were charged. An answer whose usage nobody reported is billed as it
was reserved. Calls without an outcome (a crash, or still under way) are counted apart, with what was reserved for them.
Threats: a bill that no record stands behind; a call that is billed twice or in no month at a change of clocks; one that costs
nothing because its reader hung up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent_os.core.budget import ESTIMATED, millionths
from agent_os.core.ports import CANCELLED

KEYS: Final = ("tenant", "team", "agent", "provider", "model", "tier")
"""What a line is summed by."""
COUNTS: Final = ("calls", "failed", "input", "output", "cached", "reasoning", "micro_usd")
OPEN_MAX: Final = 1_000_000
"""Calls under way at one moment that are remembered; of more, the oldest count as without outcome."""


@dataclass(slots=True)
class Statement:
    """The sums of a period by KEYS."""

    lines: dict[tuple[str, ...], dict[str, int]] = field(default_factory=dict)
    open: int = 0
    """Calls without an outcome."""
    open_micro_usd: int = 0
    """What was reserved for these: budgets are charged it when the process that made the call is gone."""
    unreported: int = 0
    """Calls whose provider did not report what they used: billed as they were reserved."""

    def total(self, count: str) -> int:
        """Return the sum of one of COUNTS over all lines."""
        return sum(line[count] for line in self.lines.values())

    def rows(self) -> list[dict[str, Any]]:
        """Return the lines as plain JSON, by their keys; dollars exact to six places."""
        return [
            {**dict(zip(KEYS, keys, strict=True)), **priced(self.lines[keys])}
            for keys in sorted(self.lines, key=lambda keys: tuple(map(str, keys)))
        ]


def priced(counts: Mapping[str, int]) -> dict[str, Any]:
    """Return counts with dollars as a decimal text instead of millionths."""
    said: dict[str, Any] = {name: count for name, count in counts.items() if name != "micro_usd"}
    whole, rest = divmod(counts["micro_usd"], 1_000_000)
    return {**said, "usd": f"{whole}.{rest:06d}"}


def stated(
    records: Iterable[Mapping[str, Any]], *, begins: float, ends: float, only: Mapping[str, str] | None = None
) -> Statement:
    """Return the statement of the calls whose intents were written in [`begins`, `ends`) (Unix seconds).

    `only` are values of KEYS that a line must have. A record that is damaged in what is summed raises ValueError.
    """
    statement, under_way = Statement(), dict[str, tuple[tuple[str, ...], Mapping[str, Any]]]()
    for record in records:
        kind = record.get("type")
        if kind == "intent" and _called(record) and begins <= record["time"] < ends:
            keys = _keys(record)
            if all(keys[KEYS.index(name)] == value for name, value in (only or {}).items()):
                under_way[str(record["ref"])] = keys, record
                if len(under_way) > OPEN_MAX:
                    _left(statement, under_way.pop(next(iter(under_way)))[1])
        elif kind == "outcome" and under_way and (begun := under_way.pop(str(record.get("ref")), None)) is not None:
            _add(statement, *begun, record)
    for _, intent in under_way.values():
        _left(statement, intent)
    return statement


def _left(statement: Statement, intent: Mapping[str, Any]) -> None:
    """Count a call that has no outcome."""
    statement.open += 1
    statement.open_micro_usd += millionths(float(intent.get("most", {}).get("usd", 0.0)))


def _called(record: Mapping[str, Any]) -> bool:
    action = record.get("action")
    return isinstance(action, Mapping) and action.get("kind") == "model.call"


def _keys(record: Mapping[str, Any]) -> tuple[str, ...]:
    action = record["action"]
    agent = "/".join([*record.get("parents", ()), str(record["agent"])])
    said = (record["tenant"], record.get("team", ""), agent)
    return tuple(map(str, (*said, action.get("provider", ""), action.get("model", ""), record.get("tier", ""))))


def _add(statement: Statement, keys: tuple[str, ...], intent: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    counts = statement.lines.setdefault(keys, dict.fromkeys(COUNTS, 0))
    used, unreported = tokens_of(record, int(intent["action"].get("input_tokens", 0)))
    for name, amount in used.items():
        counts[name] += amount
    counts["calls"] += 1
    counts["failed"] += not record.get("ok", False)
    statement.unreported += unreported


def tokens_of(outcome: Mapping[str, Any], estimated: int) -> tuple[dict[str, int], bool]:
    """Return what an outcome's record says by count, and whether nobody reported it: then it is what was reserved.

    `estimated` is the request's estimate: what records of earlier versions, which say nothing at all, are counted as. The meter
    counts by this too.
    """
    usage: Mapping[str, float] = outcome.get("usage", {})
    counts = {"micro_usd": millionths(usage.get("usd", 0.0))}
    never_begun = not usage and outcome.get("error") == CANCELLED
    if "input_tokens" in usage or usage.get("tokens") == 0.0 or never_begun:
        reported = {name: int(usage.get(f"{name}_tokens", 0)) for name in ("input", "output", "cached", "reasoning")}
        return {**counts, **reported}, bool(usage.get(ESTIMATED))
    if "tokens" in usage:  # embeddings: nothing is answered in tokens
        return {**counts, "input": int(usage["tokens"])}, False
    return {**counts, "input": estimated}, True
