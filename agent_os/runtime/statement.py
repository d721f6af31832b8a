"""A statement of usage for a period of a place's calendar: read from verified audits, compared with the meter.

Threat: a statement over a log that was edited; it says which logs it stands on, up to which record, and whether they verify.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

from agent_os.audit.statement import COUNTS, Statement, priced, stated
from agent_os.core.errors import ActionError
from agent_os.core.zone import zone_of
from agent_os.effects.stores.directory import state_path
from agent_os.effects.stores.usage import UsageStore
from agent_os.runtime.audit import AuditReader, open_audit

FORM: Final = 1
"""Of the JSON."""


def statement(
    begins: str,
    ends: str,
    *,
    zone: str = "UTC",
    only: Mapping[str, str] | None = None,
    also: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the statement of the days from `begins` up to, not including, `ends` (ISO dates of `zone`) as plain JSON.

    `also` are state directories of other workers (the audits of those that share a PostgreSQL). Raises ActionError, EffectError.
    """
    env = os.environ if environment is None else environment
    start, end = _midnight(begins, zone, "from"), _midnight(ends, zone, "until")
    if end <= start:
        raise ActionError("must be later than from", field="until")
    readers = [open_audit(environment=env), *(open_audit(path, environment=env) for path in also)]
    found = stated(_records(readers), begins=start, ends=end, only=only)
    totals = {count: found.total(count) for count in COUNTS}
    said: dict[str, Any] = {
        "form": FORM,
        "from": begins,
        "until": ends,
        "zone": zone,
        "only": dict(only or {}),
        "lines": found.rows(),
        "total": priced(totals),
        "without_outcome": found.open,
        "without_outcome_usd": priced({"micro_usd": found.open_micro_usd})["usd"],
        "unreported": found.unreported,
        "audit": [_stands_on(reader, writer) for reader in readers for writer in reader.writers()],
    }
    if zone == "UTC" and not also:
        said["meter"] = _metered(env, begins, ends, only or {}, found)
    return said


def _midnight(day: str, zone: str, field: str) -> float:
    """Return when a day begins: where clocks skip midnight, with the first moment of that day."""
    try:
        named = date.fromisoformat(day)
    except ValueError:
        raise ActionError("write a date as 2026-11-01", field=field) from None
    return datetime(named.year, named.month, named.day, tzinfo=zone_of(zone)).timestamp()


def _records(readers: Sequence[AuditReader]) -> Iterator[Mapping[str, Any]]:
    for reader in readers:
        for writer in reader.writers():  # in the order of its chain, whatever its clock did
            yield from reader.records(writer)


def _stands_on(reader: AuditReader, writer: str) -> dict[str, Any]:
    report = reader.report(writer)
    return {
        "at": str(reader.path), "writer": writer, "verified": report.ok, "last": report.last, "head": report.head,
    }  # fmt: skip


def _metered(
    environment: Mapping[str, str], begins: str, ends: str, only: Mapping[str, str], found: Statement
) -> dict[str, Any]:
    """Return what the meter counted for the same days, and whether that is the same."""
    rows = UsageStore(state_path(environment)).sums("day", "day", since=begins, where=dict(only))
    counts = {"calls": 0, "micro_usd": 0}
    for row in rows:
        if row["period"] < ends:
            counts["calls"] += row["calls"]
            counts["micro_usd"] += round(row["usd"] * 1e6)
    agrees = counts == {name: found.total(name) for name in counts}
    return {**priced(counts), "agrees": agrees}
