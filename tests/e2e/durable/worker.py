"""A worker for the crash tests: programs whose effects leave a line each in a file, so that doing twice shows.

`python -m tests.e2e.durable.worker STATE LEASE [CONCURRENCY]` works until it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent_os.core.errors import DeniedError, EffectError
from agent_os.core.manifest import Effect, ToolSpec
from agent_os.runtime.tasks.runtime import TaskRuntime, TaskSession

POLICY = """
version: 1
filesystem_policy: {include_workdir: true, read_only: [/usr, /lib, /lib64, /bin, /etc]}
process: {run_as_user: sandbox, allow: [{binary: /usr/bin/sleep, args: ["**"]}]}
schedules: {allow: [{name: "*"}], deny: [{name: "forbidden*"}]}
tools:
  append_line: {allow: {}}
  slow_line: {allow: {}}
  careful_line: {allow: {}, ask: {}}
  append_note: {allow: {}}
  careful_note: {allow: {}, ask: {}}
  write_file: {allow: {}}
agents:
  max_depth: 3
  max_children: 4
  max_total: 12
  roles:
    writer: {tools: [append_line, slow_line], budgets: {calls: 12}}
    scribe: {description: writes a file, prompt: Be brief., tools: [write_file], write: [.], budgets: {calls: 8}}
    lead: {tools: ["*_line"], may_spawn: [writer, lead], budgets: {calls: 20, seconds: 600}}
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


async def family(session: TaskSession) -> Any:
    """Ten steps with children: each step is an effect; three children work beside it and are gathered, twice."""
    _tools(session)
    told: list[Any] = [await _noted(session, f"{session.task.id} {step}") for step in range(4)]
    program = session.task.input.get("child", "steps")
    first = [await session.spawn("writer", f"part {n}", program=program, given={"count": 12, "n": n}) for n in range(3)]
    told += [await _noted(session, f"{session.task.id} {step}") for step in range(4, 8)]
    results = await session.gather(*first)
    told += [await _noted(session, f"{session.task.id} {step}") for step in range(8, 10)]
    last = await session.spawn("writer", "last", program=program, given={"count": 12, "n": 3})
    results += await session.gather(last)
    children = [{"ok": each.ok, "value": each.value, "error": each.error, "agent": each.agent} for each in results]
    return {"steps": told, "children": children}


async def _noted(session: TaskSession, text: str) -> Any:
    try:
        return (await session.perform({"kind": "tool.call", "tool": "append_line", "args": {"text": text}})).value
    except EffectError as error:
        if "interrupted" not in str(error):
            raise
        return "interrupted"


async def tries(session: TaskSession) -> Any:
    """A child that tries what its parent may and it may not."""
    _tools(session)
    try:
        await session.perform({"kind": "tool.call", "tool": "append_note", "args": {"text": "beyond"}})
    except DeniedError as error:
        return list(error.decision.rules)
    return "did it"


async def fails(session: TaskSession) -> Any:
    """A child that fails."""
    raise ValueError("broken child")


async def mixed(session: TaskSession) -> Any:
    """Three children of which one fails, one tries too much and one works."""
    children = [await session.spawn("writer", each, program=each) for each in ("fails", "tries", "steps")]
    return [[each.ok, each.value, each.error] for each in await session.gather(*children)]


async def spender(session: TaskSession) -> Any:
    """Calls until its allowance is spent; returns how many there were, and its children's."""
    _tools(session)
    below = []
    if session.task.input.get("depth"):
        given = {"depth": session.task.input["depth"] - 1}
        below = [await session.spawn("lead", f"{n}", program="spender", given=given) for n in range(2)]
        below = [each.value for each in await session.gather(*below)]
    for number in range(60):
        try:
            text = f"{session.task.id} {number}"
            await session.perform({"kind": "tool.call", "tool": "append_line", "args": {"text": text}})
        except DeniedError as error:
            return {"calls": number, "rules": list(error.decision.rules), "below": below}
    return {"calls": 60, "rules": [], "below": below}


async def bomb(session: TaskSession) -> Any:
    """Starts as many of itself as it is let, at every level."""
    started, refused = [], Counter[str]()
    for number in range(6):
        try:
            started.append(await session.spawn("lead", f"{session.task.id} {number}", program="bomb"))
        except DeniedError as error:
            refused.update(error.decision.rules)
    below = await session.gather(*started)
    return {"started": len(started) + sum(each.value["started"] for each in below), "refused": dict(refused)}


