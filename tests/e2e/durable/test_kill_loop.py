"""Power cuts at every transaction of a task with children: nothing is lost, nothing is done twice, the audit verifies.

`RUNS=200 pytest tests/e2e/durable/test_kill_loop.py` is the long form; `SEED` repeats a run that failed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from agent_os.core.task import Task, TaskState
from agent_os.runtime.audit import open_audit
from tests.e2e.durable.support import Site
from tests.e2e.durable.worker import lines

RUNS = int(os.environ.get("RUNS", "6"))
TRANSACTIONS = 160
"""Of one run of the task without a crash, about."""
LEASE = 1.5


class Zygote:
    """Forks workers that kill themselves at a transaction."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.durable.zygote"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._pids: list[int] = []

    def start(self, site: Site, crash: tuple[int, str] | None = None) -> int:
        """Start a worker; returns its pid."""
        request = {"state": str(site.state), "tasks": site.tasks, "lease": LEASE, "crash": crash}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        self._pids.append(int(self._process.stdout.readline()))
        return self._pids[-1]

    def kill(self, pid: int) -> None:
        """Kill a worker and wait until it is gone."""
        _signal(pid, signal.SIGKILL)
        while _signal(pid, 0):
            time.sleep(0.005)

    def close(self) -> None:
        """End everything."""
        for pid in self._pids:
            self.kill(pid)
        self._process.terminate()
        self._process.communicate()


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    """A process that forks workers."""
    made = Zygote()
    yield made
    made.close()


def _until_ended(site: Site, task_id: str, seconds: float, pid: int = 0) -> Task:
    """Wait until a task has ended, or the worker `pid` has."""

    async def work(ledger: Any) -> Task:
        import asyncio

        limit = time.monotonic() + seconds
        while True:
            task: Task = await ledger.get(task_id)
            if task.state.ended or (pid and not _signal(pid, 0)):
                return task
            assert time.monotonic() < limit, task
            await asyncio.sleep(0.02)

    found: Task = site.ledger(work)
    return found


def _check(site: Site, task: Task, kills: int, told: str) -> None:
    assert task.state is TaskState.DONE, f"{told}: {task}"
    done = set(lines(str(site.work)))
    steps = list(task.result["steps"])
    for child in task.result["children"]:
        assert child["ok"], f"{told}: {child}"
        steps += child["value"]["steps"]
    assert len(steps) == 50, told
    assert steps.count("interrupted") <= kills * 4, f"{told}: more was under way than could be"
    missing = [step for step in steps if step != "interrupted" and step not in done]
    assert not missing, f"{told}: said to be done: {missing}"
    assert site.repeated() == {}, told


def _verify(site: Site, told: str) -> None:
    reader = open_audit(environment=site.environment)
    for writer in reader.writers():
        report = reader.report(writer)
        assert report.ok, f"{told}: {report}"


def _seeded(name: str) -> tuple[random.Random, str]:
    seed = int(os.environ.get("SEED", "0")) or random.randrange(1 << 30)
    print(f"SEED={seed} RUNS={RUNS} ({name})")
    return random.Random(seed), f"seed {seed}"


def test_power_cuts_on_sqlite(site: Site, zygote: Zygote) -> None:
    """The one worker dies at a random transaction, once to three times; the one after it ends the task."""
    chance, seed = _seeded("sqlite")
    for number in range(RUNS):
        (task,) = site.submit(site.request("family", id=f"tsk_{number}"))
        kills = chance.randint(1, 3)
        told = seed
        for _ in range(kills):
            crash = (chance.randint(1, TRANSACTIONS), chance.choice(("before", "after")))
            told += f" run {number} {crash}"
            pid = zygote.start(site, crash)
            _until_ended(site, task.id, 120, pid)
            zygote.kill(pid)
        last = zygote.start(site)
        _check(site, _until_ended(site, task.id, 120), kills, told)
        zygote.kill(last)
        (site.work / "lines").unlink()
    _verify(site, seed)


def test_power_cuts_on_postgresql(shared: Site, zygote: Zygote) -> None:
    """Of two workers one dies at a random transaction while the other lives: it is taken over within the lease."""
    chance, seed = _seeded("postgresql")
    for number in range(RUNS):
        (task,) = shared.submit(shared.request("family", id=f"tsk_{number}"))
        crash = (chance.randint(1, TRANSACTIONS), chance.choice(("before", "after")))
        told = f"{seed} run {number} {crash}"
        pid = zygote.start(shared, crash)
        other = zygote.start(shared, (chance.randint(1, TRANSACTIONS), "after") if chance.random() < 0.3 else None)
        third = zygote.start(shared)
        _check(shared, _until_ended(shared, task.id, 120), 2, told)
        for each in (pid, other, third):
            zygote.kill(each)
        (shared.work / "lines").unlink()
    _verify(shared, seed)
