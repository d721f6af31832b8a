"""DBOS made safe to open: nothing is ever unpickled, values are plain JSON with exceptions, SQLite runs in WAL mode.

DBOS reads rows tagged `py_pickle` whatever serializer is configured; a planted row would run code. `harden` replaces that
reader by a refusal in every place that refers to it, before anything is opened. Threat: whoever can write a row of the task
database (a shared PostgreSQL, a restored backup) runs code in every worker.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any, Final, NoReturn

from agent_os.core.errors import IntegrityError, MissingPartError

APPLICATION_VERSION: Final = "agentos-tasks-1"
"""Pinned: DBOS hands work of one version to workers of that version only. Raised when old rows cannot be run any more."""
WORKFLOW: Final = "agentos.task"


def load() -> Any:
    """Import DBOS, hardened. Raises MissingPartError when the extra is not installed."""
    try:
        import dbos  # noqa: PLC0415
    except ImportError:
        raise MissingPartError("durable tasks (DBOS)", "durable") from None
    harden()
    return dbos


def harden() -> None:
    """Make DBOS refuse to read or write pickles. Raises IntegrityError if its pickle serializer is not where it was."""
    import dbos._serialization as serialization  # noqa: PLC0415

    default: Any = getattr(serialization, "DefaultSerializer", None)
    if default is None or not isinstance(getattr(serialization, "DBOSDefaultSerializer", None), default):
        raise IntegrityError("this DBOS keeps its pickle serializer elsewhere: it is not opened")
    default.serialize = _refuse
    default.deserialize = _refuse


def _refuse(*_: Any) -> NoReturn:
    raise IntegrityError("a pickled value stands in the task database: refused")


class StoredError(Exception):
    """An exception as it was recorded: its type's name and its text."""


def strict_json() -> Any:
    """Return the serializer for everything DBOS stores: plain JSON, exceptions as `{"$error": [type, text]}`."""
    from dbos import Serializer  # noqa: PLC0415

    class StrictJson(Serializer):
        def name(self) -> str:
            return "agentos_json"

        def serialize(self, data: Any) -> str:
            return json.dumps(data, default=_error_only, separators=(",", ":"), allow_nan=False)

        def deserialize(self, serialized_data: str) -> Any:
            return json.loads(serialized_data, object_hook=_error_back)

    return StrictJson()


def _error_only(value: Any) -> Any:
    if isinstance(value, BaseException):
        return {"$error": [type(value).__name__, str(value)[:2000]]}
    raise TypeError(f"{type(value).__name__} is not plain JSON")


def _error_back(value: dict[str, Any]) -> Any:
    told = value.get("$error")
    return StoredError(": ".join(map(str, told))) if len(value) == 1 and isinstance(told, list) else value


class QueueConnection(sqlite3.Connection):
    """A connection to DBOS's SQLite file that does not wait for the disk at each commit.

    What a loss of power may take from it (never a crash of the process) is made good from the ledger, which does wait: what
    is ready is queued again, and what runs nowhere is made ready.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA synchronous=NORMAL")


def write_ahead(path: Path) -> None:
    """Put the task database into WAL mode, which DBOS does not do itself."""
    connection = sqlite3.connect(path, timeout=10)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()
    path.chmod(0o600)
