"""The sink on real files: durability, restart, torn ends, rotation, retention, disks that are full, read-only or
hang.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent_os.core.errors import EffectError, IntegrityError
from agent_os.effects import audit_queue
from agent_os.effects.audit_files import AuditFiles, WriterBusyError, segments_of
from agent_os.effects.audit_log import AuditLog
from agent_os.effects.audit_tee import TeeAudit
from tests.unit.effects.audit_support import INTENT, check, open_log, segment, types


async def test_an_awaited_record_is_on_disk(tmp_path: Path) -> None:
    """When the awaitable ends the record stands in the file, before anything is closed."""
    log = open_log(tmp_path)
    await log.append(INTENT)
    assert b'"ref":"act_1"' in segment(tmp_path).read_bytes()
    log.close()
    assert check(tmp_path).ok


async def test_records_of_many_callers_keep_their_order_and_verify(tmp_path: Path) -> None:
    """Each caller's records follow one another; the whole is one chain with a checkpoint at its end."""
    log = open_log(tmp_path)

    async def caller(name: int) -> None:
        for count in range(50):
            await log.append({"type": "intent", "ref": f"{name}-{count}"})

    await asyncio.gather(*(caller(name) for name in range(20)))
    log.close()
    report = check(tmp_path)
    assert report.ok
    assert report.records == 1000 + 2
    assert report.anchored == report.last
    refs = [line.split(b'"ref":"')[1].split(b'"')[0] for line in segment(tmp_path).read_bytes().splitlines()[2:]]
    for name in range(20):
        own = [int(ref.split(b"-")[1]) for ref in refs if ref.startswith(b"%d-" % name)]
        assert own == list(range(50))


