"""The tour's second part as data: sub-agents, a task that outlives `kill -9` while it waits for a person, a schedule.

A real worker process runs the month's close (`demo_worker.py`). It starts three sub-agents, one of which is told to read
what only its parent may read; then it asks a person and parks. The worker is killed with SIGKILL, the ask is answered while no
worker lives, a second worker goes on where the first stopped. Everything is the runtime's own: nothing is played.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from agent_os.core.errors import EffectError, MissingPartError
from agent_os.core.principal import Principal
from agent_os.core.schedule import Schedule, next_after
from agent_os.core.task import Task, TaskRequest, TaskState
from agent_os.runtime.approvals import open_desk
from agent_os.runtime.demo.worker import FINAL, JOBS, PROGRAM
from agent_os.runtime.tasks.desk import TaskDesk, open_tasks

START_SECONDS: Final = 60.0
WAIT_SECONDS: Final = 60.0
ZONE: Final = "Europe/Berlin"
NIGHTLY: Final = {"cron": "0 2 * * *", "zone": ZONE}
DAILY: Final = {"every": "1d"}
"""What is shown where cron expressions cannot be read (extra `durable`)."""
NEXT_RUNS: Final = 3


@dataclass(frozen=True, slots=True)
class Worked:
    """One sub-agent: its name, its role, what it did, and what was denied to it with the rules."""

    agent: str
    role: str
    state: str
    done: int
    denied: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the second part: what kind of thing happened (allow, ask, deny, or nothing of these), who, and what."""

    verdict: str
    who: str
    what: str
    by: str = ""


Tell = Callable[[Step], None]


@dataclass(slots=True)
class Agents:
    """What the second part showed."""

    children: list[Worked] = field(default_factory=list)
    task: str = ""
    approval: str = ""
    asked: str = ""
    killed: int = 0
    """The pid that was ended with SIGKILL while the task waited."""
    before: bool = True
    """Whether the file that needed approval was there before it was approved."""
    parked: str = ""
    """The task's state when no worker lived."""
    approved_by: str = ""
    went_on: int = 0
    """The pid of the worker that went on."""
    ended: str = ""
    writes: int = 0
    """Times that file was written, as the ledger of outcomes has it."""
    schedule: str = ""
    when: str = ""
    next_runs: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def checks(self) -> list[tuple[str, bool]]:
        """Return what this part promises, and whether it happened."""
        within = len(self.children) == len(JOBS) and all(each.done and each.state == "done" for each in self.children)
        over = [each for each in self.children if each.denied]
        return [
            ("three sub-agents worked, each with a part of its parent's rights", within),
            (
                "the one that tried more was denied",
                [each.role for each in over] == ["reader"] and over[0].rules == ("runtime.capability",),
            ),
            (
                "a task that waited for a person outlived kill -9, and went on once it was approved",
                bool(self.killed) and self.parked == "waiting" and not self.before and self.ended == "done"
                and self.writes == 1 and self.went_on != self.killed,
            ),
            ("a nightly schedule is stored, with its next runs", len(self.next_runs) == NEXT_RUNS),
        ]  # fmt: skip


def run_agents(workspace: Path, state: Path, user: str, tell: Tell) -> Agents:
    """Run the second part over the desk's files; `tell` hears each step. Raises EffectError when a worker does not start."""
    started, shown = time.monotonic(), Agents()
    environment = {**os.environ, "AGENTOS_STATE": str(state), "AGENTOS_TASKS": "", "AGENTOS_SHARED": ""}
    workers: list[subprocess.Popen[str]] = []
    (workspace / "out" / "final").mkdir(parents=True, exist_ok=True)
    try:
        workers.append(_start(environment, state))
        asyncio.run(_until_parked(shown, workspace, environment, user, tell))
        _kill(shown, workers[0], workspace, tell)
        asyncio.run(_approve(shown, environment, tell))
        workers.append(_start(environment, state))
        shown.went_on = workers[1].pid
        asyncio.run(_to_the_end(shown, workspace, environment, tell))
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.terminate()
            worker.wait()
            if worker.stdout is not None:
                worker.stdout.close()
    shown.seconds = time.monotonic() - started
    return shown


def _start(environment: Mapping[str, str], state: Path) -> subprocess.Popen[str]:
    """Start a worker process and wait until it works."""
    with open(state / "worker.log", "a", encoding="utf-8") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "agent_os.runtime.demo.worker"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, env=dict(environment),
        )  # fmt: skip
    if worker.stdout is None or not select.select([worker.stdout], [], [], START_SECONDS)[0]:
        worker.kill()
        raise EffectError(f"the worker does not start: see {state / 'worker.log'}")
    if worker.stdout.readline() != "ready\n":
        worker.kill()
        raise EffectError(f"the worker does not start: see {state / 'worker.log'}")
    return worker


async def _until_parked(shown: Agents, workspace: Path, environment: Mapping[str, str], user: str, tell: Tell) -> None:
    desk = open_tasks(acting=True, environment=environment)
    try:
        request = TaskRequest(
            program=PROGRAM, input={}, principal=Principal(user=user), workspace=str(workspace),
            policies=(str(workspace / "agents.yaml"),),
        )  # fmt: skip
        task = await desk.submit(request)
        shown.task = task.id
        tell(Step("", "main", f"starts three sub-agents as tasks of their own: {', '.join(JOBS)}"))
        await _reach(desk, task.id, TaskState.WAITING_APPROVAL)
        for child in sorted(await desk.ledger.list(), key=lambda each: (each.created, each.id)):
            if child.parent == task.id:
                shown.children.append(_worked(child))
                _told(shown.children[-1], child, tell)
        shown.approval = (await desk.get(task.id)).approval
        tell(Step("ask", "main", f"write_file {FINAL}", "a person: the task parks as a row"))
    finally:
        desk.close()


