"""Starts workers by forking: a kill loop of hundreds of runs does not import everything hundreds of times.

`python -m tests.e2e.durable.zygote` reads one JSON request a line, `{"state", "tasks", "lease", "crash": [n, phase] | null}`,
and answers with the worker's pid. A worker with `crash` kills itself with SIGKILL at its n-th transaction, `before` it is
handed over or `after` it was committed: the power goes off exactly there.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import agent_os.agents.builtin_tools
import agent_os.effects.durable.postgres
import agent_os.runtime.spawn  # noqa: F401 - imported once, for every worker
from tests.e2e.durable.worker import runtime


async def work(request: dict[str, Any]) -> None:
    """Work until killed."""
    worker = runtime(Path(request["state"]), request["lease"], None, request["tasks"])
    if request["crash"] is not None:
        _arm(worker, *request["crash"])
    await worker.open()
    await worker.engine.fenced.wait()
    await worker.close()


def _arm(worker: Any, target: int, phase: str) -> None:
    """Have the worker's n-th transaction of a task be its last."""
    inner = type(worker)._work
    count = 0

    async def armed(self: Any) -> None:
        run = self.ledger.storage.run

        async def counted(job: Any) -> Any:
            nonlocal count
            count += 1
            mine = count == target
            if mine and phase == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = await run(job)
            if mine:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        self.ledger.storage.run = counted
        await inner(self)

    worker._work = armed.__get__(worker)


def main() -> None:
    """Answer requests until the end of the input."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries them
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            os.dup2(2, 1)
            asyncio.run(work(json.loads(line)))
            os._exit(0)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
