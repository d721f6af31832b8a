"""Schedules in the ledger: clocks that jump, bounds, and runs that start once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_os.core.errors import ActionError
from agent_os.core.principal import Principal
from agent_os.core.schedule import Schedule, parse_schedule, parse_trigger
from agent_os.core.task import TaskState
from agent_os.effects.durable.ledger import Ledger
from agent_os.effects.durable.schedules import Scheduler, Schedules
from agent_os.policy import Policy
from agent_os.runtime.schedule_terms import terms_of
from tests.unit.effects.durable_support import NOW, opened


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger in SQLite at a time of its own."""
    with opened(tmp_path) as made:
        yield made


def schedule(**changes: Any) -> Schedule:
    """Return a schedule of every minute."""
    values: dict[str, Any] = {
        "name": "s", "trigger": parse_trigger({"every": 60}), "program": "p", "input": {},
        "owner": Principal(user="ana"), "workspace": "/w", "overlap": "queue",
    }  # fmt: skip
    return Schedule(**{**values, **changes})


async def fired(ledger: Ledger, schedules: Schedules) -> int:
    """Start what is due; returns how many runs there are in all."""
    scheduler = Scheduler(schedules, ledger)
    for due in await schedules.due():
        await scheduler.fire(due)
    return len(await ledger.list())


async def test_a_clock_that_jumps_back_runs_nothing_twice(ledger: Ledger) -> None:
    """Set back an hour, the schedule waits for its next due time; set right again, it goes on."""
    schedules = Schedules(ledger)
    await schedules.add(schedule())
    NOW[0] += 61
    assert await fired(ledger, schedules) == 1
    NOW[0] -= 3600
    assert await fired(ledger, schedules) == 1
    NOW[0] += 3600 + 60
    assert await fired(ledger, schedules) == 2


async def test_a_clock_that_jumps_forward_is_a_stretch_of_missed_runs(ledger: Ledger) -> None:
    """A day ahead at once: what was missed is made up for as the schedule says, and no more."""
    schedules = Schedules(ledger)
    await schedules.add(schedule(name="once"))
    await schedules.add(schedule(name="some", missed="catch_up", catch_up_max=3))
    await schedules.add(schedule(name="none", missed="skip"))
    NOW[0] += 86_400
    await fired(ledger, schedules)
    counts = {name: len(await ledger.list(schedule=name)) for name in ("once", "some", "none")}
    assert counts["some"] == counts["none"] + 3
    assert counts["once"] == 1 or counts["once"] == counts["none"]
    assert await fired(ledger, schedules) == sum(counts.values())


async def test_an_owner_s_active_schedules_are_counted(ledger: Ledger) -> None:
    """Of one owner; paused ones and those of others are not among them."""
    schedules = Schedules(ledger)
    await schedules.add(schedule(name="a"), active_max=2)
    await schedules.add(schedule(name="b"), active_max=2)
    with pytest.raises(ActionError, match="2 active schedules already"):
        await schedules.add(schedule(name="c"), active_max=2)
    await schedules.add(schedule(name="c", owner=Principal(user="bo")), active_max=2)
    await schedules.pause("a", True)
    await schedules.add(schedule(name="d"), active_max=2)


async def test_a_signal_is_no_timer(ledger: Ledger) -> None:
    """An event schedule is never due; a signal starts it once an event, as its overlap says, and not while paused."""
    schedules = Schedules(ledger)
    await schedules.add(schedule(trigger=parse_trigger({"event": {"message": "box"}}), overlap="skip"))
    NOW[0] += 1e6
    assert await fired(ledger, schedules) == 0
    (task,) = await schedules.signal("message", "box", {"from": "bo"}, event_id="1")
    assert task.input["event"] == {"event": "message", "payload": {"from": "bo"}}
    assert await schedules.signal("message", "box", {}, event_id="2") == [], "the run before is not done"
    assert await schedules.signal("message", "other", {}, event_id="3") == []
    await ledger.want(task.id, "kill")
    await schedules.pause("s", True)
    assert await schedules.signal("message", "box", {}, event_id="4") == []
    await schedules.pause("s", False)
    assert len(await schedules.signal("message", "box", {}, event_id="5")) == 1
    assert [each.state for each in await ledger.list()].count(TaskState.READY) == 1


@pytest.mark.parametrize(
    "event",
    [
        {"file": "inbox/"}, {"file": "../x/*.pdf"}, {"file": "in*/x.pdf"}, {"file": ""}, {"odd": "x"}, {}, "file",
        {"webhook": "x" * 2000}, {"file": "a", "message": "b"}, {"webhook": 3},
    ],
)  # fmt: skip
def test_what_is_no_event_is_named(event: Any) -> None:
    """Folders that climb or are patterns, unknown events, two at once."""
    with pytest.raises(ActionError, match="event"):
        parse_trigger({"event": event})


TERMS = """
version: 1
schedules:
  missed: once
  catch_up: 5
  overlap: cancel
  max_active: 4
  budgets: {calls: 10, tokens: 100}
"""


def test_a_schedule_asks_for_less_and_never_for_more() -> None:
    """What the policy states is the most; where it states nothing the schedule's own word stands."""
    terms = terms_of(Policy.parse(TERMS))
    data = {**schedule().to_json(), "missed": "catch_up", "overlap": "queue", "catch_up_max": 50}
    agreed, most = terms.agreed(data)
    assert (agreed.missed, agreed.overlap, agreed.catch_up_max, most) == ("once", "cancel", 5, 4)
    agreed, _ = terms.agreed({**data, "missed": "skip", "overlap": "skip", "catch_up_max": 2})
    assert (agreed.missed, agreed.overlap, agreed.catch_up_max) == ("skip", "skip", 2)
    assert terms.within({"calls": 3.0, "usd": 1.0}) == {"calls": 3.0, "usd": 1.0, "tokens": 100.0}
    free, none = terms_of(Policy.parse("version: 1\n")).agreed(data)
    assert (free.missed, free.overlap, free.catch_up_max, none) == ("catch_up", "queue", 50, 0)


def test_bad_budgets_of_a_schedule_are_named() -> None:
    """Units that are none, negative amounts."""
    for budgets in ({"odd": 1}, {"calls": -1}, {"calls": True}, [1]):
        with pytest.raises(ActionError, match="budgets"):
            parse_schedule({**schedule().to_json(), "budgets": budgets})
