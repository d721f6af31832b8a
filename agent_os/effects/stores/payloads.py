"""The encrypted payload store beside the audit: implements `core.ports.PayloadStore`. Opt-in by policy.

`payloads.db` holds arguments, prompts and results by the reference the audit names, sealed with AES-256-GCM under the
`payload` key and bound to their reference; kept for a stated time, then deleted with the pages overwritten. Threats: a
copied file read without the key; a payload shown under another record's reference; data kept longer than was promised.
"""

from __future__ import annotations

import json
import sqlite3
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from agent_os.core.canonical import json_bytes
from agent_os.core.errors import ActionError, IntegrityError
from agent_os.effects.stores.asks import plain
from agent_os.effects.stores.database import Database
from agent_os.effects.stores.keys import Sealer

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS payload(
  reference TEXT PRIMARY KEY, at REAL NOT NULL, sealed BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS payload_at ON payload(at)
"""
KEEP_DAYS: Final = 30.0
PAYLOAD_BYTES_MAX: Final = 16 << 20
PURGE_EVERY: Final = 1_000
"""Puts between two looks for what is past its time."""


class SqlitePayloads:
    """The payloads of one installation, each kept `keep_days`."""

    def __init__(
        self, database: Database, sealer: Sealer, *, keep_days: float = KEEP_DAYS, now: Callable[[], float] = time.time
    ) -> None:
        self._database, self._sealer, self._keep, self._now = database, sealer, keep_days * 86_400, now
        self._puts = 0

    async def put(self, reference: str, payload: Mapping[str, Any]) -> None:
        """Store a payload under a reference; a second one replaces it. Raises ActionError for no JSON or too much."""
        data = json_bytes(plain(payload))
        if len(data) > PAYLOAD_BYTES_MAX:
            raise ActionError(f"a payload of more than {PAYLOAD_BYTES_MAX} bytes is not stored", field="payload")
        sealed = self._sealer.seal(zlib.compress(data, 1), b"payload " + reference.encode())
        self._puts += 1
        purge = self._puts % PURGE_EVERY == 0

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO payload VALUES(?,?,?)", (reference, self._now(), sealed))
            if purge:
                self._purge(connection)

        await self._database.run(work)

    async def get(self, reference: str) -> Mapping[str, Any] | None:
        """Return a payload, or None when there is none or its time is over. Raises IntegrityError when it was
        changed.
        """
        return self.look_up(reference)

    def look_up(self, reference: str) -> Mapping[str, Any] | None:
        """Return a payload, or None when there is none or its time is over. Raises IntegrityError when it was
        changed.
        """
        row = self._database.read(
            lambda connection: connection.execute(
                "SELECT sealed FROM payload WHERE reference=? AND at>=?", (reference, self._now() - self._keep)
            ).fetchone()
        )
        if row is None:
            return None
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(self._sealer.open(row[0], b"payload " + reference.encode()), PAYLOAD_BYTES_MAX)
        if not unpacker.eof:
            raise IntegrityError("stored payload cannot be read")
        payload: Mapping[str, Any] = json.loads(data)
        return payload

    async def forget(self, references: Sequence[str]) -> None:
        """Delete payloads."""
        await self._database.run(
            lambda connection: connection.executemany(
                "DELETE FROM payload WHERE reference=?", [(each,) for each in references]
            )
        )

    async def purge(self) -> int:
        """Delete what is past its time; returns how many."""
        return await self._database.run(self._purge)

    def _purge(self, connection: sqlite3.Connection) -> int:
        return connection.execute("DELETE FROM payload WHERE at<?", (self._now() - self._keep,)).rowcount