async def test_what_nobody_waits_for_goes_with_what_somebody_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outcomes stand aside for the intent behind them and share its sync; the intent waits for nobody."""
    monkeypatch.setattr(audit_queue, "LINGER_SECONDS", 60.0)
    syncs: list[int] = []
    real = AuditFiles.write
    monkeypatch.setattr(AuditFiles, "write", lambda self, data, first: (syncs.append(first), real(self, data, first)))
    log = open_log(tmp_path)
    before = len(syncs)
    for number in range(3):
        log.append({"type": "outcome", "ref": f"act_{number}"})
        await asyncio.sleep(0.02)
    assert types(tmp_path) == ["audit.segment", "audit.started"]
    async with asyncio.timeout(20):
        await log.append(INTENT)
    assert types(tmp_path)[2:] == ["outcome"] * 3 + ["intent"]
    assert len(syncs) == before + 1
    log.append({"type": "outcome", "ref": "act_9"})
    log.close()
    assert types(tmp_path)[-1] == "outcome", "an orderly end waits for nothing"
    assert check(tmp_path).ok


async def test_what_nobody_waits_for_is_written_soon(tmp_path: Path) -> None:
    """A record without company is durable all the same, with nothing behind it."""
    log = open_log(tmp_path)
    log.append({"type": "outcome", "ref": "act_1"})
    async with asyncio.timeout(20):
        while types(tmp_path)[-1] != "outcome":
            await asyncio.sleep(0.005)
    log.close()


async def test_a_loop_that_stands_still_holds_no_record_back(tmp_path: Path) -> None:
    """A record that nobody waits for is on the disk before long, also when the loop of whoever left it does nothing more."""
    log = open_log(tmp_path)
    await log.append(INTENT)
    log.append({"type": "outcome", "ref": "act_1"})
    end = time.monotonic() + 20
    while types(tmp_path)[-1] != "outcome" and time.monotonic() < end:
        time.sleep(0.01)
    assert types(tmp_path)[-1] == "outcome"
    log.close()


def test_threads_without_a_loop_are_written_soon(tmp_path: Path) -> None:
    """A caller on a plain thread, too, leaves records that nobody waits for."""
    log = open_log(tmp_path)
    for number in range(3):
        log.append({"type": "outcome", "ref": f"act_{number}"})
        end = time.monotonic() + 20
        while types(tmp_path)[2:] != ["outcome"] * (number + 1) and time.monotonic() < end:
            time.sleep(0.01)
    assert types(tmp_path)[2:] == ["outcome"] * 3
    log.close()
    assert check(tmp_path).ok


async def test_waiters_of_many_loops_and_outcomes_between_them_all_end(tmp_path: Path) -> None:
    """However waiting, leaving and sleeping fall together, every waiter is woken, and every record is there once."""
    log = open_log(tmp_path)

    async def work(name: int) -> None:
        for number in range(60):
            log.append({"type": "outcome", "ref": f"{name}.{number}"})
            await asyncio.sleep((name * number % 5) * 0.0007)
            await log.append(INTENT)

    threads = [asyncio.to_thread(asyncio.run, work(name)) for name in range(4)]
    async with asyncio.timeout(60):
        await asyncio.gather(*threads, *(work(name) for name in range(4, 8)))
    log.close()
    found = types(tmp_path)
    assert (found.count("intent"), found.count("outcome")) == (480, 480)
    assert check(tmp_path).ok


async def test_a_restart_continues_the_chain(tmp_path: Path) -> None:
    """A second run appends to the same chain, and the log says that it started anew."""
    for _ in range(3):
        log = open_log(tmp_path)
        await log.append(INTENT)
        log.close()
    assert types(tmp_path) == ["audit.segment", *(["audit.started", "intent"] * 3)]
    assert check(tmp_path).ok


async def test_a_torn_last_line_is_cut_kept_and_recorded(tmp_path: Path) -> None:
    """What a crash left half written is set aside, said in the log, and the chain goes on and verifies."""
    log = open_log(tmp_path)
    await log.append(INTENT)
    log.close()
    with segment(tmp_path).open("ab") as file:
        file.write(b'{"hash":"00')
    assert check(tmp_path).ok, "a torn end after the last checkpoint is no tampering"
    assert check(tmp_path).notes
    open_log(tmp_path).close()
    assert check(tmp_path).ok
    assert types(tmp_path)[-2:] == ["audit.recovered", "audit.started"]
    assert [path.read_bytes() for path in (tmp_path / "audit" / "main").glob("*.cut")] == [b'{"hash":"00']


async def test_a_log_cut_before_its_checkpoint_does_not_open(tmp_path: Path) -> None:
    """Records that a checkpoint speaks of are gone: the sink refuses to go on as if nothing were missing."""
    log = open_log(tmp_path)
    await log.append(INTENT)
    log.close()
    path = segment(tmp_path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(IntegrityError, match="checkpoint"):
        open_log(tmp_path)
    assert check(tmp_path).faults[0].kind == "cut"


async def test_a_log_that_vanished_does_not_open(tmp_path: Path) -> None:
    """Deleting the whole log does not give a fresh start while the checkpoints beside it remember."""
    log = open_log(tmp_path)
    log.close()
    for path in (tmp_path / "audit" / "main").glob("*.jsonl"):
        path.unlink()
    with pytest.raises(IntegrityError, match="gone"):
        open_log(tmp_path)
    assert not check(tmp_path).ok


async def test_a_second_process_cannot_write_the_same_chain(tmp_path: Path) -> None:
    """The writer's lock is exclusive, across processes too; it is free again after the close."""
    log = open_log(tmp_path)
    with pytest.raises(WriterBusyError):
        open_log(tmp_path)
    code = "import sys, pathlib, tests.unit.effects.audit_support as t; t.open_log(pathlib.Path(sys.argv[1]))"
    other = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=30, check=False
    )
    assert "WriterBusyError" in other.stderr
    log.close()
    open_log(tmp_path).close()


async def test_rotation_makes_segments_of_one_chain(tmp_path: Path) -> None:
    """Full segments are left for new ones; the chain runs through all of them."""
    log = open_log(tmp_path, segment_bytes=2_000)
    for _ in range(60):
        await log.append(INTENT)
    log.close()
    assert len(segments_of(tmp_path / "audit" / "main")) > 3
    report = check(tmp_path)
    assert report.ok
    assert (report.first, report.last) == (0, report.records - 1)
    open_log(tmp_path, segment_bytes=2_000).close()
    assert check(tmp_path).ok


