"""Every single mutation of a closed log is found: edit, drop, swap, insert, cut, flipped byte; and none is imagined."""

from __future__ import annotations

from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent_os.audit.chain import genesis, seal
from agent_os.audit.checkpoint import Checkpoint, anchors, sign, verifier
from agent_os.audit.verify import CUT, DROPPED, EDITED, INSERTED, REORDERED, REWRITTEN, Report, verify

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
VERIFIER = verifier({"k1": KEY.public_key().public_bytes_raw()})
LENGTH = 12


def records(count: int = LENGTH) -> list[dict[str, object]]:
    """Return plain records, floats and non-ASCII text among them."""
    return [
        {"type": "intent", "time": 1700000000.25 + n, "ref": f"r{n}", "note": "é☃"[: n % 3], "seq": n, "writer": "w"}
        for n in range(count)
    ]


def chained(entries: list[dict[str, object]]) -> tuple[list[bytes], list[bytes]]:
    """Return (lines, hashes)."""
    previous, lines, hashes = genesis("w"), [], []
    for entry in entries:
        line, previous = seal(previous, entry)
        lines.append(line)
        hashes.append(previous)
    return lines, hashes


def anchor(seq: int, digest: bytes) -> bytes:
    """Return a stored, signed checkpoint."""
    return sign(Checkpoint("w", seq, digest.hex(), 1700000000.5, "0.jsonl", 0), "k1", KEY.sign).line()


@lru_cache
def log() -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Return the lines, hashes and checkpoints (at record 5 and at the end) of one good log."""
    lines, hashes = chained(records())
    return lines, hashes, [anchor(5, hashes[5]), anchor(LENGTH - 1, hashes[-1])]


def check(data: bytes, kept: list[bytes]) -> Report:
    """Verify a log given as the bytes of two segments' worth of lines."""
    lines = data.splitlines(keepends=True) if b"\r" not in data else [part + b"\n" for part in data.split(b"\n")]
    lines = [line for line in data.replace(b"\n", b"\n\x00").split(b"\x00") if line] if b"\x00" not in data else lines
    return verify("w", [("a.jsonl", lines)], anchors("w", kept, VERIFIER))


def test_an_untouched_log_verifies() -> None:
    """The benign twin of every mutation below: nothing is found where nothing was done."""
    lines, _, kept = log()
    report = check(b"".join(lines), kept)
    assert report.ok
    assert (report.records, report.last, report.anchored, report.unanchored) == (LENGTH, LENGTH - 1, LENGTH - 1, 0)


@settings(max_examples=400, deadline=None)
@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
@example(position=119668946, mask=1)
def test_any_flipped_byte_is_found_at_its_record(position: int, mask: int) -> None:
    """One changed byte anywhere is found, and the record named is the one it stands in."""
    lines, _, kept = log()
    data = bytearray(b"".join(lines))
    position %= len(data)
    data[position] ^= mask
    report = check(bytes(data), kept)
    assert not report.ok
    assert report.faults[0].seq == b"".join(lines)[:position].count(b"\n")


@given(st.integers(0, LENGTH - 1))
def test_a_dropped_record_is_named(index: int) -> None:
    """A record taken out is named, the last one as cut off."""
    lines, _, kept = log()
    report = check(b"".join(lines[:index] + lines[index + 1 :]), kept)
    assert (report.faults[0].kind, report.faults[0].seq) == (CUT if index == LENGTH - 1 else DROPPED, index)


@given(st.integers(0, LENGTH - 1), st.integers(0, LENGTH - 1))
def test_two_records_that_changed_places_are_named(one: int, other: int) -> None:
    """A swap is found at the first place where it shows."""
    lines, _, kept = log()
    swapped = list(lines)
    swapped[one], swapped[other] = swapped[other], swapped[one]
    report = check(b"".join(swapped), kept)
    if one == other:
        assert report.ok
    else:
        assert (report.faults[0].kind, report.faults[0].seq) == (REORDERED, min(one, other))


@given(st.integers(0, LENGTH - 1), st.integers(0, LENGTH))
def test_a_record_that_appears_twice_is_named(source: int, place: int) -> None:
    """A copy of a record put anywhere is an insertion (or shows as a move when it stands ahead of its original)."""
    lines, _, kept = log()
    report = check(b"".join([*lines[:place], lines[source], *lines[place:]]), kept)
    assert not report.ok
    assert report.faults[0].kind in (INSERTED, REORDERED)


