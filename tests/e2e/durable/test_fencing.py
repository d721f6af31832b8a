"""Workers that freeze in front of an effect, end in good order in the middle of one, or lose a right while they run."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from agent_os.core.task import Task, TaskState
from agent_os.runtime.audit import open_audit
from tests.e2e.durable.fence_worker import POLICY
from tests.e2e.durable.support import Site
from tests.e2e.durable.worker import lines


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest) -> Site:
    """A site on SQLite, and one on PostgreSQL."""
    made: Site = request.getfixturevalue("site" if request.param == "sqlite" else "shared")
    return _fenced(made)


def _fenced(site: Site) -> Site:
    site.worker = "tests.e2e.durable.fence_worker"
    site.policy.write_text(POLICY)
    return site


def _until_stopped(process: subprocess.Popen[str]) -> None:
    """Wait until a process was stopped by a signal."""
    limit = time.monotonic() + 60
    while (Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]) != "T":
        assert time.monotonic() < limit
        time.sleep(0.01)


def _verified(site: Site) -> None:
    reader = open_audit(environment=site.environment)
    assert all(reader.report(writer).ok for writer in reader.writers())


@pytest.mark.parametrize("tool", ["line", "again"])
def test_an_effect_that_froze_behind_its_claim_does_not_happen_late(shared: Site, tool: str) -> None:
    """Frozen between claim and effect until another worker has done the task: thawed, it does nothing and writes nothing."""
    site = _fenced(shared)
    site.submit(site.request("paced", id="tsk_1", tool=tool))
    site.environment["FREEZE"] = "4"
    frozen = site.start(1.5)
    _until_stopped(frozen)
    before = lines(str(site.work))
    del site.environment["FREEZE"]
    site.start(1.5)
    (ended,) = site.wait(["tsk_1"])
    after = lines(str(site.work))
    frozen.send_signal(signal.SIGCONT)
    assert frozen.stdout is not None
    assert frozen.stdout.readline().strip() == "fenced"
    frozen.wait(30)
    every = [f"tsk_1 {step}" for step in range(10)]
    assert before == every[:3], "the fourth was claimed and not done"
    assert lines(str(site.work)) == after, "what thawed did its effect late"
    assert (ended.state, site.repeated()) == (TaskState.DONE, {})
    if tool == "again":
        assert after == every
    else:
        assert after == [*every[:3], *every[4:]]
        assert ended.result[3] == "interrupted"
    assert site.wait(["tsk_1"])[0] == ended, "what thawed wrote to the task"
    _verified(site)


def _handed_over(site: Site, worker: subprocess.Popen[str], task_id: str) -> Task:
    """End a worker in good order; return the task as it left it."""
    worker.send_signal(signal.SIGTERM)
    assert worker.stdout is not None
    assert worker.stdout.readline().strip() == "ended"
    assert worker.wait(60) == 0
    task: Task = site.ledger(lambda ledger: ledger.get(task_id))
    return task


def test_an_effect_under_way_ends_before_its_worker(either: Site) -> None:
    """SIGTERM in the middle of an effect: it ends, is recorded, and the next worker goes on behind it."""
    either.submit(either.request("lasting", id="tsk_1", tool="long", seconds=1.5))
    worker = either.start(5.0)
    either.wait_for_lines(1)
    left = _handed_over(either, worker, "tsk_1")
    assert (left.state, left.worker) == (TaskState.READY, "")
    assert lines(str(either.work)) == ["begin tsk_1", "end tsk_1"]
    either.start(5.0)
    (ended,) = either.wait(["tsk_1"])
    assert (ended.state, ended.result) == (TaskState.DONE, "done")
    assert lines(str(either.work)) == ["begin tsk_1", "end tsk_1", "after"]
    _verified(either)


@pytest.mark.parametrize(("tool", "state"), [("ask", TaskState.DONE), ("long", TaskState.FAILED)])
def test_an_effect_that_does_not_end_in_time_is_cut_off(site: Site, tool: str, state: TaskState) -> None:
    """One that may be repeated is done again by the next worker; another one is told as interrupted, never as done."""
    _fenced(site).submit(site.request("lasting", id="tsk_1", tool=tool, seconds=8.0))
    worker = site.start(5.0)
    site.wait_for_lines(1)
    left = _handed_over(site, worker, "tsk_1")
    assert left.state is TaskState.READY
    assert lines(str(site.work)) == ["begin tsk_1"]
    site.start(5.0)
    (ended,) = site.wait(["tsk_1"])
    assert ended.state is state, ended
    if state is TaskState.DONE:
        assert lines(str(site.work)) == ["begin tsk_1", "begin tsk_1", "end tsk_1", "after"]
    else:
        assert "interrupted" in ended.reason
        assert lines(str(site.work)) == ["begin tsk_1"]


def test_a_program_without_an_effect_under_way_is_handed_back(either: Site) -> None:
    """SIGTERM while a program does nothing: its task is ready again, with nothing lost."""
    either.submit(either.request("idle", id="tsk_1"))
    worker = either.start(5.0)
    either.wait_for_lines(1)
    left = _handed_over(either, worker, "tsk_1")
    assert (left.state, left.worker) == (TaskState.READY, "")


def test_a_right_that_is_taken_away_ends_in_a_running_task(site: Site) -> None:
    """The policy file changes while a task runs: its next effects are judged by what it says now; one that does not load
    changes nothing.
    """
    _fenced(site).submit(site.request("ruled", id="tsk_1"))
    site.start(5.0)
    site.wait_for_lines(5)
    site.policy.write_text("version: 1\ntools: {line: [")
    site.wait_for_lines(len(lines(str(site.work))) + 30)
    site.policy.write_text(POLICY.replace("line: {allow: {}}", "line: {deny: {}}"))
    (ended,) = site.wait(["tsk_1"])
    assert ended.state is TaskState.FAILED
    assert ended.reason.startswith("DeniedError")
