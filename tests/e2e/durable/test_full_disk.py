"""The disk of the state directory runs full under a worker: clear errors, nothing half written, and work goes on afterwards."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from agent_os.core.task import TaskState
from agent_os.runtime.audit import open_audit
from tests.e2e.durable.support import Site
from tests.e2e.durable.worker import lines


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


@pytest.mark.root
def test_a_disk_that_runs_full_under_a_worker(tmp_path: Path) -> None:
    """On a real small file system: while it is full no effect happens unrecorded; with room again the worker goes on by
    itself, no effect was done twice, every ledger and the audit are whole.
    """
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    disk = tmp_path / "state"
    disk.mkdir(mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m,mode=0700", "tmpfs", disk],
        capture_output=True,
        timeout=10,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("this container may not mount")
    site = Site(tmp_path)
    try:
        ids = [f"tsk_{number}" for number in range(6)]
        site.submit(*(site.request("naps", id=each, count=60) for each in ids))
        site.start(5.0)
        site.wait_for_lines(12)
        _fill(disk / "ballast")
        limit, count = time.monotonic() + 60, -1
        while count != len(lines(str(site.work))):  # until nothing happens any more
            count = len(lines(str(site.work)))
            time.sleep(1.0)
            assert time.monotonic() < limit
        assert count < 360, "effects went on with a full disk"
        (disk / "ballast").unlink()
        ended = site.wait(ids)
        assert {task.state for task in ended} <= {TaskState.DONE, TaskState.FAILED}, ended
        for task in ended:
            assert task.state is TaskState.DONE or any(
                said in task.reason for said in ("disk is full", "No space left", "interrupted", "audit")
            ), task.reason
        assert site.repeated() == {}
        site.submit(site.request("steps", id="after"))
        assert site.wait(["after"])[0].state is TaskState.DONE
        reader = open_audit(environment=site.environment)
        assert all(reader.report(writer).ok for writer in reader.writers())
    finally:
        site.close()
        subprocess.run(["umount", "-l", disk], check=False, timeout=10)
