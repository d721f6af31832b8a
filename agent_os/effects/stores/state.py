"""`state.db`: one file for budgets, approvals, outcomes and the vault, opened together. Effects."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent_os.effects.stores import approvals, budgets, holders, outcomes, payloads, vault
from agent_os.effects.stores.approvals import SqliteApprovals
from agent_os.effects.stores.budgets import SqliteBudgets
from agent_os.effects.stores.database import Database
from agent_os.effects.stores.keys import Keys, Sealer
from agent_os.effects.stores.outcomes import SqliteOutcomes
from agent_os.effects.stores.payloads import KEEP_DAYS, SqlitePayloads
from agent_os.effects.stores.vault import Vault

SCHEMA = ";".join((holders.SCHEMA, budgets.SCHEMA, approvals.SCHEMA, outcomes.SCHEMA, vault.SCHEMA))


@dataclass(slots=True)
class StateDatabase:
    """The stores of one process on one `state.db`. `close` it; the holder then leaves in good order."""

    database: Database
    holder: str
    approvals: SqliteApprovals
    budgets: SqliteBudgets
    outcomes: SqliteOutcomes
    vault: Vault
    payloads: SqlitePayloads | None = None
    _payload_database: Database | None = None

    @staticmethod
    def open(directory: Path, keys: Keys, *, now: Callable[[], float] = time.time) -> StateDatabase:
        """Open `state.db` in a state directory and settle what dead processes left. Raises EffectError."""
        database = Database(directory / "state.db", SCHEMA).open()
        try:
            holder = database.run_sync(holders.register)
            sealer = Sealer(keys, "payload")
            counters = SqliteBudgets(database, holder, now=now)
            database.run_sync(counters.sweep)
            return StateDatabase(
                database,
                holder,
                SqliteApprovals(database, sealer, now=now),
                counters,
                SqliteOutcomes(database, sealer, holder, now=now),
                Vault(database, Sealer(keys, "vault"), now=now),
            )
        except BaseException:
            database.close()
            raise

    def open_payloads(self, directory: Path, keys: Keys, *, keep_days: float = KEEP_DAYS) -> SqlitePayloads:
        """Open the encrypted payload store beside it (the policy's `audit: {payloads: encrypted}`)."""
        if self.payloads is None:
            self._payload_database = Database(directory / "payloads.db", payloads.SCHEMA).open()
            self.payloads = SqlitePayloads(self._payload_database, Sealer(keys, "payload"), keep_days=keep_days)
        return self.payloads

    def close(self) -> None:
        """Leave in good order: what is still reserved is charged in full, then the files are closed."""

        def leave(connection: sqlite3.Connection) -> None:
            self.budgets.settle_fully(connection, self.holder)
            holders.leave(connection, self.holder)

        self.database.run_sync(leave)
        self.database.close()
        if self._payload_database is not None:
            self._payload_database.close()
