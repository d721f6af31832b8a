"""A scheduled report by durable tasks: a schedule starts it, two children read, the parent writes. No key, no network.

    python examples/task_family.py

The schedule here is every second, so that there is something to see; a nightly one is `{"cron": "30 2 * * *", "zone":
"Europe/Berlin"}`. Kill the process at any time and start it again on the same state: the run goes on where it was.
"""

from __future__ import annotations

import asyncio
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

from agent_os import AgentOS
from agent_os.runtime.tasks.session import TaskSession

POLICY = """
version: 1
filesystem_policy: {include_workdir: true}
tools: {write_file: {allow: true}}
schedules: {allow: [{name: "daily report"}], max_active: 1, budgets: {calls: 20}}
agents:
  max_children: 2
  roles: {reader: {read: [figures], budgets: {calls: 2}}}
"""
FIGURES = {"north.txt": "120", "south.txt": "80"}


async def read_one(session: TaskSession) -> Any:
    """A child: read one file; it may read nothing else and write nothing."""
    done = await session.perform({"kind": "fs.read", "path": f"figures/{session.task.input['task']}"})
    return int(done.value.decode())


async def report(session: TaskSession) -> Any:
    """The parent: start the readers, wait for them as a row of the ledger, write what they found."""
    children = [await session.spawn("reader", name, program="read_one") for name in FIGURES]
    total = sum(each.value for each in await session.gather(*children) if each.ok)
    args = {"path": "report.txt", "content": f"{total} units"}
    await session.perform({"kind": "tool.call", "tool": "write_file", "args": args})
    return total


async def main() -> None:
    """Make the schedule, wait for its first run, show it."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "desk" / "figures").mkdir(parents=True)
        for file, text in FIGURES.items():
            (root / "desk" / "figures" / file).write_text(text)
        (root / "policy.yaml").write_text(POLICY)
        opened = AgentOS.open(
            root / "policy.yaml", principal="ana@corp.example", workspace=root / "desk", state=root / "state"
        )
        async with opened as os, os.worker({"report": report, "read_one": read_one}):
            schedule = await os.aschedule("daily report", {"every": "1s"}, program="report")
            run = os.task(schedule.run_id(schedule.next_due))
            print(f"next run: {datetime.fromtimestamp(schedule.next_due).isoformat(' ', 'seconds')}")
            async with asyncio.timeout(60):
                while not (root / "desk" / "report.txt").exists():  # noqa: ASYNC110 - a file tells nobody
                    await asyncio.sleep(0.1)
            print(f"result: {await run.result(within=60)} units")
            async for event in run.events():
                print(f"  {event.kind} {event.what}")


if __name__ == "__main__":
    asyncio.run(main())
