"""The files of one writer's audit: segments, their lock, recovery, rotation, retention, checkpoints. Blocking.

`audit/<writer>/` holds `.lock`, `<first seq>.jsonl` segments and `checkpoints.jsonl`; the same checkpoints stand in
`checkpoints/<writer>.jsonl` of the state directory and wherever else the operator says. Used by one thread at a time
(`effects/audit_log.py`). Threats: a crash in mid-write (the torn end is cut off, kept in a `.cut` file and recorded),
two writers on one chain (flock), a planted link or device in place of a segment (O_NOFOLLOW, O_EXCL), a log that was
cut before its last checkpoint while nobody was looking (IntegrityError: a new chain is a person's decision).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agent_os.audit.chain import LINE_BYTES_MAX, genesis, parse_line, seal
from agent_os.audit.checkpoint import CHECKPOINT_BYTES_MAX, Anchors, Checkpoint, Verify, anchors
from agent_os.core.errors import ActionError, EffectError, IntegrityError

SEGMENT_BYTES_MAX: Final = 16 << 20
SEGMENT_SECONDS_MAX: Final = 86_400.0
RETENTION_DAYS: Final = 400
CHECKPOINT_LINES_MAX: Final = 2_000
"""Lines of a checkpoint file before it is thinned out to one a segment."""
WRITERS_MAX: Final = 64
_SEGMENT: Final = re.compile(r"\A\d{15}\.jsonl\Z")
_WRITER: Final = re.compile(r"\A[a-z0-9][a-z0-9._-]{0,63}\Z")


class WriterBusyError(EffectError):
    """Another process writes this chain."""


def segment_name(first: int) -> str:
    """Return the file name of the segment whose first record is `first`."""
    return f"{first:015d}.jsonl"


def segments_of(directory: Path) -> list[Path]:
    """Return the segment files of a writer in order."""
    return sorted(path for path in directory.iterdir() if _SEGMENT.match(path.name))


def read_lines(path: Path, offset: int = 0) -> Iterator[bytes]:
    """Yield lines with their newlines, each of bounded length; a longer one comes in pieces (which do not verify)."""
    with open(path, "rb", opener=_no_follow) as file:
        file.seek(offset)
        while line := file.readline(LINE_BYTES_MAX + 1):
            yield line


def _no_follow(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)


def checkpoint_places(state: Path, writer: str, elsewhere: Path | None = None) -> list[Path]:
    """Return every file that keeps this writer's checkpoints."""
    places = [state / "audit" / writer / "checkpoints.jsonl", state / "checkpoints" / f"{writer}.jsonl"]
    return places + ([elsewhere / f"{writer}.jsonl"] if elsewhere is not None else [])


def read_anchors(writer: str, places: Sequence[Path], verify: Verify, shared: Sequence[Path] = ()) -> Anchors:
    """Return what the checkpoint files of a writer hold, taken together.

    `shared` are files with checkpoints of several writers, of which this one's count.
    """
    own = [line for place in places if place.exists() for line in read_lines(place)]
    mark = f'"writer":"{writer}"'.encode()
    own.extend(line for place in shared for line in read_lines(place) if mark in line)
    return anchors(writer, own, verify)


def private_directory(path: Path) -> None:
    """Create a directory and whatever is missing above it, each for its owner alone."""
    for each in (*reversed(path.parents), path):
        with contextlib.suppress(FileExistsError):
            if not each.is_dir():
                each.mkdir(mode=0o700)


