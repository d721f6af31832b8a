"""Queues order, share and bound; schedules start their runs once, across restarts and workers."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any

from agent_os.core.principal import Principal
from agent_os.core.schedule import Schedule, parse_trigger
from agent_os.core.task import TaskState
from agent_os.effects.durable.ledger import Ledger
from agent_os.effects.durable.schedules import Scheduler, Schedules
from tests.e2e.durable.support import Site


def test_priorities_come_first(site: Site) -> None:
    """With one task at a time the smaller number starts first."""
    site.submit(*(site.request("asker", id=f"low_{n}", priority=500, suffix=f"{n}") for n in range(5)))
    site.submit(site.request("steps", id="high", priority=1))
    site.start(2.0, "1")
    site.wait(["high"])
    high = site.ledger(lambda ledger: ledger.get("high"))
    lows = [site.ledger(lambda ledger, n=n: ledger.get(f"low_{n}")) for n in range(5)]
    assert sum(low.started != 0 and low.started < high.started for low in lows) <= 1


def test_one_tenant_does_not_starve_another(site: Site) -> None:
    """A tenant with one task gets its turn while another one has a hundred waiting."""
    site.submit(*(site.request("naps", id=f"a_{n}", tenant="a", count=4) for n in range(60)))
    site.submit(site.request("steps", id="b_0", tenant="b"))
    site.start(2.0, "2")
    site.wait(["b_0"])
    done = site.ledger(lambda ledger: ledger.list([TaskState.DONE], limit=100))
    assert len(done) < 40, "b waited for nearly everything of a"


def test_a_deadline_that_passed_is_a_dead_letter(site: Site) -> None:
    """What could not start in time is not run; a person can have it done after all."""
    (task,) = site.submit(site.request("steps", id="late", deadline=time.time() + 0.2))
    time.sleep(0.5)
    site.start(2.0)
    (ended,) = site.wait([task.id])
    assert (ended.state, "deadline" in ended.reason) == (TaskState.DEAD, True)
    site.ledger(lambda ledger: ledger.wake(task.id, redo=True))
    (again,) = site.wait([task.id])
    assert again.state is TaskState.DONE


def test_a_subtree_is_killed_whole(site: Site) -> None:
    """Killing a parent ends its children and theirs, running or not yet."""
    site.submit(
        site.request("naps", id="top", count=200),
        site.request("naps", id="child", parent="top", count=200),
        site.request("naps", id="grandchild", parent="child", count=200),
        site.request("naps", id="other", count=5),
    )
    site.start(2.0)
    site.wait_for_lines(8)
    begun = time.monotonic()
    site.ledger(lambda ledger: ledger.want("top", "kill"))
    ended = site.wait(["top", "child", "grandchild"])
    assert {task.state for task in ended} == {TaskState.KILLED}
    assert time.monotonic() - begun < 30
    (other,) = site.wait(["other"])
    assert other.state is TaskState.DONE


def _schedule(site: Site, name: str, **changes: Any) -> Schedule:
    values: dict[str, Any] = {
        "name": name, "trigger": parse_trigger({"every": 1.0}), "program": "steps", "input": {},
        "owner": Principal(user="ana"), "workspace": str(site.work), "policies": (str(site.policy),),
    }  # fmt: skip
    return Schedule(**{**values, **changes})


def test_a_schedule_goes_on_after_a_kill(site: Site) -> None:
    """Runs are started while a worker lives, missed ones are made up for as told, and no due time runs twice."""
    site.ledger(lambda ledger: Schedules(ledger).add(_schedule(site, "s", missed="catch_up", overlap="queue")))
    worker = site.start(2.0)
    time.sleep(3)
    worker.send_signal(signal.SIGKILL)
    worker.wait(10)
    before = {task.id for task in site.ledger(lambda ledger: ledger.list(schedule="s"))}
    assert len(before) >= 2
    time.sleep(2)
    site.start(2.0)
    time.sleep(2.5)
    site.ledger(lambda ledger: Schedules(ledger).pause("s", True))
    runs = site.ledger(lambda ledger: ledger.list(schedule="s"))
    dues = sorted(int(task.id.rsplit("_", 1)[1]) for task in runs)
    assert before < {task.id for task in runs}
    assert dues == list(range(dues[0], dues[0] + len(dues))), "no due time is left out or run twice"


def test_two_schedulers_start_one_run(site: Site) -> None:
    """Two workers that see the same schedule due start one task, even when one of them crashed before moving it on."""

    async def work(ledger: Ledger) -> list[TaskState]:
        schedules = Schedules(ledger)
        await schedules.add(_schedule(site, "s"))
        await asyncio.sleep(1.2)
        (due,) = await schedules.due()
        both = [Scheduler(schedules, ledger) for _ in range(2)]
        await asyncio.gather(*(each.fire(due) for each in both))
        return [task.state for task in await ledger.list(schedule="s")]

    assert site.ledger(work) == [TaskState.READY]


def test_overlap(site: Site) -> None:
    """A run that is not done: `skip` leaves the next one out, `cancel` ends it, `queue` lets both be."""

    async def work(ledger: Ledger) -> dict[str, list[str]]:
        schedules = Schedules(ledger)
        scheduler = Scheduler(schedules, ledger)
        for overlap in ("skip", "cancel", "queue"):
            await schedules.add(_schedule(site, overlap, overlap=overlap))
        for _ in range(2):
            await asyncio.sleep(1.2)
            for due in await schedules.due():
                await scheduler.fire(due)
        return {
            overlap: sorted(task.state.value for task in await ledger.list(schedule=overlap))
            for overlap in ("skip", "cancel", "queue")
        }

    found = site.ledger(work)
    assert found["skip"] == ["ready"]
    assert set(found["cancel"]) == {"ready", "killed"}
    assert found["cancel"].count("ready") == 1
    assert set(found["queue"]) == {"ready"}
    assert len(found["queue"]) >= 2


def test_an_owner_who_lost_the_right_lost_it_here_too(site: Site) -> None:
    """The policy denies a schedule that exists already: its next run fails, denied, and nothing is done."""
    site.ledger(lambda ledger: Schedules(ledger).add(_schedule(site, "forbidden now")))
    site.ledger(lambda ledger: Schedules(ledger).add(_schedule(site, "fine")))
    site.start(2.0)
    limit = time.monotonic() + 60
    while True:
        runs = site.ledger(lambda ledger: ledger.list([TaskState.FAILED, TaskState.DONE]))
        if {task.schedule for task in runs} == {"forbidden now", "fine"}:
            break
        assert time.monotonic() < limit, runs
        time.sleep(0.2)
    states = {task.schedule: task for task in runs}
    assert states["fine"].state is TaskState.DONE
    assert states["forbidden now"].state is TaskState.FAILED
    assert states["forbidden now"].reason.startswith("DeniedError")


def test_an_agent_s_schedule_is_judged_and_is_its_owner_s(site: Site) -> None:
    """`task.schedule` as an action: allowed ones exist and belong to the task's user, denied ones do not."""
    made = {"kind": "task.schedule", "name": "report", "when": {"every": "1h"}, "task": "write the report"}
    denied = {**made, "name": "forbidden"}
    (task,) = site.submit(site.request("actions", id="tsk_1", actions=[made, denied], go_on=True))
    site.start(2.0)
    (ended,) = site.wait([task.id])
    assert ended.result["results"][0]["value"]["name"] == "report"
    assert "denied" in ended.result["results"][1]
    (schedule,) = site.ledger(lambda ledger: Schedules(ledger).list())
    assert (schedule.name, schedule.owner.user, schedule.program) == ("report", "ana", "agent")
    gone = {**made, "operation": "remove"}
    site.submit(site.request("actions", id="tsk_2", actions=[gone]))
    (second,) = site.wait(["tsk_2"])
    assert second.state is TaskState.DONE, second
    assert site.ledger(lambda ledger: Schedules(ledger).list()) == []
