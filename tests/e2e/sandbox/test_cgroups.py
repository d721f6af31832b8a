"""Control groups of runs: made, entered, removed; what killed supervisors left is swept."""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path

import pytest

from agent_os.core.errors import EnforcementError
from agent_os.effects.sandbox import cgroups, group
from agent_os.guards.confine import Confinement, Limits
from agent_os.runtime.sandbox.prepare import SandboxSettings, prepare, run_captured

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(not cgroups.available()[0], reason="no control group can be made by this user"),
]


def _groups() -> set[str]:
    return {str(path) for one in cgroups.hierarchies() for path in one.directory.glob(group.PREFIX + "*")}


def test_a_run_leaves_no_group_behind(tmp_path: Path) -> None:
    """The groups of a run are gone when it has ended."""
    before = _groups()
    (tmp_path / "ws").mkdir()
    (tmp_path / "state").mkdir(mode=0o700)
    conf = Confinement(read_only=("/usr", "/lib", "/lib64", "/bin"), limits=Limits(memory_bytes=64 << 20, processes=40))
    made = prepare(conf, SandboxSettings(workspace=str(tmp_path / "ws")), state=tmp_path / "state")
    assert made.plan.memory_by == "cgroup"
    done = asyncio.run(run_captured(made, ["python3", "-c", "x = bytearray(200 << 20)"]))
    assert done.ended.reason == "memory limit"
    assert _groups() - before == set()


def test_groups_of_killed_supervisors_are_swept() -> None:
    """An old empty group of ours is removed by the next run; a young one is left alone."""
    base = cgroups.hierarchies()[0].directory
    old, young = (base / f"{group.PREFIX}test-{secrets.token_hex(4)}" for _ in range(2))
    old.mkdir()
    young.mkdir()
    try:
        os.utime(old, (1, 1))
        group.RunGroup(Limits(memory_bytes=64 << 20)).close()
        assert young.exists()
        assert not old.exists()
    finally:
        for path in (old, young):
            if path.exists():
                path.rmdir()


@pytest.mark.root
@pytest.mark.skipif("io" not in cgroups.available()[1], reason="no io (blkio) control group can be made by this user")
def test_reading_from_the_disk_is_held_back(tmp_path: Path) -> None:
    """A run limited to 4 MiB a second takes at least a second to read 6 MiB past the page cache, and reads it whole."""
    (tmp_path / "ws").mkdir()
    (tmp_path / "state").mkdir(mode=0o700)
    try:
        cgroups.block_devices([(str(tmp_path), True)])
    except EnforcementError:
        pytest.skip("the temporary folder lies on no disk")
    data = tmp_path / "ws" / "data"
    with data.open("wb") as file:
        file.write(os.urandom(6 << 20))
        os.fsync(file.fileno())
    conf = Confinement(read_only=("/usr", "/lib", "/lib64", "/bin"), limits=Limits(io_bytes_per_second=4 << 20))
    settings = SandboxSettings(workspace=str(tmp_path / "ws"), allow_missing=("io-limit-of-buffered-writes",))
    made = prepare(conf, settings, state=tmp_path / "state")
    assert "io-limit" not in made.plan.missing
    done = asyncio.run(run_captured(made, ["dd", "if=data", "of=/dev/null", "bs=1M", "iflag=direct"]))
    if b"Invalid argument" in done.stderr:
        pytest.skip("this file system knows no direct reads")
    assert done.ended.returncode == 0, done.stderr
    assert b"6291456 bytes" in done.stderr
    assert done.ended.wall_seconds >= 1.0
