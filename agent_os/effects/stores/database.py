"""SQLite in WAL mode behind one worker thread with group commit: what `state.db` and `payloads.db` stand on.

Work is handed over as functions of a connection and run in order; everything queued meanwhile shares one transaction
and one fsync, each piece under its own savepoint, so that one that fails undoes itself alone. The transaction begins
IMMEDIATE, so what a function reads is what its writes rest on, across processes too. A function's result is handed out
only after the commit. Threats: a crash between reading and writing a balance, two processes at one row, a database file
readable by others or swapped for a link.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

from agent_os.core.errors import EffectError

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

BUSY_SECONDS: Final = 5.0
BATCH_MAX: Final = 512
QUEUE_MAX: Final = 65_536
CLOSE_SECONDS: Final = 10.0


class Storage(Protocol):
    """`Database`, or `durable.postgres.PostgresDatabase` where several machines share one."""

    async def run(self, work: Callable[[Any], T]) -> T: ...
    async def look(self, work: Callable[[Any], T]) -> T: ...
    def run_sync(self, work: Callable[[Any], T]) -> T: ...
    def read(self, work: Callable[[Any], T]) -> T: ...
    def close(self) -> None: ...


class _Job(Generic[T]):
    """One piece of work; awaitable on its loop, or waited for on a thread."""

    __slots__ = ("done", "error", "future", "result", "work")

    def __init__(self, work: Work[T], done: threading.Event | None, future: asyncio.Future[None] | None) -> None:
        self.work, self.done, self.future = work, done, future
        self.result: Any = None
        self.error: BaseException | None = None

    def outcome(self) -> T:
        if self.error is not None:
            raise self.error
        result: T = self.result
        return result

    def __await__(self) -> Generator[Any, None, T]:
        if self.future is not None:
            yield from self.future
        return self.outcome()


class Database:
    """One SQLite file. `schema` is run at every open and must be idempotent; `version` guards against a newer file."""

    def __init__(self, path: Path, schema: str, *, version: int = 1) -> None:
        self.path, self._schema, self._version = path, schema, version
        self._queue: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._failure: EffectError | None = None
        self._reader: sqlite3.Connection | None = None
        self._reader_lock = threading.Lock()

    def open(self) -> Database:
        """Open the file (0600, created if missing) and start the worker. Raises EffectError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            descriptor = os.open(self.path, flags, 0o600)
            status = os.fstat(descriptor)
            os.close(descriptor)
        except OSError as error:
            raise EffectError(f"database cannot be opened: {error.strerror}: {self.path}") from None
        if status.st_mode & 0o077 or status.st_uid != os.geteuid():
            raise EffectError(f"database may be read by others: {self.path} (fix: chmod 600, owned by you)")
        ready: queue.SimpleQueue[EffectError | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, args=(ready,), name=f"db-{self.path.name}", daemon=True)
        self._thread.start()
        failure = ready.get()
        if failure is not None:
            self._thread.join()
            self._thread = None
            raise failure
        return self

    def close(self) -> None:
        """Finish what is queued and close."""
        if self._thread is None:
            return
        self._queue.put(None)
        self._thread.join(CLOSE_SECONDS)
        self._thread = None
        with self._reader_lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    async def run(self, work: Work[T]) -> T:
        """Run work in the shared transaction; returns its result once committed.

        Raises what the work raised, or EffectError when the database cannot be written.
        """
        job = _Job(work, None, asyncio.get_running_loop().create_future())
        self._put(job)
        return await job

    def run_sync(self, work: Work[T]) -> T:
        """The same for a caller without an event loop; blocks."""
        job = _Job(work, threading.Event(), None)
        self._put(job)
        if job.done is None or not job.done.wait(BUSY_SECONDS * 4):
            raise EffectError(f"database does not answer: {self.path.name}")
        return job.outcome()

    def post(self, work: Work[Any]) -> None:
        """Queue work whose end nobody waits for; `close` still finishes it. Raises EffectError when it cannot be queued."""
        self._put(_Job(work, threading.Event(), None))

    def read(self, work: Work[T]) -> T:
        """Run a short read on a read-only connection in the caller's thread; writers never keep it waiting."""
        with self._reader_lock:
            try:
                if self._reader is None:
                    self._reader = self._connect(readonly=True)
                return work(self._reader)
            except sqlite3.Error as error:
                raise EffectError(f"database cannot be read: {error}: {self.path.name}") from None

    async def look(self, work: Work[T]) -> T:
        """The same, for who may have a database elsewhere: a file is read here and now, with no thread between."""
        return self.read(work)

    def _put(self, job: _Job[Any]) -> None:
        if self._thread is None:
            raise EffectError(f"database is closed: {self.path.name}")
        if self._queue.qsize() >= QUEUE_MAX:
            raise EffectError(f"database is overloaded: {self.path.name}: {QUEUE_MAX} operations wait")
        self._queue.put(job)

    # ---- the worker's thread ---------------------------------------------------------------------------------------

    def _connect(self, readonly: bool = False) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        connection.execute("PRAGMA trusted_schema=OFF")
        connection.execute("PRAGMA foreign_keys=ON")
        if readonly:
            connection.execute("PRAGMA query_only=ON")
            return connection
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise sqlite3.OperationalError(f"no write-ahead log here (journal_mode={mode})")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=ON")
        return connection

    def _prepare(self) -> sqlite3.Connection:
        connection = self._connect()
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found > self._version:
            connection.close()
            raise sqlite3.OperationalError(f"written by a newer version (schema {found}, this is {self._version})")
        connection.executescript(f"BEGIN IMMEDIATE;{self._schema};PRAGMA user_version={self._version};COMMIT;")
        return connection

    def _run(self, ready: queue.SimpleQueue[EffectError | None]) -> None:
        try:
            connection = self._prepare()
        except sqlite3.Error as error:
            ready.put(EffectError(f"database cannot be opened: {error}: {self.path}"))
            return
        ready.put(None)
        ending = False
        while not ending:
            item = self._queue.get()
            batch: list[_Job[Any]] = []
            while True:
                if item is None:
                    ending = True
                    break
                batch.append(item)
                if len(batch) >= BATCH_MAX:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            if batch:
                self._transact(connection, batch)
        connection.close()

    def _transact(self, connection: sqlite3.Connection, batch: list[_Job[Any]]) -> None:
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in batch:
                connection.execute("SAVEPOINT job")
                try:
                    job.result = job.work(connection)
                except sqlite3.IntegrityError as error:
                    job.error = EffectError(f"database: {error}")
                except sqlite3.Error:
                    raise
                except Exception as error:  # the work's own failure: its caller gets it, the others go on
                    job.error = error
                if job.error is not None:
                    connection.execute("ROLLBACK TO job")
                connection.execute("RELEASE job")
            connection.execute("COMMIT")
        except Exception as error:  # whatever it is, nobody may wait for ever, and nothing of the batch was committed
            failure = EffectError(f"database cannot be written: {error}: {self.path.name}")
            for job in batch:
                job.error = failure
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        for job in batch:
            if job.future is not None:
                by_loop.setdefault(job.future.get_loop(), []).append(job.future)
            if job.done is not None:
                job.done.set()
        for loop, futures in by_loop.items():
            try:
                loop.call_soon_threadsafe(_resolve, futures)
            except RuntimeError:
                continue  # the loop is closed: nobody waits there any more


def _resolve(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