async def executes(session: TaskSession) -> Any:
    """A program in the sandbox that would run for long."""
    _append(session.workspace, "begin")
    argv = ["sleep", session.task.input["seconds"]]
    await session.perform({"kind": "process.exec", "argv": argv, "binary_path": "/usr/bin/sleep"})
    return "ended"


async def nest(session: TaskSession) -> Any:
    """A child, its child, and a slow effect at the end of the line."""
    _tools(session)
    depth = session.task.input["depth"] - 1
    given = {"depth": depth, "seconds": session.task.input["seconds"]}
    role, program = ("lead", "nest") if depth else ("writer", "slow")
    return await session.result(await session.spawn(role, "", program=program, given=given))


async def streams(session: TaskSession) -> Any:
    """A streamed answer, an effect that a person must allow, and the answer again as it came."""
    from agent_os.adapters.langchain import ScriptedModel, govern_model

    _tools(session)

    def script(messages: list[Any]) -> Any:
        _append(session.workspace, f"model {messages[-1].text}")
        return "one two three" if messages[-1].text == "say" else [("append_line", {"text": "x"})]

    model = govern_model(session, ScriptedModel(script=script))
    pieces = [chunk.text async for chunk in model.astream("say") if chunk.text]
    called = None
    async for chunk in model.astream("call"):
        called = chunk if called is None else called + chunk
    await session.perform({"kind": "tool.call", "tool": "careful_line", "args": {"text": "".join(pieces)}})
    assert called is not None
    return {"pieces": pieces, "calls": [call["args"] for call in called.tool_calls]}


async def told(session: TaskSession) -> Any:
    """Notes the files of the event that started it."""
    _tools(session)
    for name in session.task.input["event"]["payload"]["files"]:
        await session.perform({"kind": "tool.call", "tool": "append_line", "args": {"text": name}})


async def stubborn(session: TaskSession) -> Any:
    """Does not end when it is asked to."""
    _append(session.workspace, "stubborn")
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)


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


async def planner(session: TaskSession) -> Any:
    """The built-in agent with a scripted model: it hands parts of its work to children that are the same program."""
    from agent_os.adapters.langchain import ScriptedModel
    from agent_os.runtime.tasks.programs import agent_program

    def script(messages: list[Any]) -> Any:
        asked = next(message.text for message in messages if message.type == "human")
        told = [message for message in messages if message.type == "tool"]
        _append(session.workspace, f"model {asked} {len(told)}")
        if asked == "fail":
            raise ValueError("no idea")
        if asked.startswith("write "):
            name = asked.removeprefix("write ")
            return f"wrote {name}" if told else [("write_file", {"path": f"{name}.txt", "content": name})]
        if not told:
            tasks = [("scribe", "write a"), ("scribe", "write b"), ("scribe", "fail"), ("nobody", "write c")]
            return [("delegate", {"agents": [{"role": role, "task": task} for role, task in tasks]})]
        if len(told) == 1:
            return [("delegate", {"agents": [{"role": "scribe", "task": "write review", "budgets": {"calls": 4}}]})]
        return "gathered: " + " | ".join(str(message.content) for message in told)

    return await agent_program(ScriptedModel(script=script))(session)


PROGRAMS = {
    "planner": planner, "family": family, "tries": tries, "fails": fails, "mixed": mixed, "spender": spender, "bomb": bomb,
    "executes": executes, "nest": nest, "stubborn": stubborn, "told": told, "streams": streams, "asker": asker, "agent_loop": agent_loop, "steps": steps, "slow": slow, "naps": naps,
}  # fmt: skip


def runtime(
    state: Path, lease: float, concurrency: int | None = None, tasks: str = "", programs: Mapping[str, Any] = PROGRAMS
) -> TaskRuntime:
    """Return a worker on a state directory."""
    environment = {**os.environ, "AGENTOS_STATE": str(state), "AGENTOS_TASKS": tasks}
    return TaskRuntime(environment=environment, programs=programs, lease_seconds=lease, concurrency=concurrency)


async def main(programs: Mapping[str, Any] = PROGRAMS) -> None:
    """Work until killed or fenced."""
    concurrency = int(sys.argv[3]) if len(sys.argv) > 3 else None
    tasks = os.environ.get("AGENTOS_TASKS", "")
    worker = await runtime(Path(sys.argv[1]), float(sys.argv[2]), concurrency, tasks, programs).open()
    print("ready", worker.engine.worker, flush=True)
    await worker.engine.fenced.wait()
    print("fenced", flush=True)
    await worker.close()


if __name__ == "__main__":
    asyncio.run(main())
