"""DBOS is opened hardened: no pickle is read or written, whatever a row says; JSON carries exceptions and nothing else."""

from __future__ import annotations

import base64
import pickle
from pathlib import Path
from typing import Any

import pytest

from agent_os.core.errors import IntegrityError
from agent_os.effects.durable.hardening import StoredError, load, strict_json, write_ahead

pytest.importorskip("dbos", reason="extra [durable] is not installed")


class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> Any:
        return (Path.touch, (self.proof,))


def test_a_row_tagged_as_pickle_is_refused_everywhere(tmp_path: Path) -> None:
    """Values, arguments and exceptions of a row tagged `py_pickle` raise and run nothing; the control runs."""
    load()
    import dbos._serialization as serialization

    proof = tmp_path / "proof"
    planted = base64.b64encode(pickle.dumps(Bomb(proof))).decode()
    for read in (serialization.deserialize_value, serialization.deserialize_args, serialization.deserialize_exception):
        with pytest.raises(IntegrityError, match="pickled"):
            read(planted, "py_pickle", strict_json())
    with pytest.raises(IntegrityError, match="pickled"):
        serialization.serialize_value({"a": 1}, serialization.WorkflowSerializationFormat.NATIVE, strict_json())
    assert not proof.exists()
    pickle.loads(base64.b64decode(planted))
    assert proof.exists()


def test_every_reference_to_the_pickle_serializer_refuses() -> None:
    """Wherever DBOS imported it by name before, it is the same refusing object."""
    load()
    import dbos._datasource as datasource
    import dbos._serialization as serialization

    for name in ("DBOSDefaultSerializer",):
        for module in (serialization, datasource):
            with pytest.raises(IntegrityError):
                getattr(module, name).deserialize("gASVAAAA")


def test_json_carries_values_and_exceptions() -> None:
    """Plain JSON comes back as it was, an exception as its type and text, anything else is refused."""
    json = strict_json()
    value = {"args": ["t", 1, 2.5, None, True], "kwargs": {"$error": "no list"}}
    assert json.deserialize(json.serialize(value)) == value
    error = json.deserialize(json.serialize(ValueError("wrong")))
    assert isinstance(error, StoredError)
    assert str(error) == "ValueError: wrong"
    for bad in (object(), {1, 2}, b"x", float("nan")):
        with pytest.raises((TypeError, ValueError)):
            json.serialize(bad)


def test_the_task_database_is_write_ahead_and_private(tmp_path: Path) -> None:
    """WAL is on and nobody else may read the file."""
    import sqlite3

    path = tmp_path / "tasks.db"
    write_ahead(path)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    assert path.stat().st_mode & 0o077 == 0
