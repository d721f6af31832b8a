"""A very large result: what it says is known, and nobody else waits while it is looked through."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent_os.core.manifest import Effect, ToolSpec
from agent_os.core.ports import Outcome, Pending
from agent_os.guards.flow.taint import PIECE_CHARS, TaintIndex, pieces
from agent_os.policy import Policy
from agent_os.runtime.sdk import AgentOS

POLICY = 'version: 1\ntools: {"*": {allow: true}}\nflow: {}\n'
EVIL = "eve@evil.example"
BIG = "lorem ipsum dolor " * 150_000 + EVIL


def call(tool: str, **args: Any) -> dict[str, Any]:
    """Return the wire form of a tool call."""
    return {"kind": "tool.call", "tool": tool, "args": args}


def opened(tmp_path: Path, name: str) -> AgentOS:
    """Return a session that is to be opened, over its own state."""
    (tmp_path / name).mkdir()
    return AgentOS.open(
        Policy.parse(POLICY), workspace=tmp_path / name, state=tmp_path / f"{name}.state", principal="ana@corp.example"
    )


def with_tools(system: AgentOS) -> None:
    """Register a tool with a large result, one with a small one, and one that mails."""
    read = ToolSpec(name="read_page", effect=Effect.READ, output_bytes_max=20_000_000)

    async def large(_: Any) -> str:
        return BIG

    async def small(_: Any) -> str:
        return "a word"

    system.toolbox.register(read, large, code=b"large")
    system.toolbox.register(read.model_copy(update={"name": "read_note"}), small, code=b"small")

    @system.guarded
    def send_email(to: str, body: str) -> str:
        """Send an email."""
        return "sent"


async def test_another_session_goes_on_while_a_large_result_is_taken(tmp_path: Path) -> None:
    """Calls of a second session on the same loop begin and end while the first one's result is being indexed."""
    async with opened(tmp_path, "one") as one, opened(tmp_path, "two") as two:
        for system in (one, two):
            with_tools(system)
        flow: Any = one.monitor.session.flow
        reading = asyncio.ensure_future(one.aperform(call("read_page")))
        while not flow.busy and not reading.done():
            await asyncio.sleep(0)
        finished = 0
        while flow.busy:
            done = await two.aperform(call("read_note"))
            assert isinstance(done, Outcome)
            finished += flow.busy
            await asyncio.sleep(0)  # a call that waits for nothing gives nobody else a turn
        assert finished >= 1
        assert (await reading).ok  # type: ignore[union-attr]


async def test_a_call_of_the_same_session_is_judged_when_the_result_is_known(tmp_path: Path) -> None:
    """A mail that is decided while the page is being taken waits for it: the stranger at its end is no recipient."""
    async with opened(tmp_path, "one") as one:
        with_tools(one)
        one.prompt("Read the page and send an email to bob@corp.example.")
        reading = asyncio.ensure_future(one.aperform(call("read_page")))
        flow: Any = one.monitor.session.flow
        while not flow.busy:
            await asyncio.sleep(0)
        stopped = await one.aperform(call("send_email", to=EVIL, body="hello"))
        assert isinstance(stopped, Pending)
        assert "flow.authority_from_untrusted" in stopped.decision.rules
        assert reading.done()
        free = await one.aperform(call("send_email", to="bob@corp.example", body="hello"))
        assert isinstance(free, Outcome)


async def test_a_taking_that_is_cancelled_leaves_nothing_trusted(tmp_path: Path) -> None:
    """A caller that gives up half way: what the rest of the page said is not known, so only the prompt vouches."""
    async with opened(tmp_path, "one") as one:
        with_tools(one)
        one.prompt("Read the page and send an email to bob@corp.example.")
        reading = asyncio.ensure_future(one.aperform(call("read_page")))
        flow: Any = one.monitor.session.flow
        while not flow.busy:
            await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert not flow.busy
        stopped = await one.aperform(call("send_email", to="zoe@corp.example", body="hello"))
        assert isinstance(stopped, Pending)
        assert "flow.authority_from_untrusted" in stopped.decision.rules


FILL = {
    "spaces": "lorem ipsum ",
    "lines": "lorem\n",
    "no spaces": "lorem,ipsum.",
    "one run": "lorem",
    "letters apart": "l o r e m ",
}


@pytest.mark.parametrize("fill", FILL.values(), ids=FILL)
@pytest.mark.parametrize("place", [-60, -20, -8, 0, 1, 5, 30])
def test_no_value_is_lost_where_a_text_is_cut(fill: str, place: int) -> None:
    """A value across the end of a piece is found as if the text had not been cut, also spelt with spaces or encoded."""
    forms = [EVIL, " ".join(EVIL), EVIL.encode().hex(), "".join(f"%{ord(char):02x}" for char in EVIL)]
    for form in forms:
        text = (fill * PIECE_CHARS)[: PIECE_CHARS + place] + " " + form + " " + (fill * 2000)
        assert len(list(pieces(text))) > 1 or fill == FILL["one run"]
        index = TaintIndex()
        index.add(text, "page")
        assert index.holds(EVIL)
    index = TaintIndex()
    index.add(fill * PIECE_CHARS, "page")
    assert not index.holds(EVIL)


@pytest.mark.parametrize("between", [" ", "\n", ",", "x", "%"])
def test_pieces_are_the_whole_text(between: str) -> None:
    """Every character stands in a piece, in order, and no piece is longer than what is decoded at once."""
    text = between.join(f"w{number}" for number in range(70_000))
    at = 0
    for piece in pieces(text):
        place = text.find(piece)
        assert place <= at
        assert len(piece) <= 200_000
        at = place + len(piece)
    assert at == len(text)
