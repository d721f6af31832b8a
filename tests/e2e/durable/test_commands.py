"""`agentos task|ps|kill|schedule|worker` as a user types them: a worker starts when one is needed, and nothing else does."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

POLICY = """
version: 1
filesystem_policy: {include_workdir: true}
schedules: {allow: [{name: tick}, {name: nightly}, {name: s}]}
"""
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def agentos(tmp_path: Path) -> Iterator[Run]:
    """The command in a workspace with a policy and two lists of actions; workers it started are ended."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "policy.yaml").write_text(POLICY)
    (work / "in.txt").write_text("hello")
    (work / "good.jsonl").write_text('{"kind": "fs.read", "path": "in.txt"}\n')
    (work / "bad.jsonl").write_text('{"kind": "fs.read", "path": "/etc/passwd"}\n')
    environment = {**os.environ, "AGENTOS_STATE": str(tmp_path / "state")}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "agent_os", *words], cwd=work, env={**environment, "PYTHONPATH": os.getcwd()},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    yield run
    shown = run("ps", "--json")
    for worker in json.loads(shown.stdout)["workers"] if shown.returncode == 0 else []:
        os.kill(worker["pid"], signal.SIGTERM)


def test_a_task_from_submit_to_logs(agentos: Run) -> None:
    """Submitted, run by a worker that was started for it, shown, logged; a denied one ends with exit 3."""
    done = agentos("task", "submit", "--actions", "good.jsonl", "-p", "policy.yaml", "--wait", "--json")
    task = json.loads(done.stdout)
    assert (task["state"], task["result"]) == ("done", {"results": [{"value": "hello"}]})
    denied = agentos("task", "submit", "--actions", "bad.jsonl", "-p", "policy.yaml", "--wait")
    assert (denied.returncode, "no rule allows this" in denied.stdout) == (3, True)
    assert [each["state"] for each in json.loads(agentos("task", "list", "--json").stdout)] == ["failed", "done"]
    assert json.loads(agentos("task", "show", task["id"][:9], "--json").stdout)["id"] == task["id"]
    logged = [json.loads(line)["type"] for line in agentos("task", "logs", task["id"], "--json").stdout.splitlines()]
    assert logged == ["task.submitted", "intent", "outcome"]
    assert len(json.loads(agentos("ps", "--json").stdout)["workers"]) == 1
    assert agentos("ps").stdout.startswith("no agent is at work")
    assert agentos("audit", "verify").returncode == 0
    second = agentos("worker")
    assert (second.returncode, "SQLite means one" in second.stderr) == (1, True)


def test_bad_input_is_named(agentos: Run) -> None:
    """A policy that does not load, a file that is no JSON, an unknown id and state: each its own error, no task."""
    assert agentos("task", "submit", "--actions", "good.jsonl", "-p", "missing.yaml").returncode in (1, 4)
    assert agentos("task", "submit", "--actions", "in.txt", "-p", "policy.yaml").returncode == 2
    assert agentos("task", "submit").returncode == 2
    assert "model" in agentos("task", "submit", "write a poem").stderr
    assert "no task" in agentos("task", "show", "tsk_none").stderr
    assert agentos("task", "list", "--state", "odd").returncode == 2
    assert "five fields" in agentos("schedule", "add", "s", "--cron", "* *", "--actions", "good.jsonl").stderr
    assert agentos("schedule", "add", "s", "--every", "0", "--actions", "good.jsonl").returncode == 2
    assert "exactly one" in agentos("schedule", "add", "s", "--actions", "good.jsonl").stderr
    assert json.loads(agentos("task", "list", "--json").stdout) == []


def test_a_schedule_from_add_to_remove(agentos: Run) -> None:
    """Added with its next runs shown, run, paused, removed; a second one of its name is refused."""
    words = ("schedule", "add", "tick", "--every", "1s", "--actions", "good.jsonl", "-p", "policy.yaml")
    assert agentos(*words).returncode == 0
    assert "called 'tick' already" in agentos(*words).stderr
    nightly = ("schedule", "add", "nightly", "--cron", "30 2 * * *", "--tz", "Europe/Berlin", "--actions", "good.jsonl")
    assert agentos(*nightly).returncode == 3, "the baseline allows no schedule"
    assert "02:30:00" in agentos(*nightly, "-p", "policy.yaml").stdout
    assert len(agentos("schedule", "next", "nightly", "-n", "3").stdout.splitlines()) == 3
    limit = time.monotonic() + 60
    while "done" not in agentos("schedule", "history", "tick").stdout:
        assert time.monotonic() < limit
    assert agentos("schedule", "pause", "tick").returncode == 0
    assert re.search(r"tick +every 1s +paused", agentos("schedule", "list").stdout)
    count = len(json.loads(agentos("schedule", "history", "tick", "-n", "1000", "--json").stdout))
    time.sleep(2)
    assert len(json.loads(agentos("schedule", "history", "tick", "-n", "1000", "--json").stdout)) <= count + 1
    assert agentos("schedule", "resume", "tick").returncode == 0
    assert agentos("schedule", "remove", "tick").returncode == 0
    other = ("schedule", "add", "other", "--every", "1h", "--actions", "good.jsonl", "-p", "policy.yaml")
    assert agentos(*other).returncode == 3
    assert "no schedule" in agentos("schedule", "remove", "tick").stderr


