"""Information flow over `kill -9`: what a task has read stays read, what it holds by handle stays held, until it is done."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from agent_os.core.task import Task, TaskState
from tests.e2e.durable import flow_worker
from tests.e2e.durable.support import Site
from tests.e2e.durable.test_parking import _answer, _parked
from tests.e2e.durable.worker import lines


def _killed(site: Site, program: str, policy: str = flow_worker.POLICY, approvals: int = 1) -> Task:
    """Run a program until it waits for a person, kill its worker, approve, and start another one; return how it ended."""
    site.worker = "tests.e2e.durable.flow_worker"
    site.policy.write_text(policy)
    (task,) = site.submit(site.request(program, id="tsk_1"))
    for _ in range(approvals):
        worker = site.start(2.0)
        parked = _parked(site, task.id)
        worker.send_signal(signal.SIGKILL)
        worker.wait(10)
        _answer(site, parked.approval, approve=True)
    site.start(2.0)
    (ended,) = site.wait([task.id])
    assert ended.state is TaskState.DONE, ended.reason
    return ended


def _stored(site: Site) -> set[str]:
    """Return the beginnings of what the ledger holds as outcomes of the task."""
    sql = "SELECT value FROM agentos_outcome WHERE task='tsk_1'"
    rows = site.ledger(lambda ledger: ledger.storage.run(lambda session: session.execute(sql, ()).fetchall()))
    return {row[0][:2] for row in rows}


def test_a_task_that_was_killed_has_not_forgotten_what_it_read(site: Site) -> None:
    """The letter is read once, in the first run; in the second its account is denied, and the user's own is paid."""
    ended = _killed(site, "forgets")
    assert "flow.authority_from_untrusted" in ended.result["theirs"]
    assert lines(str(site.work)) == ["read the letter", "noted", f"paid {flow_worker.MINE}"]


def test_handles_survive_and_end_with_the_task(site: Site) -> None:
    """A handle of the first run stands for the same text in the third, is no authority there either, and no value of it is
    left in the ledger once the task is done; while it waits, none stands there in the clear.
    """
    ended = _killed(site, "holds", flow_worker.BY_REFERENCE, approvals=2)
    assert ended.result["letter"]["body"].startswith("ref:1#/body")
    assert ended.result["noted"] == flow_worker.LETTER
    assert "flow.authority_from_untrusted" in ended.result["theirs"]
    assert lines(str(site.work)) == ["read the letter", "waited", flow_worker.LETTER]
    assert "-" in _stored(site)
    assert "h:" not in _stored(site)
    stored = b"".join(path.read_bytes() for path in Path(site.state).rglob("*.db*") if os.path.isfile(path))
    assert flow_worker.THEIRS.encode() not in stored


def test_handles_survive_and_end_on_postgresql(shared: Site) -> None:
    """The same on a shared database."""
    ended = _killed(shared, "holds", flow_worker.BY_REFERENCE, approvals=2)
    assert ended.result["noted"] == flow_worker.LETTER
    assert "h:" not in _stored(shared)
    assert "-" in _stored(shared)


def test_a_list_that_vouched_vouches_after_the_kill(site: Site) -> None:
    """Twin: a payee of the operator's list, read in the first run, is paid in the second though the letter names it too."""
    (site.work / "payees.csv").write_text(f"name,iban\nlandlord,{flow_worker.MINE}\n")
    ended = _killed(site, "lists")
    assert "flow.authority_from_untrusted" in ended.result["theirs"]
    assert f"paid {flow_worker.MINE}" in lines(str(site.work))


def test_a_parent_that_waited_for_its_child_has_not_forgotten(site: Site) -> None:
    """Waiting for a child ends the run: the next one knows the letter, and the child knew it from the start."""
    site.worker = "tests.e2e.durable.flow_worker"
    site.policy.write_text(flow_worker.POLICY)
    (task,) = site.submit(site.request("parent", id="tsk_1"))
    site.start(2.0)
    (ended,) = site.wait([task.id])
    assert ended.state is TaskState.DONE, ended.reason
    assert any(rule.startswith("flow.") for rule in ended.result["child"])
    assert any(rule.startswith("flow.") for rule in ended.result["theirs"])
    assert lines(str(site.work)) == ["read the letter"]