def _worked(child: Task) -> Worked:
    steps = (child.result or {}).get("results", [])
    denied = [step for step in steps if "denied" in step]
    rules = dict.fromkeys(rule for step in denied for rule in step["rules"])
    return Worked(
        agent=child.principal.agent,
        role=child.rights.role,
        state=child.state.value,
        done=sum("value" in step for step in steps),
        denied=tuple(str(step["denied"]) for step in denied),
        rules=tuple(rules),
    )


def _told(worked: Worked, child: Task, tell: Tell) -> None:
    """Tell what one sub-agent did, and what it was denied: the call it was told to make beyond its rights."""
    tell(
        Step(
            "allow",
            worked.agent,
            f"done within the role {worked.role!r}: {worked.done} step{'' if worked.done == 1 else 's'}",
        )
    )
    asked = child.input.get("actions", ())
    for action, step in zip(asked, (child.result or {}).get("results", ()), strict=False):
        if "denied" in step:
            call = f"{action['tool']} {action['args'].get('path', '')}"
            tell(Step("deny", worked.agent, call, f"{', '.join(step['rules'])}: its parent may, it may not"))


async def _reach(desk: TaskDesk, task_id: str, state: TaskState) -> Task:
    limit = time.monotonic() + WAIT_SECONDS
    while True:
        task = await desk.get(task_id)
        if task.state is state:
            return task
        if task.state.ended or time.monotonic() > limit:
            raise EffectError(f"the task is {task.state.value}, not {state.value}: {task.reason}")
        await asyncio.sleep(0.05)


def _kill(shown: Agents, worker: subprocess.Popen[str], workspace: Path, tell: Tell) -> None:
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    shown.killed, shown.before = worker.pid, (workspace / FINAL).exists()
    tell(Step("", f"kill -9 {worker.pid}", "the worker is gone; nothing of the task is in any process"))


async def _approve(shown: Agents, environment: Mapping[str, str], tell: Tell) -> None:
    tasks = open_tasks(environment=environment)
    try:
        shown.parked = (await tasks.get(shown.task)).state.value
    finally:
        tasks.close()
    desk = open_desk(answering=True, environment=environment)
    try:
        asked = await desk.get(shown.approval)
        shown.asked = f"{asked.preview.get('target')} {FINAL}, by {asked.agent}, rule {' '.join(asked.rules)}"
        answered = await desk.answer(asked, approve=True, note="approved while no worker lived")
        shown.approved_by = ", ".join(answered.approvals)
    finally:
        desk.close()
    tell(Step("", shown.approved_by, f"approves {shown.approval} while no worker lives"))


async def _to_the_end(shown: Agents, workspace: Path, environment: Mapping[str, str], tell: Tell) -> None:
    desk = open_tasks(acting=True, environment=environment)
    try:
        shown.ended = (await _reach(desk, shown.task, TaskState.DONE)).state.value
        shown.writes = await _claims(desk, shown.task)
        times = "once" if shown.writes == 1 else f"{shown.writes} times"
        tell(Step("allow", f"worker {shown.went_on}", f"goes on from the answer: {FINAL} is written {times}"))
        await _schedule(shown, desk, workspace, tell)
    finally:
        desk.close()


async def _claims(desk: TaskDesk, task: str) -> int:
    """Return how often the effect that was approved was carried out, as the ledger of outcomes has it."""
    used = await desk.ledger.storage.run(
        lambda session: session.execute(
            "SELECT count(*) FROM agentos_outcome WHERE task=? AND value<>'' AND what LIKE '%write_file%'", (task,)
        ).fetchone()[0]
    )
    return int(used)


async def _schedule(shown: Agents, desk: TaskDesk, workspace: Path, tell: Tell) -> None:
    """Store the nightly run and work out when it is due next."""
    data = {
        "name": "month-close-nightly",
        "program": "actions",
        "input": {"actions": [{"kind": "tool.call", "tool": "list_files", "args": {"path": "inbox"}}]},
        "workspace": str(workspace),
        "policies": [str(workspace / "agents.yaml")],
    }
    try:
        added = await desk.add_schedule({**data, "when": NIGHTLY})
    except MissingPartError:  # said among what an extra would add
        added = await desk.add_schedule({**data, "when": DAILY})
    shown.schedule = added.name
    shown.when = (
        f"{added.trigger.cron} {added.trigger.zone}" if added.trigger.cron else f"every {added.trigger.every:g} s"
    )
    shown.next_runs = _next_runs(added)
    tell(Step("", "schedule", f"{shown.schedule} ({shown.when})"))
    tell(Step("", "  next", ", ".join(shown.next_runs)))


def _next_runs(schedule: Schedule) -> list[str]:
    zone, moment = ZoneInfo(ZONE if schedule.trigger.cron else "UTC"), schedule.next_due
    runs: list[str] = []
    while len(runs) < NEXT_RUNS and moment:
        runs.append(datetime.fromtimestamp(moment, zone).strftime("%a %d %b %H:%M %Z"))
        moment = next_after(schedule.trigger, moment, schedule.created) or 0.0
    return runs
