"""Statements of usage: what models cost a tenant in a period, summed from the audit itself. Pure.

A call belongs to the period in which its intent was written, whatever its outcome says later; its price, tier and team are
those of that moment, as the records say. Amounts are whole millionths of a dollar, so lines add up to the total to the
cent. Calls without an outcome (cut off, or still under way) are counted apart: nobody knows what they used. Threats: a bill
that no record stands behind; a call that is billed twice or in no month at a change of clocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

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
    unreported: int = 0
    """Calls whose provider did not report what they used: counted as what the request was estimated at."""

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
    statement, under_way = Statement(), dict[str, tuple[tuple[str, ...], int]]()
    for record in records:
        kind = record.get("type")
        if kind == "intent" and _called(record) and begins <= record["time"] < ends:
            keys = _keys(record)
            if all(keys[KEYS.index(name)] == value for name, value in (only or {}).items()):
                under_way[str(record["ref"])] = keys, int(record["action"].get("input_tokens", 0))
                if len(under_way) > OPEN_MAX:
                    under_way.pop(next(iter(under_way)))
                    statement.open += 1
        elif kind == "outcome" and under_way and (begun := under_way.pop(str(record.get("ref")), None)) is not None:
            _add(statement, *begun, record)
    statement.open += len(under_way)
    return statement


def _called(record: Mapping[str, Any]) -> bool:
    action = record.get("action")
    return isinstance(action, Mapping) and action.get("kind") == "model.call"


def _keys(record: Mapping[str, Any]) -> tuple[str, ...]:
    action = record["action"]
    agent = "/".join([*record.get("parents", ()), str(record["agent"])])
    said = (record["tenant"], record.get("team", ""), agent)
    return tuple(map(str, (*said, action.get("provider", ""), action.get("model", ""), record.get("tier", ""))))


def _add(statement: Statement, keys: tuple[str, ...], estimated: int, record: Mapping[str, Any]) -> None:
    counts = statement.lines.setdefault(keys, dict.fromkeys(COUNTS, 0))
    used, unreported = tokens_of(record.get("usage", {}), estimated)
    for name, amount in used.items():
        counts[name] += amount
    counts["calls"] += 1
    counts["failed"] += not record.get("ok", False)
    statement.unreported += unreported


def tokens_of(usage: Mapping[str, float], estimated: int) -> tuple[dict[str, int], bool]:
    """Return what an outcome's usage says by count, and whether it says nothing: then the request's estimate stands.

    The meter counts by this too.
    """
    counts = {"micro_usd": round(usage.get("usd", 0.0) * 1e6)}
    if "input_tokens" in usage or usage.get("tokens") == 0.0:
        reported = {name: int(usage.get(f"{name}_tokens", 0)) for name in ("input", "output", "cached", "reasoning")}
        return {**counts, **reported}, False
    if "tokens" in usage:  # embeddings: nothing is answered in tokens
        return {**counts, "input": int(usage["tokens"])}, False
    return {**counts, "input": estimated}, True
