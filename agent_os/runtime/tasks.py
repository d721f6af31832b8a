"""Durable tasks composed: the engine over this installation's state, and the programs a task can run.

A run of a task is a session: policy files are read again at each run (the rights of its owner are those of now), the
session is the task's id, outcomes are the ledger's and fenced. Programs: `agent` (the built-in agent on a text) and
`actions` (a list of actions, one after the other); an application registers its own.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from agent_os.adapters.langchain.session import Session as LangChainSession
from agent_os.agents.task_monitor import AnsweredApprovals, TaskMonitor
from agent_os.core.action import Action, TaskSchedule
from agent_os.core.decision import Verdict
from agent_os.core.errors import ActionError, DeniedError, EffectError
from agent_os.core.facts import DEFAULTS
from agent_os.core.label import TRUSTED
from agent_os.core.ports import Approval, Outcome, Pending, Permit
from agent_os.core.principal import Principal
from agent_os.core.schedule import Schedule, parse_trigger
from agent_os.core.task import DEFAULT_QUEUE, FencedError, Task
from agent_os.effects.durable.engine import LEASE_SECONDS, DurableEngine
from agent_os.effects.durable.ledger import SCHEMA, Ledger, Storage
from agent_os.effects.durable.outcomes import FencedOutcomes
from agent_os.effects.durable.postgres import PostgresDatabase
from agent_os.effects.durable.schedules import SCHEMA as SCHEDULES
from agent_os.effects.durable.schedules import Scheduler, Schedules
from agent_os.effects.ids import RandomIds
from agent_os.effects.stores.database import Database
from agent_os.effects.stores.keys import Keys, Sealer
from agent_os.monitor import Monitor
from agent_os.policy import Policy, decide
from agent_os.runtime import compose as composing
from agent_os.runtime.agent import STEPS_MAX, SYSTEM, agent_policy
from agent_os.runtime.loop import LoopThread
from agent_os.runtime.policies import load_policy
from agent_os.runtime.state import open_state

WRITER: Final = "tasks"
ACTIONS_MAX: Final = 1_000
POLICY_SECONDS: Final = 1.0
"""A policy file is read again for a run that begins later than this after it was read."""
POLICIES_KEPT: Final = 256


@dataclass(slots=True)
class TaskSession:
    """What a program gets: the door of this run, and what LangChain's adapter needs of a session."""

    task: Task
    monitor: Monitor
    toolbox: Any
    loop: Any
    workspace: str

    @property
    def principal(self) -> Principal:
        """On whose behalf the task runs."""
        return self.monitor.principal

    def prompt(self, text: str) -> None:
        """Tell the session what was asked: trusted text, from which the scope of effects is taken."""
        if self.monitor.session.flow is not None:
            self.monitor.session.flow.prompt(text)

    async def perform(self, action: Mapping[str, Any], *, key: str = "") -> Outcome:
        """Do one action of the task: recorded outcomes are returned, an unanswered ask parks the task."""
        done = await self.monitor.perform(action, key=key)
        if isinstance(done, Pending):
            raise EffectError(f"waits for approval {done.approval_id}")
        return done


Program = Callable[[TaskSession], Awaitable[Any]]


async def actions(session: TaskSession) -> Any:
    """Perform the task's list of actions in order; ends at the first that is denied or fails, unless told to go on."""
    given = session.task.input.get("actions")
    if not isinstance(given, list) or len(given) > ACTIONS_MAX:
        raise ActionError(f"must be a list of at most {ACTIONS_MAX} actions", field="actions")
    go_on, results = session.task.input.get("go_on") is True, []
    for action in given:
        try:
            done = await session.perform(action)
        except DeniedError as error:
            if not go_on:
                raise
            results.append({"denied": error.decision.reason, "rules": list(error.decision.rules)})
            continue
        if not done.ok and not go_on:
            raise EffectError(f"action {len(results)} failed: {done.detail or done.error}")
        results.append({"error": done.error, "detail": done.detail} if not done.ok else {"value": _shown(done.value)})
    return {"results": results}


