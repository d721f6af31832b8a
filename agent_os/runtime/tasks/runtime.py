"""Durable tasks composed: the engine over this installation's state, and the programs a task can run.

A run of a task is a session: policy files are read again at each run (the rights of its owner are those of now), the
session is the task's id, outcomes are the ledger's and fenced. Programs: `agent` (the built-in agent on a text) and
`actions` (a list of actions, one after the other); an application registers its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final

from agent_os.agents.task_monitor import AnsweredApprovals, Lease, TaskMonitor
from agent_os.core.action import Action, TaskSchedule
from agent_os.core.approval import Approval
from agent_os.core.decision import Verdict
from agent_os.core.errors import ActionError, DeniedError, EffectError, PolicyError
from agent_os.core.facts import DEFAULTS
from agent_os.core.label import TRUSTED
from agent_os.core.ports import Outcome, Permit
from agent_os.core.principal import Principal
from agent_os.core.schedule import Schedule, key_of
from agent_os.core.task import DEFAULT_QUEUE, HELD, OPEN_STATES, FencedError, Task, TaskState, TaskStopped
from agent_os.effects.durable.changes import Listener, watch_files
from agent_os.effects.durable.engine import LEASE_SECONDS, DurableEngine
from agent_os.effects.durable.family import Family, LedgerAllowance
from agent_os.effects.durable.outcomes import FencedOutcomes
from agent_os.effects.durable.postgres import PostgresDatabase
from agent_os.effects.durable.schedules import Scheduler, Schedules
from agent_os.effects.ids import RandomIds
from agent_os.effects.stores.database import Database
from agent_os.monitor import Monitor
from agent_os.policy import Policy, decide
from agent_os.runtime import compose as composing
from agent_os.runtime.loop import LoopThread
from agent_os.runtime.schedule_terms import scheduled, terms_of
from agent_os.runtime.state import open_state
from agent_os.runtime.tasks.in_force import InForce, TaskPolicies, narrow
from agent_os.runtime.tasks.opening import open_ledger
from agent_os.runtime.tasks.programs import PROGRAMS, Program
from agent_os.runtime.tasks.session import TaskSession

WRITER: Final = "tasks"
FILE_THREADS: Final = 16
"""Threads of a worker for its tasks' files."""


class ScheduleDoor:
    """Carries out `task.schedule` for the agent of a task: its schedules run as it does, with its owner's rights."""

    kinds = frozenset({"task.schedule"})

    def __init__(self, schedules: Schedules, task: Task, monitor: Monitor) -> None:
        self._schedules, self._task, self._monitor = schedules, task, monitor

    async def execute(self, permit: Permit, action: Action) -> Outcome:
        """Create, pause, resume or remove a schedule; only those of the same user are there to be changed."""
        if not isinstance(action, TaskSchedule):
            raise EffectError(f"{action.kind} is no schedule")
        task, owner = self._task, action.principal
        if action.operation == "create":
            schedule, most = terms_of(self._monitor.policy).agreed(
                {
                    "name": action.name,
                    "when": action.when,
                    "program": "agent",
                    "input": {"task": action.task, "model": task.input.get("model", "")},
                    "owner": replace(owner, session="-").to_json(),
                    "workspace": task.workspace,
                    "policies": list(task.policies),
                    "queue": task.queue,
                    "budgets": dict(task.rights.limits),
                }
            )
            if task.lineage:
                raise EffectError("a sub-agent makes no schedules: its runs would outlive its parent's rights")
            added = await self._schedules.add(schedule, active_max=most)
            return Outcome({"name": added.name, "next": added.next_due}, TRUSTED)
        held = await self._schedules.get(key_of(owner.tenant, action.name))
        if (held.owner.tenant, held.owner.user) != (owner.tenant, owner.user):
            raise EffectError(f"no schedule is called {action.name!r}")
        if action.operation == "remove":
            await self._schedules.remove(held.key)
        elif action.operation in ("pause", "resume"):
            most = terms_of(self._monitor.policy).active_max
            await self._schedules.pause(held.key, action.operation == "pause", active_max=most)
        else:
            raise EffectError(f"a schedule cannot be changed by {action.operation!r}: remove it and create it")
        return Outcome({"name": action.name}, TRUSTED)


