"""The built-in agent hands out its work: children as durable tasks that survive a kill, one failed child told like the others."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agent_os import AgentOS
from agent_os.adapters.langchain import ScriptedModel
from agent_os.core.task import Task, TaskState
from agent_os.policy import Policy
from agent_os.runtime.agent import Heard, run_agent
from agent_os.runtime.delegating import roles_offered
from tests.e2e.durable.support import Site
from tests.e2e.durable.worker import POLICY, lines


def _told(answer: str) -> list[list[dict[str, Any]]]:
    parts = answer.removeprefix("gathered: ").split(" | ")
    return [json.loads(part) for part in parts]


def _gathered(ended: Task) -> None:
    assert ended.state is TaskState.DONE, ended
    first, second = _told(ended.result["answer"])
    assert [each["ok"] for each in first] == [True, True, False, False]
    assert [each.get("answer") for each in first[:2]] == ["wrote a", "wrote b"]
    assert "no idea" in first[2]["error"] or "ValueError" in first[2]["error"]  # a recorded failure is told by its kind
    assert first[3]["error"].startswith("denied: ")
    assert "roles that may be started: " in first[3]["error"]
    assert second == [{"agent": second[0]["agent"], "ok": True, "answer": "wrote review"}]


def test_an_agent_s_children_are_tasks(site: Site) -> None:
    """Each sub-agent is a row below its parent with its role's rights; all answers, the failed and the denied one are told."""
    site.submit(site.request("planner", id="tsk_1", task="plan"))
    site.start(2.0)
    (ended,) = site.wait(["tsk_1"])
    _gathered(ended)
    children = site.ledger(lambda ledger: ledger.list(parent="tsk_1"))
    assert sorted(each.input["task"] for each in children) == ["fail", "write a", "write b", "write review"]
    assert {each.rights.role for each in children} == {"scribe"}
    assert [each.rights.limits for each in children if each.input["task"] == "write review"] == [{"calls": 4.0}]
    assert (site.work / "review.txt").read_text() == "review"
    assert set(Counter(line for line in lines(str(site.work)) if line != "model fail 0").values()) == {1}


@pytest.mark.parametrize("after", [1, 3, 6, 9])
def test_a_kill_at_any_step_loses_and_repeats_nothing(site: Site, after: int) -> None:
    """`kill -9` once so many model calls were made: begun again, recorded answers come back and no child is started twice."""
    site.submit(site.request("planner", id="tsk_1", task="plan"))
    worker = site.start(2.0)
    site.wait_for_lines(after)
    worker.send_signal(signal.SIGKILL)
    worker.wait(10)
    site.start(2.0)
    (ended,) = site.wait(["tsk_1"])
    if "interrupted" not in str(
        ended.result
    ):  # a file that was being written at that very moment is told as interrupted
        _gathered(ended)
    children = site.ledger(lambda ledger: ledger.list(parent="tsk_1"))
    assert sorted(each.input["task"] for each in children) == ["fail", "write a", "write b", "write review"]
    calls = Counter(lines(str(site.work)))
    assert sum(count - 1 for line, count in calls.items() if line != "model fail 0") <= 4, (
        "only what was under way is asked again"
    )


def test_the_agent_of_a_session_delegates_too(tmp_path: Path) -> None:
    """`agentos agent`: the same tool with sub-agents in process; a child is told its role's words and has no tool to start others."""
    (tmp_path / "work").mkdir()
    seen: dict[str, list[str]] = {}

    def script(messages: list[Any]) -> Any:
        asked = next(message.text for message in messages if message.type == "human")
        told = [message for message in messages if message.type == "tool"]
        seen[asked] = [message.text for message in messages if message.type == "system"]
        if asked.startswith("write "):
            name = asked.removeprefix("write ")
            return f"wrote {name}" if told else [("write_file", {"path": f"{name}.txt", "content": name})]
        if not told:
            tasks = [("scribe", "write a"), ("nobody", "write c"), ("scribe", "write b")]
            return [("delegate", {"agents": [{"role": role, "task": task} for role, task in tasks]})]
        return str(told[-1].content)

    heard: list[Heard] = []
    model = ScriptedModel(script=script)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGENTOS_STATE", str(tmp_path / "state"))
        answer = run_agent(
            "plan", model=model, policy=Policy.parse(POLICY), workspace=tmp_path / "work", tell=heard.append
        )
    told = json.loads(answer)
    assert [each["ok"] for each in told] == [True, False, True]
    assert (tmp_path / "work/a.txt").read_text() == "a"
    assert seen["write a"][0].endswith("Be brief.")
    offered = {tuple(sorted(names)) for names in model.offered}
    assert any("delegate" in names for names in offered)
    assert any("delegate" not in names for names in offered), "a scribe may start nobody"


def test_who_may_start_nobody_has_no_such_tool(tmp_path: Path) -> None:
    """Without roles, and at the depth where agents end, the tool is not there."""
    (tmp_path / "work").mkdir()
    bare = Policy.parse("version: 1\nfilesystem_policy: {include_workdir: true}\n")
    with AgentOS.open(bare, workspace=tmp_path / "work", state=tmp_path / "s") as system:
        assert roles_offered(system.monitor) == []
    with AgentOS.open(Policy.parse(POLICY), workspace=tmp_path / "work", state=tmp_path / "s") as system:
        assert [name for name, _ in roles_offered(system.monitor)] == ["lead", "scribe", "writer"]

        def child(session: AgentOS, task: str) -> list[str]:
            return [name for name, _ in roles_offered(session.monitor)]

        assert system.spawn("lead", "x", child) == ["lead", "writer"]
        assert system.spawn("scribe", "x", child) == []


@pytest.mark.parametrize(
    "agents",
    [
        [],
        "x",
        [{"role": "scribe"}],
        [{"role": "scribe", "task": "x", "as": "root"}],
        [{"role": "scribe", "task": "x"}] * 40,
    ],
)
def test_a_call_that_is_none_is_told(tmp_path: Path, agents: Any) -> None:
    """A model's nonsense comes back as an error it can read; nothing is started."""
    from agent_os.runtime.agent import SessionDelegation
    from agent_os.runtime.delegating import delegate_tools

    (tmp_path / "work").mkdir()
    with AgentOS.open(Policy.parse(POLICY), workspace=tmp_path / "work", state=tmp_path / "s") as system:
        (tool,) = delegate_tools(system.monitor, SessionDelegation(system, lambda child, task: "did it"))
        said = tool.invoke({"agents": agents})
    assert str(said).startswith("error: "), said