def _shown(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


async def agent(session: TaskSession) -> Any:
    """Run the built-in agent on the task's text; returns its last words."""
    from langchain.agents import create_agent  # noqa: PLC0415 - a second of imports

    from agent_os.adapters.langchain import AgentOSMiddleware, builtin_tools, govern_model  # noqa: PLC0415

    text, model = session.task.input.get("task"), session.task.input.get("model")
    if not isinstance(text, str) or not model:
        raise ActionError("a text and a model are needed", field="task")
    session.prompt(text)
    inner: LangChainSession = session
    built: Any = create_agent(
        govern_model(inner, model),
        tools=builtin_tools(inner, ()),
        system_prompt=SYSTEM.format(workspace=session.workspace),
        middleware=[AgentOSMiddleware(inner)],
    )
    given = {"messages": [{"role": "user", "content": text}]}
    config = {"recursion_limit": 2 * STEPS_MAX, "configurable": {"thread_id": session.task.id}}
    state = await built.ainvoke(given, config)
    return {"answer": str(state["messages"][-1].text)}


class ScheduleDoor:
    """Carries out `task.schedule` for the agent of a task: its schedules run as it does, with its owner's rights."""

    kinds = frozenset({"task.schedule"})

    def __init__(self, schedules: Schedules, task: Task) -> None:
        self._schedules, self._task = schedules, task

    async def execute(self, permit: Permit, action: Action) -> Outcome:
        """Create, pause, resume or remove a schedule; only those of the same user are there to be changed."""
        if not isinstance(action, TaskSchedule):
            raise EffectError(f"{action.kind} is no schedule")
        task, owner = self._task, action.principal
        if action.operation == "create":
            schedule = Schedule(
                name=action.name,
                trigger=parse_trigger(action.when),
                program="agent",
                input={"task": action.task, "model": task.input.get("model", "")},
                owner=replace(owner, session="-"),
                workspace=task.workspace,
                policies=task.policies,
                queue=task.queue,
            )
            added = await self._schedules.add(schedule)
            return Outcome({"name": added.name, "next": added.next_due}, TRUSTED)
        held = await self._schedules.get(action.name)
        if (held.owner.tenant, held.owner.user) != (owner.tenant, owner.user):
            raise EffectError(f"no schedule of this user is called {action.name!r}")
        if action.operation == "remove":
            await self._schedules.remove(action.name)
        elif action.operation in ("pause", "resume"):
            await self._schedules.pause(action.name, action.operation == "pause")
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
    ) -> None:
        """Build a worker. `AGENTOS_TASKS` in the environment names a PostgreSQL; without it the tasks are in SQLite."""
        self._env = dict(os.environ if environment is None else environment)
        self._queues, self._lease, self._concurrency = tuple(queues), lease_seconds, concurrency
        self._programs: dict[str, Program] = {"actions": actions, "agent": agent, **(programs or {})}
        self._ids = RandomIds()
        self._policies: dict[tuple[tuple[str, ...], str], tuple[float, Policy]] = {}

    async def open(self) -> TaskRuntime:
        """Open everything and start to work. Raises EffectError, MissingPartError, IntegrityError."""
        self.state = await asyncio.to_thread(open_state, environment=self._env, writer=WRITER)
        try:
            self.ledger, url = await asyncio.to_thread(open_ledger, self.state.path, self.state.keys, self._env)
            extra: dict[str, Any] = {} if self._concurrency is None else {"concurrency": self._concurrency}
            self.engine = DurableEngine(
                self.ledger, url, self._run, answered=self._answered, queues=self._queues,
                lease_seconds=self._lease, **extra,
            )  # fmt: skip
            await self.engine.open()
            self.schedules = Schedules(self.ledger)
            scheduler = Scheduler(self.schedules, self.ledger, self.engine.submit, self.engine.stop)
            self._scheduler = asyncio.create_task(scheduler.run())
        except BaseException:
            self.state.close()
            raise
        return self

    async def close(self) -> None:
        """End in good order; what runs is handed back to the queue."""
        self._scheduler.cancel()
        await asyncio.gather(self._scheduler, return_exceptions=True)
        await self.engine.close()
        self.ledger.storage.close()
        self.state.close()

    async def _answered(self, approval_id: str) -> bool:
        approval = await self.state.stores.approvals.get(approval_id)
        return approval is None or approval.state != "waiting"

    async def _run(self, task: Task) -> Any:
        """Run a task's program in a session of its own."""
        program = self._programs.get(task.program)
        if program is None:
            raise ActionError(f"no program is called {task.program!r}", field="program")
        policy = await asyncio.to_thread(self._policy, task)
        principal = replace(task.principal, session=task.id)
        outcomes = FencedOutcomes(self.ledger, task)
        composition = composing.wire(policy, principal, task.workspace, self.state, self._ids, None)
        try:
            inner, refused = composition.monitor, await self._refused(task)
            effectors = {**inner.ports.effectors, "task.schedule": ScheduleDoor(self.schedules, task)}
            ports = replace(inner.ports, outcomes=outcomes, effectors=effectors)
            if refused is not None:
                answered: Any = AnsweredApprovals(self.state.stores.approvals, refused)
                ports = replace(ports, approvals=answered)
            monitor = TaskMonitor(policy, ports, inner.session, needs=composing.needs_of(policy))
            monitor.bind(task.id, outcomes.check, refused)
            if task.schedule:
                await self._still_allowed(task, policy, principal)
            loop = LoopThread(asyncio.get_running_loop())
            session = TaskSession(task, monitor, composition.toolbox, loop, task.workspace)
            try:
                return await program(session)
            except (EffectError, DeniedError) as error:
                await _if_fenced(error, outcomes)
                raise
        finally:
            await composition.http.aclose()
            composition.files.close()

    async def _still_allowed(self, task: Task, policy: Policy, principal: Principal) -> None:
        """Judge the schedule again now that it is due: an owner who lost the right lost it here too.

        An ask was answered when the schedule was made. Raises DeniedError, which is recorded.
        """
        try:
            when = (await self.schedules.get(task.schedule)).trigger.to_json()
        except ActionError:
            return  # it was removed while this run waited; the run itself is judged like any other
        action = scheduled(task.schedule, when, task.input, principal)
        decision = decide(policy, action, replace(DEFAULTS, now=self.ledger.now(), workspace=task.workspace))
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

    def _policy(self, task: Task) -> Policy:
        """Return the policy in force for a task: its files as they were read at most POLICY_SECONDS ago."""
        model = str(task.input.get("model", "")) if not task.policies and task.program == "agent" else ""
        now, held = time.monotonic(), self._policies.get((task.policies, model))
        if held is not None and now - held[0] < POLICY_SECONDS:
            return held[1]
        policy = agent_policy((), model) if model else load_policy(list(task.policies) or ["pack:baseline"])
        if len(self._policies) >= POLICIES_KEPT:
            self._policies.clear()
        self._policies[task.policies, model] = (now, policy)
        return policy


