"""PostgreSQL with the face of `stores.database.Database`: `run` in a transaction, `look` for what only reads.

The SQL of the ledger is written for both; parameters are `?` here too. Connections (connection.py) belong to a few threads
that share a queue; no event loop ever waits for the server, and each is woken once for all that a transaction settled.
Threats: two workers that both read before either writes (what must be exclusive is one UPDATE with its condition, or takes
the row's lock); a server that hangs.
"""

from __future__ import annotations

import asyncio
import queue
import re
import threading
from typing import Any, Final

from agent_os.core.errors import EffectError, MissingPartError
from agent_os.effects.clock import passed
from agent_os.effects.durable.connection import CONNECT, Connection, Job, Session, T, Work, answer

CONNECTIONS: Final = 3
BATCH_MAX: Final = 128
QUEUE_MAX: Final = 65_536
STATEMENT_SECONDS: Final = 30
SILENT_SECONDS: Final = 5
"""A transaction whose client says nothing for so long is undone by the server: a worker that froze holds no locks."""
ANSWER_SECONDS: Final = 60.0
"""How long anybody waits for the server, tries and all."""


class PostgresDatabase:
    """One PostgreSQL database. `schema` is run once at `open` and must be idempotent.

    `space` is the PostgreSQL schema its tables stand in (empty: the user's own); with `lock` every `run` holds that one
    advisory lock, so that what it reads is what its writes rest on, as on SQLite.
    """

    def __init__(self, url: str, schema: str, *, space: str = "", lock: int = 0) -> None:
        self.url, self._schema, self._space, self._lock = url, schema, space, lock
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._began = 0.0

    def open(self) -> PostgresDatabase:
        """Connect, create the tables, learn the server's clock. Raises EffectError, MissingPartError."""
        psycopg = _psycopg()
        options = f"-c statement_timeout={STATEMENT_SECONDS}s -c idle_in_transaction_session_timeout={SILENT_SECONDS}s"
        if self._space:
            options += f" -c search_path={self._space}"
        for number in range(CONNECTIONS):
            served = Connection(psycopg, self.url, options)
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
        return await self._awaited(self._held(work))

    async def look(self, work: Work[T]) -> T:
        """Run work that only reads, each statement by itself; it waits for no lock."""
        return await self._awaited(work, reads=True)

    def run_sync(self, work: Work[T]) -> T:
        """As `run`, for a caller without an event loop."""
        return self._waited(self._held(work))

    def read(self, work: Work[T]) -> T:
        """As `look`, for a caller without an event loop."""
        return self._waited(work, reads=True)

    def connect(self) -> Any:
        """Return a connection of the caller's own, each statement its own transaction."""
        return _psycopg().connect(self.url, autocommit=True, **CONNECT)

    async def _awaited(self, work: Work[T], *, reads: bool = False) -> T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        job = Job(work, reads, future=future)
        self._put(job)
        silent = loop.call_later(ANSWER_SECONDS, _silent, future)
        try:
            await future
        finally:
            silent.cancel()
        result: T = job.outcome()
        return result

    def _waited(self, work: Work[T], *, reads: bool = False) -> T:
        job = Job(work, reads, done=threading.Event())
        self._put(job)
        if job.done is None or not job.done.wait(ANSWER_SECONDS):
            job.given_up = True
            raise EffectError(_SILENT)
        result: T = job.outcome()
        return result

    def _held(self, work: Work[T]) -> Work[T]:
        """Return work that takes this database's lock first, where it has one."""
        if not self._lock:
            return work

        def locked(session: Any) -> T:
            session.execute("SELECT pg_advisory_xact_lock(?)", (self._lock,))
            return work(session)

        return locked

    def _put(self, job: Job) -> None:
        if not self._threads:
            raise EffectError("database is closed")
        if self._jobs.qsize() >= QUEUE_MAX:
            raise EffectError(f"database is overloaded: {QUEUE_MAX} operations wait")
        self._jobs.put(job)

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

    def _serve(self, connection: Connection) -> None:
        """Carry out what is queued: a read by itself, and the writes that have gathered in one transaction."""
        ending = False
        while not ending:
            item = self._jobs.get()
            writes: list[Job] = []
            while item is not None:
                if item.wanted:  # whoever asked may have been cancelled meanwhile
                    if item.reads:
                        connection.carry_out(item)
                        answer([item])
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
                answer(writes)
                continue
            for each in writes:
                connection.carry_out(each)
                answer([each])
        connection.close()


def _silent(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_exception(EffectError(_SILENT))


_INDEX: Final = re.compile(r"CREATE INDEX IF NOT EXISTS (\w+)")
_SILENT: Final = f"database does not answer within {ANSWER_SECONDS:g} s"


def _psycopg() -> Any:
    try:
        import psycopg  # noqa: PLC0415
    except ImportError:
        raise MissingPartError("PostgreSQL (psycopg)", "durable") from None
    return psycopg
