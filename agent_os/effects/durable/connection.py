"""One connection to PostgreSQL: transactions of several works, retried where they were certainly undone.

As in the stores, what is queued meanwhile shares one transaction and one commit; if anything of a shared one fails, it is
undone and each piece runs alone. So work may run more than once and must only touch its session. A connection that is lost
while it commits leaves open whether it did: the server is asked for the fate of that very transaction, and its work runs
again only when it is certain that it was undone.
Threat: a claim that is carried out twice, or a task nobody runs, because a lost answer passed for a lost commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from agent_os.core.errors import AgentOSError, EffectError

T = TypeVar("T")
Work = Callable[[Any], T]
RETRIES: Final = 5
RETRY_SECONDS: Final = 0.1
"""Before the second try; each later one waits twice as long."""
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


@dataclass(slots=True, eq=False)
class Job:
    """One piece of work, and who waits for it: a `future` of an event loop, or a thread at `done`."""

    work: Work[Any]
    reads: bool
    future: asyncio.Future[None] | None = None
    done: threading.Event | None = None
    given_up: bool = False
    result: Any = None
    error: Exception | None = None

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits for it."""
        return not (self.given_up or (self.future is not None and self.future.done()))

    def outcome(self) -> Any:
        """Return what the work returned, or raise what it raised."""
        if self.error is not None:
            raise self.error
        return self.result


def answer(jobs: Sequence[Job]) -> None:
    """Tell who waits that their work is over: each event loop is woken once."""
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for job in jobs:
        if job.future is not None:
            by_loop.setdefault(job.future.get_loop(), []).append(job.future)
        if job.done is not None:
            job.done.set()
    for loop, futures in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there any more
            loop.call_soon_threadsafe(_resolve, futures)


def _resolve(futures: Sequence[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


class Connection:
    """One thread's connection: opened when it is needed, and anew when it broke."""

    def __init__(self, psycopg: Any, url: str, options: str) -> None:
        self._psycopg, self._url, self._options = psycopg, url, options
        self._connection: Any = None
        self._lost = True

    def carry_out_together(self, jobs: Sequence[Job]) -> bool:
        """Run several in one transaction; False when it was undone, whatever the cause: each then runs alone."""
        try:
            results = self._transact([job.work for job in jobs])
        except UnknownFateError as error:
            for job in jobs:
                job.error = error
            return True
        except Exception:
            return False
        for job, result in zip(jobs, results, strict=True):
            job.result = result
        return True

    def carry_out(self, job: Job) -> None:
        """Run one; what was certainly undone by a lost connection, a deadlock or a server not yet there is tried again."""
        for attempt in range(RETRIES):
            self._lost = self._connection is None
            try:
                job.result = self._read(job.work) if job.reads else self._transact([job.work])[0]
                return
            except AgentOSError as error:
                job.error = error
                return
            except self._psycopg.Error as error:
                if attempt == RETRIES - 1 or not self._passing(error):
                    said = "database cannot be reached" if self._lost else "database"
                    job.error = EffectError(f"{said}: {_first_line(error)}")
                    return
                time.sleep(RETRY_SECONDS * 2**attempt)
            except Exception as error:  # the work's own failure: its caller gets it, the thread goes on
                job.error = error
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

        Raises UnknownFateError when the connection broke while it committed and nobody can say.
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
        raise UnknownFateError("database: it was lost while it committed, and nobody can say whether it did")

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


class UnknownFateError(EffectError):
    """Nobody can say whether a transaction was committed: its work must not run again by itself."""


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}"
