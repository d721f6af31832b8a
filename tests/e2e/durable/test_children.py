"""Children as tasks of their own: rights that only narrow, bounds, budgets, kills of a whole tree, and crashes at any step."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from agent_os.cli.ps import tree
from agent_os.core.task import OPEN_STATES, Task, TaskState
from agent_os.effects.durable.ledger import Ledger
from tests.e2e.durable.support import Site
from tests.e2e.durable.worker import lines


def _children(site: Site, parent: str) -> list[Task]:
    return list(site.ledger(lambda ledger: ledger.list(parent=parent)))


def test_children_run_beside_their_parent_and_are_gathered(site: Site) -> None:
    """Every child's work is done once and its result is with the parent, whose line of parents they carry."""
    (task,) = site.submit(site.request("family", id="tsk_1"))
    site.start(2.0)
    (ended,) = site.wait([task.id])
    assert ended.state is TaskState.DONE, ended
    assert [each["ok"] for each in ended.result["children"]] == [True] * 4
    children = _children(site, "tsk_1")
    assert {each.principal.parents for each in children} == {("main",)}
    assert {each.rights.role for each in children} == {"writer"}
    assert len(lines(str(site.work))) == 50
    assert site.repeated() == {}


def test_a_parent_that_waits_is_a_row(site: Site) -> None:
    """While children are open the parent holds no worker; `ps` shows the tree; a kill between loses nothing."""
    (task,) = site.submit(site.request("nest", id="tsk_1", depth=2, seconds=30))
    worker = site.start(2.0)
    site.wait_for_lines(1)

    async def shown(ledger: Ledger) -> list[Task]:
        return list(await ledger.list(OPEN_STATES))

    rows = site.ledger(shown)
    assert [each.state for each in rows if each.id == task.id] == [TaskState.WAITING_CHILDREN]
    assert [line.index("tsk_") for line in tree(rows)[1:]] == [0, 3, 6]
    worker.send_signal(signal.SIGKILL)
    worker.wait(10)
    site.start(2.0)
    (ended,) = site.wait([task.id])
    assert ended.state is TaskState.FAILED
    assert "interrupted" in ended.reason, "the leaf's effect was under way; its parents learn that it failed"
    assert [line.partition(" ")[0] for line in lines(str(site.work))] == ["begin"]


def test_one_failed_child_is_a_result_like_the_others(site: Site) -> None:
    """A child that fails and one that is denied do not stop the third, and the parent learns of each."""
    (task,) = site.submit(site.request("mixed", id="tsk_1"))
    site.start(2.0)
    (ended,) = site.wait([task.id])
    failed, tried, worked = ended.result
    assert failed[0] is False
    assert "ValueError" in failed[2]
    assert tried[:2] == [True, ["runtime.tool-not-registered"]] or tried[1] == ["runtime.capability"]
    assert worked[0] is True


def test_an_allowance_is_one_with_its_ancestors(site: Site) -> None:
    """Each lead may call 20 times; two levels of them below one lead together never more than that lead may."""
    (task,) = site.submit(site.request("spender", id="tsk_1", depth=2))
    site.start(2.0)
    (ended,) = site.wait([task.id])
    assert ended.result["calls"] == 60, "nobody limited the root"
    for lead in ended.result["below"]:
        total = lead["calls"] + sum(each["calls"] for each in lead["below"])
        assert total == 20
        assert lead["rules"] == ["runtime.allowance"]


def test_a_fork_bomb_stops_at_the_caps(site: Site) -> None:
    """Depth, children and total hold over the whole tree, everything ends, and the next task has everything again."""
    site.start(2.0)
    for number in (1, 2):
        (task,) = site.submit(site.request("bomb", id=f"tsk_{number}"))
        (ended,) = site.wait([task.id])
        assert ended.state is TaskState.DONE, ended
        assert ended.result["started"] == 12
        assert set(ended.result["refused"]) <= {"agents.max_children", "agents.max_total", "agents.max_depth"}
    assert site.ledger(lambda ledger: ledger.list(OPEN_STATES)) == []


def _runs(argument: str) -> bool:
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                if argument.encode() in (each / "cmdline").read_bytes().split(b"\0"):
                    return True
            except OSError:
                continue
    return False


