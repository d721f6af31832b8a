"""The worker of the tour's second part: an ordinary worker of durable tasks that knows one more program, the month's close.

Run as a process of its own (`python -m agent_os.runtime.demo.worker`), so that the tour can end it with `kill -9`. The
program is deterministic: after a crash it asks for the same effects again, and what was done is not done twice.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from agent_os.core.ports import Outcome
from agent_os.runtime.tasks.runtime import TaskRuntime
from agent_os.runtime.tasks.session import TaskSession

PROGRAM: Final = "month-close"
FINAL: Final = "out/final/close.md"
JOBS: Final[dict[str, list[dict[str, Any]]]] = {
    "reader": [
        {"tool": "list_files", "args": {"path": "inbox"}},
        {"tool": "read_file", "args": {"path": "inbox/01-nordlicht.eml"}},
        {"tool": "read_file", "args": {"path": "ledger/suppliers.json"}},
    ],
    "checker": [
        {"tool": "read_file", "args": {"path": "ledger/orders.csv"}},
        {"tool": "read_file", "args": {"path": "ledger/paid.csv"}},
    ],
    "writer": [
        {"tool": "write_file", "args": {"path": "out/close_draft.md", "content": "# Close of the month\n\n(draft)\n"}},
    ],
}
"""What each role is told to do. The reader is told to read the ledger too: its parent may, it may not."""


async def month_close(session: TaskSession) -> Any:
    """Start three sub-agents, wait for all of them, then write what a person must approve."""
    children = [
        await session.spawn(
            role, program="actions", given={"actions": [{"kind": "tool.call", **each} for each in job], "go_on": True}
        )
        for role, job in JOBS.items()
    ]
    results = await session.gather(*children)
    done = sum("value" in step for result in results for step in (result.value or {}).get("results", ()))
    content = f"# Close of the month\n\n{len(results)} sub-agents, {done} steps done.\n"
    written = await session.perform(
        {"kind": "tool.call", "tool": "write_file", "args": {"path": FINAL, "content": content}}
    )
    return {"written": FINAL, "ok": isinstance(written, Outcome) and written.ok}


async def main() -> None:
    """Work until somebody ends this process."""
    runtime = await TaskRuntime(programs={PROGRAM: month_close}).open()
    print("ready", flush=True)
    try:
        await runtime.engine.fenced.wait()
    finally:
        await runtime.close()


if __name__ == "__main__":
    asyncio.run(main())
