"""Which task is next: priorities, fairness between tenants, limits over all workers, what is too late."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_os.core.errors import ActionError, EffectError
from agent_os.core.ports import Outcome
from agent_os.core.task import FencedError, TaskState
from agent_os.effects.durable import dispatch, outcomes
from agent_os.effects.durable.dispatch import Dispatch, Limit, Limits
from agent_os.effects.durable.ledger import Ledger
from agent_os.effects.durable.outcomes import FencedOutcomes
from tests.unit.effects.durable_support import NOW, opened, request, taken, worker


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger in SQLite at a time of its own."""
    with opened(tmp_path) as made:
        yield made


async def test_priority_comes_first_then_age(ledger: Ledger) -> None:
    """The smallest number first; among equals the oldest."""
    for name, priority in (("old", 100), ("low", 500), ("new", 100), ("high", 1)):
        NOW[0] += 1
        await ledger.add(request(priority=priority), name)
    assert await taken(await worker(ledger, "w")) == ["high", "old", "new", "low"]


async def test_tenants_take_turns(ledger: Ledger) -> None:
    """A tenant with two tasks is not behind another one's thousand, whatever priorities that one gives itself."""
    for number in range(40):
        await ledger.add(request(tenant="a", priority=1), f"a{number:02}")
    for number in range(2):
        await ledger.add(request(tenant="b", priority=900), f"b{number}")
    got = await taken(await worker(ledger, "w"), 6)
    assert Counter(name[0] for name in got) == {"a": 4, "b": 2}
    assert got.index("b1") <= 3


async def test_who_was_served_longest_ago_is_next(ledger: Ledger) -> None:
    """With one slot and nothing running, three tenants are served in turn, not always the first by name."""
    for tenant in "abc":
        for number in range(3):
            await ledger.add(request(tenant=tenant), f"{tenant}{number}")
    turns, order = await worker(ledger, "w"), []
    for _ in range(9):
        NOW[0] += 1
        (task,) = await turns.take(1)
        order.append(task.id)
        await ledger.finish(task, TaskState.DONE)
    assert [name[0] for name in order] == list("abc" * 3)


async def test_a_tenant_s_own_concurrency_holds_over_workers(ledger: Ledger) -> None:
    """The default, and a limit that was set: two workers together start no more."""
    for number in range(60):
        await ledger.add(request(), f"t{number}")
    one, two = await worker(ledger, "one"), await worker(ledger, "two")
    assert len(await taken(one)) + len(await taken(two)) == dispatch.TENANT_CONCURRENCY
    await Limits(ledger).set(Limit("tenant", "default", at_once=40))
    assert len(await taken(two)) == 8


async def test_an_agent_that_is_full_hides_nobody_behind_it(ledger: Ledger) -> None:
    """One agent may run two at once; the tasks of others behind its long line are started."""
    await Limits(ledger).set(Limit("agent", "busy", at_once=2))
    for number in range(30):
        await ledger.add(request(agent="busy"), f"busy{number}")
    await ledger.add(request(agent="other"), "other")
    got = await taken(await worker(ledger, "w"))
    assert sorted(got) == ["busy0", "busy1", "other"]


async def test_a_queue_runs_no_more_than_its_limit(ledger: Ledger) -> None:
    """A limit of a queue counts all its tenants together."""
    await Limits(ledger).set(Limit("queue", "default", at_once=3))
    for number in range(8):
        await ledger.add(request(tenant=f"t{number}"), f"x{number}")
    turns = await worker(ledger, "w")
    assert len(await taken(turns)) == 3
    assert await taken(turns) == []


@pytest.mark.parametrize("scope", ["tenant", "agent", "queue"])
async def test_starts_are_limited_in_a_window(ledger: Ledger, scope: str) -> None:
    """Four starts a minute: the fifth waits until the window has passed, over restarts too."""
    await Limits(ledger).set(Limit(scope, "*", starts=4, seconds=60))
    for number in range(6):
        await ledger.add(request(), f"t{number}")
    turns = await worker(ledger, "w")
    assert len(await taken(turns)) == 4
    NOW[0] += 59
    assert await taken(await worker(ledger, "again")) == []
    NOW[0] += 2
    assert len(await taken(turns)) == 2


async def test_an_agent_whose_starts_are_used_up_ends_the_turn(ledger: Ledger) -> None:
    """With nothing of it running any more, its waiting tasks are passed over, and those of others behind them are found."""
    await Limits(ledger).set(Limit("agent", "main", starts=2, seconds=60))
    for number in range(6):
        await ledger.add(request(), f"t{number}")
    await ledger.add(request(agent="other"), "z")
    turns = await worker(ledger, "w")
    for task in await turns.take(2):
        await ledger.finish(task, TaskState.DONE)
    assert await taken(turns) == ["z"]
    assert await taken(turns) == []


