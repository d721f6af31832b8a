"""A task that waits for a person is a row: it outlives `kill -9`, goes on after the answer, and repeats nothing."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from agent_os.core.task import Task, TaskState
from agent_os.runtime.approvals import open_desk
from tests.e2e.durable.support import Site
from tests.e2e.durable.worker import lines


def _parked(site: Site, task_id: str) -> Task:
    limit = time.monotonic() + 60
    while True:
        task: Task = site.ledger(lambda ledger: ledger.get(task_id))
        if task.state is TaskState.WAITING_APPROVAL:
            return task
        assert not task.state.ended, task
        assert time.monotonic() < limit, task
        time.sleep(0.1)


def _answer(site: Site, approval: str, *, approve: bool) -> None:
    async def answer() -> None:
        desk = open_desk(answering=True, environment=site.environment)
        try:
            await desk.answer(await desk.get(approval), approve=approve, note="not this one")
        finally:
            desk.close()

    asyncio.run(answer())


def test_an_ask_is_answered_across_a_kill(site: Site) -> None:
    """Parked, worker killed, approved while none lives, worker started: the rest is done, nothing twice."""
    (task,) = site.submit(site.request("asker", id="tsk_1"))
    worker = site.start(2.0)
    parked = _parked(site, task.id)
    worker.send_signal(signal.SIGKILL)
    worker.wait(10)
    assert lines(str(site.work)) == ["tsk_1 append_line"]
    _answer(site, parked.approval, approve=True)
    site.start(2.0)
    (ended,) = site.wait([task.id])
    assert (ended.state, ended.result) == (TaskState.DONE, "done")
    assert lines(str(site.work)) == ["tsk_1 append_line", "careful tsk_1 careful_line", "tsk_1 append_line"]


def test_a_denial_reaches_the_task(site: Site) -> None:
    """Denied by a person: the effect is not done, the program learns why, and nobody is asked again."""
    (task,) = site.submit(site.request("asker", id="tsk_1"))
    site.start(2.0)
    parked = _parked(site, task.id)
    _answer(site, parked.approval, approve=False)
    (ended,) = site.wait([task.id])
    assert ended.state is TaskState.FAILED
    assert "a person denied this: not this one" in ended.reason
    assert lines(str(site.work)) == ["tsk_1 append_line"]
    site.ledger(lambda ledger: ledger.wake(task.id, redo=True))
    (again,) = site.wait([task.id])
    assert "a person denied this" in again.reason, "a second run remembers the answer"


def test_an_agent_loop_parks_and_pays_no_model_call_twice(site: Site) -> None:
    """LangChain's loop parked in its second round: after `kill -9` and the approval each model call was made once."""
    (task,) = site.submit(site.request("agent_loop", id="tsk_1"))
    worker = site.start(2.0)
    parked = _parked(site, task.id)
    worker.send_signal(signal.SIGKILL)
    worker.wait(10)
    _answer(site, parked.approval, approve=True)
    site.start(2.0)
    (ended,) = site.wait([task.id])
    assert ended.result == {"answer": "answered: one, two, careful three"}
    assert sorted(lines(str(site.work))) == ["careful three", "model 1", "model 4", "model 6", "one", "two"]


def test_a_streamed_answer_is_recorded_and_replayed(site: Site) -> None:
    """Streams of the first run are whole answers for the second, after `kill -9`: text and tool calls, paid once."""
    (task,) = site.submit(site.request("streams", id="tsk_1"))
    worker = site.start(2.0)
    parked = _parked(site, task.id)
    worker.send_signal(signal.SIGKILL)
    worker.wait(10)
    _answer(site, parked.approval, approve=True)
    site.start(2.0)
    (ended,) = site.wait([task.id])
    assert ended.result == {"pieces": ["one two three"], "calls": [{"text": "x"}]}
    assert lines(str(site.work)) == ["model say", "model call", "careful one two three"]


@pytest.mark.slow
def test_many_parked_tasks_cost_rows_only(site: Site) -> None:
    """300 parked tasks: the worker's memory grows by less than 0.1 MB each, and it is idle."""
    worker = site.start(5.0)
    site.submit(site.request("asker", id="warm", suffix="w"))
    _parked(site, "warm")
    before = _memory(worker.pid)
    site.submit(*(site.request("asker", id=f"tsk_{n}", suffix=f" {n}") for n in range(300)))
    limit = time.monotonic() + 90
    while len(site.ledger(lambda ledger: ledger.waiting())) < 301:
        assert time.monotonic() < limit
        time.sleep(0.5)
    time.sleep(1)
    assert _memory(worker.pid) - before < 30e6
    used = _cpu(worker.pid)
    time.sleep(3)
    assert (_cpu(worker.pid) - used) / 3 < 0.5


def _memory(pid: int) -> int:
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def _cpu(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
