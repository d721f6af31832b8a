"""The ledger's tables, for SQLite and PostgreSQL alike, and how older ones are brought up to date. SQL only.

`VERSION` is that of the tables: a newer Agent OS may add columns while older workers still run, and says with LEAST from
which version on that is safe; an older one refuses to open the rest. `format` is the version of a task's row: a worker takes
no task of a later format than it knows, so that a deploy may roll through the workers one by one. Everything a task holds
that could be read by others (input, result, rights, outcomes) is sealed; names, states and times are not.
"""

from __future__ import annotations

from typing import Any, Final

from agent_os.core.errors import EffectError
from agent_os.effects.stores.database import Storage

FORMAT: Final = 2
"""What this version writes. 1: tasks of before there were children (read as roots without limits)."""

VERSION: Final = 3
"""Of the tables. Raised with every change of them."""
LEAST: Final = 2
"""The least VERSION of an Agent OS that may work with these tables: raised where an older one would do harm."""

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS agentos_task(
  id TEXT PRIMARY KEY, program TEXT NOT NULL, input TEXT NOT NULL, principal TEXT NOT NULL, workspace TEXT NOT NULL,
  policies TEXT NOT NULL, queue TEXT NOT NULL, priority INTEGER NOT NULL, deadline DOUBLE PRECISION NOT NULL,
  parent TEXT NOT NULL, schedule TEXT NOT NULL, state TEXT NOT NULL, created DOUBLE PRECISION NOT NULL,
  started DOUBLE PRECISION NOT NULL, ended DOUBLE PRECISION NOT NULL, attempts INTEGER NOT NULL,
  token BIGINT NOT NULL, worker TEXT NOT NULL, approval TEXT NOT NULL, reason TEXT NOT NULL, result TEXT NOT NULL,
  wanted TEXT NOT NULL, queued INTEGER NOT NULL, tenant TEXT NOT NULL DEFAULT 'default',
  agent TEXT NOT NULL DEFAULT 'main', root TEXT NOT NULL DEFAULT '', lineage TEXT NOT NULL DEFAULT '[]',
  rights TEXT NOT NULL DEFAULT '', waits TEXT NOT NULL DEFAULT '[]', format INTEGER NOT NULL DEFAULT 1,
  version TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS agentos_schema(part TEXT PRIMARY KEY, version INTEGER NOT NULL, least INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS agentos_worker(
  id TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, started DOUBLE PRECISION NOT NULL,
  beat DOUBLE PRECISION NOT NULL, state TEXT NOT NULL, queues TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS agentos_outcome(
  key TEXT PRIMARY KEY, task TEXT NOT NULL, token BIGINT NOT NULL, action_digest TEXT NOT NULL,
  at DOUBLE PRECISION NOT NULL, value TEXT NOT NULL, what TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS agentos_allowance(
  task TEXT NOT NULL, unit TEXT NOT NULL, most DOUBLE PRECISION NOT NULL, used DOUBLE PRECISION NOT NULL,
  PRIMARY KEY(task, unit)
);
CREATE TABLE IF NOT EXISTS agentos_queue(name TEXT PRIMARY KEY, turns BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS agentos_share(tenant TEXT PRIMARY KEY, served DOUBLE PRECISION NOT NULL);
CREATE TABLE IF NOT EXISTS agentos_limit(
  scope TEXT NOT NULL, name TEXT NOT NULL, at_once INTEGER NOT NULL, starts INTEGER NOT NULL,
  seconds DOUBLE PRECISION NOT NULL, PRIMARY KEY(scope, name)
)
"""

ADDED: Final = {
    "agentos_task": {
        "tenant": "TEXT NOT NULL DEFAULT 'default'",
        "agent": "TEXT NOT NULL DEFAULT 'main'",
        "root": "TEXT NOT NULL DEFAULT ''",
        "lineage": "TEXT NOT NULL DEFAULT '[]'",
        "rights": "TEXT NOT NULL DEFAULT ''",
        "waits": "TEXT NOT NULL DEFAULT '[]'",
        "format": "INTEGER NOT NULL DEFAULT 1",
        "version": "TEXT NOT NULL DEFAULT ''",
    },
    "agentos_outcome": {"what": "TEXT NOT NULL DEFAULT ''"},
    "agentos_schedule": {
        "topic": "TEXT NOT NULL DEFAULT ''",
        "owner": "TEXT NOT NULL DEFAULT ''",
        "seen": "TEXT NOT NULL DEFAULT ''",
    },
}
"""Columns that tables of format 1 do not have."""

LEFT_CHILDREN: Final = 1
LEFT_HELD: Final = 2
EVERYTHING: Final = LEFT_CHILDREN | LEFT_HELD
"""What the end of a task has to see to, as bits of its column `queued`. A task that was started more than once may have been
run by a version that did not say: its end looks for both.
"""
HELD: Final = "h:"
"""How the stored value of an outcome begins that holds what a handle stands for (`flow.by_reference`)."""
FORGET_HELD: Final = "UPDATE agentos_outcome SET value='-' WHERE task=? AND substr(value, 1, 2)='h:'"
"""What a task that is done leaves behind of such values: nothing but that they were there."""

INDEXES: Final = """
CREATE INDEX IF NOT EXISTS agentos_task_next ON agentos_task(queue, state, tenant, priority, created);
CREATE INDEX IF NOT EXISTS agentos_task_state ON agentos_task(state, queue);
CREATE INDEX IF NOT EXISTS agentos_task_created ON agentos_task(created);
CREATE INDEX IF NOT EXISTS agentos_task_parent ON agentos_task(parent);
CREATE INDEX IF NOT EXISTS agentos_task_root ON agentos_task(root);
CREATE INDEX IF NOT EXISTS agentos_task_worker ON agentos_task(worker);
CREATE INDEX IF NOT EXISTS agentos_task_schedule ON agentos_task(schedule, created);
CREATE INDEX IF NOT EXISTS agentos_outcome_task ON agentos_outcome(task);
CREATE INDEX IF NOT EXISTS agentos_outcome_what ON agentos_outcome(what, at);
CREATE INDEX IF NOT EXISTS agentos_schedule_topic ON agentos_schedule(topic, paused)
"""


def prepare(storage: Storage, *, shared: bool) -> None:
    """Add what older tables lack, then the indexes; `shared` says PostgreSQL. Idempotent. Raises EffectError."""

    def work(session: Any) -> None:
        if shared:  # two workers that start at once take turns
            session.execute("SELECT pg_advisory_xact_lock(7205759403792793601)")
        held = session.execute("SELECT version, least FROM agentos_schema WHERE part='ledger'").fetchone()
        if held is not None and held[1] > VERSION:
            raise EffectError(
                f"the ledger was written by a newer Agent OS (tables {held[0]}, for {held[1]} and later; this is {VERSION})"
            )
        if held is not None and held[0] >= VERSION:
            return  # altering takes a lock that every worker would wait for
        for table, columns in ADDED.items():
            names = set()
            if not shared:
                names = {row[1] for row in session.execute(f"PRAGMA table_info({table})").fetchall()}
            for name, kind in columns.items():
                if name not in names:
                    guard = "IF NOT EXISTS " if shared else ""
                    session.execute(f"ALTER TABLE {table} ADD COLUMN {guard}{name} {kind}")
        for statement in INDEXES.split(";"):
            session.execute(statement)
        session.execute(
            "INSERT INTO agentos_schema VALUES('ledger',?,?) ON CONFLICT(part) DO UPDATE SET"
            " version=excluded.version, least=excluded.least WHERE agentos_schema.version<excluded.version",
            (VERSION, LEAST),
        )

    storage.run_sync(work)
