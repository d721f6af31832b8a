"""What models used, counted by day: `usage.db`. One row for each day, principal, provider, model, tier and team.

The audit is the record; this is its sum, so that a year can be shown without reading it. A count is queued when the
outcome is written and is on disk with the next group commit. Threats: a meter that slows or fails calls (nobody waits for it, and
what it cannot count it says), a table that grows with every call (rows are sums; finished days of single tasks fold into one).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from agent_os.core.errors import EffectError
from agent_os.effects.stores.database import Database

KEYS: Final = ("day", "tenant", "user", "team", "agent", "task", "provider", "model", "tier")
COUNTS: Final = ("calls", "input", "output", "cached", "reasoning", "unreported", "micro_usd")
TASK_DAYS: Final = 90
"""Tasks are told apart for this long; then a day's tasks are one row (task `-`)."""
SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS model_usage("
    + ", ".join(f'"{key}" TEXT NOT NULL' for key in KEYS)
    + ", "
    + ", ".join(f"{count} INTEGER NOT NULL DEFAULT 0" for count in COUNTS)
    + ", PRIMARY KEY("
    + ", ".join(f'"{key}"' for key in KEYS)
    + ")) WITHOUT ROWID"
)
_COLUMNS: Final = ", ".join(f'"{key}"' for key in KEYS) + ", " + ", ".join(COUNTS)
_ADD: Final = (
    f"INSERT INTO model_usage({_COLUMNS}) VALUES({', '.join('?' * (len(KEYS) + len(COUNTS)))}) "
    f"ON CONFLICT DO UPDATE SET {', '.join(f'{count}={count}+excluded.{count}' for count in COUNTS)}"
)
PERIODS: Final[Mapping[str, int]] = {"day": 10, "month": 7, "year": 4}
"""How much of an ISO date names the period."""


class UsageStore:
    """The sums of one state directory."""

    def __init__(self, directory: Path) -> None:
        """Sums in `directory`; the file is opened with the first call that is counted."""
        self._file = directory / "usage.db"
        self._database: Database | None = None
        self.lost = 0
        """Calls that could not be counted (the disk is full, the queue is): they are in the audit."""

    def add(self, keys: Mapping[str, str], counts: Mapping[str, int]) -> None:
        """Queue one call's counts; nobody waits for the disk."""
        row = (*(keys.get(key, "") for key in KEYS), *(counts.get(count, 0) for count in COUNTS))
        try:
            if self._database is None:
                self._database = Database(self._file, SCHEMA).open()
                day = datetime.now(UTC) - timedelta(days=TASK_DAYS)
                self._fold(self._database, day.strftime("%Y-%m-%d"))
            self._database.post(lambda connection: connection.execute(_ADD, row))
        except EffectError:
            self.lost += 1

    def _fold(self, database: Database, before: str) -> None:
        """Make one row of each day's tasks before a day (ISO date)."""

        database.post(lambda connection: _folded(connection, ("task",), "day<? AND task<>'-'", before))

    def forget_users(self, tenant: str) -> None:
        """Make one row of what a tenant's users and tasks used on a day: the sums of the tenant stay. Blocks."""
        if self._file.exists():
            database = self._database or Database(self._file, SCHEMA).open()
            database.run_sync(lambda connection: _folded(connection, ("user", "task"), "tenant=?", tenant))
            if self._database is None:
                database.close()

    def sums(
        self, by: str, per: str, *, since: str = "", where: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """Return sums by one of KEYS and period (`day`, `month`, `year`, or `total`), oldest first.

        `since` is an ISO date; `where` key -> exact value. Raises ValueError for an unknown name, EffectError.
        """
        if by not in KEYS or per not in (*PERIODS, "total") or any(key not in KEYS for key in where or {}):
            raise ValueError("no such column or period")
        if not self._file.exists():
            return []
        period = f"substr(day, 1, {PERIODS[per]})" if per in PERIODS else "'total'"
        filters = "".join(f' AND "{key}"=?' for key in where or {})
        rows = (self._database or Database(self._file, "")).read(
            lambda connection: connection.execute(
                f'SELECT {period} AS period, "{by}", {", ".join(f"SUM({count})" for count in COUNTS)} '  # noqa: S608 - names of this module
                f"FROM model_usage WHERE day>=?{filters} GROUP BY 1, 2 ORDER BY 1, 2",
                (since, *(where or {}).values()),
            ).fetchall()
        )
        return [_row(by, row) for row in rows]

    def totals(self) -> list[dict[str, Any]]:
        """Return everything ever counted by tenant, team, provider, model and tier."""
        if not self._file.exists():
            return []
        keys = ("tenant", "team", "provider", "model", "tier")
        columns = ", ".join(keys)
        rows = (self._database or Database(self._file, "")).read(
            lambda connection: connection.execute(
                f"SELECT {columns}, {', '.join(f'SUM({count})' for count in COUNTS)} FROM model_usage "  # noqa: S608 - names of this module
                f"GROUP BY {columns}"
            ).fetchall()
        )
        found = []
        for row in rows:
            found.append({**dict(zip(keys, row[:5], strict=True)), **_row("period", ("", "", *row[5:]))})
        return found

    def close(self) -> None:
        """Write what is queued and close."""
        if self._database is not None:
            self._database.close()
            self._database = None


def _folded(connection: sqlite3.Connection, keys: Sequence[str], where: str, value: str) -> None:
    """Make one row of those that differ in `keys` alone, which become `-`."""
    others = ", ".join("'-'" if key in keys else f'"{key}"' for key in KEYS)
    kept = ", ".join(f'"{key}"' for key in KEYS if key not in keys)
    sums = ", ".join(f"SUM({count})" for count in COUNTS)
    old = connection.execute(
        f"SELECT {others}, {sums} FROM model_usage WHERE {where} GROUP BY {kept}",  # noqa: S608 - names of this module
        (value,),
    ).fetchall()
    connection.execute(f"DELETE FROM model_usage WHERE {where}", (value,))  # noqa: S608
    connection.executemany(_ADD, old)


def _row(by: str, row: tuple[Any, ...]) -> dict[str, Any]:
    counted = dict(zip(COUNTS, row[2:], strict=True))
    usd = counted.pop("micro_usd") / 1e6
    return {"period": row[0], by: row[1], **counted, "tokens": counted["input"] + counted["output"], "usd": usd}


__all__ = ["COUNTS", "KEYS", "PERIODS", "UsageStore"]
