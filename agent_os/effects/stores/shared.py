"""Limits that hold over several machines: approvals, budgets and rates in one PostgreSQL.

The tables are those of `state.db`, in a schema of their own (`agentos_state`). What differs: a holder lives as long as it
signs, because no kernel knows the processes of another machine; asks are written under one lock; expiry is judged by the
clock of the database. Sealed columns need one payload key on every machine (`AGENTOS_KEY_PAYLOAD`). Threats: two
workers that each see the last of a budget, a worker of another machine that passes for dead and is charged twice, clocks
that disagree, a rate that every worker counts for itself.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable
from typing import Any, Final

from agent_os.core.errors import EffectError
from agent_os.effects.durable.postgres import PostgresDatabase
from agent_os.effects.stores import asks, budgets, holders, mailbox, rates, sessions, standing, stops
from agent_os.effects.stores.database import Storage

SPACE: Final = "agentos_state"
ASKS_LOCK: Final = 7205759403792793601
BEAT_SECONDS: Final = 10.0
HOLDER_SECONDS: Final = 60.0
"""A holder that did not sign for so long is gone: what it reserved is charged in full."""


def open_counters(url: str) -> PostgresDatabase:
    """Open the database of budgets, rates, mailboxes, stops and open sessions. Raises EffectError, MissingPartError."""
    ours = (holders.SCHEMA, budgets.SCHEMA, rates.SCHEMA, mailbox.SCHEMA, stops.SCHEMA, sessions.SCHEMA)
    return PostgresDatabase(url, ";".join(map(portable, ours)), space=SPACE).open()


def open_asks(url: str) -> PostgresDatabase:
    """Open the database of asks and lasting grants. Raises EffectError, MissingPartError."""
    schema = ";".join((portable(asks.SCHEMA), portable(standing.SCHEMA)))
    return PostgresDatabase(url, schema, space=SPACE, lock=ASKS_LOCK).open()


def portable(schema: str) -> str:
    """Return a schema of `state.db` as PostgreSQL reads it."""
    for ours, theirs in (
        (" WITHOUT ROWID", ""),
        (" BLOB", " BYTEA"),
        (" REAL", " DOUBLE PRECISION"),
        (" INTEGER", " BIGINT"),
    ):
        schema = schema.replace(ours, theirs)
    return schema


class SharedHolders(holders.Holders):
    """Holders of several machines: each signs while it lives; those of this machine are looked up as well."""

    def __init__(self, database: Storage, now: Callable[[], float]) -> None:
        self._database, self._now = database, now
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def register(self) -> str:
        """Enter this process and sign from now on; returns the holder id."""
        holder, pid = "hld_" + secrets.token_hex(8), os.getpid()
        row = (holder, pid, holders.started(pid), holders.boot(), self._now())
        self._database.run_sync(lambda session: session.execute("INSERT INTO holder VALUES(?,?,?,?,?)", row).rowcount)
        self._thread = threading.Thread(target=self._beat, args=(holder,), name="holder-beat", daemon=True)
        self._thread.start()
        return holder

    def stop(self) -> None:
        """Sign no more."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(BEAT_SECONDS)

    def gone(self, connection: Any) -> list[str]:
        """Return holders that did not sign in time, and those whose process on this machine has ended."""
        here, limit = holders.boot(), self._now() - HOLDER_SECONDS
        rows = connection.execute("SELECT id, pid, started, boot, at FROM holder").fetchall()
        return [
            holder
            for holder, pid, start, booted, at in rows
            if at < limit or (booted == here and holders.started(pid) != start)
        ]

    def _beat(self, holder: str) -> None:
        while not self._stopped.wait(BEAT_SECONDS):
            try:
                self._database.run_sync(
                    lambda session: session.execute("UPDATE holder SET at=? WHERE id=?", (self._now(), holder)).rowcount
                )
            except EffectError:  # while the database is away nothing is reserved either
                continue
