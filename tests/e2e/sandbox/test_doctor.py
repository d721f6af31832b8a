"""`agentos doctor` tries the layers and says what is missing; a run that asks for a missing one is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent_os.effects.sandbox import probe
from agent_os.guards.confine import HostFacts
from agent_os.runtime.doctor import _layers

pytestmark = pytest.mark.kernel


def test_every_layer_was_met_inside() -> None:
    """Where a sandbox can be had, the probe inside met each layer, and the status is 0."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run(
        [sys.executable, "-m", "agent_os", "doctor", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = json.loads(done.stdout)
    assert found["sandbox"] is (done.returncode == 0)
    states = {row["layer"]: row["state"] for row in found["layers"]}
    assert states["seccomp"] == states["private-root"] == states["capabilities"] == "enforced"
    assert all(row["fix"] for row in found["layers"] if row["state"] == "missing")
    speed = {row["part"]: row for row in found["speed"]}
    assert set(speed) == {"event-loop", "json-encoder", "tunnel-carrier"}
    assert all(row["fast"] or row["fix"] for row in speed.values())


def test_what_is_missing_is_named_with_what_it_takes() -> None:
    """Without Landlock, cgroups and user name spaces the rows say so; nothing is called enforced that was not met."""
    real = probe.host_facts()
    poor: HostFacts = replace(
        real,
        landlock_abi=0,
        controllers=frozenset(),
        namespaces=real.namespaces - {"user"},
        missing={"user-namespace": "sysctl is 0"},
    )
    rows = {layer.name: layer for layer in _layers(poor, {}, "no user name space")}
    assert rows["user-namespace"].state == "missing"
    assert "sysctl" in rows["user-namespace"].detail
    assert rows["landlock"].state == "missing"
    assert "5.13" in rows["landlock"].fix
    assert not [
        row
        for row in rows.values()
        if row.state == "enforced" and row.name in ("seccomp", "private-root", "no-way-out")
    ]


def test_a_machine_without_user_namespaces_is_told_once(tmp_path: Path) -> None:
    """Where the kernel gives no user name space (a hardened system, a container) every layer is missing, only the row at fault says
    what mends it, and nothing runs.
    """
    command = f"{sys.executable} -m agent_os"
    script = f"echo 0 > /proc/sys/user/max_user_namespaces && {command} doctor --json; echo $? >&2; {command} run -- touch ran; echo $? >&2"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", script],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if not done.stdout:
        pytest.skip(f"no name space of this test's own: {done.stderr[-200:]}")
    found = json.loads(done.stdout)
    said = done.stderr.splitlines()
    assert found["sandbox"] is False and said[0] == "5" and said[-1] == "125" and not (tmp_path / "ran").exists()
    rows = {row["layer"]: row for row in found["layers"]}
    assert "max_user_namespaces" in rows["user-namespace"]["detail"] and rows["user-namespace"]["fix"]
    for name in ("private-root", "seccomp", "landlock", "network-namespace", "no-way-out"):
        assert (rows[name]["state"], rows[name]["detail"], rows[name]["fix"]) == (
            "missing",
            "not tried without user-namespace",
            "",
        )
