"""The task engine on DBOS: queues, restarts, heartbeat, takeover. Implements `core.task.TaskEngine`.

What DBOS does: it keeps the queue, starts each queued workflow on one worker, and starts it again when that worker's
work is recovered. What it does not, and this module adds: a heartbeat and a lease for each worker, a loop that declares
workers dead and recovers their work while others live, a fencing token that a replaced worker no longer holds, tasks
that wait for a person without a running workflow, and a hand-over at an orderly end.
On SQLite there is one process, held by a lock on the file; more than one means PostgreSQL.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

from agent_os.core.errors import AgentOSError, EffectError
from agent_os.core.task import (
    DEFAULT_QUEUE,
    FencedError,
    Task,
    TaskParked,
    TaskRequest,
    TaskState,
    TaskStopped,
    WorkerView,
)
from agent_os.effects.durable.hardening import (
    APPLICATION_VERSION,
    WORKFLOW,
    QueueConnection,
    load,
    strict_json,
    write_ahead,
)
from agent_os.effects.durable.ledger import Ledger

LEASE_SECONDS: Final = 15.0
BUSY_POLL_SECONDS: Final = 0.02
IDLE_POLL_SECONDS: Final = 0.25
"""How often DBOS looks into a queue: quickly while there is work, slowly when there was none for QUIET_SECONDS."""
QUIET_SECONDS: Final = 2.0
SQLITE_CONNECTIONS: Final = 8
DIRECT_MAX: Final = 8
"""A submitted task is started here and now, past the queue, while fewer than this run and none waits."""
WATCH_SECONDS: Final = 0.3
"""How often a worker looks for tasks to stop, answered approvals and tasks not queued yet."""
CONCURRENCY: Final = 64
"""Tasks at once on one worker."""
TENANT_CONCURRENCY: Final = 32
"""Tasks of one tenant at once, over all workers."""
HANDOVER_SECONDS: Final = 5.0

Program = Callable[[Task], Awaitable[Any]]
"""Runs a task to its result (plain JSON). Raises TaskParked, TaskStopped, FencedError, or an error that fails the task."""
Answered = Callable[[str], Awaitable[bool]]
"""Whether an approval no longer waits."""

_current: DurableEngine | None = None
_log = logging.getLogger("agent_os.durable")


class DurableEngine:
    """One worker of the task engine. One a process; `open` it, `close` it."""

    def __init__(
        self,
        ledger: Ledger,
        url: str,
        program: Program,
        *,
        answered: Answered,
        queues: Sequence[str] = (DEFAULT_QUEUE,),
        concurrency: int = CONCURRENCY,
        tenant_concurrency: int = TENANT_CONCURRENCY,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """Build a worker. `url` is DBOS's database: `sqlite:///<path>` or `postgresql://…`."""
        self._ledger, self._url, self._program, self._answered = ledger, url, program, answered
        self._queues, self._concurrency, self._tenant_concurrency = tuple(queues), concurrency, tenant_concurrency
        self._lease = lease_seconds
        self.worker = f"wrk_{secrets.token_hex(8)}"
        self._dbos: Any = None
        self._workflow: Any = None
        self._lock = -1
        self._loops: list[asyncio.Task[None]] = []
        self._running: dict[str, tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = {}
        self._ending: dict[str, str] = {}
        self._orphans: set[tuple[str, int]] = set()
        self._busy, self._work_at, self._direct = False, 0.0, 0
        self.fenced = asyncio.Event()

    @property
    def _sqlite(self) -> bool:
        return self._url.startswith("sqlite:")

    # ---- opening and closing ---------------------------------------------------------------------------------------

    async def open(self) -> DurableEngine:
        """Start working. Raises EffectError when another process works on this SQLite file, MissingPartError."""
        global _current
        if _current is not None:
            raise EffectError("this process runs a task engine already")
        dbos = load()
        if self._sqlite:
            self._take_file()
        _current = self
        try:
            if self._sqlite:
                await self._ledger.bury_all()
                await self._ledger.requeue_all()
            host, pid = socket.gethostname(), os.getpid()
            await self._ledger.enter(WorkerView(self.worker, host, pid, 0.0, 0.0, "live", self._queues))
            await asyncio.to_thread(self._launch, dbos)
        except BaseException:
            await self._abandon()
            raise
        for loop in (self._beat, self._watch, self._recover):
            self._loops.append(asyncio.create_task(loop()))
        return self

    def _take_file(self) -> None:
        path = Path(self._url.removeprefix("sqlite:///"))
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._lock = os.open(path.with_suffix(".lock"), flags, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            self._lock = -1
            raise EffectError(
                f"another process works on {path}: SQLite means one (commands talk to it; for more use PostgreSQL)"
            ) from None
        write_ahead(path)

    def _launch(self, dbos: Any) -> None:
        config: dict[str, Any] = {
            "name": "agentos",
            "system_database_url": self._url,
            "serializer": strict_json(),
            "application_version": APPLICATION_VERSION,
            "executor_id": "local" if self._sqlite else self.worker,
            "log_level": "ERROR",
            "enable_otlp": False,
        }
        if self._sqlite:
            config["db_engine_kwargs"] = {"connect_args": {"factory": QueueConnection}, "pool_size": SQLITE_CONNECTIONS}
        self._dbos = dbos.DBOS(config=config)
        self._workflow = dbos.DBOS.workflow(name=WORKFLOW)(_run_here)
        dbos.DBOS.listen_queues(list(self._queues))
        dbos.DBOS.launch()
        for queue in self._queues:
            dbos.DBOS.register_queue(
                queue,
                worker_concurrency=self._concurrency,
                partition_concurrency=self._tenant_concurrency,
                polling_interval_sec=IDLE_POLL_SECONDS,
                on_conflict="always_update",
            )

    async def close(self) -> None:
        """End in good order: what runs is handed back to the queue, then everything is closed."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._loops.clear()
        for task_id in list(self._running):
            self._interrupt(task_id, "handover")
        for _ in range(int(HANDOVER_SECONDS / 0.05)):
            if not self._running:
                break
            await asyncio.sleep(0.05)
        with contextlib.suppress(AgentOSError):
            await self._ledger.leave(self.worker)
        await self._abandon()

    async def _abandon(self) -> None:
        global _current
        if self._dbos is not None:
            import dbos  # noqa: PLC0415

            with ThreadPoolExecutor(1) as own:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(own, partial(dbos.DBOS.destroy, destroy_registry=True))
            loop.set_default_executor(ThreadPoolExecutor())  # DBOS made its own the loop's, and has shut it down
            self._dbos = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        if _current is self:
            _current = None

    # ---- the port --------------------------------------------------------------------------------------------------

    async def submit(self, request: TaskRequest) -> Task:
        """Store and queue a task; the same id twice is one task. Raises ActionError, EffectError."""
        request = request.checked()
        task, new = await self._ledger.add(request, request.id or f"tsk_{secrets.token_hex(10)}")
        if new:
            await self._enqueue(task, direct=request.queue in self._queues)
        return task

    async def get(self, task_id: str) -> Task | None:
        """Return a task, or None."""
        return await self._ledger.get(task_id)

    async def list(self, states: Sequence[TaskState] = (), *, limit: int = 1000) -> Sequence[Task]:
        """Return tasks, newest first."""
        return await self._ledger.list(states, limit=limit)

    async def stop(self, task_id: str, wanted: str) -> Sequence[str]:
        """Ask a task and all below it to `suspend` or `kill`; what runs here and is killed is cancelled at once."""
        running = await self._ledger.want(task_id, wanted)
        for each, worker in running:
            if worker == self.worker and wanted == "kill":
                self._interrupt(each, wanted)
        return [each for each, _ in running]

    async def resume(self, task_id: str, *, redo: bool = False) -> Task:
        """Queue a suspended or waiting task again, with `redo` a failed or dead one. Raises ActionError."""
        task = await self._ledger.wake(task_id, redo=redo)
        await self._enqueue(task)
        return task

    async def _enqueue(self, task: Task, *, direct: bool = False) -> None:
        """Hand a ready task to DBOS, under an id that makes doing it twice the same as once."""
        import dbos  # noqa: PLC0415

        name = f"{task.id}.{task.token}"
        if direct and len(self._running) + self._direct < DIRECT_MAX and not self._busy:
            self._direct += 1
            try:
                with dbos.SetWorkflowID(name):
                    await dbos.DBOS.start_workflow_async(self._workflow, task.id)
            finally:
                self._direct -= 1
        else:
            await self._hurry()
            options: Any = {
                "workflow_name": WORKFLOW,
                "queue_name": task.queue,
                "workflow_id": name,
                "app_version": APPLICATION_VERSION,
                "priority": task.priority,
                "queue_partition_key": task.principal.tenant,
            }
            await dbos.DBOS.enqueue_workflow_with_options_async(options, task.id)
        await self._ledger.mark_queued(task.id, task.token)

    async def _hurry(self) -> None:
        """Have the queues looked into often."""
        self._work_at = time.monotonic()
        if not self._busy:
            self._busy = True
            await self._pace(BUSY_POLL_SECONDS)

    async def _pace(self, seconds: float) -> None:
        import dbos  # noqa: PLC0415

        for name in self._queues:
            queue = await dbos.DBOS.retrieve_queue_async(name)
            if queue is not None:
                await queue.set_polling_interval_sec_async(seconds)

    # ---- running ---------------------------------------------------------------------------------------------------

    async def run(self, task_id: str) -> str:
        """Run one queued task to wherever it gets; called by the workflow, never raises for what the program does."""
        task = await self._ledger.begin(task_id, self.worker)
        if isinstance(task, str):
            await self._ledger.unqueue(task_id)
            return task
        loop = asyncio.get_running_loop()
        runner: asyncio.Task[Any] = loop.create_task(_whole(self._program(task)))
        self._running[task.id] = (loop, runner)
        try:
            await asyncio.wait({runner})
        except asyncio.CancelledError:
            self._ending.setdefault(task.id, "handover")
            runner.cancel()
            await asyncio.wait({runner})
        finally:
            self._running.pop(task.id, None)
        return await self._ended(task, runner, self._ending.pop(task.id, ""))

    async def _ended(self, task: Task, runner: asyncio.Task[Any], ending: str) -> str:
        if runner.cancelled():
            error: BaseException | None = TaskStopped(ending or "handover")
        else:
            error = runner.exception()
        if isinstance(error, FencedError):
            return "fenced"
        state, values = _outcome(error, runner)
        if not await self._ledger.finish(task, state, **values):
            return "fenced"
        return state.value

    def _interrupt(self, task_id: str, ending: str) -> None:
        """Cancel a program that runs here, on its own loop."""
        held = self._running.get(task_id)
        if held is not None:
            self._ending[task_id] = ending
            held[0].call_soon_threadsafe(held[1].cancel)

    # ---- loops -----------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        """Renew the lease; a worker that was declared dead stops everything at once."""
        while True:
            await asyncio.sleep(self._lease / 3)
            try:
                alive = await self._ledger.beat(self.worker)
            except EffectError as error:
                _log.error("heartbeat: %s", error)
                continue
            if not alive:
                self.fenced.set()
                for task_id in list(self._running):
                    self._interrupt(task_id, "fenced")
                return

    async def _watch(self) -> None:
        """Stop what somebody wants stopped, wake what a person answered, queue what is ready."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                for task_id, wanted in await self._ledger.wanted_of(self.worker):
                    if wanted == "kill":
                        self._interrupt(task_id, wanted)
                for task_id, approval in await self._ledger.waiting():
                    if await self._answered(approval):
                        with contextlib.suppress(AgentOSError):  # somebody else was faster
                            await self.resume(task_id)
                for task in await self._ledger.unqueued(self._queues):
                    await self._enqueue(task)
                if self._running:
                    self._work_at = time.monotonic()
                elif self._busy and time.monotonic() - self._work_at > QUIET_SECONDS:
                    self._busy = False
                    await self._pace(IDLE_POLL_SECONDS)
            except EffectError as error:
                _log.error("watch: %s", error)

    async def _recover(self) -> None:
        """Take over the work of workers whose lease ran out, and of tasks nobody runs."""
        while True:
            try:
                for worker in await self._ledger.declare_dead(self._lease, self.worker):
                    if not self._sqlite:
                        await asyncio.to_thread(self._dbos._recover_pending_workflows, [worker])
                    await self._ledger.recovered(worker)
                orphans = set(await self._ledger.orphans())
                for task_id, token in orphans & self._orphans:
                    await self._ledger.adopt(task_id, token)
                self._orphans = orphans
            except EffectError as error:
                _log.error("recovery: %s", error)
            await asyncio.sleep(self._lease / 3)


def _outcome(error: BaseException | None, runner: asyncio.Task[Any]) -> tuple[TaskState, Mapping[str, Any]]:
    """Return what state a run ends in, and what is written with it."""
    if error is None:
        return TaskState.DONE, {"result": runner.result()}
    if isinstance(error, TaskParked):
        return TaskState.WAITING_APPROVAL, {"approval": error.approval, "reason": str(error)}
    if isinstance(error, TaskStopped):
        states = {"kill": TaskState.KILLED, "suspend": TaskState.SUSPENDED}
        return states.get(error.wanted, TaskState.READY), {"reason": "" if error.wanted == "handover" else error.wanted}
    return TaskState.FAILED, {"reason": f"{type(error).__name__}: {error}"}


async def _whole(program: Awaitable[Any]) -> Any:
    return await program


async def _run_here(task_id: str) -> str:
    """The one workflow DBOS knows: run a task of the ledger in this process's engine."""
    engine = _current
    if engine is None:
        raise EffectError("no task engine is open in this process")
    return await engine.run(task_id)
