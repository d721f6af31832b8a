"""What mediation costs: a no-op tool called bare, and through `Monitor.perform` with the real audit on disk.

Three ways: nobody waits for the record (a pure read), every caller waits for it to be durable, and the synchronous face.
Concurrent callers share one process and one loop. Beside them the floor: the bare call, and one fdatasync a call.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

from agent_os import AgentOS, Policy
from agent_os.core.manifest import Argument, Effect, Role, ToolSpec
from agent_os.core.ports import Outcome

CALLS = 5_000
SYNC_CALLS = 1_000
CALLERS = (1, 64, 256)
ARGS = {"path": "inbox/a.eml", "note": "x" * 100}
POLICY = """
version: 1
tools:
  noop_read: {allow: {note: {length: {max: 200}}}}
  noop_send: {allow: {note: {length: {max: 200}}}}
"""


async def _noop(args: object) -> object:
    return None


def _register(system: AgentOS) -> None:
    for name, effect in (("noop_read", Effect.READ), ("noop_send", Effect.SEND)):
        arguments = {key: Argument(role=Role.PAYLOAD) for key in ARGS}
        system.toolbox.register(ToolSpec(name=name, effect=effect, arguments=arguments), _noop, code=name.encode())


def _call(tool: str) -> dict[str, object]:
    return {"kind": "tool.call", "tool": tool, "args": ARGS}


async def _latencies(system: AgentOS, tool: str, count: int) -> list[float]:
    times = []
    for _ in range(count):
        start = time.perf_counter()
        outcome = await system.monitor.perform(_call(tool))
        times.append(time.perf_counter() - start)
        assert isinstance(outcome, Outcome) and outcome.ok
    return times


async def _throughput(system: AgentOS, tool: str, callers: int) -> float:
    async def work() -> None:
        for _ in range(CALLS // callers):
            await system.monitor.perform(_call(tool))

    start = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(callers)))
    return (CALLS // callers) * callers / (time.perf_counter() - start)


async def _bare() -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        await _noop(ARGS)
    return (time.perf_counter() - start) / CALLS


def _fdatasync_s(folder: Path) -> float:
    with open(folder / "floor", "wb") as file:
        start = time.perf_counter()
        for _ in range(200):
            file.write(b"x" * 300)
            file.flush()
            os.fdatasync(file.fileno())
        return (time.perf_counter() - start) / 200


def _show(name: str, times: list[float]) -> None:
    ordered = sorted(times)
    p99 = ordered[int(len(ordered) * 0.99)]
    print(f"{name:44} p50 {statistics.median(ordered) * 1e6:8.1f} us   p99 {p99 * 1e6:8.1f} us")


async def _measure(policy: Policy, folder: Path) -> None:
    async with AgentOS.open(policy, principal="bench", workspace=folder / "work", state=folder / "state") as system:
        _register(system)
        await _latencies(system, "noop_read", 500)
        print(f"{'bare call':44} mean {await _bare() * 1e6:6.2f} us")
        _show("perform, record written but not waited for", await _latencies(system, "noop_read", CALLS))
        _show("perform, waits for the durable record", await _latencies(system, "noop_send", 500))
        print(f"{'one fdatasync of 300 B':44} mean {_fdatasync_s(folder) * 1e6:6.1f} us")
        for callers in CALLERS:
            rate = await _throughput(system, "noop_send", callers)
            print(f"{f'durable performs, {callers} callers':44} {rate:10,.0f} /s")


def main() -> None:
    """Print the figures."""
    policy = Policy.parse(POLICY)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "work").mkdir()
        asyncio.run(_measure(policy, folder))
        with AgentOS.open(policy, principal="bench", workspace=folder / "work", state=folder / "state2") as system:
            _register(system)
            times = []
            for _ in range(SYNC_CALLS):
                start = time.perf_counter()
                system.perform(_call("noop_read"))
                times.append(time.perf_counter() - start)
            _show("the synchronous face, not waited for", times)


if __name__ == "__main__":
    main()
