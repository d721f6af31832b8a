"""Tasks and schedules from the command line: the ledger beside the workers, and a worker started when one is needed.

Commands write to the ledger, which any number of processes may; only one works on a SQLite file. What an operator does
is recorded in the audit first. The principal is the user the command runs as.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent_os.core import canonical
from agent_os.core.canonical import json_bytes
from agent_os.core.decision import Decision, Verdict
from agent_os.core.errors import ActionError, DeniedError, EffectError
from agent_os.core.ports import Pending
from agent_os.core.principal import Principal
from agent_os.core.schedule import Schedule
from agent_os.core.task import DEFAULT_QUEUE, SessionView, Task, TaskRequest, TaskState, WorkerView
from agent_os.effects.durable.dispatch import Limit, Limits
from agent_os.effects.durable.engine import LEASE_SECONDS
from agent_os.effects.durable.leases import Leases
from agent_os.effects.durable.ledger import Ledger
from agent_os.effects.durable.schedules import Schedules
from agent_os.effects.ids import RandomIds
from agent_os.effects.stores.identity import Identity, current_identity
from agent_os.effects.stores.keys import Keys
from agent_os.runtime.agent_terms import default_model
from agent_os.runtime.approvals import OPERATOR
from agent_os.runtime.audit import open_audit
from agent_os.runtime.policies import load_policy, policy_names
from agent_os.runtime.schedule_terms import scheduled, terms_of
from agent_os.runtime.state import State, open_state, state_directory
from agent_os.runtime.stopping import StopDesk, refuse_inside_agent
from agent_os.runtime.tasks.opening import open_ledger

if TYPE_CHECKING:
    from agent_os.monitor import Monitor

FOLLOW_SECONDS: Final = 0.3
"""Between two looks at the audit of a task that is followed."""
START_SECONDS: Final = 20.0
IDLE_SECONDS: Final = 300.0
"""A worker that was started on demand ends after this long without tasks and without schedules."""


@dataclass(slots=True)
class TaskDesk:
    """The ledger as one person uses it. `acting` desks record what they do; close it."""

    ledger: Ledger
    schedules: Schedules
    identity: Identity
    path: Path
    environment: Mapping[str, str]
    state: State | None = None
    acting_for: Principal | None = None

    @property
    def principal(self) -> Principal:
        """Who the tasks submitted here act for: the user of this process, or whom an application names."""
        return self.acting_for or Principal(user=self.identity.user)

    async def record(self, kind: str, **fields: Any) -> None:
        """Write an operator's act to the audit before it is done."""
        if self.state is None:
            raise EffectError("these tasks were opened for reading")
        who = {"user": self.identity.user, "uid": self.identity.uid}
        await self.state.audit.append({"type": kind, "time": time.time(), **who, **fields})

    async def submit(self, request: TaskRequest) -> Task:
        """Store a task; a worker that lives takes it, else one is started. Raises DeniedError while its agent is stopped."""
        request = request.checked()
        task_id = request.id or f"tsk_{secrets.token_hex(10)}"
        await self._refuse_stopped(request.principal, task=task_id)
        await self.record("task.submitted", task=task_id, program=request.program, queue=request.queue)
        task, _ = await self.ledger.add(request, task_id)
        await self.ensure_worker(request.queue)
        return task

    async def _refuse_stopped(self, principal: Principal, *, task: str, lineage: Sequence[str] = ()) -> None:
        """Raise DeniedError, recorded, while whoever a task acts for is halted or quarantined."""
        if self.state is None:
            raise EffectError("these tasks were opened for reading")
        stop = self.state.stores.stops.current().holding(replace(principal, session=task), lineage)
        if stop is not None:
            await self.record("task.denied", task=task, rules=[stop.rule], reason=stop.said)
            raise DeniedError(Decision(Verdict.DENY, (stop.rule,), stop.said, advice=stop.advice))

    async def get(self, task_id: str) -> Task:
        """Return a task by its id or an unambiguous beginning of it. Raises EffectError.

        For an application's principal only its own are there, by their id or the one it chose.
        """
        if self.acting_for is not None:
            return await self._own(task_id, self.acting_for)
        found = await self.ledger.get(task_id)
        if found is not None:
            return found
        near = await self.ledger.list(beginning=task_id, limit=3)
        if len(near) != 1:
            raise EffectError(f"no task has the id {task_id!r}" if not near else "several tasks begin like that")
        return near[0]

    async def _own(self, task_id: str, who: Principal) -> Task:
        """Return a task of this tenant and user; what is another's is not there."""
        for each in (task_id, own_id(task_id, who)):
            found = await self.ledger.get(each)
            if found is not None and (found.principal.tenant, found.principal.user) == (who.tenant, who.user):
                return found
        raise EffectError(f"no task has the id {task_id!r}")

    async def sessions(self) -> Sequence[SessionView]:
        """Return the sessions that applications have open on this state."""
        if self.state is None:
            raise EffectError("these tasks were opened for reading")
        return await self.state.stores.sessions.live()

    def stops(self) -> StopDesk:
        """Return what stops sessions, for the same person. Raises DeniedError inside an agent."""
        if self.state is None:
            raise EffectError("these tasks were opened for reading")
        refuse_inside_agent(self.state)
        return StopDesk(self.state, self.identity.user, {"uid": self.identity.uid})

    async def stop(self, task_id: str, wanted: str) -> Task:
        """Ask a task and all below it to `suspend` or `kill`."""
        task = await self.get(task_id)
        await self.record(f"task.{wanted}", task=task.id)
        await self.ledger.want(task.id, wanted)
        return await self.get(task.id)

    async def resume(self, task_id: str, *, redo: bool = False) -> Task:
        """Make a suspended or waiting task ready again, with `redo` one that ended badly.

        Raises DeniedError while its agent is halted or quarantined.
        """
        task = await self.get(task_id)
        await self._refuse_stopped(task.principal, task=task.id, lineage=task.lineage)
        await self.record("task.redo" if redo else "task.resume", task=task.id)
        woken = await self.ledger.wake(task.id, redo=redo)
        await self.ensure_worker(task.queue)
        return woken

    async def wait(self, task_id: str) -> Task:
        """Wait until a task has ended, or waits for a person."""
        while True:
            task = await self.get(task_id)
            if task.state.ended or task.state in (TaskState.WAITING_APPROVAL, TaskState.SUSPENDED):
                return task
            await asyncio.sleep(0.1)

    async def wake_released(self) -> None:
        """See to it that a worker lives for every queue in which something may go on."""
        if self.state is None:
            raise EffectError("these tasks were opened for reading")
        stops = self.state.stores.stops.current()
        going: set[str] = set()
        for task in [*await self.ledger.held(), *await self.ledger.list([TaskState.READY], brief=True)]:
            if stops.holding(replace(task.principal, session=task.id), task.lineage) is None:
                going.add(task.queue)
        if any(not each.paused for each in await self.schedules.list()):
            going.add(DEFAULT_QUEUE)
        for queue in sorted(going):
            await self.ensure_worker(queue)

    async def add_schedule(self, data: Mapping[str, Any]) -> Schedule:
        """Store a schedule owned by this person, if its policy's `schedules` allow it and on the terms they set.

        Raises DeniedError, and EffectError while it waits for an approval.
        """
        if self.state is None:
            raise EffectError("these tasks were opened for reading")
        from agent_os.runtime.compose import wire  # noqa: PLC0415 - a whole session: for this verb alone

        policy = load_policy(list(data.get("policies", ())) or ["pack:baseline"])
        workspace = str(data["workspace"])
        composition = wire(policy, self.principal, workspace, self.state, RandomIds(), None)
        try:
            return await self.store_schedule(data, composition.monitor)
        finally:
            await composition.aclose_run()

    async def store_schedule(self, data: Mapping[str, Any], monitor: Monitor) -> Schedule:
        """Store a schedule if this monitor allows it. Raises as `add_schedule`."""
        schedule, most = terms_of(monitor.policy).agreed({**data, "owner": self.principal.to_json()})
        action = scheduled(schedule.name, schedule.trigger.to_json(), schedule.input, self.principal)
        added: list[Schedule] = []

        async def add(_: Any) -> Any:
            added.append(await self.schedules.add(schedule, active_max=most))
            return {"name": schedule.name}

        done = await monitor.perform(action, body=add)
        if isinstance(done, Pending):
            raise EffectError(f"waits for approval {done.approval_id}: add it again once it is approved")
        if not added:
            raise EffectError(done.detail or done.error)
        await self.ensure_worker(schedule.queue)
        return added[0]

    async def change_schedule(self, name: str, operation: str) -> None:
        """Pause, resume or remove a schedule."""
        await self.record(f"schedule.{operation}", schedule=name)
        if operation == "remove":
            await self.schedules.remove(name)
        else:
            await self.schedules.pause(name, operation == "pause")
            if operation == "resume":
                await self.ensure_worker("default")

    async def set_limit(self, scope: str, name: str, *, at_once: int, starts: int, seconds: float) -> None:
        """Limit a queue, tenant, agent or tool, over all workers; nothing limited takes the limit away."""
        limit = Limit(scope, name, at_once, starts, seconds).checked()
        await self.record("task.limit", scope=scope, name=name, at_once=at_once, starts=starts, seconds=seconds)
        await Limits(self.ledger).set(limit)

    async def limits(self) -> Sequence[Mapping[str, Any]]:
        """Return every limit that was set, in plain JSON."""
        return [asdict(each) for each in await Limits(self.ledger).list()]

    async def workers(self) -> Sequence[WorkerView]:
        """Return the workers with a valid lease."""
        limit = self.ledger.now() - LEASE_SECONDS
        return [each for each in await Leases(self.ledger).live() if each.beat >= limit]

    async def ensure_worker(self, queue: str) -> None:
        """Start a worker for a queue if none lives. Raises EffectError when it does not come up."""
        if any(queue in worker.queues and _lives(worker) for worker in await self.workers()):
            return
        await asyncio.to_thread(start_worker, self.path, self.environment, queue)
        limit = time.monotonic() + START_SECONDS
        while not any(queue in worker.queues and _lives(worker) for worker in await self.workers()):
            if time.monotonic() > limit:
                raise EffectError(f"the worker does not start: see {self.path / 'worker.log'}")
            await asyncio.sleep(0.1)

    def close(self) -> None:
        """Close the ledger and the operator's audit."""
        self.ledger.storage.close()
        if self.state is not None:
            self.state.close()


