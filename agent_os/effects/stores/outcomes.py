"""Outcomes by idempotency key in `state.db`: implements `core.ports.OutcomeStore`.

A key is claimed durably before its effect and gets its outcome after it. A claim with no outcome whose process is
gone is *interrupted*: the effect may have happened, so nobody does it again blindly. Values are plain JSON (bytes as
base64 under `$bytes`), sealed at rest; nothing is ever unpickled. Threats: an effect done twice after a crash; a key
reused for another action; code run by reading a stored outcome.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from agent_os.core.canonical import json_bytes
from agent_os.core.errors import ActionError, EffectError, IntegrityError
from agent_os.core.label import Label
from agent_os.core.ports import Outcome
from agent_os.effects.stores import holders
from agent_os.effects.stores.database import Database
from agent_os.effects.stores.keys import Sealer

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS outcome(
  key TEXT PRIMARY KEY, action_digest TEXT NOT NULL, holder TEXT NOT NULL, at REAL NOT NULL, value BLOB
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS outcome_at ON outcome(at)
"""
KEEP_SECONDS: Final = 90 * 86_400.0
VALUE_BYTES_MAX: Final = 16 << 20
KEY_CHARS_MAX: Final = 512


class SqliteOutcomes:
    """The outcomes of one installation."""

    def __init__(
        self, database: Database, sealer: Sealer, holder: str, *, now: Callable[[], float] = time.time
    ) -> None:
        self._database, self._sealer, self._holder, self._now = database, sealer, holder, now

    async def recall(self, key: str) -> Outcome | None:
        """Return the recorded outcome of a key, or None."""
        row = self._database.read(
            lambda connection: connection.execute("SELECT value FROM outcome WHERE key=?", (key,)).fetchone()
        )
        return self._open(key, row[0]) if row is not None and row[0] is not None else None

    async def claim(self, key: str, action_digest: str) -> Outcome | None:
        """Claim a key before its effect: None means go ahead, an Outcome that it was done before.

        Raises ActionError when the key belongs to another action, EffectError when it is being done elsewhere or was
        interrupted.
        """
        if not key or len(key) > KEY_CHARS_MAX:
            raise ActionError(f"must have 1 to {KEY_CHARS_MAX} characters", field="key")

        def work(connection: sqlite3.Connection) -> bytes | None:
            row = connection.execute("SELECT action_digest, holder, value FROM outcome WHERE key=?", (key,)).fetchone()
            if row is None:
                connection.execute(
                    "INSERT INTO outcome VALUES(?,?,?,?,NULL)", (key, action_digest, self._holder, self._now())
                )
                return None
            if row[0] != action_digest:
                raise ActionError("this idempotency key was used for another action", field="key")
            if row[2] is not None:
                return bytes(row[2])
            if holders.alive(connection, row[1]):
                raise EffectError(f"in progress: key {key} is being carried out")
            raise EffectError(f"interrupted: key {key} was begun and its process is gone; it may have happened")

        sealed = await self._database.run(work)
        return self._open(key, sealed) if sealed is not None else None

    async def record(self, key: str, outcome: Outcome) -> None:
        """Store the outcome of a key; the first one stays. Raises ActionError for a value that is not JSON or huge."""
        sealed = self._sealer.seal(outcome_bytes(outcome), b"outcome " + key.encode())

        def work(connection: sqlite3.Connection) -> None:
            changed = connection.execute("UPDATE outcome SET value=? WHERE key=? AND value IS NULL", (sealed, key))
            if changed.rowcount == 0:
                connection.execute(
                    "INSERT OR IGNORE INTO outcome VALUES(?,'',?,?,?)", (key, self._holder, self._now(), sealed)
                )

        await self._database.run(work)

    async def release(self, key: str) -> None:
        """Give back a claim of this process under which nothing was done."""
        await self._database.run(
            lambda connection: (
                connection.execute(
                    "DELETE FROM outcome WHERE key=? AND holder=? AND value IS NULL", (key, self._holder)
                ).rowcount
            )
        )

    async def interrupted(self) -> list[str]:
        """Return the keys whose process is gone and that have no outcome."""

        def work(connection: sqlite3.Connection) -> list[str]:
            rows = connection.execute("SELECT key, holder FROM outcome WHERE value IS NULL ORDER BY at").fetchall()
            dead = {holder for holder in {row[1] for row in rows} if not holders.alive(connection, holder)}
            return [key for key, holder in rows if holder in dead]

        return await self._database.run(work)

    async def purge(self) -> int:
        """Delete outcomes older than KEEP_SECONDS; returns how many."""
        return await self._database.run(
            lambda connection: (
                connection.execute(
                    "DELETE FROM outcome WHERE at<? AND value IS NOT NULL", (self._now() - KEEP_SECONDS,)
                ).rowcount
            )
        )

    def _open(self, key: str, sealed: bytes) -> Outcome:
        return outcome_of(self._sealer.open(sealed, b"outcome " + key.encode()), key)


def outcome_bytes(outcome: Outcome) -> bytes:
    """Return the stored form of an outcome, unsealed. Raises ActionError for a value that is not JSON or huge."""
    data = json_bytes(
        {
            "value": _to_json(outcome.value),
            "label": outcome.label.to_json(),
            "leaves": [[pointer, label.to_json()] for pointer, label in outcome.leaves],
            "error": outcome.error,
            "detail": outcome.detail,
            "usage": dict(outcome.usage),
            **({"note": outcome.note} if outcome.note else {}),
            **({"memo": _to_json(outcome.memo)} if outcome.memo is not None else {}),
        }
    )
    if len(data) > VALUE_BYTES_MAX:
        raise ActionError(f"an outcome of more than {VALUE_BYTES_MAX} bytes is not stored", field="value")
    return data


def outcome_of(stored: bytes, key: str) -> Outcome:
    """Return the outcome of its stored form. Raises IntegrityError when it cannot be read."""
    try:
        data = json.loads(stored)
        return Outcome(
            value=_from_json(data["value"]),
            label=Label.from_json(data["label"]),
            leaves=tuple((pointer, Label.from_json(label)) for pointer, label in data["leaves"]),
            error=data["error"],
            detail=data["detail"],
            usage=data["usage"],
            note=data.get("note", ""),
            memo=_from_json(data["memo"]) if "memo" in data else None,
        )
    except (KeyError, ValueError, TypeError):
        raise IntegrityError(f"stored outcome of key {key} cannot be read") from None


def _to_json(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$bytes": base64.b64encode(bytes(value)).decode()}
    if isinstance(value, Mapping):
        plain = {key: _to_json(item) for key, item in value.items()}
        return {"$object": plain} if len(plain) == 1 and next(iter(plain)).startswith("$") else plain
    if isinstance(value, (list, tuple)):
        return [_to_json(item) for item in value]
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        if len(value) == 1:
            if "$bytes" in value:
                return base64.b64decode(value["$bytes"])
            if "$object" in value:
                return {key: _from_json(item) for key, item in value["$object"].items()}
        return {key: _from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    return value
