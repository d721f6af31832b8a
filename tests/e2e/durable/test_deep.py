"""deepagents in a durable task: its sub-agents are tasks, its own state is there again after a kill, nothing is done twice."""

from __future__ import annotations

import json
import signal
from collections import Counter

import pytest

from agent_os.core.task import Task, TaskState
from tests.e2e.durable import deep_worker
from tests.e2e.durable.support import Site
from tests.e2e.durable.worker import lines

pytest.importorskip("deepagents", reason="the extra [deepagents] is not installed")


@pytest.fixture
def deep(site: Site) -> Site:
    """A site whose worker has the deep agent."""
    site.worker = "tests.e2e.durable.deep_worker"
    site.policy.write_text(deep_worker.POLICY)
    return site


def _checked(site: Site, ended: Task) -> None:
    assert ended.state is TaskState.DONE, ended.reason
    first, second, denied, read = ended.result["answer"].split(" | ")
    assert (first, second) == ("wrote a", "wrote b")
    assert "roles that may be started: scribe" in denied
    assert "two parts" in read, "the file of the agent's own state is there"
    assert ended.result["files"] == ["/plan.md"]
    assert [each["content"] for each in ended.result["todos"]] == ["parts"]
    children = site.ledger(lambda ledger: ledger.list(parent="tsk_1"))
    assert {(each.input["task"], each.rights.role, each.state) for each in children} == {
        ("write a", "scribe", TaskState.DONE), ("write b", "scribe", TaskState.DONE),
    }  # fmt: skip
    notes = Counter(line for line in lines(str(site.work)) if line.startswith("note "))
    assert notes == {"note a": 1, "note b": 1}


def test_a_deep_agent_s_sub_agents_are_tasks(deep: Site) -> None:
    """Each runs the agent of its spec with its role's rights; one of an unknown role is told as denied; all answers come back."""
    deep.submit(deep.request("deep", id="tsk_1", task="plan"))
    deep.start(2.0)
    (ended,) = deep.wait(["tsk_1"])
    _checked(deep, ended)
    models = Counter(line for line in lines(str(deep.work)) if line.startswith("model "))
    assert set(models.values()) == {1}, json.dumps(models)


@pytest.mark.parametrize("after", [2, 5, 8])
def test_a_kill_loses_and_repeats_nothing(deep: Site, after: int) -> None:
    """`kill -9` once so many lines were left: files and list are rebuilt, recorded answers come back, notes are there once."""
    deep.submit(deep.request("deep", id="tsk_1", task="plan"))
    worker = deep.start(2.0)
    deep.wait_for_lines(after)
    worker.send_signal(signal.SIGKILL)
    worker.wait(10)
    deep.start(2.0)
    (ended,) = deep.wait(["tsk_1"])
    interrupted = [each for each in deep.ledger(lambda ledger: ledger.list()) if "interrupted" in str(each.result)]
    if not interrupted:  # a note that was being written at that very moment is told as interrupted
        _checked(deep, ended)
    calls = Counter(line for line in lines(str(deep.work)) if line.startswith("model "))
    assert sum(count - 1 for count in calls.values()) <= 3, "only what was under way is asked again"