def own_id(chosen: str, who: Principal) -> str:
    """Return what a task is stored under whose id an application chose: ids of two tenants or users never meet.

    Raises ActionError for one that is no name.
    """
    named = canonical.name(chosen, field="id")
    return f"{named}.{hashlib.sha256(json_bytes([who.tenant, who.user])).hexdigest()[:12]}"


def tasks_of(state: State, principal: Principal | None = None) -> TaskDesk:
    """Return the ledger over a state that is open already, for its user or for whom an application names; close the
    ledger's storage.
    """
    env = {**os.environ, "AGENTOS_STATE": str(state.path)}
    ledger = open_ledger(state.path, state.keys, env)
    return TaskDesk(ledger, Schedules(ledger), current_identity(), state.path, env, state, principal)


def _lives(worker: WorkerView) -> bool:
    """Whether a worker of this machine still exists: its lease outlives a `kill -9` by some seconds."""
    return worker.host != os.uname().nodename or Path(f"/proc/{worker.pid}").exists()


def open_tasks(*, acting: bool = False, environment: Mapping[str, str] | None = None) -> TaskDesk:
    """Open the ledger of the state directory for the user this process runs as, to read or to act."""
    env = dict(os.environ if environment is None else environment)
    state = open_state(environment=env, writer=OPERATOR) if acting else None
    try:
        path = state.path if state is not None else state_directory(environment=env)
        keys = state.keys if state is not None else Keys.open(path / "keys", environment=env)
        ledger = open_ledger(path, keys, env)
    except BaseException:
        if state is not None:
            state.close()
        raise
    return TaskDesk(ledger, Schedules(ledger), current_identity(), path, env, state)