async def test_a_segment_that_is_deleted_is_found(tmp_path: Path) -> None:
    """Taking a whole segment out is a dropped record, at the front as well as in the middle."""
    log = open_log(tmp_path, segment_bytes=2_000)
    for _ in range(60):
        await log.append(INTENT)
    log.close()
    files = segments_of(tmp_path / "audit" / "main")
    for victim in (files[0], files[2]):
        data = victim.read_bytes()
        victim.unlink()
        fault = check(tmp_path).faults[0]
        assert fault.kind == "dropped"
        assert fault.seq == int(victim.stem)
        victim.write_bytes(data)
    assert check(tmp_path).ok


async def test_retention_deletes_old_segments_and_says_so(tmp_path: Path) -> None:
    """Segments past their time go, the log records which, and what is left verifies."""
    log = open_log(tmp_path, segment_bytes=2_000, retention_days=1)
    for _ in range(40):
        await log.append(INTENT)
    log.close()
    before = segments_of(tmp_path / "audit" / "main")
    for path in before[:2]:
        os.utime(path, (time.time() - 2 * 86_400,) * 2)
    log = open_log(tmp_path, segment_bytes=2_000, retention_days=1)
    for _ in range(20):
        await log.append(INTENT)
    log.close()
    after = segments_of(tmp_path / "audit" / "main")
    assert before[0] not in after
    assert before[1] not in after
    assert "audit.retention" in types(tmp_path)
    report = check(tmp_path)
    assert report.ok
    assert report.first == int(before[2].stem)


@pytest.mark.parametrize("content", [object(), "x" * (1 << 20)], ids=["no json", "too large"])
async def test_a_record_that_cannot_be_written_fails_alone(tmp_path: Path, content: object) -> None:
    """Its awaitable raises, the log says that something was not recorded, the records around it are whole."""
    log = open_log(tmp_path)
    first, bad, last = log.append(INTENT), log.append({"type": "intent", "x": content}), log.append(INTENT)
    await first
    with pytest.raises(EffectError, match="JSON"):
        await bad
    await last
    log.close()
    assert types(tmp_path)[2:] == ["intent", "audit.defect", "intent"]
    assert check(tmp_path).ok


async def test_a_closed_log_refuses(tmp_path: Path) -> None:
    """After the close nothing is queued into nowhere."""
    log = open_log(tmp_path)
    log.close()
    with pytest.raises(EffectError, match="closed"):
        log.append(INTENT)


# ---- disks that fail -----------------------------------------------------------------------------------------------

FULL = """
import asyncio, resource, sys
from pathlib import Path
from agent_os.core.errors import EffectError
from tests.unit.effects.audit_support import INTENT, open_log

async def main():
    log = open_log(Path(sys.argv[1]))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    written = 0
    try:
        while True:
            await log.append(INTENT)
            written += 1
    except EffectError as error:
        print("failed:", error)
    try:
        log.append(INTENT)
        print("not refused")
    except EffectError as error:
        print("refused:", error)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    await asyncio.sleep(0.6)
    await log.append(INTENT)
    print("written", written)
    log.close()

asyncio.run(main())
"""


def test_a_full_disk_fails_the_record_refuses_and_recovers(tmp_path: Path) -> None:
    """At the file size limit the write fails for real: nothing is half there, and once there is room the log goes
    on.
    """
    run = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    said = dict(line.split(maxsplit=1) for line in run.stdout.splitlines())
    assert "File too large" in said["failed:"]
    assert "File too large" in said["refused:"]
    assert types(tmp_path).count("intent") == int(said["written"]) + 1
    assert "audit.interrupted" in types(tmp_path)
    assert check(tmp_path).ok
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 3000


