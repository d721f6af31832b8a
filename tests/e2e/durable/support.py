"""What the durable tests share: a workspace with a policy, tasks put into the ledger, workers as real processes."""

from __future__ import annotations

import asyncio
import os
import select
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from agent_os.core.principal import Principal
from agent_os.core.task import Task, TaskRequest
from agent_os.effects.durable.ledger import Ledger
from agent_os.runtime.state import open_state
from agent_os.runtime.tasks.opening import open_ledger
from tests.e2e.durable.worker import POLICY, lines

START_SECONDS = 120
"""A loaded machine takes its time to import everything; a worker that cannot start ends at once."""


class Site:
    """A state directory, a workspace with a policy, and the workers started here."""

    worker = "tests.e2e.durable.worker"
    """The module that a worker process runs."""

    def __init__(self, root: Path, tasks: str = "") -> None:
        self.state, self.work, self.tasks = root / "state", root / "work", tasks
        self.work.mkdir()
        self.policy = root / "policy.yaml"
        self.policy.write_text(POLICY)
        self.environment = {**os.environ, "AGENTOS_STATE": str(self.state), "AGENTOS_TASKS": tasks}
        self.workers: list[subprocess.Popen[str]] = []

    def request(self, program: str, *, tenant: str = "default", **values: Any) -> TaskRequest:
        """Return a request for a program with some input; keys of TaskRequest go there."""
        fields = {
            name: values.pop(name) for name in ("id", "priority", "parent", "deadline", "queue") if name in values
        }
        return TaskRequest(
            program=program, input=values, principal=Principal(tenant=tenant, user="ana"), workspace=str(self.work),
            policies=(str(self.policy),), **fields,
        )  # fmt: skip

    def start(self, lease: float = 2.0, *extra: str) -> subprocess.Popen[str]:
        """Start a worker process and wait until it works."""
        worker = subprocess.Popen(
            [sys.executable, "-m", self.worker, str(self.state), str(lease), *extra],
            stdout=subprocess.PIPE, text=True, env=self.environment,
        )  # fmt: skip
        self.workers.append(worker)
        assert worker.stdout is not None
        ready, _, _ = select.select([worker.stdout], [], [], START_SECONDS)
        said = worker.stdout.readline() if ready else f"nothing after {START_SECONDS} s"
        assert said.startswith("ready"), f"{said!r}, exit {worker.poll()}"
        return worker

    def close(self) -> None:
        """End every worker that is left."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait(10)
            if worker.stdout is not None:
                worker.stdout.close()

    def ledger(self, work: Any) -> Any:
        """Run `await work(ledger)` beside the workers."""
        state = open_state(environment=self.environment, writer="test")
        ledger = open_ledger(state.path, state.keys, self.environment)

        async def run() -> Any:
            return await work(ledger)

        try:
            return asyncio.run(run())
        finally:
            ledger.storage.close()
            state.close()

    def submit(self, *requests: TaskRequest) -> list[Task]:
        """Put tasks into the ledger; a worker takes them from there."""

        async def work(ledger: Ledger) -> list[Task]:
            return [(await ledger.add(request, request.id))[0] for request in requests]

        tasks: list[Task] = self.ledger(work)
        return tasks

    def wait(self, ids: list[str], seconds: float = 90.0) -> list[Task]:
        """Wait until tasks have ended and return them."""

        async def work(ledger: Ledger) -> list[Task]:
            limit = time.monotonic() + seconds
            while True:
                tasks = [await ledger.get(each) for each in ids]
                if all(task is not None and task.state.ended for task in tasks) or time.monotonic() > limit:
                    return [task for task in tasks if task is not None]
                await asyncio.sleep(0.05)

        tasks: list[Task] = self.ledger(work)
        return tasks

    def wait_for_lines(self, count: int, seconds: float = 60.0) -> list[str]:
        """Wait until effects have left so many lines."""
        limit = time.monotonic() + seconds
        while len(lines(str(self.work))) < count:
            assert time.monotonic() < limit, lines(str(self.work))
            time.sleep(0.01)
        return lines(str(self.work))

    def repeated(self) -> dict[str, int]:
        """Return the lines that were left more than once."""
        return {line: count for line, count in Counter(lines(str(self.work))).items() if count > 1}
