"""Labels of what was written, in `state.db`: implements `core.ports.LabelStore`.

A label stands beside the data, in the state directory and never in the workspace, under the digest of what it belongs to
(a path, a content, a memory's key). The digest has no key: labels must outlive the rotation of keys. Threat: untrusted
text that is laundered through a file or a memory and read as the user's own in a later session.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Sequence
from typing import Final

from agent_os.core.errors import EffectError
from agent_os.core.label import Label
from agent_os.effects.stores.database import Database

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS label(
  kind TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, label TEXT NOT NULL, PRIMARY KEY(kind, name)
) WITHOUT ROWID
"""
LABELS_MAX: Final = 2_000_000
"""Labels of one installation; past it what would be labelled is not written (the write fails)."""


class SqliteLabels:
    """The labels of one installation."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def recall(self, kind: str, name: str) -> tuple[Label, str] | None:
        """Return the label of a thing and the digest of the content it was given for, or None.

        Raises EffectError when the store cannot be read.
        """
        key = _digest(name)
        row = self._database.read(
            lambda connection: connection.execute(
                "SELECT label, digest FROM label WHERE kind=? AND name=?", (kind, key)
            ).fetchone()
        )
        return (Label.from_json(json.loads(row[0])), str(row[1])) if row is not None else None

    def keep(self, kind: str, name: str, label: Label, digest: str = "") -> None:
        """Store the label of a thing durably, in place of what was there. Raises EffectError."""
        key = _digest(name)
        said = json.dumps(label.to_json(), separators=(",", ":"))

        def work(connection: sqlite3.Connection) -> None:
            held = connection.execute("SELECT count(*) FROM label").fetchone()[0]
            if held >= LABELS_MAX:
                raise EffectError(f"the label store is full: {LABELS_MAX} labels")
            connection.execute("INSERT OR REPLACE INTO label VALUES(?,?,?,?)", (kind, key, digest, said))

        self._database.run_sync(work)

    def keep_all(self, kind: str, names: Sequence[str], label: Label) -> None:
        """Store one label for many things in one transaction, joined with what each had. Raises EffectError."""
        keys = [_digest(name) for name in names]

        def work(connection: sqlite3.Connection) -> None:
            held = connection.execute("SELECT count(*) FROM label").fetchone()[0]
            if held + len(keys) > LABELS_MAX:
                raise EffectError(f"the label store is full: {LABELS_MAX} labels")
            for key in keys:
                row = connection.execute("SELECT label FROM label WHERE kind=? AND name=?", (kind, key)).fetchone()
                joined = label if row is None else label.join(Label.from_json(json.loads(row[0])))
                said = json.dumps(joined.to_json(), separators=(",", ":"))
                connection.execute("INSERT OR REPLACE INTO label VALUES(?,?,'',?)", (kind, key, said))

        self._database.run_sync(work)

    def drop(self, kind: str, name: str) -> None:
        """Forget the label of a thing that is gone."""
        key = _digest(name)

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM label WHERE kind=? AND name=?", (kind, key))

        self._database.run_sync(work)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
