"""Control groups of runs: made, entered, removed; what killed supervisors left is swept."""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path

import pytest

from agent_os.effects.sandbox import cgroups
from agent_os.guards.confine import Confinement, Limits
from agent_os.runtime.sandbox import SandboxSettings, prepare, run_captured

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(not cgroups.available()[0], reason="no control group can be made by this user"),
]


def _groups() -> set[str]:
    return {str(path) for base in set(cgroups._bases().values()) for path in base.glob(cgroups.PREFIX + "*")}


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
    base = next(iter(cgroups._bases().values()))
    old, young = (base / f"{cgroups.PREFIX}test-{secrets.token_hex(4)}" for _ in range(2))
    old.mkdir()
    young.mkdir()
    try:
        os.utime(old, (1, 1))
        cgroups.RunGroup(Limits(memory_bytes=64 << 20)).close()
        assert young.exists()
        assert not old.exists()
    finally:
        for path in (old, young):
            if path.exists():
                path.rmdir()
