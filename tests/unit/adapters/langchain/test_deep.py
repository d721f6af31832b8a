"""deepagents' sub-agents: each has the rights of the role of its name, its bounds and its allowance, and never its parent's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("deepagents", reason="extra [deepagents] is not installed")

from deepagents import create_deep_agent

from agent_os.adapters.langchain import AgentOSMiddleware, ScriptedModel
from agent_os.adapters.langchain.deep import govern_subagents, governed_deep_agent
from agent_os.core.errors import ActionError
from tests.unit.adapters.langchain.sessions import MODELS, records, session
from tests.unit.adapters.langchain.test_middleware import pay_tool

ROLES = (
    MODELS
    + """
agents:
  max_total: 3
  roles:
    reader: {tools: [read_file, look_up], read: [notes], models: ["*"], budgets: {calls: 4}}
    payer: {tools: [pay]}
"""
)
TOOLS = "{pay: {allow: true}, read_file: {allow: true}, look_up: {allow: true}}"


def script_of(role: str, calls: list[Any]) -> Any:
    """Return a script: the parent starts a sub-agent once for each human turn, the sub-agent makes its calls at once."""

    def script(messages: list[Any]) -> Any:
        last = messages[-1]
        if last.type == "human" and last.text.startswith("delegate"):
            return [("task", {"description": "do it", "subagent_type": role})]
        if last.type == "human":
            return calls
        return "finished"

    return script


def spec(name: str, **more: Any) -> dict[str, Any]:
    """Return a sub-agent's spec."""
    return {"name": name, "description": name, "system_prompt": name, **more}


def denied(folder: Path) -> dict[str, list[str]]:
    """Return the rules of the denied calls by tool."""
    found = [record for record in records(folder) if record["type"] == "denied"]
    return {record["action"]["tool"]: list(record["rules"]) for record in found}


def test_a_sub_agent_has_its_role_s_rights_only(tmp_path: Path) -> None:
    """The parent may pay and read everything; its reader may neither pay nor read beside its folder, under its own name."""
    paid: list[Any] = []
    calls = [("pay", {"amount": 1}), ("read_file", {"path": "notes/a.txt"}), ("read_file", {"path": "secret.txt"})]
    with session(tmp_path, TOOLS, ROLES) as os:
        (Path(os.workspace) / "notes").mkdir()
        (Path(os.workspace) / "notes" / "a.txt").write_text("a note")
        (Path(os.workspace) / "secret.txt").write_text("s3cret")
        assert os.perform({"kind": "tool.call", "tool": "read_file", "args": {"path": "secret.txt"}}).ok
        model = ScriptedModel(script=script_of("reader", calls))
        graph = governed_deep_agent(os, model, [pay_tool(paid), *os.tools("read_file")], subagents=[spec("reader")])
        graph.invoke({"messages": [("user", "delegate")]})
    assert paid == []
    offered = [names for names in model.offered if "task" not in names]
    assert offered
    assert all("pay" not in names and "read_file" in names for names in offered), (
        "what a role does not hold is not shown"
    )
    reads = [record for record in records(tmp_path, "fs.read") if record["agent"] == "reader-0"]
    assert sorted(record["type"] for record in reads) == ["denied", "intent"], "in whatever order parallel calls come"
    assert denied(tmp_path)["pay"] == ["runtime.capability"]
    assert not any("s3cret" in message.text for prompt in model.prompts for message in prompt)


def test_a_spec_s_own_tools_are_held_to_the_role(tmp_path: Path) -> None:
    """A spec that brings a raw tool its role does not have gets nothing by that; the parent's effect is its own."""
    paid: list[Any] = []
    with session(tmp_path, TOOLS, ROLES) as os:
        model = ScriptedModel(script=script_of("reader", [("pay", {"amount": 1})]))
        governed_deep_agent(os, model, subagents=[spec("reader", tools=[pay_tool(paid)])]).invoke(
            {"messages": [("user", "delegate")]}
        )
        model = ScriptedModel(script=script_of("payer", [("pay", {"amount": 2})]))
        governed_deep_agent(os, model, subagents=[spec("payer", tools=[pay_tool(paid)])]).invoke(
            {"messages": [("user", "delegate")]}
        )
    assert paid == [2.0]


def test_an_allowance_and_a_total_hold(tmp_path: Path) -> None:
    """All sub-agents of one role share its allowance; past the total of agents none is started."""
    looked: list[str] = []

    def look_up(word: str) -> str:
        """Look a word up."""
        looked.append(word)
        return word

    calls = [("look_up", {"word": str(number)}) for number in range(3)]
    with session(tmp_path, TOOLS, ROLES) as os:
        model = ScriptedModel(script=script_of("reader", calls))
        graph = governed_deep_agent(os, model, [look_up], subagents=[spec("reader")])
        for turn in range(5):
            graph.invoke({"messages": [("user", f"delegate {turn}")]})
    assert sorted(looked) == ["0", "1", "2"], "four calls of models and tools in all, not four for each"
    paid: list[Any] = []
    with session(tmp_path, TOOLS, ROLES) as os:
        model = ScriptedModel(script=script_of("payer", [("pay", {"amount": 1})]))
        graph = governed_deep_agent(os, model, [pay_tool(paid)], subagents=[spec("payer")])
        told = [graph.invoke({"messages": [("user", f"delegate {turn}")]})["messages"][-2].text for turn in range(5)]
    assert paid == [1.0] * 3
    assert [("agents.max_total" in each) for each in told] == [False, False, False, True, True]


def test_sub_agents_that_nobody_governed_are_not_started(tmp_path: Path) -> None:
    """A deep agent built beside the runtime has a `task` tool that starts nothing; the model is told what to do."""
    paid: list[Any] = []
    with session(tmp_path, TOOLS, ROLES + "    general-purpose: {tools: [pay]}\n") as os:
        model = ScriptedModel(script=script_of("general-purpose", [("pay", {"amount": 1})]))
        graph = create_deep_agent(
            model=os.model(model), tools=os.wrap([pay_tool(paid)]), middleware=[AgentOSMiddleware(os)]
        )
        result = graph.invoke({"messages": [("user", "delegate")]})
    assert paid == []
    assert any("governed_deep_agent" in str(message.content) for message in result["messages"])


def test_a_session_that_can_narrow_none_is_refused(tmp_path: Path) -> None:
    """A session with neither roles of its own nor tasks to delegate to gets an error that names what to use instead."""

    class Task:
        """What such a session looks like from here."""

    with pytest.raises(ActionError, match="delegate"):
        govern_subagents(Task(), [spec("reader")], tools=[])  # type: ignore[arg-type]