class TaskRuntime:
    """One worker: state, ledger, engine. `open` it and `close` it on one event loop."""

    def __init__(
        self,
        *,
        environment: Mapping[str, str] | None = None,
        queues: Sequence[str] = (DEFAULT_QUEUE,),
        programs: Mapping[str, Program] | None = None,
        lease_seconds: float = LEASE_SECONDS,
        concurrency: int | None = None,
        version: str = "",
        accepts: Sequence[str] = (),
    ) -> None:
        """Build a worker. `AGENTOS_TASKS` in the environment names a PostgreSQL; without it the tasks are in SQLite.

        `version` is the application's: a task that began under it goes on under it, or under one that `accepts` it.
        """
        self._env = dict(os.environ if environment is None else environment)
        self._queues, self._lease, self._concurrency = tuple(queues), lease_seconds, concurrency
        self._version, self._accepts = version, tuple(accepts)
        self._programs: dict[str, Program] = {**PROGRAMS, **(programs or {})}
        self._ids = RandomIds()
        self._listeners: list[Listener] = []
        self._threads = ThreadPoolExecutor(FILE_THREADS, thread_name_prefix="task-files")
        self._policies = TaskPolicies()
        self._outcomes: dict[str, FencedOutcomes] = {}

    async def open(self) -> TaskRuntime:
        """Open everything and start to work. Raises EffectError, MissingPartError, IntegrityError."""
        self.state = await asyncio.to_thread(open_state, environment=self._env, writer=WRITER)
        try:
            self.ledger = await asyncio.to_thread(open_ledger, self.state.path, self.state.keys, self._env)
        except BaseException:
            self.state.close()
            raise
        try:
            await self._work()
        except BaseException:
            self.ledger.storage.close()
            self.state.close()
            raise
        return self

    async def __aenter__(self) -> TaskRuntime:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _work(self) -> None:
        shared, stops = self.ledger.shared, self.state.stores.stops
        extra = {}
        if self._concurrency is not None:
            extra["concurrency"] = self._concurrency
        self.engine = DurableEngine(
            self.ledger, self._run, answered=self._answered, busy=self._busy, stopped=stops.current,
            version=self._version, accepts=self._accepts, queues=self._queues, lease_seconds=self._lease,
            lock=None if shared else self.state.path / "tasks.lock", **extra,
        )  # fmt: skip
        self.schedules = Schedules(self.ledger, self._limits, stops.current)
        await self.engine.open()
        self.scheduler = Scheduler(self.schedules, self.ledger, self.engine.wake)
        loop = asyncio.get_running_loop()
        self._loops = [asyncio.create_task(self.scheduler.run())]
        files, servers = [self.state.stores.database], {}  # where tasks and people's answers are written
        limits = self.state.stores.shared
        for storage in (self.ledger.storage, limits.asks if limits is not None else None):
            if isinstance(storage, PostgresDatabase):
                servers[storage.url] = storage
            elif isinstance(storage, Database):
                files.append(storage)
        self._listeners = [Listener(each.connect, lambda: _calm(loop, self._wake)) for each in servers.values()]
        for listener in self._listeners:
            listener.start()
        self._loops.append(asyncio.create_task(watch_files(files, self._wake)))

    def _wake(self) -> None:
        self.engine.wake()
        self.scheduler.wake()

    async def close(self) -> None:
        """End in good order; what runs is handed back to the queue."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        for listener in self._listeners:
            await asyncio.to_thread(listener.stop)
        await self.engine.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.ledger.storage.close()
        self.state.close()

    def _busy(self, task: str) -> bool:
        outcomes = self._outcomes.get(task)
        return outcomes is not None and bool(outcomes.under_way)

    async def _answered(self, waiting: Sequence[str]) -> Sequence[str]:
        """Return which of these asks nobody waits for any more."""
        open_asks = await self.state.stores.approvals.waiting_ids()
        return [each for each in waiting if each not in open_asks]

    # ---- one run ----------------------------------------------------------------------------------------------------

    async def _run(self, task: Task) -> Any:
        """Run a task's program in a session of its own."""
        program = self._programs.get(task.program)
        if program is None:
            raise ActionError(f"no program is called {task.program!r}", field="program")
        policy = await self._policies.of(task)
        principal = replace(task.principal, session=task.id)
        stop = self.state.stores.stops.current().holding(principal, task.lineage)
        if stop is not None:
            raise TaskStopped(HELD, stop.said)
        composition = composing.wire(
            policy, principal, task.workspace, self.state, self._ids, None, run=task.root, threads=self._threads,
            needs=self._policies.needs(policy),
        )  # fmt: skip
        outcomes = self._outcomes[task.id] = FencedOutcomes(self.ledger, task, lambda: self.engine.leaving)
        try:
            session = await self._session(task, composition, outcomes)
            if task.schedule and not task.parent:
                await self._still_allowed(task, policy, principal)
            try:
                return await self._within(task, session, program)
            except (EffectError, DeniedError) as error:
                await _if_fenced(error, outcomes)
                raise
        finally:
            if self._outcomes.get(task.id) is outcomes:
                del self._outcomes[task.id]
            composition.monitor.session.ended = True  # nothing this run left behind may act any more
            await composition.aclose_run()

    async def _session(self, task: Task, composition: composing.Composition, outcomes: FencedOutcomes) -> TaskSession:
        """Return the session of a run: its door has the rights of the task, as they are now."""
        inner, refused, policy = composition.monitor, await self._refused(task), composition.monitor.policy
        effectors = {**inner.ports.effectors, "task.schedule": ScheduleDoor(self.schedules, task, inner)}
        ports = replace(inner.ports, outcomes=outcomes, effectors=effectors)
        if refused is not None:
            answered: Any = AnsweredApprovals(self.state.stores.approvals, refused)
            ports = replace(ports, approvals=answered)
        inner.session.lineage = task.lineage
        if task.lineage or task.rights.limits:
            inner.session.allowance = LedgerAllowance(self.ledger, task)
        monitor = TaskMonitor(policy, ports, inner.session, needs=inner.needs)
        narrow(monitor, composition, task)
        policies = InForce(self._policies, task, composition, monitor)
        monitor.bind(task.id, Lease(outcomes.check, outcomes.confirm, policies), refused)
        loop, family = LoopThread(asyncio.get_running_loop()), Family(self.ledger, task)
        session = TaskSession(task, monitor, composition.toolbox, loop, task.workspace, family)
        if task.rights.knowledge is not None:
            session.know(task.rights.knowledge)
        if task.input.get("event") is not None:  # whatever program it starts: what an event says vouches for nothing
            session.untrusted(json.dumps(task.input["event"], ensure_ascii=False, sort_keys=True), "event")
        return session

    async def _within(self, task: Task, session: TaskSession, program: Program) -> Any:
        """Run a program within the seconds its allowance leaves it."""
        allowance = session.monitor.session.allowance
        left = (await allowance.left()).get("seconds") if isinstance(allowance, LedgerAllowance) else None
        if left is None or not isinstance(allowance, LedgerAllowance):
            return await program(session)
        begun = time.monotonic()
        try:
            async with asyncio.timeout(left) as limit:
                return await program(session)
        except TimeoutError:
            if limit.expired():
                raise EffectError("the agent ran out of time") from None
            raise
        finally:
            await allowance.passed(time.monotonic() - begun)

    async def _still_allowed(self, task: Task, policy: Policy, principal: Principal) -> None:
        """Judge the schedule again now that it is due: an owner who lost the right lost it here too.

        An ask was answered when the schedule was made. Raises DeniedError, which is recorded.
        """
        try:
            schedule = await self.schedules.get(task.schedule)
        except ActionError:
            return  # it was removed while this run waited; the run itself is judged like any other
        trigger = schedule.trigger
        action = scheduled(schedule.name, trigger.to_json(), task.input, principal)
        facts = replace(DEFAULTS, now=self.ledger.now(), workspace=task.workspace)
        decision = decide(policy, action, facts)
        if decision.verdict is not Verdict.DENY and trigger.event == "file":
            folder = os.path.dirname(trigger.name) or "."
            wanted = {"kind": "fs.list", "path": folder}
            listing = Action.parse(wanted, workspace=task.workspace, principal=principal)
            decision = decide(policy, listing, facts)
        if decision.verdict is Verdict.DENY:
            who = {"tenant": principal.tenant, "user": principal.user, "agent": principal.agent, "session": task.id}
            said = {"kind": action.kind, "name": action.target, "digest": action.digest}
            judged = {"verdict": "deny", "rules": list(decision.rules), "policy": decision.policy_digest}
            await self.state.audit.append(
                {"type": "denied", "time": time.time(), **who, "action": said, **judged, "reason": decision.reason}
            )
            raise DeniedError(decision)

    async def _refused(self, task: Task) -> Approval | None:
        """Return the ask a task waited for, if it was denied or expired."""
        asked = await self.state.stores.approvals.get(task.approval) if task.approval else None
        return asked if asked is not None and asked.state in ("denied", "expired") else None

    async def _limits(self, schedule: Schedule) -> Mapping[str, float]:
        """Return what a run of a schedule may use now; a policy that does not load fails the run when it begins."""
        try:
            return terms_of(await self._policies.of(schedule)).within(schedule.limits)
        except PolicyError:
            return schedule.limits


def _calm(loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
    """Wake from another thread; a loop that has ended needs no waking."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(wake)


async def _if_fenced(error: Exception, outcomes: FencedOutcomes) -> None:
    """A fence that an agent loop wrapped in an error of its own is still a fence."""
    if not isinstance(error, FencedError):
        await outcomes.check()


async def work(
    queues: Sequence[str],
    *,
    until_idle: float = 0.0,
    concurrency: int | None = None,
    version: str = "",
    accepts: Sequence[str] = (),
) -> str:
    """Work until interrupted, fenced, or idle for so many seconds; returns why it ended."""
    runtime = await TaskRuntime(queues=queues, concurrency=concurrency, version=version, accepts=accepts).open()
    quiet_since = time.monotonic()
    open_states = [state for state in OPEN_STATES if state is not TaskState.SUSPENDED]
    try:
        while True:
            try:
                await asyncio.wait_for(runtime.engine.fenced.wait(), 1.0)
                return "fenced"
            except TimeoutError:
                pass
            if not until_idle:
                continue
            due = any(not each.paused for each in await runtime.schedules.list())
            if due or await runtime.ledger.list(open_states, limit=1, brief=True):
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > until_idle:
                return "idle"
    finally:
        await runtime.close()
