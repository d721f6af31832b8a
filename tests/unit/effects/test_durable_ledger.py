"""The ledger: who may act on a task, what is repeated after a takeover, and what is not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_os.core.errors import ActionError, EffectError
from agent_os.core.ports import Outcome
from agent_os.core.principal import Principal
from agent_os.core.task import ATTEMPTS_MAX, FencedError, Task, TaskRequest, TaskState, TaskStopped, WorkerView
from agent_os.effects.durable import ledger as ledgers
from agent_os.effects.durable.dispatch import Dispatch
from agent_os.effects.durable.leases import Leases
from agent_os.effects.durable.ledger import Ledger
from agent_os.effects.durable.outcomes import FencedOutcomes
from tests.unit.effects.durable_support import NOW, opened


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger in SQLite at a time of its own."""
    with opened(tmp_path) as made:
        yield made


def request(**changes: Any) -> TaskRequest:
    """Return a task request."""
    values: dict[str, Any] = {
        "program": "p", "input": {"secret": "DE02120300000000202051"}, "principal": Principal(user="ana"),
        "workspace": "/w",
    }  # fmt: skip
    return TaskRequest(**{**values, **changes})


async def worker(ledger: Ledger, name: str) -> str:
    """Enter a live worker."""
    await Leases(ledger).enter(WorkerView(name, "host", 1, 0.0, 0.0, "live"))
    return name


async def beat(ledger: Ledger, name: str) -> bool:
    """Renew a worker's lease as its heart does, on a thread."""
    return await asyncio.to_thread(Leases(ledger).beat, name)


async def begun(ledger: Ledger, name: str, task_id: str = "t") -> Task:
    """Begin a task on a worker."""
    (task,) = await Dispatch(ledger, name, ["default"]).take(1)
    assert task.id == task_id
    return task


async def test_one_worker_runs_a_task(ledger: Ledger) -> None:
    """Submitting twice is once; a second worker does not get what the first one runs."""
    one, two = await worker(ledger, "one"), await worker(ledger, "two")
    assert (await ledger.add(request(), "t"))[1] is True
    assert (await ledger.add(request(), "t"))[1] is False
    task = await begun(ledger, one)
    assert await Dispatch(ledger, two, ["default"]).take(1) == []
    assert await ledger.finish(task, TaskState.DONE, result={"a": 1})
    assert not await ledger.finish(task, TaskState.FAILED), "it ended once"
    held = await ledger.get("t")
    assert held is not None
    assert (held.state, held.result) == (TaskState.DONE, {"a": 1})


async def test_a_dead_worker_s_token_is_worth_nothing(ledger: Ledger) -> None:
    """After the lease ran out another worker runs the task; the old run can claim, stop or finish nothing."""
    one, two = await worker(ledger, "one"), await worker(ledger, "two")
    await ledger.add(request(), "t")
    old = await begun(ledger, one)
    NOW[0] += 20
    assert await beat(ledger, two)
    assert await Leases(ledger).declare_dead(15, two) == ["one"]
    assert not await beat(ledger, one), "it learns that it was declared dead"
    with pytest.raises(FencedError, match="lost its lease"):
        await Dispatch(ledger, one, ["default"]).take(1)
    fresh = await begun(ledger, two)
    assert fresh.token > old.token
    with pytest.raises(FencedError):
        await FencedOutcomes(ledger, old).claim("k", "sha256:a")
    with pytest.raises(FencedError):
        await FencedOutcomes(ledger, old).check()
    assert not await ledger.finish(old, TaskState.DONE)
    assert await FencedOutcomes(ledger, fresh).claim("k", "sha256:a") is None


async def test_what_was_interrupted_is_repeated_only_where_it_may_be(ledger: Ledger) -> None:
    """A claim of an earlier run without outcome: a repeatable key goes to the new run, another one is interrupted."""
    one, two = await worker(ledger, "one"), await worker(ledger, "two")
    await ledger.add(request(), "t")
    first = FencedOutcomes(ledger, await begun(ledger, one))
    for key in ("r:read", "pay", "r:done"):
        assert await first.claim(key, "sha256:a") is None
    await first.record("r:done", Outcome("x"))
    with pytest.raises(EffectError, match="in progress"):
        await first.claim("pay", "sha256:a")
    NOW[0] += 20
    await beat(ledger, two)
    await Leases(ledger).declare_dead(15, two)
    second = FencedOutcomes(ledger, await begun(ledger, two))
    assert await second.claim("r:read", "sha256:a") is None
    with pytest.raises(EffectError, match="interrupted"):
        await second.claim("pay", "sha256:a")
    assert await second.claim("r:done", "sha256:a") == Outcome("x")
    await first.record("r:read", Outcome("late"))
    assert await second.recall("r:read") is None, "the old run's late outcome is not the new claim's"
    await second.record("r:read", Outcome("new"))
    assert await second.recall("r:read") == Outcome("new")
    with pytest.raises(ActionError, match="another action"):
        await second.claim("r:read", "sha256:b")


