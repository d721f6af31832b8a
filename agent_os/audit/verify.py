"""Verification: name the first record of a log that was edited, dropped, reordered, inserted or cut off. Pure.

The chain finds every change that leaves later records as they were; the anchors (signed checkpoints,
`audit.checkpoint`) find the rest: an end that is missing, a tail written anew. Threat: someone who can write the
log's files. What cannot be found is said in the report: records after the last anchor, and a log rewritten together
with every anchor by whoever holds the signing key. A log with no anchor at all does not verify.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from agent_os.audit.chain import Line, genesis, parse_line
from agent_os.audit.checkpoint import Anchors

LOOKAHEAD_MAX: Final = 5_000_000
"""Records read after a fault to tell a dropped record from one that was moved; beyond it a fault is named "dropped"."""

EDITED: Final = "edited"
DROPPED: Final = "dropped"
REORDERED: Final = "reordered"
INSERTED: Final = "inserted"
CUT: Final = "cut"
REWRITTEN: Final = "rewritten"
UNANCHORED: Final = "unanchored"
CHECKPOINT: Final = "checkpoint"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong: `kind` is a constant of this module, `seq` the first record concerned, `line` from 1 in
    `segment`.
    """

    kind: str
    seq: int
    segment: str = ""
    line: int = 0
    detail: str = ""

    def __str__(self) -> str:
        place = f" ({self.segment}:{self.line})" if self.segment else ""
        return f"record {self.seq}{place}: {self.kind}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Report:
    """What verification found. `ok` means no fault; `head` is the hash (hex) of the last good record.

    `unanchored` counts good records after the last checkpoint: an edit that rewrote all of them would not show.
    """

    writer: str
    ok: bool
    records: int
    first: int
    last: int
    head: str
    anchored: int
    unanchored: int
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the wire form."""
        return asdict(self)


class _Placed(NamedTuple):
    segment: str
    number: int
    raw: bytes


@dataclass(slots=True)
class _Walk:
    """Where the walk along the chain stands: the next sequence number, the hash before it, and the record before."""

    seq: int
    hash: bytes
    before: bytes = b""
    last: _Placed | None = None
    records: int = 0
    good_anchor: int = -1
    retained_until: int = -1


def verify(writer: str, segments: Sequence[tuple[str, Iterable[bytes]]], anchors: Anchors) -> Report:
    """Return the report on one writer's log.

    `segments` are (name, lines with their newlines) in order; `anchors` come from every place checkpoints were kept.
    """
    lines = (_Placed(name, number, raw) for name, each in segments for number, raw in enumerate(each, start=1))
    walk, first = _Walk(0, genesis(writer)), 0
    faults: list[Fault] = []
    notes: list[str] = []
    for index, placed in enumerate(lines):
        line = parse_line(placed.raw)
        if index == 0 and line is not None and line.seq > 0 and (stated := _stated_predecessor(line)):
            first = walk.seq = line.seq
            walk.hash = stated
        if line is not None and line.seq == walk.seq and line.record["writer"] == writer and line.follows(walk.hash):
            anchored = anchors.hashes.get(line.seq, line.hash)
            if anchored == line.hash:
                _advance(walk, placed, line, line.seq in anchors.hashes)
                continue
            faults.append(_contradiction(walk, placed, anchored, next(lines, None)))
        elif not placed.raw.endswith(b"\n") and next(lines, None) is None:
            notes.append(f"the last line is torn ({len(placed.raw)} bytes); the next start recovers and records it")
        else:
            faults.append(_diagnose(walk, placed, line, lines, anchors.hashes.get(walk.seq, b"")))
        break
    if not faults:
        faults.extend(_ending(walk, first, anchors))
    faults.extend(Fault(CHECKPOINT, walk.good_anchor + 1, detail=problem) for problem in anchors.problems)
    last = walk.seq - 1
    return Report(
        writer, not faults, walk.records, first, last, walk.hash.hex(), walk.good_anchor,
        max(0, last - walk.good_anchor), tuple(faults), tuple(notes),
    )  # fmt: skip


def _stated_predecessor(line: Line) -> bytes:
    """Return the hash before a first record that is not record 0; only a segment header states one."""
    stated = line.record.get("previous")
    if line.record.get("type") == "audit.segment" and isinstance(stated, str):
        try:
            return bytes.fromhex(stated)
        except ValueError:
            pass
    return b""


def _advance(walk: _Walk, placed: _Placed, line: Line, anchored: bool) -> None:
    """Step over a record that the chain bears out."""
    if anchored:
        walk.good_anchor = line.seq
    if line.record.get("type") == "audit.retention":
        until = line.record.get("until")
        if type(until) is int:
            walk.retained_until = max(walk.retained_until, until)
    walk.before, walk.hash, walk.last = walk.hash, line.hash, placed
    walk.seq += 1
    walk.records += 1


def _contradiction(walk: _Walk, placed: _Placed, anchored: bytes, following: _Placed | None) -> Fault:
    """Return the fault of a record that follows its predecessor but is not the one a checkpoint speaks of."""
    after = parse_line(following.raw) if following is not None else None
    here = (placed.segment, placed.number)
    if after is not None and after.hash == anchored and after.follows(walk.hash):
        return Fault(INSERTED, walk.seq, *here, "a record that a checkpoint does not know stands here")
    if after is not None and after.seq == walk.seq + 1 and after.follows(anchored):
        return Fault(EDITED, walk.seq, *here, "a checkpoint speaks of another record")
    detail = f"the log was written anew somewhere from here to record {walk.seq}: a checkpoint contradicts it"
    return Fault(REWRITTEN, walk.good_anchor + 1, placed.segment, 0, detail)


def _diagnose(walk: _Walk, placed: _Placed, line: Line | None, rest: Iterator[_Placed], anchored: bytes) -> Fault:
    """Return the fault of the first record that does not hold; the evidence: what follows, and what a checkpoint says."""
    expected, following = walk.seq, next(rest, None)
    after = parse_line(following.raw) if following is not None else None
    here = (placed.segment, placed.number)
    if line is None:
        return Fault(EDITED, expected, *here, "the line is not a record")
    if line.hash == anchored:
        return Fault(EDITED, expected, *here, "the record does not match the hash that a checkpoint has of it")
    if after is not None and after.follows(line.hash) and after.seq == expected + 1:
        return Fault(EDITED, expected, *here, "the record does not match its hash, or the one before was changed")
    if after is not None and after.seq == expected and after.follows(walk.hash):
        if line.seq == expected + 1 and line.follows(after.hash):
            return Fault(REORDERED, expected, *here, f"record {line.seq} stands in its place")
        return Fault(INSERTED, expected, *here, "a record that the chain does not know stands here")
    if line.seq == expected - 1 and walk.last is not None and line.follows(walk.before):
        detail = "a record that the chain does not know stands here"
        return Fault(INSERTED, line.seq, walk.last.segment, walk.last.number, detail)
    if line.seq == expected:
        return Fault(EDITED, expected, *here, "the record does not match its hash, or the one before was changed")
    if line.seq < expected:
        return Fault(INSERTED, line.seq, *here, "a record appears a second time")
    if after is not None and after.seq == expected:
        return Fault(REORDERED, expected, *here, f"record {line.seq} stands in its place")
    for count, later in enumerate(rest):
        if count >= LOOKAHEAD_MAX:
            break
        moved = parse_line(later.raw)
        if moved is not None and moved.seq == expected:
            return Fault(REORDERED, expected, *here, f"record {line.seq} stands in its place")
    return Fault(DROPPED, expected, *here, f"records {expected} to {line.seq - 1} are missing")


def _ending(walk: _Walk, first: int, anchors: Anchors) -> Iterator[Fault]:
    """Yield what is wrong with a log whose every record holds."""
    if first > 0 and walk.retained_until < first - 1:
        yield Fault(DROPPED, 0, detail=f"records 0 to {first - 1} are missing and no retention record says so")
    latest = anchors.latest
    if latest is None:
        yield Fault(UNANCHORED, max(first, 0), detail="no checkpoint holds, so a missing end would not show")
    elif latest.seq >= walk.seq:
        detail = f"the log ends at record {walk.seq - 1}, a checkpoint says it reached {latest.seq}"
        yield Fault(CUT, walk.seq, latest.segment, detail=detail)
    elif walk.good_anchor < 0:
        yield Fault(UNANCHORED, max(first, 0), detail="no checkpoint concerns any record that is here")