def scheduled(name: str, when: Any, given: Mapping[str, Any], principal: Principal) -> Action:
    """Return the action of making a schedule that runs `given`: what a policy's `schedules` judges."""
    text = given.get("task")
    return Action.parse(
        {"kind": "task.schedule", "name": name, "when": when, "task": text if isinstance(text, str) else ""},
        principal=principal,
    )


async def _if_fenced(error: Exception, outcomes: FencedOutcomes) -> None:
    """A fence that an agent loop wrapped in an error of its own is still a fence."""
    if not isinstance(error, FencedError):
        await outcomes.check()


def open_ledger(path: Path, keys: Keys, environment: Mapping[str, str]) -> tuple[Ledger, str]:
    """Return the ledger of a state directory and the URL of DBOS's database. Raises EffectError."""
    sealer, schema = Sealer(keys, "payload"), f"{SCHEMA};{SCHEDULES}"
    given = environment.get("AGENTOS_TASKS", "")
    if given:
        if not given.startswith("postgresql://"):
            raise EffectError("AGENTOS_TASKS: must be a postgresql:// URL")
        shared = PostgresDatabase(given, schema).open()
        return Ledger(shared, sealer, shared.now), given
    storage: Storage = Database(path / "agents.db", schema).open()
    return Ledger(storage, sealer, time.time), f"sqlite:///{path / 'tasks.db'}"
