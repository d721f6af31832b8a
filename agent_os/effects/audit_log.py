"""The audit sink: records in, durable hash-chained lines out, by group commit. Implements `core.ports.AuditSink`.

Callers on any thread append; one writer thread takes whatever is queued, encodes and chains it, writes it with one
`write` and one `fdatasync`, and then ends the awaitables of the whole batch. Who waits is never kept waiting for more
to come: a batch is what arrived while the one before was on its way to the disk. Records that nobody waits for (outcomes,
denials) go with the next one that somebody does, or after a moment (`audit_queue.py`): an intent right behind an outcome
must not stand in line for the outcome's own sync.

Fail closed. When a record could not be made durable (disk full, read-only, an I/O error) its awaitable raises
EffectError, the chain stays where it was and `append` refuses further records, except for one attempt every
RETRY_SECONDS; the first that succeeds is preceded by an `audit.interrupted` record. When the disk hangs, awaitables
raise after `timeout` seconds and `append` refuses until the write comes back. A second sink on another disk
(`audit_tee.py`) keeps work going meanwhile. Threat: an agent that fills the disk, or an operator's broken mount, so that
effects go unrecorded.

A record must not be changed after it was handed over: it is encoded later, on the writer's thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from agent_os.audit.checkpoint import sign
from agent_os.core.errors import ActionError, EffectError
from agent_os.effects.audit_files import AuditFiles
from agent_os.effects.audit_queue import Ticket, Tickets

TIMEOUT_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 0.5
QUEUE_RECORDS_MAX: Final = 65_536
CHECKPOINT_SECONDS: Final = 1.0
CHECKPOINT_RECORDS: Final = 10_000


class AuditLog:
    """One writer's audit. Build it, `open()` it (blocking, takes the writer's lock), `close()` it.

    `sign_with` is (key id, signer) of the audit signing key. `timeout` in seconds bounds every wait.
    """

    def __init__(
        self, files: AuditFiles, sign_with: tuple[str, Callable[[bytes], bytes]], *, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        self._files, self._timeout = files, timeout
        self._key_id, self._signer = sign_with
        self._queue = Tickets(timeout, lambda: EffectError(f"audit: not durable within {timeout:g} s"))
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
        if len(self._queue) >= QUEUE_RECORDS_MAX:
            raise EffectError(f"audit: {QUEUE_RECORDS_MAX} records wait for the disk")
        ticket = Ticket(self._queue, record)
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

    def close(self, timeout: float = TIMEOUT_SECONDS) -> None:
        """Write what is queued and a last checkpoint, end the thread, give the lock up. Waits at most `timeout` s."""
        if self._closed:
            return
        self._closed = True
        self._queue.end()
        self._thread.join(timeout)

    # ---- the writer's thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:  # a defect here must not look like a log that takes records
            self._closed = True
            self._failed = f"the writer ended: {type(error).__name__}"
            self._queue.end()
            while left := self._queue.take(0):
                self._queue.finish(left, EffectError(f"audit: {self._failed}"))
            raise

    def _work(self) -> None:
        taken = self._queue
        while not taken.over:
            batch = taken.take(CHECKPOINT_SECONDS if self._files.seq - 1 > self._anchored else None)
            if batch:
                self._commit(batch)
            due = time.monotonic() - self._anchored_at >= CHECKPOINT_SECONDS
            if not batch or due or self._files.seq - self._anchored > CHECKPOINT_RECORDS:
                self._checkpoint()
        self._checkpoint()
        self._files.close()

    def _commit(self, batch: list[Ticket]) -> None:
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
        self._queue.finish(batch, error)

    def _one_by_one(self, batch: list[Ticket]) -> None:
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
        self._queue.finish(batch, error)

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
