"""A halt and the tool servers at work: a call under way is cut off and its sandbox ended; who is not stopped goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent_os import AgentOS, DeniedError
from agent_os.core.ports import Outcome
from agent_os.core.principal import Principal
from tests.e2e.sandbox.test_tools import add, call, folder, policy

pytestmark = pytest.mark.kernel
__all__ = ["folder"]
WRITES = "import time\nfor i in range(600):\n    open('beat', 'a').write('x')\n    time.sleep(0.05)\n"


async def _while_calling(runtime: AgentOS, folder: Path, meanwhile: Callable[[], Awaitable[object]]) -> Outcome:
    """Start a tool's call that beats in a file, do something once it does, and return the call's outcome."""
    action = {"kind": "tool.call", "server": "shell", "tool": "run"}
    args = {"command": f'exec python3 -c "{WRITES}"', "seconds": 40}
    calling = asyncio.ensure_future(runtime.aperform({**action, "args": args}))
    beat = folder / "ws" / "beat"
    async with asyncio.timeout(60):
        while not beat.exists():
            await asyncio.sleep(0.02)
    await meanwhile()
    async with asyncio.timeout(60):
        outcome = await calling
    assert isinstance(outcome, Outcome)
    return outcome


def _size_stays(path: Path) -> bool:
    """Return whether a file stops growing, given time."""
    limit, size = time.monotonic() + 20, -1
    while time.monotonic() < limit:
        before, size = size, path.stat().st_size
        if before == size:
            return True
        time.sleep(0.5)
    return False


async def test_a_halt_cuts_off_a_running_call(folder: Path) -> None:
    """The call ends as cut off, the server's processes end with it, and after the release a fresh server answers."""
    path = policy(folder, "shell/*")
    await asyncio.to_thread(add, folder, path, "shell")
    principal = Principal(user="ana", agent="desk")
    async with AgentOS.open(path, principal=principal, workspace=folder / "ws") as runtime:
        began = time.monotonic()
        outcome = await _while_calling(runtime, folder, lambda: runtime.stops.ahalt(by="lea", reason="odd payments"))
        assert time.monotonic() - began < 25, "it did not wait for the tool"
        assert outcome.error == "cancelled"
        assert outcome.detail == "ended: everything is halted by lea: odd payments"
        assert await asyncio.to_thread(_size_stays, folder / "ws" / "beat"), "the tool's process is over"
        with pytest.raises(DeniedError, match="odd payments"):
            await runtime.aperform({"kind": "tool.call", "server": "shell", "tool": "run", "args": {"command": "true"}})
        await runtime.stops.arelease("all", by="lea")
        again = await runtime.aperform(
            {"kind": "tool.call", "server": "shell", "tool": "run", "args": {"command": "echo back"}}
        )
        assert isinstance(again, Outcome)
        assert again.value["output"] == "back\n"


async def test_a_quarantine_of_somebody_else_cuts_nothing(folder: Path) -> None:
    """The call of an agent that nobody stopped runs to its own end."""
    path = policy(folder, "shell/*")
    await asyncio.to_thread(add, folder, path, "shell")
    async with AgentOS.open(path, principal=Principal(user="ana", agent="desk"), workspace=folder / "ws") as runtime:
        action = {"kind": "tool.call", "server": "shell", "tool": "run"}
        calling = asyncio.ensure_future(
            runtime.aperform(
                {**action, "args": {"command": "touch beat; while [ ! -e go ]; do sleep 0.1; done; echo on"}}
            )
        )
        beat = folder / "ws" / "beat"
        async with asyncio.timeout(60):
            while not beat.exists():
                await asyncio.sleep(0.02)
        await runtime.stops.aquarantine("agent", "invoice-bot", by="lea")
        (folder / "ws" / "go").touch()
        async with asyncio.timeout(60):
            outcome = await calling
        assert isinstance(outcome, Outcome)
        assert outcome.value["output"] == "on\n"


def test_a_quarantined_sub_agent_loses_its_server_alone(folder: Path) -> None:
    """Its call is cut off; the session above it and its own server go on."""
    path = folder / "policy.yaml"
    path.write_text(
        "version: 1\nextends: [pack:baseline]\ntools: {shell/run: {allow: true}}\n"
        "agents: {roles: {runner: {tools: [shell/run], write: ['.'], read: ['.']}}}\n"
    )
    add(folder, path, "shell")
    with AgentOS.open(path, principal=Principal(user="ana", agent="desk"), workspace=folder / "ws") as runtime:
        assert call(runtime, "shell", "run", command="echo mine").value["output"] == "mine\n"

        async def work(child: AgentOS, task: str) -> str:
            halted = lambda: runtime.stops.aquarantine("agent", "desk/runner-1", by="lea")  # noqa: E731
            return (await _while_calling(child, folder, halted)).error

        assert runtime.spawn("runner", "x", work) == "cancelled"
        assert call(runtime, "shell", "run", command="echo still").value["output"] == "still\n"
