"""A report that writes itself: a schedule, a worker, and a message that asks for one more. No key, no network.

    python examples/scheduled_report.py

The schedule runs an application's own program as a durable task, with its owner's rights at the time it runs. A message to the
mailbox `box:reports` starts a second schedule: what the message says is data, and the report is written by the policy's rules.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from agent_os import AgentOS
from agent_os.runtime.tasks.session import TaskSession

POLICY = """
version: 1
filesystem_policy: {read_only: [sales], read_write: [out]}
tools:
  read_file:    {allow: {path: {under: sales}}}
  write_file:   {allow: {path: {under: out}}}
  send_message: {allow: true}
messages: {allow: [{to: ["box:reports"]}]}
schedules: {allow: [{name: "report*"}]}
"""
WAIT_SECONDS = 60.0


async def report(session: TaskSession) -> Any:
    """Add up the sales and write the report; run again after a crash it asks for the same effects."""
    read = await session.perform({"kind": "tool.call", "tool": "read_file", "args": {"path": "sales/today.txt"}})
    total = sum(int(line) for line in read.value["content"].split())
    name = "asked" if "event" in session.task.input else "daily"
    text = f"{name} report: {total} units\n"
    call = {"kind": "tool.call", "tool": "write_file", "args": {"path": f"out/{name}.txt", "content": text}}
    written = await session.perform(call)
    return {"report": name, "total": total, "written": written.ok}


def appears(path: Path) -> str:
    """Wait until a file is there and return what it says."""
    limit = time.monotonic() + WAIT_SECONDS
    while not path.exists():
        if time.monotonic() > limit:
            raise SystemExit(f"{path.name} was not written")
        time.sleep(0.1)
    return path.read_text().strip()


async def main() -> None:
    """Set the desk up, make two schedules, and watch both write."""
    folder = Path(tempfile.mkdtemp(prefix="report-"))
    (folder / "sales").mkdir()
    (folder / "out").mkdir()
    (folder / "sales" / "today.txt").write_text("120\n80\n45\n")
    (folder / "policy.yaml").write_text(POLICY)
    state = os.environ.get("AGENTOS_STATE") or tempfile.mkdtemp(prefix="state-")
    async with (
        AgentOS.open(folder / "policy.yaml", principal="ana@corp.example", workspace=folder, state=state) as system,
        system.worker({"report": report}),
    ):
        made = await system.aschedule("report-daily", {"every": "1s"}, program="report")
        print(f"scheduled: {made.name}, next at {made.next_due:.0f}")
        print(await asyncio.to_thread(appears, folder / "out" / "daily.txt"))
        await system.aschedule("report-asked", {"event": {"message": "reports"}}, program="report")
        await system.aperform({"kind": "message.send", "to": ["box:reports"], "body": "one more, please"})
        print(await asyncio.to_thread(appears, folder / "out" / "asked.txt"))


if __name__ == "__main__":
    asyncio.run(main())
