"""A worker that freezes between a claim and its effect, ends in good order when it is told to, and says which version it is.

`python -m tests.e2e.durable.fence_worker STATE LEASE [CONCURRENCY]`; `FREEZE=n` stops the process at its n-th claim; `QUEUES`,
`APP_VERSION` and `ACCEPTS` are what the command line of a worker says.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent_os.core.errors import EffectError
from agent_os.core.manifest import Effect, ToolSpec
from agent_os.effects.durable.outcomes import FencedOutcomes
from agent_os.runtime.tasks.runtime import TaskRuntime, TaskSession
from tests.e2e.durable.worker import PROGRAMS, _append

POLICY = """
version: 1
tools: {line: {allow: {}}, again: {allow: {}}, long: {allow: {}}, ask: {allow: {}}}
"""


def _tools(session: TaskSession) -> None:
    async def line(args: Mapping[str, Any]) -> str:
        return _append(session.workspace, str(args["text"]))

    async def long(args: Mapping[str, Any]) -> str:
        _append(session.workspace, f"begin {args['text']}")
        await asyncio.sleep(float(args["seconds"]))
        return _append(session.workspace, f"end {args['text']}")

    specs = {
        "line": (line, ToolSpec(name="line", effect=Effect.EXECUTE)),
        "again": (line, ToolSpec(name="again", effect=Effect.EXECUTE, idempotent=True)),
        "long": (long, ToolSpec(name="long", effect=Effect.EXECUTE)),
        "ask": (long, ToolSpec(name="ask", effect=Effect.READ)),
    }
    for name, (run, spec) in specs.items():
        session.toolbox.register(spec, run, code=name.encode())


async def paced(session: TaskSession) -> Any:
    """Ten effects with pauses between them; one that was interrupted is noted and passed over."""
    _tools(session)
    told = []
    for step in range(10):
        call = {"kind": "tool.call", "tool": session.task.input["tool"], "args": {"text": f"{session.task.id} {step}"}}
        try:
            told.append((await session.perform(call)).value)
        except EffectError as error:
            if "interrupted" not in str(error):
                raise
            told.append("interrupted")
        await asyncio.sleep(session.task.input.get("pause", 0.02))
    return told


async def lasting(session: TaskSession) -> Any:
    """One effect that takes its time, then a short one."""
    _tools(session)
    given = session.task.input
    args = {"text": session.task.id, "seconds": given["seconds"]}
    await session.perform({"kind": "tool.call", "tool": given["tool"], "args": args})
    await session.perform({"kind": "tool.call", "tool": "line", "args": {"text": "after"}})
    return "done"


async def idle(session: TaskSession) -> Any:
    """One effect, then nothing for very long."""
    _tools(session)
    await session.perform({"kind": "tool.call", "tool": "line", "args": {"text": "idle"}})
    await asyncio.sleep(3600)


async def ruled(session: TaskSession) -> Any:
    """Effects until the policy in force denies them."""
    _tools(session)
    step = 0
    while True:
        await session.perform({"kind": "tool.call", "tool": "line", "args": {"text": f"{step}"}})
        step += 1
        await asyncio.sleep(0.05)


PROGRAMS.update({"paced": paced, "lasting": lasting, "idle": idle, "ruled": ruled})


def freeze_at(number: int) -> None:
    """Stop this process (SIGSTOP) right behind its n-th claim, in front of the effect."""
    inner, count = FencedOutcomes._claimed, 0

    async def claimed(self: FencedOutcomes, key: str, work: Any) -> tuple[str, str]:
        nonlocal count
        answer = await inner(self, key, work)
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGSTOP)
        return answer

    FencedOutcomes._claimed = claimed  # type: ignore[method-assign]


async def main() -> None:
    """Work until fenced, killed, or told to end."""
    if os.environ.get("FREEZE"):
        freeze_at(int(os.environ["FREEZE"]))
    concurrency = int(sys.argv[3]) if len(sys.argv) > 3 else None
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    worker = await TaskRuntime(
        environment={**os.environ, "AGENTOS_STATE": str(Path(sys.argv[1]))}, programs=PROGRAMS,
        queues=os.environ.get("QUEUES", "default").split(","), lease_seconds=float(sys.argv[2]), concurrency=concurrency,
        version=os.environ.get("APP_VERSION", ""), accepts=os.environ.get("ACCEPTS", "").split(),
    ).open()  # fmt: skip
    print("ready", worker.engine.worker, flush=True)
    waits = [asyncio.create_task(each.wait()) for each in (ended, worker.engine.fenced)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    print("fenced" if worker.engine.fenced.is_set() else "ended", flush=True)
    await worker.close()


if __name__ == "__main__":
    asyncio.run(main())
