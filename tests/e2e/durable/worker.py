"""A worker for the crash tests: programs whose effects leave a line each in a file, so that doing twice shows.

`python -m tests.e2e.durable.worker STATE LEASE [CONCURRENCY]` works until it is killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent_os.core.errors import EffectError
from agent_os.core.manifest import Effect, ToolSpec
from agent_os.runtime.tasks import TaskRuntime, TaskSession

POLICY = """
version: 1
schedules: {allow: [{name: "*"}], deny: [{name: "forbidden*"}]}
tools:
  append_line: {allow: {}}
  slow_line: {allow: {}}
  careful_line: {allow: {}, ask: {}}
  append_note: {allow: {}}
  careful_note: {allow: {}, ask: {}}
models:
  providers: {scripted: {kind: scripted, models: ["*"]}}
"""


def lines(workspace: str) -> list[str]:
    """Return the lines that effects left."""
    path = Path(workspace) / "lines"
    return path.read_text().splitlines() if path.exists() else []


def _append(workspace: str, text: str) -> str:
    descriptor = os.open(Path(workspace) / "lines", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, text.encode() + b"\n")
    os.close(descriptor)
    return text


def _tools(session: TaskSession) -> None:
    async def append_line(args: Mapping[str, Any]) -> str:
        return _append(session.workspace, str(args["text"]))

    async def slow_line(args: Mapping[str, Any]) -> str:
        _append(session.workspace, f"begin {args['text']}")
        await asyncio.sleep(float(args["seconds"]))
        return _append(session.workspace, f"end {args['text']}")

    async def careful_line(args: Mapping[str, Any]) -> str:
        return _append(session.workspace, f"careful {args['text']}")

    for name, run in (("append_line", append_line), ("slow_line", slow_line), ("careful_line", careful_line)):
        session.toolbox.register(ToolSpec(name=name, effect=Effect.EXECUTE), run, code=name.encode())


async def steps(session: TaskSession) -> Any:
    """Ten effects in a row; an interrupted one is noted and passed over."""
    _tools(session)
    told = []
    for step in range(10):
        try:
            text = f"{session.task.id} {step}"
            done = await session.perform({"kind": "tool.call", "tool": "append_line", "args": {"text": text}})
            told.append(done.value)
        except EffectError as error:
            if "interrupted" not in str(error):
                raise
            told.append("interrupted")
    return {"steps": told}


async def slow(session: TaskSession) -> Any:
    """One effect that takes its time, then another one."""
    _tools(session)
    args = {"text": session.task.id, "seconds": session.task.input["seconds"]}
    await session.perform({"kind": "tool.call", "tool": "slow_line", "args": args})
    await session.perform({"kind": "tool.call", "tool": "append_line", "args": {"text": f"after {session.task.id}"}})
    return "done"


async def naps(session: TaskSession) -> Any:
    """Many small effects with pauses: something to freeze, suspend and kill in."""
    _tools(session)
    for step in range(int(session.task.input["count"])):
        text = f"{session.task.id} {step}"
        await session.perform({"kind": "tool.call", "tool": "append_line", "args": {"text": text}})
        await asyncio.sleep(0.05)
    return "done"


async def asker(session: TaskSession) -> Any:
    """One effect, one that a person must allow, one more."""
    _tools(session)
    for tool in ("append_line", "careful_line", "append_line"):
        args = {"text": f"{session.task.id} {tool}{session.task.input.get('suffix', '')}"}
        await session.perform({"kind": "tool.call", "tool": tool, "args": args})
    return "done"


async def agent_loop(session: TaskSession) -> Any:
    """LangChain's own loop with a scripted model: two parallel calls, then one a person must allow, then an answer."""
    from langchain.agents import create_agent

    from agent_os.adapters.langchain import AgentOSMiddleware, ScriptedModel, govern_model, wrap_tools

    def script(messages: list[Any]) -> Any:
        _append(session.workspace, f"model {len(messages)}")
        told = [message for message in messages if message.type == "tool"]
        if not told:
            return [("append_note", {"text": "one"}), ("append_note", {"text": "two"})]
        if len(told) == 2:
            return [("careful_note", {"text": "three"})]
        return "answered: " + ", ".join(str(message.content) for message in told)

    async def append_note(text: str) -> str:
        """Append a note."""
        return _append(session.workspace, text)

    async def careful_note(text: str) -> str:
        """Append a note that a person allowed."""
        return _append(session.workspace, f"careful {text}")

    agent = create_agent(
        govern_model(session, ScriptedModel(script=script)),
        tools=wrap_tools(session, [append_note, careful_note]),
        middleware=[AgentOSMiddleware(session)],
    )
    state = await agent.ainvoke({"messages": [("user", "note it")]}, {"configurable": {"thread_id": session.task.id}})
    return {"answer": str(state["messages"][-1].text)}


PROGRAMS = {"asker": asker, "agent_loop": agent_loop, "steps": steps, "slow": slow, "naps": naps}


def runtime(state: Path, lease: float, concurrency: int | None = None, tasks: str = "") -> TaskRuntime:
    """Return a worker on a state directory."""
    environment = {**os.environ, "AGENTOS_STATE": str(state), "AGENTOS_TASKS": tasks}
    return TaskRuntime(environment=environment, programs=PROGRAMS, lease_seconds=lease, concurrency=concurrency)


async def main() -> None:
    """Work until killed or fenced."""
    concurrency = int(sys.argv[3]) if len(sys.argv) > 3 else None
    worker = await runtime(
        Path(sys.argv[1]), float(sys.argv[2]), concurrency, os.environ.get("AGENTOS_TASKS", "")
    ).open()
    print("ready", worker.engine.worker, flush=True)
    await worker.engine.fenced.wait()
    print("fenced", flush=True)
    await worker.close()


if __name__ == "__main__":
    asyncio.run(main())
