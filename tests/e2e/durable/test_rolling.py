"""Several workers on one PostgreSQL: versions of an application side by side, and limits that hold over all of them."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from agent_os.core.task import Task, TaskState
from agent_os.effects.durable.dispatch import Limit, Limits
from tests.e2e.durable.fence_worker import POLICY
from tests.e2e.durable.support import Site
from tests.e2e.durable.worker import lines


@pytest.fixture
def fleet(shared: Site) -> Site:
    """A site on PostgreSQL whose workers say which version they are of."""
    shared.worker = "tests.e2e.durable.fence_worker"
    shared.policy.write_text(POLICY)
    return shared


def _start(site: Site, version: str, accepts: str = "") -> subprocess.Popen[str]:
    site.environment |= {"APP_VERSION": version, "ACCEPTS": accepts}
    return site.start(3.0)


def _begun(site: Site, task_id: str) -> Task:
    """Start a task under version 1, and end that worker in the middle of it."""
    site.submit(site.request("paced", id=task_id, tool="line", pause=0.5))
    worker = _start(site, "v1")
    site.wait_for_lines(len(lines(str(site.work))) + 3)
    worker.send_signal(signal.SIGTERM)
    worker.wait(60)
    task: Task = site.ledger(lambda ledger: ledger.get(task_id))
    assert (task.state, task.version) == (TaskState.READY, "v1")
    return task


def test_a_task_goes_on_under_the_version_it_began_under(fleet: Site) -> None:
    """A new version runs what is new and leaves what began under the old one; with both alive everything ends; audits verify."""
    _begun(fleet, "old")
    _start(fleet, "v2")
    fleet.submit(fleet.request("paced", id="new", tool="line"))
    (new,) = fleet.wait(["new"])
    assert (new.state, new.version) == (TaskState.DONE, "v2")
    waits = fleet.ledger(lambda ledger: ledger.get("old"))
    assert (waits.state, waits.version) == (TaskState.READY, "v1")
    _start(fleet, "v1")
    (old,) = fleet.wait(["old"])
    assert (old.state, old.version) == (TaskState.DONE, "v1")
    assert fleet.repeated() == {}
    verify = [sys.executable, "-m", "agent_os", "audit", "verify"]
    ran = subprocess.run(verify, env=fleet.environment, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count(": verified") >= 2, "each worker's chain by itself"


@pytest.mark.parametrize("how", ["accepts", "migrate"])
def test_a_new_version_takes_over_what_it_accepts(fleet: Site, how: str) -> None:
    """A worker that accepts the old version goes on with its tasks, and so does any after they were migrated."""
    _begun(fleet, "old")
    if how == "migrate":
        assert fleet.ledger(lambda ledger: ledger.migrate("v1", "v2")) == 1
    _start(fleet, "v2", "v1" if how == "accepts" else "")
    (old,) = fleet.wait(["old"])
    assert (old.state, old.version) == (TaskState.DONE, "v2")
    assert fleet.repeated() == {}


def _at_once(told: list[str]) -> int:
    """Return how many effects stood between their two lines at once, at most."""
    running = most = 0
    for line in told:
        running += 1 if line.startswith("begin") else -1 if line.startswith("end") else 0
        most = max(most, running)
    return most


async def _limit(ledger: Any, *limits: Limit) -> None:
    for each in limits:
        await Limits(ledger).set(each)


def test_a_concurrency_limit_is_one_over_processes_and_queues(fleet: Site) -> None:
    """Three processes, two queues, forty tasks of one tenant that may run four at once: four run at once, and never five."""
    fleet.ledger(lambda ledger: _limit(ledger, Limit("tenant", "default", at_once=4)))
    ids = [f"tsk_{number}" for number in range(40)]
    given = {"tool": "long", "seconds": 0.1}
    requests = [fleet.request("lasting", id=each, queue=f"q{n % 2}", **given) for n, each in enumerate(ids)]
    for queues in ("q0,q1", "q0", "q1"):
        fleet.environment["QUEUES"] = queues
        fleet.start(5.0)
    fleet.submit(*requests)
    assert {task.state for task in fleet.wait(ids)} == {TaskState.DONE}
    told = lines(str(fleet.work))
    assert len(told) == 3 * len(ids)
    assert _at_once(told) <= 4
    assert _at_once(told) > 1


def test_a_rate_of_starts_is_one_over_processes(fleet: Site) -> None:
    """Three processes and twenty starts an hour for one agent: exactly twenty of sixty tasks start."""
    fleet.ledger(lambda ledger: _limit(ledger, Limit("agent", "main", starts=20, seconds=3600.0)))
    ids = [f"tsk_{number}" for number in range(60)]
    for _ in range(3):
        fleet.start(5.0)
    fleet.submit(*(fleet.request("lasting", id=each, tool="long", seconds=0.05) for each in ids))

    async def done(ledger: Any) -> int:
        until = time.monotonic() + 90
        while True:
            count = len(await ledger.list([TaskState.DONE], brief=True))
            if count >= 20 or time.monotonic() > until:
                return count
            await asyncio.sleep(0.05)

    assert fleet.ledger(done) == 20
    rest = fleet.ledger(lambda ledger: ledger.list([TaskState.READY], brief=True, limit=1000))
    assert len(rest) == 40
    assert len([line for line in lines(str(fleet.work)) if line.startswith("begin")]) == 20