def start_worker(path: Path, environment: Mapping[str, str], queue: str) -> int:
    """Start a worker of its own session beside this process; returns its pid. Its output goes to `worker.log`."""
    log = os.open(path / "worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        command = [sys.executable, "-m", "agent_os", "worker", "--queue", queue, "--until-idle", str(IDLE_SECONDS)]
        started = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(environment), start_new_session=True
        )
    finally:
        os.close(log)
    return started.pid


def task_request(
    text: str,
    *,
    actions: Sequence[Mapping[str, Any]] | None,
    policies: Sequence[str],
    model: str,
    workspace: Path,
    principal: Principal,
) -> dict[str, Any]:
    """Return program, input, workspace and policies of a task as the command line gives it, checked.

    Raises ActionError, PolicyError: a task whose policy does not load is not queued.
    """
    folder = workspace.expanduser().resolve()
    if not folder.is_dir():
        raise ActionError("is no folder", field="workspace")
    named = policy_names(list(policies))
    if named:
        load_policy(named)
    given: dict[str, Any]
    if actions is not None:
        program, given = "actions", {"actions": list(actions)}
    else:
        chosen = model or default_model()
        if not chosen:
            raise ActionError("name a model: --model provider:name, or $AGENTOS_MODEL", field="model")
        program, given = "agent", {"task": text, "model": chosen}
    return {"program": program, "input": given, "workspace": str(folder), "policies": named, "owner": principal}


class TaskRecords:
    """The audit's records of one task, read on as they are written."""

    def __init__(self, task_id: str, environment: Mapping[str, str] | None = None) -> None:
        self._task, self._references = task_id, set[str]()
        reader = open_audit(environment=environment)
        self._follower = reader.follow()  # before the first look: what comes meanwhile is seen twice, never lost
        self._first = [record for record in reader.records() if self._concerned(record)]
        self._told: set[str] = set()

    def fresh(self) -> list[Mapping[str, Any]]:
        """Return the task's records since the last call, in order of time."""
        found = [*self._first, *(record for record in self._follower.poll() if self._concerned(record))]
        self._first, wanted = [], []
        for record in found:
            digest = json.dumps(record, sort_keys=True, default=str)
            if digest not in self._told:
                self._told.add(digest)
                wanted.append(record)
        return wanted

    def _concerned(self, record: Mapping[str, Any]) -> bool:
        mine = record.get("session") == self._task or record.get("task") == self._task
        if mine and record.get("ref"):
            self._references.add(str(record["ref"]))
        return mine or record.get("ref") in self._references


def records_of(task_id: str, environment: Mapping[str, str] | None = None) -> list[Mapping[str, Any]]:
    """Return the audit's records of a task, in order of time."""
    return TaskRecords(task_id, environment).fresh()