@pytest.mark.root
async def test_a_full_and_then_a_read_only_file_system(tmp_path: Path) -> None:
    """On a real small file system: full denies, read-only denies, and each time the chain is whole afterwards."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    disk = tmp_path / "disk"
    disk.mkdir(mode=0o700)
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m,nr_inodes=200,mode=0700", "tmpfs", disk],
        capture_output=True,
        timeout=10,
        check=False,
    )
    if mount.returncode != 0:
        pytest.skip("this container may not mount")
    try:
        log = open_log(disk)
        ballast = disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                pass

        async def fill() -> None:
            for _ in range(10_000):
                await log.append(INTENT)

        with pytest.raises(EffectError, match="No space left"):
            await fill()
        ballast.unlink()
        await asyncio.sleep(0.6)
        await log.append(INTENT)
        assert check(disk).ok
        log.close()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True, timeout=10)
        with pytest.raises(EffectError, match="Read-only"):
            open_log(disk)
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True, timeout=10)
        open_log(disk).close()
        assert check(disk).ok
    finally:
        subprocess.run(["umount", "-l", disk], check=False, timeout=10)


def _stuck_pipe() -> tuple[int, int]:
    """Return (read end, write end) of a pipe that is full: the next blocking write to it hangs."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 65_536)
    except BlockingIOError:
        pass
    os.set_blocking(writing, True)
    return reading, writing


PATIENCE = 30.0
"""Seconds after which a test says that nothing happens any more; far above what a busy machine needs."""


async def until_refused(log: AuditLog, why: str) -> None:
    """Append until the log refuses at once, with a reason that holds `why`."""
    while True:
        try:
            log.append(INTENT)
        except EffectError as error:
            if why in str(error):
                return
        await asyncio.sleep(0.02)


async def until_taken(log: AuditLog) -> None:
    """Append until a record is durable again."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await log.append(INTENT)
            except EffectError:
                await asyncio.sleep(0.05)


async def test_a_hung_disk_fails_within_the_timeout_and_recovers(tmp_path: Path) -> None:
    """A write that never returns: waiters get an error in time, new records are refused, and all is well once it
    ends.
    """
    log = open_log(tmp_path, timeout=0.4)
    await log.append(INTENT)
    reading, writing = _stuck_pipe()
    os.dup2(writing, log._files.descriptor)  # the kernel's descriptor of the segment now leads to a device that hangs
    os.close(writing)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(EffectError, match="not durable within"):
            await log.append(INTENT)
        await until_refused(log, "does not answer")
    os.close(reading)  # the device comes back with an error
    await until_taken(log)
    log.close()
    assert check(tmp_path).ok
    assert "audit.interrupted" in types(tmp_path)


async def test_a_second_sink_carries_on_while_the_first_hangs(tmp_path: Path) -> None:
    """With two sinks a record is durable when one has it; the second log is whole and has everything."""
    one, two = open_log(tmp_path / "one", timeout=2 * PATIENCE), open_log(tmp_path / "two", timeout=PATIENCE)
    tee = TeeAudit(one, two)
    await tee.append(INTENT)
    reading, writing = _stuck_pipe()
    os.dup2(writing, one._files.descriptor)
    os.close(writing)
    async with asyncio.timeout(PATIENCE):  # nobody waits for the sink that hangs
        for _ in range(20):
            await tee.append(INTENT)
    os.close(reading)
    await until_taken(one)
    one.close()
    two.close()
    assert types(tmp_path / "two").count("intent") == 21
    assert check(tmp_path / "two").ok
    assert check(tmp_path / "one").ok


async def test_no_sink_left_means_no_record(tmp_path: Path) -> None:
    """When every sink refuses, so does the pair."""
    one, two = open_log(tmp_path / "one"), open_log(tmp_path / "two")
    one.close()
    two.close()
    with pytest.raises(EffectError, match="closed"):
        TeeAudit(one, two).append(INTENT)


async def test_a_link_in_place_of_a_segment_is_refused(tmp_path: Path) -> None:
    """A segment swapped for a link to somewhere else is not followed."""
    log = open_log(tmp_path)
    log.close()
    path = segment(tmp_path)
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "moved")
    with pytest.raises(EffectError):
        open_log(tmp_path)


async def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    """Nothing the audit creates can be read by other users."""
    log = open_log(tmp_path / "state")
    await log.append(INTENT)
    log.close()
    for path in (tmp_path / "state").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    held = os.open(tmp_path / "state" / "audit" / "main" / ".lock", os.O_RDWR)
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(held)