def sync_directory(path: Path) -> None:
    """Make names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class AuditFiles:
    """One writer's files, open for appending. `open` first; `previous` and `seq` then say where the chain stands."""

    state: Path
    writer: str
    verify: Verify
    elsewhere: Path | None = None
    segment_bytes: int = SEGMENT_BYTES_MAX
    segment_seconds: float = SEGMENT_SECONDS_MAX
    retention_days: float = RETENTION_DAYS
    now: Callable[[], float] = time.time
    seq: int = 0
    previous: bytes = b""
    size: int = 0
    """Durable bytes of the current segment; whatever stands behind them is not part of the log."""
    opened_at: float = 0.0
    segment: str = ""
    descriptor: int = -1
    trusted: bool = False
    """False after a failed write: the segment is opened anew and cut to `size` before the next one."""
    checkpoints: int = 0
    _lock: int = -1
    pending: list[dict[str, Any]] = field(default_factory=list)
    """Records of the sink's own that go before the next batch (recovered, retention)."""

    @property
    def directory(self) -> Path:
        """The writer's directory."""
        return self.state / "audit" / self.writer

    def open(self) -> None:
        """Take the writer's lock and recover the chain.

        Raises EffectError when another process holds the lock or the directory cannot be used, IntegrityError when the
        log does not reach its last checkpoint.
        """
        if not _WRITER.match(self.writer):
            raise EffectError(
                f"audit writer {self.writer!r}: lower-case letters, digits, dot, dash and underscore only"
            )
        try:
            for directory in (self.directory, *(place.parent for place in self.places())):
                private_directory(directory)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._lock = os.open(self.directory / ".lock", flags, 0o600)
        except OSError as error:
            raise EffectError(f"audit directory cannot be used: {error.strerror}: {self.directory}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            self._lock = -1
            raise WriterBusyError(f"audit writer {self.writer!r} is in use by another process") from None
        try:
            self._recover()
        except OSError as error:
            self.close()
            raise EffectError(f"audit cannot be opened: {error.strerror}: {self.directory}") from None
        except BaseException:
            self.close()
            raise

    def places(self) -> list[Path]:
        """Return every file that keeps this writer's checkpoints."""
        return checkpoint_places(self.state, self.writer, self.elsewhere)

    def close(self) -> None:
        """Close the segment and give the lock up."""
        for name in ("descriptor", "_lock"):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)

    # ---- recovery --------------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        held = read_anchors(self.writer, self.places(), self.verify)
        latest = held.latest
        files = segments_of(self.directory)
        self.seq, self.previous = 0, genesis(self.writer)
        if not files:
            if latest is not None or held.problems:
                raise IntegrityError(f"audit of {self.writer!r}: checkpoints exist but the log is gone; {_ADVICE}")
            return
        start = 0
        if latest is not None:
            names = [path.name for path in files]
            if latest.segment not in names:
                raise IntegrityError(f"audit of {self.writer!r}: segment {latest.segment} is gone; {_ADVICE}")
            files, start = files[names.index(latest.segment) :], latest.offset
            if _hash_before(files[0], start) != bytes.fromhex(latest.hash):
                raise IntegrityError(f"audit of {self.writer!r}: checkpoint {latest.seq} does not hold; {_ADVICE}")
            self.seq, self.previous = latest.seq + 1, bytes.fromhex(latest.hash)
        else:
            self._start_without_anchor(files[0])
        cut_bytes, cut_lines, cut_hash = 0, 0, hashlib.sha256()
        last, keep = files[0], start
        for position, path in enumerate(files):
            good, offset = (start if position == 0 else 0), (start if position == 0 else 0)
            whole = cut_bytes == 0
            for line in read_lines(path, offset):
                offset += len(line)
                parsed = parse_line(line) if whole else None
                whole = (
                    parsed is not None
                    and parsed.seq == self.seq
                    and parsed.record["writer"] == self.writer
                    and parsed.follows(self.previous)
                )
                if whole and parsed is not None:
                    self.seq, self.previous, good = self.seq + 1, parsed.hash, offset
                else:
                    cut_bytes, cut_lines = cut_bytes + len(line), cut_lines + 1
                    cut_hash.update(line)
            if good < offset:
                self._set_aside(path, good)
            if good > 0:
                last, keep = path, good
            else:
                path.unlink()  # nothing in it is part of the log
        self.segment, self.size = (last.name, keep) if last.exists() else ("", 0)
        self.opened_at = self.now()
        if cut_bytes:
            self.pending.append(
                {"type": "audit.recovered", "bytes": cut_bytes, "lines": cut_lines, "sha256": cut_hash.hexdigest()}
            )

    def _start_without_anchor(self, path: Path) -> None:
        first = next(read_lines(path), b"")
        line = parse_line(first)
        if line is None or line.seq == 0:
            return
        raise IntegrityError(f"audit of {self.writer!r}: no checkpoint holds and the log begins late; {_ADVICE}")

    def _set_aside(self, path: Path, good: int) -> None:
        """Keep what is cut off a segment for whoever looks into it, then cut."""
        with open(path, "rb", opener=_no_follow) as file:
            file.seek(good)
            rest = file.read(SEGMENT_BYTES_MAX * 2)
        aside = self.directory / f"{path.stem}-{good}.cut"
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, rest)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.truncate(path, good)
        sync_directory(self.directory)

    # ---- writing ---------------------------------------------------------------------------------------------------

    def header(self) -> dict[str, Any] | None:
        """Return the record that must open a new segment, or None when the current one goes on.

        A new one is due when there is none, or when size or age say so. Retention is looked at here too.
        """
        if not self.segment or self.size >= self.segment_bytes or self.now() - self.opened_at >= self.segment_seconds:
            self._leave()
            return {"type": "audit.segment", "previous": self.previous.hex(), "format": 1}
        return None

    def _leave(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        self.segment, self.size, self.trusted = "", 0, False
        self.opened_at = self.now()

    def write(self, data: bytes, first: int) -> None:
        """Append lines whose first record is `first` and make them durable; raises OSError and stays as it was.

        The caller advances `seq` and `previous` after this returned.
        """
        created = self._ready(first)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self.descriptor, view) :]
            os.fdatasync(self.descriptor)
            if created:
                sync_directory(self.directory)
        except OSError:
            self._distrust(created)
            raise
        self.size += len(data)

    def _ready(self, first: int) -> bool:
        """Have a descriptor that stands at the durable end; return whether the segment is new."""
        if self.descriptor >= 0 and self.trusted:
            return False
        name = self.segment or segment_name(first)
        path, created = self.directory / name, not self.segment
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        if created and path.exists():
            path.unlink()  # left by a write that failed: nothing in it was ever durable
        descriptor = os.open(path, flags | (os.O_CREAT | os.O_EXCL if created else 0), 0o600)
        try:
            if os.fstat(descriptor).st_size > self.size:
                os.ftruncate(descriptor, self.size)
        except OSError:
            os.close(descriptor)
            raise
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor, self.segment, self.trusted = descriptor, name, True
        return created

    def _distrust(self, created: bool) -> None:
        """After a failed write: cut what may have been written, now if that works, else before the next write."""
        self.trusted = False
        with contextlib.suppress(OSError):
            os.ftruncate(self.descriptor, self.size)
        os.close(self.descriptor)
        self.descriptor = -1
        if created:
            self.segment = ""

    def lines(self, records: Sequence[Mapping[str, Any]]) -> tuple[bytes, int, bytes]:
        """Return (bytes, next seq, hash) of records that would follow now; raises ActionError for no JSON or too much."""
        seq, previous, lines = self.seq, self.previous, []
        for record in records:
            line, previous = seal(previous, {**record, "seq": seq, "writer": self.writer})
            if len(line) > LINE_BYTES_MAX:
                raise ActionError(f"a record of more than {LINE_BYTES_MAX} bytes is not written", field="record")
            lines.append(line)
            seq += 1
        return b"".join(lines), seq, previous

    # ---- checkpoints and retention ---------------------------------------------------------------------------------

    def checkpoint(self) -> Checkpoint:
        """Return what the log has reached, unsigned."""
        return Checkpoint(self.writer, self.seq - 1, self.previous.hex(), self.now(), self.segment, self.size)

    def keep(self, checkpoint: Checkpoint) -> list[str]:
        """Store a signed checkpoint in every place; returns what went wrong, place by place."""
        problems = []
        for place in self.places():
            try:
                _append_durably(place, checkpoint.line())
            except OSError as error:
                problems.append(f"{place}: {error.strerror}")
        return problems

    def thin_out(self) -> None:
        """Keep one checkpoint a segment (its last) in files that have grown long."""
        for place in self.places():
            if not place.exists():
                continue
            lines = [line for line in read_lines(place) if line.endswith(b"\n")]
            if len(lines) <= CHECKPOINT_LINES_MAX:
                continue
            last: dict[str, bytes] = {}
            for line in lines:
                latest = anchors(self.writer, [line], self.verify).latest
                last[latest.segment if latest is not None else line.hex()] = (
                    line  # what does not hold stays as evidence
                )
            fresh = place.with_suffix(".new")
            fresh.unlink(missing_ok=True)
            _append_durably(fresh, b"".join(last.values()))
            os.replace(fresh, place)
            sync_directory(place.parent)

    def expired(self) -> tuple[list[Path], int]:
        """Return segments, oldest first, whose last write is older than the retention, and their last record.

        Never the current segment.
        """
        limit = self.now() - self.retention_days * 86_400
        old: list[Path] = []
        for path in segments_of(self.directory):
            if path.name == self.segment or path.stat().st_mtime >= limit:
                return old, int(path.stem) - 1
            old.append(path)
        return [], -1


_ADVICE: Final = (
    "run `agentos audit verify`, keep the directory for whoever looks into it and move it away to begin a new chain"
)


def _hash_before(path: Path, offset: int) -> bytes | None:
    """Return the stated hash of the line that ends at `offset`, or None."""
    with open(path, "rb", opener=_no_follow) as file:
        start = max(0, offset - LINE_BYTES_MAX)
        file.seek(start)
        data = file.read(offset - start)
    if len(data) != offset - start or not data.endswith(b"\n"):
        return None
    line = parse_line(data[data.rfind(b"\n", 0, len(data) - 1) + 1 :])
    return line.hash if line is not None else None


def _append_durably(path: Path, data: bytes) -> None:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, CHECKPOINT_BYTES_MAX, max(0, size - CHECKPOINT_BYTES_MAX))
        if tail and not tail.endswith(b"\n"):  # a write that was cut short
            os.ftruncate(descriptor, size - len(tail) + tail.rfind(b"\n") + 1)
        os.write(descriptor, data)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