async def test_a_released_claim_can_be_taken_again(ledger: Ledger) -> None:
    """What was claimed and then denied does not stay claimed."""
    await ledger.add(request(), "t")
    outcomes = FencedOutcomes(ledger, await begun(ledger, await worker(ledger, "one")))
    assert await outcomes.claim("k", "sha256:a") is None
    await outcomes.release("k")
    assert await outcomes.claim("k", "sha256:a") is None


@pytest.mark.parametrize("wanted", ["kill", "suspend"])
async def test_a_task_that_is_to_stop_claims_nothing(ledger: Ledger, wanted: str) -> None:
    """The next claim of a running task that somebody wants stopped ends the run instead."""
    await ledger.add(request(), "t")
    task = await begun(ledger, await worker(ledger, "one"))
    assert await ledger.want("t", wanted) == [("t", "one")]
    with pytest.raises(TaskStopped, match=wanted):
        await FencedOutcomes(ledger, task).claim("k", "sha256:a")


async def test_a_task_that_ends_its_worker_becomes_a_dead_letter(ledger: Ledger) -> None:
    """After ATTEMPTS_MAX starts with no end it is not started again; waiting for a person is no failed start."""
    await ledger.add(request(), "t")
    for number in range(ATTEMPTS_MAX):
        name = await worker(ledger, f"w{number}")
        await begun(ledger, name)
        await Leases(ledger).leave(name)
    assert await Dispatch(ledger, await worker(ledger, "last"), ["default"]).take(1) == []
    held = await ledger.get("t")
    assert held is not None
    assert held.state is TaskState.DEAD
    await ledger.add(request(), "patient")
    name = await worker(ledger, "w")
    for _ in range(ATTEMPTS_MAX + 5):
        assert await ledger.finish(await begun(ledger, name, "patient"), TaskState.WAITING_APPROVAL, approval="apr_1")
        await ledger.wake("patient")


async def test_a_task_that_gets_on_is_started_as_often_as_it_takes(ledger: Ledger) -> None:
    """Each start that recorded something new counts as progress, however often its worker dies."""
    await ledger.add(request(), "t")
    for number in range(ATTEMPTS_MAX * 2):
        name = await worker(ledger, f"w{number}")
        outcomes = FencedOutcomes(ledger, await begun(ledger, name))
        assert await outcomes.claim(f"step {number}", "sha256:a") is None
        await outcomes.record(f"step {number}", Outcome(number))
        await Leases(ledger).leave(name)


async def test_inputs_and_results_are_sealed(ledger: Ledger, tmp_path: Path) -> None:
    """Neither what a task is given nor what it gave stands in the file in clear."""
    await ledger.add(request(), "t")
    task = await begun(ledger, await worker(ledger, "one"))
    await ledger.finish(task, TaskState.DONE, result="DE99999999999999999999")
    raw = b"".join(path.read_bytes() for path in tmp_path.glob("agents.db*"))
    assert b"DE02120300000000202051" not in raw
    assert b"DE99999999999999999999" not in raw


async def test_a_full_queue_refuses(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-pressure: more ready tasks than READY_MAX are not taken; another queue is not concerned."""
    monkeypatch.setattr(ledgers, "READY_MAX", 3)
    for number in range(3):
        await ledger.add(request(), f"t{number}")
    with pytest.raises(EffectError, match="full"):
        await ledger.add(request(), "t3")
    assert (await ledger.add(request(queue="other"), "t3"))[1]


async def test_bad_requests_are_named(ledger: Ledger) -> None:
    """Priorities out of range, relative workspaces and huge inputs are errors with their field."""
    for changes, field in (
        ({"priority": 0}, "priority"),
        ({"priority": 1001}, "priority"),
        ({"workspace": "w"}, "task"),
    ):
        with pytest.raises(ActionError, match=field):
            request(**changes).checked()
    with pytest.raises(ActionError, match="input"):
        await ledger.add(request(input={"x": "y" * (1 << 20)}), "t")
    with pytest.raises(ActionError, match="no task"):
        await ledger.wake("none")
