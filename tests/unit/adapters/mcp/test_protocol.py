"""The protocol with a tool server, as a dialogue: what is sent, what may come back, what is refused."""

from __future__ import annotations

import json

import pytest

from agent_os.adapters.mcp.pins import differences, pin
from agent_os.adapters.mcp.protocol import LINE_BYTES_MAX, Client, ServerTool, parse_tools, value_of
from agent_os.core.errors import EffectError


def line(**form: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **form}).encode() + b"\n"


def test_a_call_and_its_answer() -> None:
    """A request carries an id; its answer is returned once, however it is cut."""
    client = Client()
    number, data = client.call("tools/call", {"name": "x", "arguments": {}})
    assert json.loads(data)["id"] == number
    answer = line(id=number, result={"ok": 1})
    assert client.feed(answer[:7]) == []
    assert client.feed(answer[7:])[0].result == {"ok": 1}
    assert client.feed(answer) == []


def test_the_opening_offers_nothing() -> None:
    """No sampling, no elicitation and no roots are offered to a server."""
    _number, data = Client().hello()
    assert json.loads(data)["params"]["capabilities"] == {}


def test_requests_of_the_server_are_refused() -> None:
    """A server that asks for a model or a file is told that there is none."""
    client = Client()
    assert client.feed(line(id=7, method="sampling/createMessage", params={})) == []
    assert json.loads(client.refusals[0])["error"]["code"] == -32601
    assert client.feed(line(method="notifications/message", params={})) == []
    assert len(client.refusals) == 1


@pytest.mark.parametrize("bad", [b"not json\n", b"[1]\n", b'"text"\n', b"\xff\xfe\n"])
def test_lines_of_other_shapes_end_the_connection(bad: bytes) -> None:
    """What is no JSON-RPC object is an error, not skipped."""
    with pytest.raises(EffectError):
        Client().feed(bad)


def test_a_line_without_end_ends_the_connection() -> None:
    """The buffer of an unfinished line is bounded."""
    client = Client()
    with pytest.raises(EffectError, match="more than"):
        client.feed(b"x" * (LINE_BYTES_MAX + 1))


def test_forged_and_boolean_ids_are_dropped() -> None:
    """Answers nobody asked for, and ids that only look equal, go nowhere."""
    client = Client()
    number, _data = client.call("x")
    assert number == 1
    assert client.feed(line(id=True, result={}) + line(id="1", result={}) + line(id=99, result={})) == []


@pytest.mark.parametrize(
    "entry",
    [{"name": ""}, {"name": "a/b"}, {"name": "a\nb"}, {"name": "a", "inputSchema": []}, {"name": "a", "inputSchema": {}, "description": 5},
     {"name": "a", "inputSchema": {}, "description": "x" * 30_000}, "text"],
)  # fmt: skip
def test_tools_of_other_shapes_are_refused(entry: object) -> None:
    """A tool without a usable name, text or schema is not listed at all."""
    with pytest.raises(EffectError):
        parse_tools({"tools": [entry]})


def test_values_of_results() -> None:
    """Structured content wins over text; a failure is told apart; other content is named, not carried."""
    assert value_of({"structuredContent": {"a": 1}, "content": [{"type": "text", "text": "x"}]}) == ({"a": 1}, False)
    assert value_of({"content": [{"type": "text", "text": "x"}, {"type": "image", "data": "…"}]}) == (
        "x\n[image left out]",
        False,
    )
    assert value_of({"isError": True, "content": [{"type": "text", "text": "no"}]}) == ("no", True)


def test_every_difference_is_seen() -> None:
    """Changed code, texts and schemas, new and missing tools each make a line; the same server makes none."""
    tool = ServerTool("a", "does a", {"type": "object"})
    accepted = [{"shown": tool.to_json(), "pin": pin(tool)}]
    assert differences(accepted, [tool], ("c", "c")) == []
    assert differences(accepted, [tool], ("c", "d")) != []
    assert differences(accepted, [ServerTool("a", "does a.", {"type": "object"})]) != []
    assert differences(accepted, [ServerTool("a", "does a", {"type": "object", "properties": {"x": {}}})]) != []
    assert differences(accepted, [ServerTool("a", "does a", {"type": "object"}, {})]) != []
    assert differences(accepted, []) != []
    assert differences(accepted, [tool, ServerTool("b", "", {})]) != []
    assert differences(accepted, [tool, tool]) != []
