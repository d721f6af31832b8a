"""Control groups: what is written for a limit, in both versions, and where a bandwidth limit could not hold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent_os.core.errors import EnforcementError
from agent_os.effects.sandbox import cgroups, group
from agent_os.effects.sandbox.cgroups import Hierarchy
from agent_os.guards.confine import Limits

LIMITS = Limits(memory_bytes=64 << 20, swap_bytes=1 << 20, processes=40, cpus=1.5, io_bytes_per_second=1 << 20)


def written(version: int, controller: str, limits: Limits = LIMITS) -> dict[str, str]:
    """Return file -> what stands in it after every write."""
    return {file: value for file, value, _ in group.settings(version, controller, limits, ("8:0", "254:16"))}


def test_version_1_and_2_say_the_same_in_their_own_words() -> None:
    """Memory with its swap, processes, processor share and bandwidth of each disk stand in the files of each version."""
    assert written(1, "memory") == {"memory.limit_in_bytes": "67108864", "memory.memsw.limit_in_bytes": "68157440"}
    assert written(2, "memory") == {"memory.max": "67108864", "memory.swap.max": "1048576", "memory.oom.group": "1"}
    assert written(1, "pids") == written(2, "pids") == {"pids.max": "40"}
    assert written(1, "cpu") == {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "150000"}
    assert written(2, "cpu") == {"cpu.max": "150000 100000"}
    assert set(written(1, "io")) == {"blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device"}
    both = [value for _, value, _ in group.settings(2, "io", LIMITS, ("8:0", "254:16"))]
    assert both == ["8:0 rbps=1048576 wbps=1048576", "254:16 rbps=1048576 wbps=1048576"]


def test_no_limit_is_written_as_none() -> None:
    """A prepared group can be given back its freedom: zero stands for no limit in every file."""
    free = Limits(memory_bytes=0, processes=0)
    assert written(1, "memory", free) == {"memory.limit_in_bytes": "-1", "memory.memsw.limit_in_bytes": "-1"}
    assert written(2, "memory", free)["memory.max"] == "max"
    assert written(1, "pids", free) == {"pids.max": "max"}


def test_a_limit_that_cannot_be_written_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that lacks the controller's files (here: one that is no control group at all) lets no run begin."""
    monkeypatch.setattr(group, "hierarchies", lambda: [Hierarchy(1, tmp_path, frozenset({"memory", "pids"}))])
    with pytest.raises(EnforcementError, match="limit_in_bytes"):
        group.RunGroup(LIMITS)
    assert list(tmp_path.iterdir()) == []


def test_a_mixed_machine_asks_each_hierarchy_for_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where version 2 has some controllers and version 1 the others, version 2 is asked to hand down only its own."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    (two / "cgroup.subtree_control").write_text("")
    found = [Hierarchy(1, one, frozenset({"memory"})), Hierarchy(2, two, frozenset({"pids", "io"}))]
    monkeypatch.setattr(group, "hierarchies", lambda: found)
    with pytest.raises(EnforcementError, match="control-group"):  # plain folders have no files to write
        group.RunGroup(Limits(memory_bytes=1 << 20))
    assert (two / "cgroup.subtree_control").read_text() == "+pids"


def test_memory_file_systems_have_no_bandwidth_to_limit() -> None:
    """A writable place on no disk is refused; one that is only looked at is passed over."""
    if os.major(os.stat("/proc").st_dev) != 0:
        pytest.skip("/proc lies on a disk here")
    with pytest.raises(EnforcementError, match="no disk"):
        cgroups.block_devices([("/proc", True)])
    assert cgroups.block_devices([("/proc", False)]) == ()
