"""`agentos doctor` tries the layers and says what is missing; a run that asks for a missing one is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

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
