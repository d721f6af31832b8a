"""`state.db`: one file for budgets, approvals, outcomes and the vault, opened together; limits may stand in a PostgreSQL.

With a `shared` URL the stops, the budgets, the rates and the asks with their grants are those of that database, for every
machine that names it; outcomes, the vault and payloads stay this machine's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_os.effects.stores import (
    asks,
    budgets,
    holders,
    labels,
    mailbox,
    outcomes,
    payloads,
    rates,
    sessions,
    standing,
    vault,
)
from agent_os.effects.stores.approvals import Approvals
from agent_os.effects.stores.budgets import Budgets
from agent_os.effects.stores.database import Database, Storage
from agent_os.effects.stores.keys import Keys, Sealer
from agent_os.effects.stores.labels import SqliteLabels
from agent_os.effects.stores.mailbox import Mailboxes
from agent_os.effects.stores.outcomes import SqliteOutcomes
from agent_os.effects.stores.payloads import KEEP_DAYS, SqlitePayloads
from agent_os.effects.stores.rates import StoredRates
from agent_os.effects.stores.sessions import Sessions
from agent_os.effects.stores.stops import FileStops, SharedStops
from agent_os.effects.stores.vault import Vault

if TYPE_CHECKING:
    from agent_os.effects.durable.postgres import PostgresDatabase
    from agent_os.effects.stores.shared import SharedHolders

SCHEMA = ";".join(
    (
        holders.SCHEMA, budgets.SCHEMA, rates.SCHEMA, asks.SCHEMA, standing.SCHEMA, mailbox.SCHEMA, outcomes.SCHEMA, vault.SCHEMA,
        labels.SCHEMA, sessions.SCHEMA,
    )
)  # fmt: skip


@dataclass(slots=True)
class SharedLimits:
    """The databases behind limits that hold over several machines."""

    counters: PostgresDatabase
    asks: PostgresDatabase
    holders: SharedHolders
    holder: str


@dataclass(slots=True)
class StateDatabase:
    """The stores of one process on one `state.db`. `close` it; the holder then leaves in good order."""

    database: Database
    holder: str
    approvals: Approvals
    budgets: Budgets
    outcomes: SqliteOutcomes
    vault: Vault
    labels: SqliteLabels
    stops: FileStops | SharedStops
    sessions: Sessions
    rates: StoredRates
    payloads: SqlitePayloads | None = None
    shared: SharedLimits | None = None
    _payload_database: Database | None = None

    @staticmethod
    def open(directory: Path, keys: Keys, *, now: Callable[[], float] = time.time, shared: str = "") -> StateDatabase:
        """Open `state.db` in a state directory and settle what dead processes left.

        `shared` is the URL of a PostgreSQL that holds the limits for several machines. Raises EffectError,
        MissingPartError.
        """
        database = Database(directory / "state.db", SCHEMA).open()
        limits: SharedLimits | None = None
        try:
            holder = database.run_sync(holders.register)
            sealer = Sealer(keys, "payload")
            people, counters = Approvals(database, sealer, now=now), Budgets(database, holder, now=now)
            if shared:
                limits = _open_shared(shared)
                people = Approvals(limits.asks, sealer, now=limits.asks.now, shared=True)
                counters = Budgets(limits.counters, limits.holder, holders=limits.holders, now=limits.counters.now)
            counters.database.run_sync(counters.sweep)
            stops = (FileStops(directory) if limits is None else SharedStops(limits.counters)).open()
            return StateDatabase(
                database,
                holder,
                people,
                counters,
                SqliteOutcomes(database, sealer, holder, now=now),
                Vault(database, Sealer(keys, "vault"), now=now),
                SqliteLabels(database),
                stops,
                Sessions(counters.database, counters.holder, counters.holders, counters.now),
                StoredRates(counters.database, None if limits is None else limits.counters.now),
                shared=limits,
            )
        except BaseException:
            database.close()
            if limits is not None:
                _close_shared(limits)
            raise

    def boxes(self, keys: Keys, signing: Sequence[bytes]) -> Mailboxes:
        """Return the mailboxes, this machine's or the shared ones; messages are signed with the first key."""
        database: Storage = self.shared.counters if self.shared is not None else self.database
        return Mailboxes(database, Sealer(keys, "payload"), signing)

    def open_payloads(self, directory: Path, keys: Keys, *, keep_days: float = KEEP_DAYS) -> SqlitePayloads:
        """Open the encrypted payload store beside it (the policy's `audit: {payloads: encrypted}`)."""
        if self.payloads is None:
            self._payload_database = Database(directory / "payloads.db", payloads.SCHEMA).open()
            self.payloads = SqlitePayloads(self._payload_database, Sealer(keys, "payload"), keep_days=keep_days)
        return self.payloads

    def close(self) -> None:
        """Leave in good order: what is still reserved is charged in full, then the files are closed."""

        def leave(connection: Any) -> None:
            self.budgets.settle_fully(connection, self.budgets.holder)
            holders.leave(connection, self.budgets.holder)

        self.stops.close()
        try:
            self.budgets.database.run_sync(leave)
        finally:
            if self.shared is not None:
                self.database.run_sync(lambda connection: holders.leave(connection, self.holder))
                _close_shared(self.shared)
            self.database.close()
            if self._payload_database is not None:
                self._payload_database.close()


def _open_shared(url: str) -> SharedLimits:
    from agent_os.effects.stores import shared  # noqa: PLC0415 - psycopg comes with an extra

    counters = shared.open_counters(url)
    try:
        asks = shared.open_asks(url)
    except BaseException:
        counters.close()
        raise
    signing = shared.SharedHolders(counters, counters.now)
    return SharedLimits(counters, asks, signing, signing.register())


def _close_shared(limits: SharedLimits) -> None:
    limits.holders.stop()
    limits.asks.close()
    limits.counters.close()
