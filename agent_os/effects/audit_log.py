"""The audit sink: records in, durable hash-chained lines out, by group commit. Implements `core.ports.AuditSink`.

Callers on any thread append; one writer thread takes whatever is queued, encodes and chains it, writes it with one
`write` and one `fdatasync`, and then ends the awaitables of the whole batch. Who waits is never kept waiting for more
to come: a batch is what arrived while the one before was on its way to the disk. Records that nobody waits for (outcomes,
denials) go with the next one that somebody does, or after LINGER_SECONDS: an intent right behind an outcome must not
stand in line for the outcome's own sync.

Fail closed. When a record could not be made durable (disk full, read-only, an I/O error) its awaitable raises
EffectError, the chain stays where it was and `append` refuses further records, except for one attempt every
RETRY_SECONDS; the first that succeeds is preceded by an `audit.interrupted` record. When the disk hangs, awaitables
raise after `timeout` seconds and `append` refuses until the write comes back. A second sink on another disk
(`TeeAudit`) keeps work going meanwhile. Threat: an agent that fills the disk, or an operator's broken mount, so that
effects go unrecorded.

A record must not be changed after it was handed over: it is encoded later, on the writer's thread.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any, Final

from agent_os.audit.checkpoint import sign
from agent_os.core.errors import ActionError, EffectError
from agent_os.core.ports import AuditSink
from agent_os.effects.audit_files import AuditFiles

TIMEOUT_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 0.5
QUEUE_RECORDS_MAX: Final = 65_536
BATCH_RECORDS_MAX: Final = 4_096
LINGER_SECONDS: Final = 0.002
"""How long records that nobody waits for may wait for company."""
CHECKPOINT_SECONDS: Final = 1.0
CHECKPOINT_RECORDS: Final = 10_000


class _Ticket:
    """What `append` returns: awaitable, and cheap when nobody waits for it."""

    __slots__ = ("done", "error", "future", "record", "sink", "wanted")

    def __init__(self, sink: AuditLog, record: Mapping[str, Any]) -> None:
        self.sink, self.record = sink, record
        self.done = self.wanted = False
        self.error: EffectError | None = None
        self.future: asyncio.Future[None] | None = None

    def __await__(self) -> Generator[Any, None, None]:
        if not self.done:
            loop = asyncio.get_running_loop()
            future = loop.create_future()
            self.sink._expire_later(loop, future)
            self.future = future
            self.wanted = True
            self.sink._hurry()
            # INVARIANT: the writer sets `done` and then reads `future`, we set `future` and then read `done`, so one of
            # the two sees the other and the future ends.
            if not self.done:
                yield from future
        if self.error is not None:
            raise self.error


class _Deadlines:
    """The futures of one event loop in order of their deadlines, with one timer for all of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float, expired: Callable[[], EffectError]) -> None:
        self._loop, self._timeout, self._expired = loop, timeout, expired
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, future: asyncio.Future[None]) -> None:
        deadline = self._loop.time() + self._timeout
        self._waiting.append((deadline, future))
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._sweep)

    def resolve(self, ended: Sequence[asyncio.Future[None]]) -> None:
        """End futures whose tickets are done; runs on the loop."""
        for future in ended:
            if not future.done():
                future.set_result(None)
        waiting = self._waiting
        while waiting and waiting[0][1].done():
            waiting.popleft()

    def _sweep(self) -> None:
        self._timer = None
        now, waiting = self._loop.time(), self._waiting
        while waiting and (waiting[0][1].done() or waiting[0][0] <= now):
            future = waiting.popleft()[1]
            if not future.done():
                future.set_exception(self._expired())
                future.exception()  # seen, even when nobody waits any more
        if waiting:
            self._timer = self._loop.call_at(waiting[0][0], self._sweep)


_HURRY: Final = object.__new__(_Ticket)
"""Queued when somebody begins to wait for a record that the writer holds."""


