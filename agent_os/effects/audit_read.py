"""Reading an audit: writers, verified reports, records, and following a log that grows. Read-only.

Checkpoints are read before the segments, so that a log that is being written meanwhile can only be ahead of them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from agent_os.audit.chain import parse_line
from agent_os.audit.checkpoint import Checkpoint, Verify, parse_checkpoint
from agent_os.audit.verify import Report, verify
from agent_os.core.errors import EffectError, IntegrityError
from agent_os.effects.audit_files import checkpoint_places, read_anchors, read_lines, segments_of

TAIL_BYTES: Final = 4 << 20
"""How much of the last segment `tail` looks at."""


def writers(state: Path) -> list[str]:
    """Return the names of the writers that have a log, or checkpoints of one."""
    found: set[str] = set()
    for folder, suffix in ((state / "audit", ""), (state / "checkpoints", ".jsonl")):
        if folder.is_dir():
            found.update(path.name.removesuffix(suffix) for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(name for name in found if not name.endswith(".new"))


def report(
    state: Path, writer: str, check: Verify, elsewhere: Path | None = None, against: Sequence[Path] = ()
) -> Report:
    """Verify one writer's log against the checkpoints of every place. Raises EffectError when it cannot be read."""
    try:
        anchors = read_anchors(writer, checkpoint_places(state, writer, elsewhere), check, against)
        directory = state / "audit" / writer
        segments = segments_of(directory) if directory.is_dir() else []
        return verify(writer, [(path.name, read_lines(path)) for path in segments], anchors)
    except OSError as error:
        raise EffectError(f"audit cannot be read: {error.strerror}: {error.filename}") from None


def checkpoints(state: Path, writer: str) -> list[Checkpoint]:
    """Return the stored checkpoints of a writer beside its log, unverified, oldest first."""
    place = checkpoint_places(state, writer)[1]
    kept = []
    for line in read_lines(place) if place.exists() else ():
        try:
            kept.append(parse_checkpoint(line))
        except IntegrityError:
            continue
    return kept


def records(state: Path, writer: str | None = None) -> Iterator[Mapping[str, Any]]:
    """Yield records of one writer in order, or of all merged by time. Lines that are no records are passed over."""
    names = [writer] if writer is not None else writers(state)
    streams = [_records(state / "audit" / name) for name in names]
    return streams[0] if len(streams) == 1 else heapq.merge(*streams, key=_time)


def _records(directory: Path) -> Iterator[Mapping[str, Any]]:
    for path in segments_of(directory) if directory.is_dir() else ():
        for raw in read_lines(path):
            line = parse_line(raw)
            if line is not None:
                yield line.record


def _time(record: Mapping[str, Any]) -> float:
    moment = record.get("time")
    return float(moment) if isinstance(moment, (int, float)) else 0.0


def tail(state: Path, writer: str | None, count: int) -> list[Mapping[str, Any]]:
    """Return the last records of one writer, or of all, oldest first."""
    streams = []
    for name in [writer] if writer is not None else writers(state):
        directory = state / "audit" / name
        found: list[Mapping[str, Any]] = []
        for path in segments_of(directory)[-2:] if directory.is_dir() else ():
            offset = max(0, path.stat().st_size - TAIL_BYTES)
            lines = (parse_line(raw) for raw in read_lines(path, offset))
            found.extend(line.record for line in lines if line is not None)
        streams.append(found)
    merged = list(heapq.merge(*streams, key=_time))
    return merged[-count:] if count > 0 else []


class Follower:
    """What was added to the logs since the last look; `poll` is called again and again."""

    def __init__(self, state: Path, writer: str | None = None, *, since: Mapping[str, int] | None = None) -> None:
        """Start now, or where an earlier follower's `positions` stood: what it had not seen comes first."""
        self._state, self._writer = state, writer
        self._offsets = {path: path.stat().st_size for path in self._files()} if since is None else {}
        for name, offset in (since or {}).items():
            self._offsets[state / "audit" / name] = offset

    def _files(self) -> Iterator[Path]:
        for name in [self._writer] if self._writer is not None else writers(self._state):
            directory = self._state / "audit" / name
            if directory.is_dir():
                yield from segments_of(directory)

    def positions(self) -> dict[str, int]:
        """Return how far each segment that is still there was read: its path below `audit/` to a byte offset."""
        return {
            str(path.relative_to(self._state / "audit")): offset
            for path, offset in self._offsets.items()
            if path.exists()
        }

    def go_back(self, positions: Mapping[str, int]) -> None:
        """Stand again where `positions` says, so that the records since come once more."""
        self._offsets = {self._state / "audit" / name: offset for name, offset in positions.items()}

    def poll(self, most: int | None = None) -> list[Mapping[str, Any]]:
        """Return records that became whole since the last call, in time order; at most `most`, the rest next time."""
        fresh: list[Mapping[str, Any]] = []
        for path in self._files():
            offset = self._offsets.get(path, 0)
            if not path.exists() or path.stat().st_size <= offset:
                continue
            for raw in read_lines(path, offset):
                if not raw.endswith(b"\n") or (most is not None and len(fresh) >= most):
                    break
                offset += len(raw)
                line = parse_line(raw)
                if line is not None:
                    fresh.append(line.record)
            self._offsets[path] = offset
        return sorted(fresh, key=_time)