def test_nobody_else_reaches_the_tasks(agentos: Run, tmp_path: Path) -> None:
    """Files are the owner's alone; another uid is refused by the kernel, and a file opened to others by us."""
    done = agentos("task", "submit", "--actions", "good.jsonl", "-p", "policy.yaml", "--wait")
    assert done.returncode == 0, done.stderr
    state = tmp_path / "state"
    assert state.stat().st_mode & 0o777 == 0o700
    for name in ("agents.db", "tasks.lock", "state.db"):
        assert (state / name).stat().st_mode & 0o777 == 0o600, name
    script = f"open({str(state / 'agents.db')!r}, 'rb')"
    if os.geteuid() == 0:
        other = subprocess.run(
            [sys.executable, "-I", "-S", "-c", f"import os; os.setgid(65534); os.setuid(65534); {script}"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert "PermissionError" in other.stderr
        os.chown(state / "agents.db", 65534, 65534)
        assert agentos("task", "list").returncode == 1, "a ledger of somebody else's is none of ours"
        os.chown(state / "agents.db", 0, 0)
    (state / "agents.db").chmod(0o644)
    refused = agentos("task", "list")
    assert (refused.returncode, "may be read by others" in refused.stderr) == (1, True)
    (state / "agents.db").chmod(0o600)
    assert agentos("task", "list").returncode == 0


def test_a_task_is_followed_from_the_command_line(agentos: Run) -> None:
    """`logs --follow` shows every record once and ends with the task; limits are set, listed and taken away."""
    task = agentos("task", "submit", "--actions", "good.jsonl", "-p", "policy.yaml").stdout.strip()
    followed = agentos("task", "logs", task, "--follow", "--json")
    kinds = [json.loads(line)["type"] for line in followed.stdout.splitlines()]
    assert kinds == ["task.submitted", "intent", "outcome"]
    assert agentos("task", "limit", "tool", "send", "--at-once", "2", "--starts", "5", "--within", "1m").returncode == 0
    assert json.loads(agentos("task", "limits", "--json").stdout) == [
        {"scope": "tool", "name": "send", "at_once": 2, "starts": 5, "seconds": 60.0}
    ]
    assert "scope" in agentos("task", "limit", "odd", "send", "--at-once", "2").stderr
    assert agentos("task", "limit", "tool", "send").returncode == 0
    assert json.loads(agentos("task", "limits", "--json").stdout) == []


def test_limits_deadlines_and_dead_letters(agentos: Run) -> None:
    """A tenant at its rate waits; what could not start in time is a dead letter with its reason, and is run again when told."""
    assert agentos("task", "limit", "tenant", "default", "--starts", "1", "--within", "1h").returncode == 0
    words = ("task", "submit", "--actions", "good.jsonl", "-p", "policy.yaml")
    assert agentos(*words, "--wait").returncode == 0
    waits = agentos(*words, "--priority", "1").stdout.strip()
    late = agentos(*words, "--within", "1s").stdout.strip()
    time.sleep(1.5)
    assert json.loads(agentos("task", "show", waits, "--json").stdout)["state"] == "ready"
    assert agentos("task", "limit", "tenant", "default").returncode == 0
    limit = time.monotonic() + 60
    while {json.loads(agentos("task", "show", each, "--json").stdout)["state"] for each in (waits, late)} != {
        "done",
        "dead",
    }:
        assert time.monotonic() < limit
    dead = agentos("task", "list", "--state", "dead").stdout
    assert "dead letter" in dead
    assert "its deadline passed before it could start" in dead
    assert f"agentos task redo {late}" in agentos("task", "show", late).stdout
    assert agentos("task", "redo", late).returncode == 0
    while json.loads(agentos("task", "show", late, "--json").stdout)["state"] != "done":
        assert time.monotonic() < limit
    assert agentos("task", "list", "--state", "dead").stdout == "no task is dead\n"