def test_a_kill_ends_the_tree_and_its_programs_within_a_second(site: Site) -> None:
    """Killed at its root: every task below and the sandboxed program of the last one are over."""
    seconds = f"98{os.getpid() % 10000}.5"
    (task,) = site.submit(site.request("executes", id="tsk_1", seconds=seconds))
    site.start(2.0)
    site.wait_for_lines(1)
    limit = time.monotonic() + 60
    while not _runs(seconds):
        found = site.ledger(lambda ledger: ledger.get("tsk_1"))
        if found.state is TaskState.FAILED:
            pytest.skip(f"no sandbox here: {found.reason}")
        assert time.monotonic() < limit
        time.sleep(0.05)
    begun = time.monotonic()
    site.ledger(lambda ledger: ledger.want(task.id, "kill"))
    while _runs(seconds):
        assert time.monotonic() - begun < 30
        time.sleep(0.02)
    (ended,) = site.wait(["tsk_1"])
    assert ended.state is TaskState.KILLED


def test_killing_the_root_ends_children_and_theirs(site: Site) -> None:
    """A tree of three generations is over at once, its leaf in the middle of an effect too; a sibling tree goes on."""
    site.submit(
        site.request("nest", id="tsk_1", depth=2, seconds=60),
        site.request("family", id="tsk_2"),
    )
    site.start(2.0)
    limit = time.monotonic() + 60
    while not any(line.startswith("begin") for line in lines(str(site.work))):
        assert time.monotonic() < limit
        time.sleep(0.02)
    site.ledger(lambda ledger: ledger.want("tsk_1", "kill"))
    ids = ["tsk_1", *(each.id for each in site.ledger(lambda ledger: ledger.list()) if "tsk_1" in each.lineage)]
    assert len(ids) == 3
    assert {each.state for each in site.wait(ids)} == {TaskState.KILLED}
    (other,) = site.wait(["tsk_2"])
    assert other.state is TaskState.DONE


def test_a_killed_child_is_told_to_its_parent(site: Site) -> None:
    """Somebody ends one child: its parent goes on and sees which."""
    (task,) = site.submit(site.request("nest", id="tsk_1", depth=1, seconds=60))
    site.start(2.0)
    site.wait_for_lines(1)
    (child,) = _children(site, "tsk_1")
    site.ledger(lambda ledger: ledger.want(child.id, "kill"))
    (ended,) = site.wait([task.id])
    assert ended.state is TaskState.FAILED
    assert "is killed" in ended.reason


def test_a_program_that_does_not_end_is_left_behind(site: Site) -> None:
    """A program that swallows its cancellation is over all the same, and its worker goes on."""
    (task,) = site.submit(site.request("stubborn", id="tsk_1"))
    site.start(2.0)
    site.wait_for_lines(1)
    site.ledger(lambda ledger: ledger.want(task.id, "kill"))
    (ended,) = site.wait([task.id])
    assert ended.state is TaskState.KILLED
    site.submit(site.request("steps", id="tsk_2"))
    (other,) = site.wait(["tsk_2"])
    assert other.state is TaskState.DONE


def test_a_suspended_tree_goes_on_whole(site: Site) -> None:
    """Suspended with its children and resumed with them; nothing is done twice."""
    (task,) = site.submit(site.request("family", id="tsk_1", child="naps"))
    site.start(2.0)
    site.wait_for_lines(12)
    site.ledger(lambda ledger: ledger.want(task.id, "suspend"))
    limit = time.monotonic() + 60
    while any(each.state is not TaskState.SUSPENDED for each in site.ledger(lambda ledger: ledger.list(OPEN_STATES))):
        assert time.monotonic() < limit
        time.sleep(0.05)
    count = len(lines(str(site.work)))
    site.ledger(lambda ledger: ledger.wake(task.id))
    (ended,) = site.wait([task.id])
    assert ended.state is TaskState.DONE, ended
    assert len(lines(str(site.work))) > count
    assert site.repeated() == {}


def test_children_over_two_workers(shared: Site) -> None:
    """On PostgreSQL children run on whichever worker has room; the parent gathers them all."""
    shared.start(2.0, "2")
    shared.start(2.0, "2")
    ids = [f"tsk_{number}" for number in range(3)]
    shared.submit(*(shared.request("family", id=each) for each in ids))
    ended = shared.wait(ids)
    assert [each.state for each in ended] == [TaskState.DONE] * 3, ended
    assert shared.repeated() == {}
