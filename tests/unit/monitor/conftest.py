"""A real session on a temporary state directory: the real audit, the real stores, tools of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent_os import AgentOS, Policy
from agent_os.core.manifest import Argument, Effect, Role, ToolSpec

POLICY = """
version: 1
name: desk
tools:
  look: {allow: true}
  send:
    allow: {to: {in: [ana, bo]}}
    ask: {amount: {min: 100}}
    deny: {to: bo, amount: {min: 1000}}
approvals: {timeout: 10m}
"""


class Desk:
    """A session, and what its tools were really called with."""

    def __init__(self, system: AgentOS, state: Path) -> None:
        self.system, self.state = system, state
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.during: Callable[[], None] | None = None

    def register(self, name: str, effect: Effect, *arguments: str) -> None:
        """Register a tool that only remembers its calls."""

        async def run(args: Mapping[str, Any]) -> Any:
            self.calls.append((name, dict(args)))
            if self.during is not None:
                self.during()
            return {"done": name}

        spec = ToolSpec(name=name, effect=effect, arguments={each: Argument(role=Role.PAYLOAD) for each in arguments})
        self.system.toolbox.register(spec, run, code=name.encode())

    async def call(self, tool: str, *, key: str = "", **args: Any) -> Any:
        """Perform one tool call."""
        return await self.system.monitor.perform({"kind": "tool.call", "tool": tool, "args": args}, key=key)

    def on_disk(self) -> str:
        """Return the audit as it lies on disk now."""
        return "".join(path.read_text() for path in sorted((self.state / "audit").rglob("*.jsonl")))


Open = Callable[..., Awaitable[Desk]]


@pytest.fixture
async def open_desk(tmp_path: Path) -> AsyncIterator[Open]:
    """Return a function that opens a desk; every desk is closed after the test."""
    opened: list[AgentOS] = []

    async def open_one(policy: str = POLICY, **options: Any) -> Desk:
        (tmp_path / "work").mkdir(exist_ok=True)
        options.setdefault("principal", "ana@corp.example")
        system = AgentOS.open(Policy.parse(policy), workspace=tmp_path / "work", state=tmp_path / "state", **options)
        await system.__aenter__()
        opened.append(system)
        desk = Desk(system, tmp_path / "state")
        desk.register("look", Effect.READ, "what")
        desk.register("send", Effect.SEND, "to", "amount")
        return desk

    yield open_one
    for system in opened:
        await system.__aexit__(None, None, None)
