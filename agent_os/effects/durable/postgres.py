"""PostgreSQL with the face of `stores.database.Database`: `run` in a transaction, `look` for what only reads.

The SQL of the ledger is written for both; parameters are `?` here too. As there, what is queued meanwhile shares one
transaction and one commit; if anything of a shared one fails, it is undone and each piece runs alone. So work may run more
than once and must only touch its session. Connections belong to a few threads; no event loop ever waits for the server.
A connection that is lost while it commits leaves open whether it did: the server is asked for the fate of that very
transaction, and its work runs again only when it is certain that it was undone.
Threats: two workers that both read before either writes (what must be exclusive is one UPDATE with its condition, or takes
the row's lock); a claim that is carried out twice, or a task nobody runs, because a lost answer passed for a lost commit; a
server that hangs.
"""

from __future__ import annotations

import asyncio
import functools
import queue
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from agent_os.core.errors import AgentOSError, EffectError, MissingPartError
from agent_os.effects.clock import passed

T = TypeVar("T")
Work = Callable[[Any], T]
CONNECTIONS: Final = 3
BATCH_MAX: Final = 128
QUEUE_MAX: Final = 65_536
RETRIES: Final = 5
RETRY_SECONDS: Final = 0.1
"""Before the second try; each later one waits twice as long."""
STATEMENT_SECONDS: Final = 30
SILENT_SECONDS: Final = 5
"""A transaction whose client says nothing for so long is undone by the server: a worker that froze holds no locks."""
ANSWER_SECONDS: Final = 60.0
"""How long anybody waits for the server, tries and all."""
FATE_SECONDS: Final = 20.0
"""How long the fate of a transaction is asked for whose connection broke while it committed."""
CONNECT: Final = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""A peer that vanished without a word is noticed within half a minute."""


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
            self._connection.execute("NOTIFY agentos", prepare=False)


@functools.lru_cache(1024)
def _translated(sql: str) -> str:
    return sql.replace("%", "%%").replace("?", "%s")


class PostgresDatabase:
    """One PostgreSQL database. `schema` is run once at `open` and must be idempotent.

    `space` is the PostgreSQL schema its tables stand in (empty: the user's own); with `lock` every `run` holds that one
    advisory lock, so that what it reads is what its writes rest on, as on SQLite.
    """

    def __init__(self, url: str, schema: str, *, space: str = "", lock: int = 0) -> None:
        self.url, self._schema, self._space, self._lock = url, schema, space, lock
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._began = 0.0

    def open(self) -> PostgresDatabase:
        """Connect, create the tables, learn the server's clock. Raises EffectError, MissingPartError."""
        psycopg = _psycopg()
        options = f"-c statement_timeout={STATEMENT_SECONDS}s -c idle_in_transaction_session_timeout={SILENT_SECONDS}s"
        if self._space:
            options += f" -c search_path={self._space}"
        for number in range(CONNECTIONS):
            served = _Connection(psycopg, self.url, options)
            thread = threading.Thread(target=self._serve, args=(served,), name=f"ledger-{number}", daemon=True)
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
        before = passed()
        (server,) = self.read(
            lambda session: session.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
        )
        self._began = server - (before + passed()) / 2

    def now(self) -> float:
        """Return the server's time: leases of several machines are judged by one clock, whatever is done to this one's."""
        return self._began + passed()

    def close(self) -> None:
        """Finish what is queued and close every connection."""
        threads, self._threads = self._threads, []
        for _ in threads:
            self._jobs.put(None)
        for thread in threads:
            thread.join(ANSWER_SECONDS)

    async def run(self, work: Work[T]) -> T:
        """Run work in a transaction; returns its result once committed. Raises what it raised, or EffectError."""
        return await self._awaited(self._put(self._held(work)))

    async def look(self, work: Work[T]) -> T:
        """Run work that only reads, each statement by itself; it waits for no lock."""
        return await self._awaited(self._put(work, reads=True))

    def run_sync(self, work: Work[T]) -> T:
        """As `run`, for a caller without an event loop."""
        return self._waited(self._put(self._held(work)))

    def read(self, work: Work[T]) -> T:
        """As `look`, for a caller without an event loop."""
        return self._waited(self._put(work, reads=True))

    def connect(self) -> Any:
        """Return a connection of the caller's own, each statement its own transaction."""
        return _psycopg().connect(self.url, autocommit=True, **CONNECT)

    async def _awaited(self, done: Future[T]) -> T:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await asyncio.wrap_future(done)
        except TimeoutError:
            raise EffectError(_SILENT) from None

    def _waited(self, done: Future[T]) -> T:
        try:
            return done.result(ANSWER_SECONDS)
        except TimeoutError:
            done.cancel()
            raise EffectError(_SILENT) from None

    def _held(self, work: Work[T]) -> Work[T]:
        """Return work that takes this database's lock first, where it has one."""
        if not self._lock:
            return work

        def locked(session: Any) -> T:
            session.execute("SELECT pg_advisory_xact_lock(?)", (self._lock,))
            return work(session)

        return locked

    def _put(self, work: Work[T], *, reads: bool = False) -> Future[T]:
        if not self._threads:
            raise EffectError("database is closed")
        if self._jobs.qsize() >= QUEUE_MAX:
            raise EffectError(f"database is overloaded: {QUEUE_MAX} operations wait")
        done: Future[T] = Future()
        self._jobs.put(_Job(work, done, reads))
        return done

    def _create(self, session: Session) -> None:
        session.execute("SELECT pg_advisory_xact_lock(7205759403792793600)")
        if self._space:
            session.execute(f"CREATE SCHEMA IF NOT EXISTS {self._space}")
        for statement in self._schema.split(";"):
            index = _INDEX.search(statement)
            if index is not None and session.execute("SELECT to_regclass(?)", (index[1],)).fetchone()[0] is not None:
                continue  # to say so again would wait for everybody who writes to its table
            if statement.strip():
                session.execute(statement)

    # ---- the threads ------------------------------------------------------------------------------------------------

    def _serve(self, connection: _Connection) -> None:
        """Carry out what is queued: a read by itself, and the writes that have gathered in one transaction."""
        ending = False
        while not ending:
            item = self._jobs.get()
            writes: list[_Job] = []
            while item is not None:
                if item.done.set_running_or_notify_cancel():  # whoever asked may have been cancelled meanwhile
                    if item.reads:
                        connection.carry_out(item)
                    else:
                        writes.append(item)
                if len(writes) >= BATCH_MAX:
                    break
                try:
                    item = self._jobs.get_nowait()
                except queue.Empty:
                    break
            ending = item is None
            if len(writes) > 1 and connection.carry_out_together(writes):
                continue
            for each in writes:
                connection.carry_out(each)
        connection.close()


@dataclass(slots=True)
class _Job:
    """One piece of work and who waits for it."""

    work: Work[Any]
    done: Future[Any]
    reads: bool


class _Connection:
    """One thread's connection: opened when it is needed, and anew when it broke."""

    def __init__(self, psycopg: Any, url: str, options: str) -> None:
        self._psycopg, self._url, self._options = psycopg, url, options
        self._connection: Any = None
        self._lost = True

    def carry_out_together(self, jobs: Sequence[_Job]) -> bool:
        """Run several in one transaction; False when it was undone, whatever the cause: each then runs alone."""
        try:
            results = self._transact([job.work for job in jobs])
        except _UnknownFateError as error:
            for job in jobs:
                job.done.set_exception(error)
            return True
        except Exception:
            return False
        for job, result in zip(jobs, results, strict=True):
            job.done.set_result(result)
        return True

    def carry_out(self, job: _Job) -> None:
        """Run one; what was certainly undone by a lost connection, a deadlock or a server not yet there is tried again."""
        for attempt in range(RETRIES):
            self._lost = self._connection is None
            try:
                job.done.set_result(self._read(job.work) if job.reads else self._transact([job.work])[0])
                return
            except AgentOSError as error:
                job.done.set_exception(error)
                return
            except self._psycopg.Error as error:
                if attempt == RETRIES - 1 or not self._passing(error):
                    said = "database cannot be reached" if self._lost else "database"
                    job.done.set_exception(EffectError(f"{said}: {_first_line(error)}"))
                    return
                time.sleep(RETRY_SECONDS * 2**attempt)
            except Exception as error:  # the work's own failure: its caller gets it, the thread goes on
                job.done.set_exception(error)
                return

    def close(self) -> None:
        """Close it, if it is open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _passing(self, error: Exception) -> bool:
        """Return whether another try may go better: the connection is gone, or two transactions stood in each other's way."""
        errors = self._psycopg.errors
        return self._lost or isinstance(error, errors.DeadlockDetected | errors.SerializationFailure)

    def _read(self, work: Work[T]) -> T:
        try:
            return work(Session(self._open()))
        except self._psycopg.Error:
            self._forget_broken()
            raise

    def _transact(self, works: Sequence[Work[Any]]) -> list[Any]:
        """Return the results of works that were committed together; raises when they were undone.

        Raises _UnknownFateError when the connection broke while it committed and nobody can say.
        """
        try:
            connection = self._open()
            begun = connection.execute("BEGIN; SELECT pg_current_xact_id()::text", prepare=False)
            begun.nextset()
            transaction = begun.fetchone()[0]
            session = Session(connection)
            results = [work(session) for work in works]
        except BaseException:
            self._undo()
            raise
        try:
            ended = connection.execute("COMMIT", prepare=False).statusmessage
        except self._psycopg.Error:
            self._forget_broken()
            if not self._committed(transaction):
                raise
        else:
            if ended != "COMMIT":
                raise EffectError("database: the transaction was undone")
        return results

    def _committed(self, transaction: str) -> bool:
        """Ask the server whether a transaction was committed."""
        until, pause = time.monotonic() + FATE_SECONDS, RETRY_SECONDS
        while time.monotonic() < until:
            try:
                sql = "SELECT pg_xact_status(%s::xid8)"
                (fate,) = self._open().execute(sql, (transaction,)).fetchone()
            except self._psycopg.Error:
                self._forget_broken()
            else:
                if fate != "in progress":
                    return bool(fate == "committed")
            time.sleep(pause)
            pause = min(pause * 2, 2.0)
        raise _UnknownFateError("database: it was lost while it committed, and nobody can say whether it did")

    def _open(self) -> Any:
        if self._connection is None:
            self._connection = self._psycopg.connect(self._url, options=self._options, autocommit=True, **CONNECT)
        return self._connection

    def _undo(self) -> None:
        self._forget_broken()
        if self._connection is not None:
            try:
                self._connection.execute("ROLLBACK", prepare=False)
            except self._psycopg.Error:
                self.close()

    def _forget_broken(self) -> None:
        if self._connection is not None and (self._connection.closed or self._connection.broken):
            self._lost = True
            self.close()


class _UnknownFateError(EffectError):
    """Nobody can say whether a transaction was committed: its work must not run again by itself."""


_INDEX: Final = re.compile(r"CREATE INDEX IF NOT EXISTS (\w+)")
_SILENT: Final = f"database does not answer within {ANSWER_SECONDS:g} s"


def _psycopg() -> Any:
    try:
        import psycopg  # noqa: PLC0415
    except ImportError:
        raise MissingPartError("PostgreSQL (psycopg)", "durable") from None
    return psycopg


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
