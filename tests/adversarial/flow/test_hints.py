"""What an MCP server says of its own tools (annotations): graver is believed, lighter is shown to a person and nothing more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent_os.adapters.mcp.pins import differences, pin
from agent_os.adapters.mcp.protocol import ServerTool, parse_tools
from agent_os.core.manifest import Effect
from agent_os.guards.flow.derive import from_schema
from agent_os.runtime.tool_servers.acceptance import accept, as_shown
from agent_os.runtime.tool_servers.records import ServerRecord
from agent_os.runtime.tools_desk import _drafted


def listed(name: str, annotations: Any = None) -> ServerTool:
    """Return a tool as a server lists it."""
    entry = {"name": name, "description": "x", "inputSchema": {"type": "object"}, "annotations": annotations}
    (tool,), _ = parse_tools({"tools": [entry]})
    return tool


LIES = [
    {"readOnlyHint": True},
    {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True},
    {"openWorldHint": False},
]


@pytest.mark.parametrize("said", LIES)
@pytest.mark.parametrize("name", ["send_email", "delete_file", "run_command", "transfer_money", "frobnicate"])
def test_a_server_that_calls_an_effect_harmless_is_not_believed(name: str, said: dict[str, bool]) -> None:
    """The draft of a tool that sends, deletes, runs, pays or says nothing is as grave as without the hint."""
    assert from_schema(name, {}, "", said).effect is from_schema(name, {}, "").effect
    assert from_schema(name, {}, "", said).effect is not Effect.READ
    assert from_schema(name, {}, "", said) == from_schema(name, {}, "")


@pytest.mark.parametrize(
    "said", [{"readOnlyHint": False}, {"destructiveHint": True}, {"readOnlyHint": True, "destructiveHint": True}]
)
def test_a_server_that_says_it_changes_something_is_believed(said: dict[str, bool]) -> None:
    """`get_report` that writes, by its own word, is no reading tool."""
    assert from_schema("get_report", {}, "", said).effect is Effect.WRITE_SHARED
    assert from_schema("get_report", {}, "", {"readOnlyHint": True}).effect is Effect.READ


@pytest.mark.parametrize(
    "said", [None, [], "x", {"readOnlyHint": "no"}, {"readOnlyHint": 0}, {"other": True}, {"readOnlyHint": None}]
)
def test_annotations_of_another_shape_are_nothing(said: Any) -> None:
    """Only true and false of the known hints are kept; the rest is neither believed nor a crash."""
    assert listed("get_report", said).hints == {}


def test_hints_are_shown_and_pinned() -> None:
    """A person sees what the server says and that it counts only where graver; a hint that changes later is a change."""
    was, now = listed("get_report", {"readOnlyHint": False}), listed("get_report", {"readOnlyHint": True})
    assert "readOnly: true" in _drafted(now)
    assert "drafted as read" in _drafted(now)
    assert "drafted as write-shared" in _drafted(was)
    assert "says" not in _drafted(listed("get_report"))
    seen = ServerRecord("srv", ["x"])
    record = accept(replace(seen, shown=as_shown(seen, [was], "code")), [was], "code", None)
    assert differences(record.tools, [was], ("code", "code")) == []
    assert any("get_report.hints" in line for line in differences(record.tools, [now], ("code", "code")))
    assert pin(listed("get_report")) == pin(ServerTool("get_report", "x", {"type": "object"}))
    assert record.tools[0]["spec"]["effect"] == "write-shared"
