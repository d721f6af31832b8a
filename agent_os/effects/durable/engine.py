"""The task engine: takes ready tasks, runs them, and hands on what a worker lost. Implements `core.task.TaskEngine`.

Everything it knows stands in the ledger; what is in memory is only what runs here. A worker sleeps until somebody writes to
the ledger, a slot is free, or something is due. Its heartbeat has a thread of its own, so that a program that holds the event
loop does not lose the lease; a worker that was declared dead stops everything at once and can write nothing more.
On SQLite there is one process, held by a lock on a file beside it; more than one means PostgreSQL.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import secrets
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from agent_os.core.errors import AgentOSError, EffectError
from agent_os.core.stop import NONE, Stops
from agent_os.core.task import (
    DEFAULT_QUEUE,
    HELD,
    FencedError,
    Task,
    TaskParked,
    TaskRequest,
    TaskState,
    TaskStopped,
    TaskWaits,
    WorkerView,
)
from agent_os.effects.durable.dispatch import Dispatch
from agent_os.effects.durable.leases import Leases
from agent_os.effects.durable.ledger import Ledger

LEASE_SECONDS: Final = 15.0
CONCURRENCY: Final = 64
"""Tasks at once on one worker."""
LOOK_SECONDS: Final = 1.0
"""A worker that nobody woke looks for ready tasks this often: a lost signal costs no more."""
TURN_SECONDS: Final = 0.01
"""Between two turns of a worker of which more than half is taken."""
NEWS_SECONDS: Final = 0.02
"""Between two looks at what others wrote, however much they write."""
ANSWERS_SECONDS: Final = 2.0
"""Between two looks whether an ask was answered or expired, where nothing wakes the worker."""
KILL_SECONDS: Final = 0.7
"""How long a program that was killed may take to end; then its task is over, and it is fenced."""
HANDOVER_SECONDS: Final = 5.0
"""At an orderly end: how long effects under way may take to end, and then what was cut off."""
HANDOVER_LOOK_SECONDS: Final = 0.02

Program = Callable[[Task], Awaitable[Any]]
"""Runs a task to its result (plain JSON). Raises TaskParked, TaskWaits, TaskStopped, FencedError, or an error that fails
the task.
"""
Answered = Callable[[Sequence[str]], Awaitable[Sequence[str]]]
"""Which of some approvals no longer wait."""

_log = logging.getLogger("agent_os.durable")


class DurableEngine:
    """One worker of the task engine; `open` it, `close` it. `lock` is the file that only one process may hold (SQLite).

    `busy` says of a task that runs here whether an effect of it is under way.
    """

    def __init__(
        self,
        ledger: Ledger,
        program: Program,
        *,
        answered: Answered,
        lock: Path | None = None,
        queues: Sequence[str] = (DEFAULT_QUEUE,),
        busy: Callable[[str], bool] = lambda task: False,
        version: str = "",
        accepts: Sequence[str] = (),
        concurrency: int = CONCURRENCY,
        lease_seconds: float = LEASE_SECONDS,
        stopped: Callable[[], Stops] = lambda: NONE,
    ) -> None:
        self._stopped = stopped
        self._ledger, self._program, self._answered, self._lock_path = ledger, program, answered, lock
        self._busy, self.leaving = busy, False
        self._queues, self._concurrency, self._lease = tuple(queues), concurrency, lease_seconds
        self.worker = f"wrk_{secrets.token_hex(8)}"
        self._leases, self._dispatch = Leases(ledger), Dispatch(ledger, self.worker, queues, version, accepts)
        self._lock = -1
        self._loops: list[asyncio.Task[None]] = []
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._ending: dict[str, str] = {}
        self._runs: set[asyncio.Task[None]] = set()
        self._work, self._news = asyncio.Event(), asyncio.Event()
        self._closing = threading.Event()
        self._heart: threading.Thread | None = None
        self.fenced = asyncio.Event()

    # ---- opening and closing ---------------------------------------------------------------------------------------

    async def open(self) -> DurableEngine:
        """Start working. Raises EffectError when another process works on this SQLite file."""
        if self._lock_path is not None:
            self._lock = _take(self._lock_path)
        try:
            view = WorkerView(self.worker, socket.gethostname(), os.getpid(), 0.0, 0.0, "live", self._queues)
            await self._leases.enter(view, alone=self._lock_path is not None)
        except BaseException:
            self._let_go()
            raise
        loop = asyncio.get_running_loop()
        self._heart = threading.Thread(target=self._beat, args=(loop,), name="task-heart", daemon=True)
        self._heart.start()
        for each in (self._take_turns, self._watch, self._recover):
            self._loops.append(asyncio.create_task(each()))
        return self

    async def close(self) -> None:
        """End in good order: what runs is handed back to the queue, effects under way as far as they end in time."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._loops.clear()
        await self._hand_over()
        self._closing.set()
        if self._heart is not None:
            await asyncio.to_thread(self._heart.join)
            self._heart = None
        with contextlib.suppress(AgentOSError):
            await self._leases.leave(self.worker)
        self._let_go()

    async def _hand_over(self) -> None:
        """End what runs where nothing is cut in two: no effect begins any more, one under way may end."""
        self.leaving, loop = True, asyncio.get_running_loop()
        until = loop.time() + HANDOVER_SECONDS
        while self._runs:
            late = loop.time() >= until
            for task_id in list(self._running):
                if late or not self._busy(task_id):
                    self._interrupt(task_id, "handover")
            await asyncio.wait(self._runs, timeout=HANDOVER_SECONDS if late else HANDOVER_LOOK_SECONDS)
            if late:
                return

    def _let_go(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def wake(self) -> None:
        """Have this worker look at the ledger now. On the event loop's thread."""
        self._work.set()
        self._news.set()

    # ---- the port --------------------------------------------------------------------------------------------------

    async def submit(self, request: TaskRequest) -> Task:
        """Store a task; the same id twice is one task. Raises ActionError, EffectError."""
        request = request.checked()
        task, _ = await self._ledger.add(request, request.id or f"tsk_{secrets.token_hex(10)}")
        self._work.set()
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
        self.wake()
        return [each for each, _ in running]

    async def resume(self, task_id: str, *, redo: bool = False) -> Task:
        """Make a suspended or waiting task ready again, with `redo` a failed or dead one. Raises ActionError."""
        task = await self._ledger.wake(task_id, redo=redo)
        self._work.set()
        return task

    # ---- running ---------------------------------------------------------------------------------------------------

    async def _take_turns(self) -> None:
        """Start ready tasks while there is room; sleep while there is nothing to start."""
        while True:
            self._work.clear()
            try:
                while (room := self._concurrency - len(self._running)) > 0:
                    tasks = await self._dispatch.take(room, self._stopped())
                    for task in tasks:
                        self._start(task)
                    if not tasks:
                        break
                    if len(self._running) * 2 > self._concurrency:  # busy: a turn for several, not for each that ends
                        await asyncio.sleep(TURN_SECONDS)
            except FencedError:
                return  # the heart says so too
            except Exception as error:  # whatever one row or one moment has: the worker goes on
                _log.error("taking tasks: %s: %s", type(error).__name__, error)
                await asyncio.sleep(LOOK_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._work.wait()

    def _start(self, task: Task) -> None:
        runner: asyncio.Task[Any] = asyncio.ensure_future(self._program(task))
        self._running[task.id] = runner
        run = asyncio.create_task(self._attend(task, runner))
        self._runs.add(run)
        run.add_done_callback(self._runs.discard)

    async def _attend(self, task: Task, runner: asyncio.Task[Any]) -> None:
        """See a run to its end and write how it ended."""
        try:
            await asyncio.wait({runner})
            await self._write(task, *_outcome(runner, self._ending.get(task.id, "")))
        finally:
            if self._running.get(task.id) is runner:
                del self._running[task.id]
                self._ending.pop(task.id, None)
            self._work.set()

    async def _write(self, task: Task, state: TaskState | None, values: Mapping[str, Any]) -> None:
        """Write an end until it is written: a database that is away comes back, or the lease runs out meanwhile."""
        while state is not None and not self.fenced.is_set():
            try:
                if await self._ledger.finish(task, state, **values):
                    self._news.set()
                return
            except EffectError as error:
                _log.error("writing the end of %s: %s", task.id, error)
                await asyncio.sleep(LOOK_SECONDS)
            except Exception as error:  # a result that is no plain JSON, a text that no database takes
                if state is TaskState.FAILED and "its end" in str(values["reason"]):
                    raise
                said = error if isinstance(error, AgentOSError) else "its end could not be written as it was"
                state, values = TaskState.FAILED, {"reason": f"its end: {type(error).__name__}: {said}"}

    def _interrupt(self, task_id: str, ending: str) -> None:
        """Cancel a program that runs here."""
        runner = self._running.get(task_id)
        if runner is not None and task_id not in self._ending:
            self._ending[task_id] = ending
            runner.cancel()

    async def _kill(self, task_id: str) -> None:
        """Cancel a program; one that does not end in time is left behind, fenced, and its task is over."""
        runner = self._running.get(task_id)
        if runner is None:
            return
        self._interrupt(task_id, "kill")
        await asyncio.wait({runner}, timeout=KILL_SECONDS)
        if not runner.done():
            task = await self._ledger.get(task_id)
            if task is not None and task.worker == self.worker:
                await self._ledger.finish(task, TaskState.KILLED, reason="killed; it did not end by itself")

    # ---- loops -----------------------------------------------------------------------------------------------------

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        """Renew the lease, on a thread of its own; a worker that was declared dead stops everything at once."""
        while not self._closing.wait(self._lease / 3):
            try:
                if self._leases.beat(self.worker):
                    continue
            except Exception as error:
                _log.error("heartbeat: %s: %s", type(error).__name__, error)
                continue
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(self._fence)
            return

    def _fence(self) -> None:
        self.fenced.set()
        for task_id in list(self._running):
            self._interrupt(task_id, "fenced")

    async def _watch(self) -> None:
        """Stop what somebody wants stopped, and wake what a person answered."""
        loop = asyncio.get_running_loop()
        looked = 0.0
        kills: set[asyncio.Task[None]] = set()
        while True:
            news = self._news.is_set()
            self._news.clear()
            try:
                if news and self._running:
                    for task_id, wanted in await self._ledger.wanted_of(self.worker):
                        if wanted == "kill" and task_id not in self._ending:
                            kills.add(killing := asyncio.create_task(self._kill(task_id)))
                            killing.add_done_callback(kills.discard)
                if news or loop.time() - looked > ANSWERS_SECONDS:
                    looked = loop.time()
                    await self._wake_answered()
                    await self._wake_released()
            except Exception as error:
                _log.error("watch: %s: %s", type(error).__name__, error)
            await asyncio.sleep(NEWS_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANSWERS_SECONDS):
                    await self._news.wait()

    async def _wake_answered(self) -> None:
        waiting = await self._ledger.waiting()
        answered = set(await self._answered([approval for _, approval in waiting])) if waiting else set()
        for task_id, approval in waiting:
            if approval in answered:
                with contextlib.suppress(AgentOSError):  # somebody else was faster
                    await self.resume(task_id)

    async def _wake_released(self) -> None:
        """Let go on what stood still for a halt or quarantine that was lifted."""
        stops = self._stopped()
        for task in await self._ledger.held():
            if stops.holding(replace(task.principal, session=task.id), task.lineage) is None:
                with contextlib.suppress(AgentOSError):  # somebody else was faster
                    await self.resume(task.id)

    async def _recover(self) -> None:
        """Declare workers dead whose lease ran out; what they ran is ready again then.

        So is what stands as running here and does not run, at two looks one after the other: nobody got the answer of the
        turn that took it.
        """
        strays: set[str] = set()
        while True:
            try:
                if await self._leases.declare_dead(self._lease, self.worker):
                    self._work.set()
                found = set(await self._ledger.running_on(self.worker)) - set(self._running)
                for task_id in found & strays:
                    _log.error("task %s was taken and never begun: it is ready again", task_id)
                    await self._leases.hand_back(self.worker, task_id)
                strays = found
            except Exception as error:
                _log.error("recovery: %s: %s", type(error).__name__, error)
            await asyncio.sleep(self._lease / 3)


def _take(path: Path) -> int:
    """Take the lock that only one process may hold. Raises EffectError when another one does."""
    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        raise EffectError(
            f"another process works on the tasks of {path.parent}: SQLite means one (commands talk to it; for more use"
            " PostgreSQL)"
        ) from None
    return held


def _outcome(runner: asyncio.Task[Any], ending: str) -> tuple[TaskState | None, Mapping[str, Any]]:
    """Return what state a run ends in (None: nothing may be written any more), and what is written with it."""
    if runner.cancelled():
        error: BaseException | None = TaskStopped(ending or "handover")
    else:
        error = runner.exception()
    if error is None:
        return TaskState.DONE, {"result": runner.result()}
    if isinstance(error, TaskParked):
        return TaskState.WAITING_APPROVAL, {"approval": error.approval, "reason": str(error)}
    if isinstance(error, TaskWaits):
        return TaskState.WAITING_CHILDREN, {"waits": error.children, "reason": str(error)}
    if isinstance(error, FencedError) or (isinstance(error, TaskStopped) and error.wanted == "fenced"):
        return None, {}
    if isinstance(error, TaskStopped) and error.wanted == HELD:
        return TaskState.SUSPENDED, {"reason": str(error), "wanted": HELD}
    if isinstance(error, TaskStopped):
        states = {"kill": TaskState.KILLED, "suspend": TaskState.SUSPENDED}
        return states.get(error.wanted, TaskState.READY), {"reason": "" if error.wanted == "handover" else error.wanted}
    return TaskState.FAILED, {"reason": f"{type(error).__name__}: {error}"}