async def test_a_tenant_s_limit_counts_what_one_turn_took_from_another_queue(ledger: Ledger) -> None:
    """One worker of two queues takes no more of a tenant in one turn than may run at once."""
    await Limits(ledger).set(Limit("tenant", "default", at_once=2))
    for number in range(6):
        await ledger.add(request(queue=f"q{number % 2}"), f"t{number}")
    await worker(ledger, "w")
    assert len(await taken(Dispatch(ledger, "w", ["q0", "q1"]))) == 2


async def test_a_tool_s_calls_are_limited_over_all_tasks(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls at once: the third waits until one has an outcome; another tool is not concerned."""
    await Limits(ledger).set(Limit("tool", "send", at_once=2))
    for number in range(4):
        await ledger.add(request(), f"t{number}")
    views = [FencedOutcomes(ledger, task) for task in await (await worker(ledger, "w")).take(4)]

    async def call(number: int, tool: str) -> Outcome | None:
        views[number].describe(f"k{number}{tool}", f"tool.call {tool}")
        return await views[number].claim(f"k{number}{tool}", "sha256:a")

    assert await call(0, "send") is None
    assert await call(1, "send") is None
    third = asyncio.create_task(call(2, "send"))
    assert await call(3, "read") is None
    await asyncio.sleep(3 * outcomes.TURN_SECONDS)
    assert not third.done()
    await views[0].record("k0send", Outcome("sent"))
    assert await third is None
    monkeypatch.setattr(outcomes, "TURN_WAIT_SECONDS", 0.1)
    with pytest.raises(EffectError, match="no room"):
        await call(3, "send")


async def test_a_tool_s_calls_are_limited_in_a_window(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls a minute, whether or not they have ended."""
    monkeypatch.setattr(outcomes, "TURN_WAIT_SECONDS", 0.1)
    await Limits(ledger).set(Limit("tool", "*", starts=2, seconds=60))
    await ledger.add(request(), "t")
    (task,) = await (await worker(ledger, "w")).take(1)
    view = FencedOutcomes(ledger, task)
    for number in range(2):
        view.describe(f"k{number}", "tool.call send")
        assert await view.claim(f"k{number}", "sha256:a") is None
        await view.record(f"k{number}", Outcome("sent"))
    view.describe("k2", "tool.call send")
    with pytest.raises(EffectError, match="no room"):
        await view.claim("k2", "sha256:a")
    NOW[0] += 61
    view.describe("k2", "tool.call send")
    assert await view.claim("k2", "sha256:a") is None


async def test_what_is_too_late_is_a_dead_letter_that_can_be_redone(ledger: Ledger) -> None:
    """A deadline that passed ends the task with its reason; `redo` runs it after all."""
    await ledger.add(request(deadline=NOW[0] + 5), "late")
    NOW[0] += 6
    turns = await worker(ledger, "w")
    assert await taken(turns) == []
    found = await ledger.get("late")
    assert found is not None
    assert (found.state, "deadline" in found.reason) == (TaskState.DEAD, True)
    with pytest.raises(ActionError, match="is dead"):
        await ledger.wake("late")
    await ledger.wake("late", redo=True)
    assert await taken(turns) == ["late"]


async def test_a_later_format_is_left_to_later_workers(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a deploy rolls, an old worker takes what it understands and leaves the rest."""
    await ledger.add(request(), "now")
    monkeypatch.setattr("agent_os.effects.durable.rows.FORMAT", dispatch.FORMAT + 1)
    await ledger.add(request(), "later")
    assert await taken(await worker(ledger, "old")) == ["now"]
    monkeypatch.setattr(dispatch, "FORMAT", dispatch.FORMAT + 1)
    assert await taken(await worker(ledger, "new")) == ["later"]


async def test_a_worker_that_was_declared_dead_takes_nothing(ledger: Ledger) -> None:
    """Its turn raises, and the task stays ready."""
    turns = await worker(ledger, "w")
    await ledger.add(request(), "t")
    await ledger.storage.run(lambda session: session.execute("UPDATE agentos_worker SET state='dead'").rowcount)
    with pytest.raises(FencedError):
        await turns.take(1)
    found = await ledger.get("t")
    assert found is not None
    assert found.state is TaskState.READY


@pytest.mark.parametrize(
    "limit",
    [
        Limit("user", "a", at_once=1),
        Limit("tool", "", at_once=1),
        Limit("tool", "a", at_once=-1),
        Limit("tool", "a", starts=3),
        Limit("tool", "a", seconds=3.0),
    ],
)
async def test_a_limit_that_is_none_is_named(ledger: Ledger, limit: Limit) -> None:
    """An unknown scope, a negative number, starts without a window."""
    with pytest.raises(ActionError):
        await Limits(ledger).set(limit)
    assert await Limits(ledger).list() == []