class AuditLog:
    """One writer's audit. Build it, `open()` it (blocking, takes the writer's lock), `close()` it.

    `sign_with` is (key id, signer) of the audit signing key. `timeout` in seconds bounds every wait.
    """

    def __init__(
        self, files: AuditFiles, sign_with: tuple[str, Callable[[bytes], bytes]], *, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        self._files, self._timeout = files, timeout
        self._key_id, self._signer = sign_with
        self._queue: queue.SimpleQueue[_Ticket | None] = queue.SimpleQueue()
        self._lingering = False
        self._deadlines: dict[asyncio.AbstractEventLoop, _Deadlines] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"audit-{files.writer}", daemon=True)
        self._busy_since = 0.0
        self._failed = ""
        self._retry_at = 0.0
        self._lost = 0
        self._closed = True
        self._anchored = -1
        self._anchored_at = 0.0
        self.checkpoint_problems: list[str] = []

    @property
    def writer(self) -> str:
        """The writer's name."""
        return self._files.writer

    @property
    def failing(self) -> str:
        """Why records are being refused, or an empty string."""
        if self._failed:
            return self._failed
        busy = self._busy_since
        if busy and time.monotonic() - busy > self._timeout:
            return "the disk does not answer"
        return "closed" if self._closed else ""

    def open(self, info: Mapping[str, Any] | None = None) -> AuditLog:
        """Take the lock, recover, record the start (with `info`), write a checkpoint and start the writer thread.

        Raises EffectError when the log cannot be written, IntegrityError when it does not reach its last checkpoint.
        """
        self._files.open()
        try:
            start = {"type": "audit.started", "time": self._files.now(), **(info or {})}
            self._write([start])
            self._checkpoint()
        except OSError as error:
            self._files.close()
            raise EffectError(f"audit cannot be written: {error.strerror}: {self._files.directory}") from None
        except BaseException:
            self._files.close()
            raise
        self._closed = False
        self._thread.start()
        return self

    def append(self, record: Mapping[str, Any]) -> Awaitable[None]:
        """Queue a record; the awaitable ends when it is durable and raises EffectError when that failed or took too
        long.

        Raises EffectError at once while the log cannot be written, so that whoever does not wait learns of it too.
        """
        if self._failed or self._closed:
            self._refuse_or_retry()
        busy = self._busy_since
        if busy and time.monotonic() - busy > self._timeout:
            raise EffectError("audit: the disk does not answer")
        if self._queue.qsize() >= QUEUE_RECORDS_MAX:
            raise EffectError(f"audit: {QUEUE_RECORDS_MAX} records wait for the disk")
        ticket = _Ticket(self, record)
        self._queue.put(ticket)
        return ticket

    def _refuse_or_retry(self) -> None:
        if self._closed:
            raise EffectError(f"audit: {self._failed or 'closed'}")
        now = time.monotonic()
        with self._lock:
            if self._failed and now < self._retry_at:
                raise EffectError(f"audit: {self._failed}")
            self._retry_at = now + RETRY_SECONDS

    def _expire_later(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
        deadlines = self._deadlines.get(loop)
        if deadlines is None:
            for gone in [each for each in list(self._deadlines) if each.is_closed()]:
                self._deadlines.pop(gone, None)
            deadlines = self._deadlines[loop] = _Deadlines(loop, self._timeout, self._too_late)
        deadlines.add(future)

    def _too_late(self) -> EffectError:
        return EffectError(f"audit: not durable within {self._timeout:g} s")

    def _hurry(self) -> None:
        """Somebody waits: a writer that waits for company must not."""
        if self._lingering:
            self._queue.put(_HURRY)

    def close(self, timeout: float = TIMEOUT_SECONDS) -> None:
        """Write what is queued and a last checkpoint, end the thread, give the lock up. Waits at most `timeout` s."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._thread.join(timeout)

    # ---- the writer's thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:  # a defect here must not look like a log that takes records
            self._closed = True
            self._failed = f"the writer ended: {type(error).__name__}"
            while not self._queue.empty():
                ticket = self._queue.get()
                if ticket is not None and ticket is not _HURRY:
                    self._end([ticket], EffectError(f"audit: {self._failed}"))
            raise

    def _work(self) -> None:
        taken = self._queue
        ending = False
        while not ending:
            try:
                first = taken.get(timeout=CHECKPOINT_SECONDS if self._files.seq - 1 > self._anchored else None)
            except queue.Empty:
                self._checkpoint()
                continue
            batch, ending = self._batch(first)
            if batch:
                self._commit(batch)
            due = time.monotonic() - self._anchored_at >= CHECKPOINT_SECONDS
            if due or self._files.seq - self._anchored > CHECKPOINT_RECORDS:
                self._checkpoint()
        self._checkpoint()
        self._files.close()

    def _batch(self, first: _Ticket | None) -> tuple[list[_Ticket], bool]:
        """Return what is written next, and whether it is the last: all that is here once somebody waits for any of it."""
        batch: list[_Ticket] = []
        item, until = first, 0.0
        try:
            while item is not None:
                if item is not _HURRY:
                    batch.append(item)
                if len(batch) >= BATCH_RECORDS_MAX:
                    return batch, False
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    # INVARIANT: we set `_lingering` and then read `wanted`, a waiter sets `wanted` and then reads
                    # `_lingering`, so one of the two sees the other.
                    self._lingering = True
                    now = time.monotonic()
                    until = until or now + LINGER_SECONDS
                    if not batch or now >= until or any(ticket.wanted for ticket in batch):
                        return batch, False
                    item = self._queue.get(timeout=until - now)
        except queue.Empty:
            return batch, False
        finally:
            self._lingering = False
        return batch, True

    def _commit(self, batch: list[_Ticket]) -> None:
        error: EffectError | None = None
        self._busy_since = time.monotonic()
        try:
            self._write([ticket.record for ticket in batch])
        except ActionError:
            self._busy_since = 0.0
            self._one_by_one(batch)
            return
        except OSError as failure:
            error = self._fail(failure, len(batch))
        except Exception as failure:  # whatever it is, nobody may wait for ever and nothing goes on unrecorded
            error = self._fail(failure, len(batch))
        self._busy_since = 0.0
        self._end(batch, error)

    def _one_by_one(self, batch: list[_Ticket]) -> None:
        """A batch with a record that cannot be written: the others are written, it is replaced by a record that says so."""
        if len(batch) > 1:
            for ticket in batch:
                self._commit([ticket])
            return
        ticket = batch[0]
        kind = ticket.record.get("type")
        defect = {"type": "audit.defect", "of": kind if isinstance(kind, str) else "?", "time": self._files.now()}
        error = EffectError("audit: the record is not plain JSON, or too large")
        try:
            self._write([defect])
        except (OSError, ActionError) as failure:
            error = self._fail(failure, 1)
        self._end(batch, error)

    def _end(self, batch: list[_Ticket], error: EffectError | None) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        for ticket in batch:
            ticket.error = error
            ticket.done = True
            future = ticket.future
            if future is not None:
                by_loop.setdefault(future.get_loop(), []).append(future)
        for loop, futures in by_loop.items():
            try:
                loop.call_soon_threadsafe(self._deadlines[loop].resolve, futures)
            except (RuntimeError, KeyError):
                continue  # the loop is closed: nobody waits there any more

    def _fail(self, failure: Exception, count: int) -> EffectError:
        reason = getattr(failure, "strerror", None) or type(failure).__name__
        with self._lock:
            self._lost += count
            self._retry_at = time.monotonic() + RETRY_SECONDS
            self._failed = f"cannot be written: {reason}"
        return EffectError(f"audit: {self._failed}")

    def _write(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Chain and write records, and before them what the sink itself has to say."""
        files = self._files
        first, now = files.seq, files.now()
        own: list[dict[str, Any]] = []
        header = files.header()
        if header is not None:
            own.append({**header, "time": now})
        if self._lost:
            own.append({"type": "audit.interrupted", "time": now, "lost": self._lost, "reason": self._failed})
        own.extend({"time": now, **record} for record in files.pending)
        data, seq, digest = files.lines([*own, *records])
        files.write(data, first)
        files.seq, files.previous = seq, digest
        files.pending.clear()
        self._lost, self._failed = 0, ""
        if header is not None:
            try:
                self._retain()
            except OSError as error:  # the records themselves are durable; the next rotation tries again
                self.checkpoint_problems = [f"retention: {error.strerror}"]

    def _retain(self) -> None:
        """Delete segments past their retention, after a durable record and a checkpoint that say so."""
        files = self._files
        old, until = files.expired()
        if not old:
            return
        names = [path.name for path in old]
        self._write([{"type": "audit.retention", "time": files.now(), "until": until, "segments": names}])
        self._checkpoint()
        for path in old:
            path.unlink()

    def _checkpoint(self) -> None:
        """Sign and keep what is durable. A place that fails is remembered and tried again next time."""
        files = self._files
        self._anchored_at = time.monotonic()
        if files.seq - 1 <= self._anchored:
            return
        signed = sign(files.checkpoint(), self._key_id, self._signer)
        busy, self._busy_since = self._busy_since, self._busy_since or self._anchored_at
        self.checkpoint_problems = files.keep(signed)
        self._busy_since = busy
        if not self.checkpoint_problems:
            self._anchored = signed.seq
            files.checkpoints += 1
            if files.checkpoints % 1000 == 0:
                try:
                    files.thin_out()
                except OSError as error:  # they stay long until the next time
                    self.checkpoint_problems = [f"thinning out: {error.strerror}"]


class TeeAudit:
    """Several sinks as one: a record is durable as soon as one of them has it, as with Vault's audit devices.

    A sink that refuses or fails is passed over while another one works, and the others' records say so; when none is
    left the record fails. Sinks are independent logs with chains of their own, on different disks or machines.
    """

    def __init__(self, *sinks: AuditSink) -> None:
        if not sinks:
            raise ValueError("at least one sink")
        self._sinks = sinks

    def append(self, record: Mapping[str, Any]) -> Awaitable[None]:
        """Queue the record with every sink that takes it; raises EffectError when none does."""
        taken: list[Awaitable[None]] = []
        refused: list[str] = []
        for sink in self._sinks:
            try:
                taken.append(sink.append(record))
            except EffectError as error:
                refused.append(str(error))
        if not taken:
            raise EffectError("; ".join(refused))
        return taken[0] if len(taken) == 1 else _FirstOf(taken)


class _FirstOf:
    __slots__ = ("_all",)

    def __init__(self, all_of: list[Awaitable[None]]) -> None:
        self._all = all_of

    def __await__(self) -> Generator[Any, None, None]:
        return self._first().__await__()

    async def _first(self) -> None:
        async def one(awaitable: Awaitable[None]) -> None:
            await awaitable

        pending = {asyncio.ensure_future(one(each)) for each in self._all}
        for task in pending:
            task.add_done_callback(_seen)  # the sinks behind the first, and all of them when nobody waits any more
        errors: list[str] = []
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is None:
                    return
                errors.append(str(error))
        raise EffectError("; ".join(errors))


def _seen(task: asyncio.Future[None]) -> None:
    if not task.cancelled():
        task.exception()
