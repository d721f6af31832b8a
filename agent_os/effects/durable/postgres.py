"""PostgreSQL with the face of `stores.database.Database`: `run` in a transaction, `read` beside it.

The SQL of the ledger is written for both; parameters are `?` here too. As there, what is queued meanwhile shares one
transaction and one commit; if anything of a shared one fails, it is undone and each piece runs alone. So work may run more
than once and must only touch its session. Connections belong to a few threads.
Threat: two workers that both read before either writes; what must be exclusive is one UPDATE with its condition, or
takes the row's lock.
"""

from __future__ import annotations

import asyncio
import functools
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from agent_os.core.errors import AgentOSError, EffectError, MissingPartError

T = TypeVar("T")
CONNECTIONS: Final = 3
BATCH_MAX: Final = 128
QUEUE_MAX: Final = 65_536
RETRIES: Final = 5
STATEMENT_SECONDS: Final = 30
_Job = tuple[Callable[[Any], Any], "Future[Any]"]


class Session:
    """A psycopg connection that takes SQL written with `?` and answers like a sqlite3 connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.notified = False

    def execute(self, sql: str, parameters: tuple[Any, ...] = ()) -> Any:
        """Run one statement; returns a cursor with rowcount, fetchone and fetchall."""
        return self._connection.execute(_translated(sql), parameters)

    def notify(self) -> None:
        """Tell every listener at the commit, once."""
        if not self.notified:
            self.notified = True
            self._connection.execute("NOTIFY agentos")


def _passed() -> float:
    """Return seconds since the machine started, those asleep too: no jump of its wall clock moves a lease."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"


@functools.lru_cache(1024)
def _translated(sql: str) -> str:
    return sql.replace("?", "%s")


class PostgresDatabase:
    """One PostgreSQL database. `schema` is run once at `open` and must be idempotent.

    `space` is the PostgreSQL schema its tables stand in (empty: the user's own); with `lock` every `run` holds that one
    advisory lock, so that what it reads is what its writes rest on, as on SQLite.
    """

    def __init__(self, url: str, schema: str, *, space: str = "", lock: int = 0) -> None:
        self._url, self._schema, self._space, self._lock = url, schema, space, lock
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._began = 0.0

    def open(self) -> PostgresDatabase:
        """Connect, create the tables, learn the server's clock. Raises EffectError, MissingPartError."""
        try:
            import psycopg  # noqa: PLC0415
        except ImportError:
            raise MissingPartError("PostgreSQL (psycopg)", "durable") from None
        self._psycopg: Any = psycopg
        for number in range(CONNECTIONS):
            thread = threading.Thread(target=self._serve, name=f"ledger-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)
        try:
            self.run_sync(self._create)
            self.learn_clock()
        except BaseException:
            self.close()
            raise
        return self

    def learn_clock(self) -> None:
        """Learn the server's clock anew; blocks. Raises EffectError."""
        before = _passed()
        (server,) = self.run_sync(
            lambda session: session.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
        )
        self._began = server - (before + _passed()) / 2

    def now(self) -> float:
        """Return the server's time: leases of several machines are judged by one clock, whatever is done to this one's."""
        return self._began + _passed()

    def close(self) -> None:
        """Finish what is queued and close every connection."""
        threads, self._threads = self._threads, []
        for _ in threads:
            self._jobs.put(None)
        for thread in threads:
            thread.join()

    async def run(self, work: Callable[[Any], T]) -> T:
        """Run work in a transaction; raises what it raised, or EffectError."""
        return await asyncio.wrap_future(self._put(self._held(work)))

    def run_sync(self, work: Callable[[Any], T]) -> T:
        """The same for a caller without an event loop."""
        return self._put(self._held(work)).result()

    def read(self, work: Callable[[Any], T]) -> T:
        """The same for a short read, which waits for no lock."""
        return self._put(work).result()

    def _held(self, work: Callable[[Any], T]) -> Callable[[Any], T]:
        """Return work that takes this database's lock first, where it has one."""
        if not self._lock:
            return work

        def locked(session: Any) -> T:
            session.execute("SELECT pg_advisory_xact_lock(?)", (self._lock,))
            return work(session)

        return locked

    def connect(self) -> Any:
        """Return a connection of the caller's own, each statement its own transaction."""
        return self._psycopg.connect(self._url, connect_timeout=10, autocommit=True)

    def _put(self, work: Callable[[Any], T]) -> Future[T]:
        if not self._threads:
            raise EffectError("database is closed")
        if self._jobs.qsize() >= QUEUE_MAX:
            raise EffectError(f"database is overloaded: {QUEUE_MAX} operations wait")
        done: Future[T] = Future()
        self._jobs.put((work, done))
        return done

    def _create(self, session: Session) -> None:
        session.execute("SELECT pg_advisory_xact_lock(7205759403792793600)")
        if self._space:
            session.execute(f"CREATE SCHEMA IF NOT EXISTS {self._space}")
        for statement in self._schema.split(";"):
            if statement.strip():
                session.execute(statement)

    # ---- the threads ------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        connection: Any = None
        ending = False
        while not ending:
            item = self._jobs.get()
            batch: list[_Job] = []
            while item is not None:
                if item[1].set_running_or_notify_cancel():  # whoever asked may have been cancelled meanwhile
                    batch.append(item)
                if len(batch) >= BATCH_MAX:
                    break
                try:
                    item = self._jobs.get_nowait()
                except queue.Empty:
                    break
            ending = item is None
            if batch:
                connection = self._transact(connection, batch)
        if connection is not None:
            connection.close()

    def _transact(self, connection: Any, batch: Sequence[_Job]) -> Any:
        """Run a batch in one transaction, or each piece alone; returns the connection to go on with."""
        if len(batch) > 1:
            try:
                connection = self._connected(connection)
                with connection.transaction():
                    session = Session(connection)
                    results = [work(session) for work, _ in batch]
            except Exception:  # whatever it was: alone, each piece has its own result or its own error
                connection = self._after_failure(connection)
            else:
                for (_, done), result in zip(batch, results, strict=True):
                    done.set_result(result)
                return connection
        for work, done in batch:
            connection = self._alone(connection, work, done)
        return connection

    def _alone(self, connection: Any, work: Callable[[Any], Any], done: Future[Any]) -> Any:
        """Run one piece; a connection that broke before its transaction ended, or a deadlock, is tried again."""
        for attempt in range(RETRIES):
            try:
                connection = self._connected(connection)
                with connection.transaction():
                    result = work(Session(connection))
                done.set_result(result)
                return connection
            except AgentOSError as error:
                done.set_exception(error)
                return connection
            except self._psycopg.OperationalError as error:
                connection = self._after_failure(connection)
                if attempt == RETRIES - 1:
                    done.set_exception(EffectError(f"database cannot be reached: {_first_line(error)}"))
                    return connection
                time.sleep(0.1 * 2**attempt)
            except self._psycopg.Error as error:
                done.set_exception(EffectError(f"database: {type(error).__name__}: {error}"))
                return self._after_failure(connection)
            except Exception as error:  # the work's own failure: its caller gets it, the thread goes on
                done.set_exception(error)
                return connection
        return connection

    def _connected(self, connection: Any) -> Any:
        if connection is None or connection.closed or connection.broken:
            options = f"-c statement_timeout={STATEMENT_SECONDS * 1000}"
            if self._space:
                options += f" -c search_path={self._space}"
            connection = self._psycopg.connect(self._url, connect_timeout=10, options=options)
        return connection

    def _after_failure(self, connection: Any) -> Any:
        if connection is not None and (connection.closed or connection.broken):
            connection.close()
            return None
        return connection