def test_what_is_appended_after_the_last_checkpoint_is_counted_as_unanchored() -> None:
    """Whoever can write the file can add to its end until the next checkpoint: the report says how many such
    records.
    """
    lines, hashes, kept = log()
    forged, _ = seal(hashes[-1], {"type": "intent", "seq": LENGTH, "writer": "w"})
    report = check(b"".join([*lines, forged]), kept)
    assert (report.ok, report.anchored, report.unanchored) == (True, LENGTH - 1, 1)


@given(st.integers(0, LENGTH - 1), st.booleans())
def test_a_forged_record_is_named(place: int, consistent: bool) -> None:
    """An insertion is found even when its own hash is right for the place it stands in."""
    lines, hashes, kept = log()
    before = genesis("w") if place == 0 else hashes[place - 1]
    forged, _ = seal(before if consistent else b"?" * 32, {"type": "intent", "seq": place, "writer": "w"})
    report = check(b"".join([*lines[:place], forged, *lines[place:]]), kept)
    assert not report.ok
    assert (report.faults[0].kind, report.faults[0].seq) == (INSERTED, place)


@given(st.integers(0, LENGTH - 1))
def test_an_edit_with_its_own_hash_mended_is_named(index: int) -> None:
    """Mending the edited record's hash moves nothing: its successor no longer follows, or a checkpoint contradicts
    it.
    """
    lines, hashes, kept = log()
    entry = {**records()[index], "ref": "forged"}
    line, _ = seal(genesis("w") if index == 0 else hashes[index - 1], entry)
    report = check(b"".join([*lines[:index], line, *lines[index + 1 :]]), kept)
    assert not report.ok
    assert report.faults[0].seq <= index + 1
    assert report.faults[0].kind in (EDITED, REWRITTEN)


@given(st.integers(0, LENGTH - 1))
def test_a_tail_written_anew_is_contradicted_by_a_checkpoint(index: int) -> None:
    """A log rewritten from any record on, consistent in itself, is caught; the first doubtful record is named."""
    _, _, kept = log()
    entries = records()
    entries[index] = {**entries[index], "ref": "forged"}
    report = check(b"".join(chained(entries)[0]), kept)
    assert not report.ok
    assert report.faults[0].kind == REWRITTEN
    assert report.faults[0].seq <= index


@given(st.integers(1, 4000))
def test_a_log_cut_off_at_any_byte_is_found(count: int) -> None:
    """Cut off at the end, on a line's border or within one: the first missing record is named."""
    lines, _, kept = log()
    data = b"".join(lines)
    count = min(count, len(data))
    report = check(data[:-count], kept)
    assert not report.ok
    assert (report.faults[0].kind, report.faults[0].seq) == (CUT, data[:-count].count(b"\n"))


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
@example(158, 32)  # the case of a hexadecimal digit
def test_a_changed_checkpoint_is_found(position: int, mask: int) -> None:
    """A flipped byte in a stored checkpoint is reported; only one that ends it early reads as a write cut short."""
    lines, _, kept = log()
    data = bytearray(kept[1])
    position %= len(data) - 1
    data[position] ^= mask
    parts = [part + b"\n" for part in bytes(data)[:-1].split(b"\n")]
    report = check(b"".join(lines), [kept[0], *parts])
    assert not report.ok


def test_a_log_without_checkpoints_does_not_verify() -> None:
    """Without an anchor a missing end would not show, so the answer is no."""
    lines, _, _ = log()
    report = check(b"".join(lines), [])
    assert [fault.kind for fault in report.faults] == ["unanchored"]


def test_lines_of_another_writer_do_not_fit() -> None:
    """A log copied into another writer's place fails at its first record."""
    lines, _, kept = log()
    report = verify("other", [("a.jsonl", lines)], anchors("w", kept, VERIFIER))
    assert report.faults[0].seq == 0


def test_two_signed_checkpoints_that_contradict_each_other_are_reported() -> None:
    """A fork of the log (a restored backup that went on) shows even if one branch is whole."""
    lines, hashes, kept = log()
    report = check(b"".join(lines), [*kept, anchor(5, hashes[4])])
    assert not report.ok
    assert any("contradict" in fault.detail for fault in report.faults)
