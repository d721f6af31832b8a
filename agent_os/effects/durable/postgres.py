"""PostgreSQL with the face of `stores.database.Database`: `run` in a transaction, `read` beside it.

The SQL of the ledger is written for both; parameters are `?` here too. Connections belong to a small pool of threads.
Threat: two workers that both read before either writes; what must be exclusive is one UPDATE with its condition, or
takes the row's lock.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from agent_os.core.errors import AgentOSError, EffectError, MissingPartError

T = TypeVar("T")
CONNECTIONS: Final = 4
RETRIES: Final = 5
STATEMENT_SECONDS: Final = 30


class Session:
    """A psycopg connection that takes SQL written with `?` and answers like a sqlite3 connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: tuple[Any, ...] = ()) -> Any:
        """Run one statement; returns a cursor with rowcount, fetchone and fetchall."""
        return self._connection.execute(sql.replace("?", "%s"), parameters)


class PostgresDatabase:
    """One PostgreSQL database. `schema` is run once at `open` and must be idempotent.

    `space` is the PostgreSQL schema its tables stand in (empty: the user's own); with `lock` every `run` holds that one
    advisory lock, so that what it reads is what its writes rest on, as on SQLite.
    """

    def __init__(self, url: str, schema: str, *, space: str = "", lock: int = 0) -> None:
        self._url, self._schema, self._space, self._lock = url, schema, space, lock
        self._pool: ThreadPoolExecutor | None = None
        self._local = threading.local()
        self._connections: list[Any] = []
        self._skew = 0.0

    def open(self) -> PostgresDatabase:
        """Connect, create the tables, learn the server's clock. Raises EffectError, MissingPartError."""
        try:
            import psycopg  # noqa: PLC0415
        except ImportError:
            raise MissingPartError("PostgreSQL (psycopg)", "durable") from None
        self._psycopg: Any = psycopg
        self._pool = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="ledger")
        self.run_sync(self._create)
        before = time.time()
        (server,) = self.run_sync(
            lambda session: session.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
        )
        self._skew = server - (before + time.time()) / 2
        return self

    def now(self) -> float:
        """Return the server's time: leases of several machines are judged by one clock."""
        return time.time() + self._skew

    def close(self) -> None:
        """Close every connection."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    async def run(self, work: Callable[[Any], T]) -> T:
        """Run work in a transaction; raises what it raised, or EffectError."""
        return await asyncio.get_running_loop().run_in_executor(self._open_pool(), self._transact, self._held(work))

    def run_sync(self, work: Callable[[Any], T]) -> T:
        """The same for a caller without an event loop."""
        return self._open_pool().submit(self._transact, self._held(work)).result()

    def read(self, work: Callable[[Any], T]) -> T:
        """The same for a short read, which waits for no lock."""
        return self._open_pool().submit(self._transact, work).result()

    def _held(self, work: Callable[[Any], T]) -> Callable[[Any], T]:
        """Return work that takes this database's lock first, where it has one."""
        if not self._lock:
            return work

        def locked(session: Any) -> T:
            session.execute("SELECT pg_advisory_xact_lock(?)", (self._lock,))
            return work(session)

        return locked

    def _open_pool(self) -> ThreadPoolExecutor:
        if self._pool is None:
            raise EffectError("database is closed")
        return self._pool

    def _create(self, session: Session) -> None:
        session.execute("SELECT pg_advisory_xact_lock(7205759403792793600)")
        if self._space:
            session.execute(f"CREATE SCHEMA IF NOT EXISTS {self._space}")
        for statement in self._schema.split(";"):
            if statement.strip():
                session.execute(statement)

    def _connection(self) -> Any:
        connection = getattr(self._local, "connection", None)
        if connection is None or connection.closed or connection.broken:
            options = f"-c statement_timeout={STATEMENT_SECONDS * 1000}"
            if self._space:
                options += f" -c search_path={self._space}"
            connection = self._psycopg.connect(self._url, connect_timeout=10, options=options)
            self._local.connection = connection
            self._connections.append(connection)
        return connection

    def _transact(self, work: Callable[[Any], T]) -> T:
        """Run work; a connection that broke before its transaction ended, or a serialization failure, is tried
        again.
        """
        for attempt in range(RETRIES):
            try:
                connection = self._connection()
                with connection.transaction():
                    return work(Session(connection))
            except AgentOSError:
                raise
            except self._psycopg.OperationalError as error:
                if attempt == RETRIES - 1:
                    raise EffectError(f"database cannot be reached: {type(error).__name__}") from None
                time.sleep(0.1 * 2**attempt)
            except self._psycopg.Error as error:
                raise EffectError(f"database: {type(error).__name__}: {error}") from None
        raise EffectError("database cannot be reached")
