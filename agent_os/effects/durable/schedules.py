"""Schedules in the ledger's database, and the loop that turns due ones into tasks.

A run's task has an id made of the schedule and its due time, and it is stored before the schedule moves on: two workers, or
one that crashed in between, start it once. One indexed query a second is all that idle schedules cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from agent_os.core.errors import ActionError, AgentOSError, EffectError
from agent_os.core.schedule import Schedule, due_runs, next_after, parse_schedule
from agent_os.core.task import OPEN_STATES, Task, TaskRequest
from agent_os.effects.durable.ledger import Ledger

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS agentos_schedule(
  name TEXT PRIMARY KEY, spec TEXT NOT NULL, paused INTEGER NOT NULL, next DOUBLE PRECISION NOT NULL,
  starts DOUBLE PRECISION NOT NULL, note TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS agentos_schedule_next ON agentos_schedule(paused, starts)
"""
SCHEDULES_MAX: Final = 10_000
TICK_SECONDS: Final = 1.0
"""After a failure, until the next try."""
SLEEP_SECONDS_MAX: Final = 30.0
"""A clock that was set forward is noticed within this time."""
NEVER: Final = 9e15
_log = logging.getLogger("agent_os.durable")


class Schedules:
    """The schedules of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def add(self, schedule: Schedule) -> Schedule:
        """Store a new schedule. Raises ActionError when its name is taken, it is never due, or there are too many."""
        now = self._ledger.now()
        schedule = replace(schedule, created=now)
        due = next_after(schedule.trigger, now, now)
        if due is None:
            raise ActionError("is never due again", field="when")
        schedule = replace(schedule, next_due=due)
        sealed = self._seal(schedule)

        def work(session: Any) -> None:
            if session.execute("SELECT count(*) FROM agentos_schedule").fetchone()[0] >= SCHEDULES_MAX:
                raise ActionError(f"{SCHEDULES_MAX} schedules exist already", field="name")
            starts = due + schedule.delay(due)
            added = session.execute(
                "INSERT INTO agentos_schedule VALUES(?,?,0,?,?,'') ON CONFLICT(name) DO NOTHING",
                (schedule.name, sealed, due, starts),
            ).rowcount
            if added != 1:
                raise ActionError(f"a schedule is called {schedule.name!r} already", field="name")

        await self._ledger.storage.run(work)
        return schedule

    async def list(self) -> Sequence[Schedule]:
        """Return every schedule by name."""
        rows = await self._ledger.storage.run(
            lambda session: session.execute(
                "SELECT name, spec, paused, next, note FROM agentos_schedule ORDER BY name"
            ).fetchall()
        )
        return [self._schedule(row) for row in rows]

    async def get(self, name: str) -> Schedule:
        """Return a schedule. Raises ActionError when there is none of that name."""
        row = await self._ledger.storage.run(
            lambda session: session.execute(
                "SELECT name, spec, paused, next, note FROM agentos_schedule WHERE name=?", (name,)
            ).fetchone()
        )
        if row is None:
            raise ActionError(f"no schedule is called {name!r}", field="name")
        return self._schedule(row)

    async def pause(self, name: str, paused: bool) -> Schedule:
        """Pause a schedule, or let it go on from now: what was due meanwhile is not made up for."""
        schedule = await self.get(name)
        due = schedule.next_due
        if not paused:
            due = next_after(schedule.trigger, self._ledger.now(), schedule.created) or 0.0
        starts = due + schedule.delay(due) if due else NEVER
        await self._ledger.storage.run(
            lambda session: (
                session.execute(
                    "UPDATE agentos_schedule SET paused=?, next=?, starts=? WHERE name=?",
                    (int(paused), due, starts, name),
                ).rowcount
            )
        )
        return replace(schedule, paused=paused, next_due=due)

    async def remove(self, name: str) -> None:
        """Remove a schedule; runs that were started go on. Raises ActionError when there is none of that name."""
        removed: int = await self._ledger.storage.run(
            lambda session: session.execute("DELETE FROM agentos_schedule WHERE name=?", (name,)).rowcount
        )
        if removed != 1:
            raise ActionError(f"no schedule is called {name!r}", field="name")

    async def due(self) -> Sequence[Schedule]:
        """Return the schedules that are to start something now."""
        rows = await self._ledger.storage.run(
            lambda session: session.execute(
                "SELECT name, spec, paused, next, note FROM agentos_schedule WHERE paused=0 AND starts<=?"
                " ORDER BY starts LIMIT 200",
                (self._ledger.now(),),
            ).fetchall()
        )
        return [self._schedule(row) for row in rows]

    async def next_start(self) -> float:
        """Return when the next run is to be started, far in the future if never."""
        row = await self._ledger.storage.run(
            lambda session: session.execute("SELECT min(starts) FROM agentos_schedule WHERE paused=0").fetchone()
        )
        return float(row[0]) if row[0] is not None else NEVER

    async def move_on(self, schedule: Schedule, due: float | None, note: str) -> None:
        """Set the next due time, unless somebody else has moved the schedule on already."""
        starts = due + schedule.delay(due) if due else NEVER
        await self._ledger.storage.run(
            lambda session: (
                session.execute(
                    "UPDATE agentos_schedule SET next=?, starts=?, note=? WHERE name=? AND next=?",
                    (due or 0.0, starts, note, schedule.name, schedule.next_due),
                ).rowcount
            )
        )

    def _seal(self, schedule: Schedule) -> str:
        plain = json.dumps(schedule.to_json()).encode()
        return self._ledger.cipher.seal(plain, f"schedule {schedule.name}".encode()).hex()

    def _schedule(self, row: Any) -> Schedule:
        spec = json.loads(self._ledger.cipher.open(bytes.fromhex(row[1]), f"schedule {row[0]}".encode()))
        return parse_schedule({**spec, "paused": bool(row[2]), "next": row[3]})


class Scheduler:
    """The loop of one worker that starts what is due."""

    def __init__(
        self,
        schedules: Schedules,
        ledger: Ledger,
        submit: Callable[[TaskRequest], Awaitable[Task]],
        stop: Callable[[str, str], Awaitable[Any]],
    ) -> None:
        self._schedules, self._ledger, self._submit, self._stop = schedules, ledger, submit, stop
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Look again: a schedule may have been added or changed."""
        self._news.set()

    async def run(self) -> None:
        """Start what is due, for ever; one schedule that fails does not hold up the others.

        Sleeps until the next one is due, or somebody wakes it.
        """
        while True:
            self._news.clear()
            pause, least = TICK_SECONDS, 0.0
            try:
                for schedule in await self._schedules.due():
                    try:
                        await self.fire(schedule)
                    except AgentOSError as error:
                        _log.error("schedule %s: %s", schedule.name, error)
                        least = TICK_SECONDS
                pause = min(max(await self._schedules.next_start() - self._ledger.now(), least), SLEEP_SECONDS_MAX)
            except EffectError as error:
                _log.error("schedules: %s", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._news.wait()

    async def fire(self, schedule: Schedule) -> list[Task]:
        """Start the runs of a schedule that are due, as its `missed` and `overlap` say, and move it on."""
        now = self._ledger.now()
        times, following, missed = due_runs(schedule, now)
        notes = [f"{missed} missed" if missed else ""]
        started: list[Task] = []
        for due in times:
            if schedule.overlap != "queue":
                open_runs = [
                    task
                    for task in await self._ledger.list(OPEN_STATES, schedule=schedule.name)
                    if task.id != schedule.run_id(due)
                ]
                if open_runs and schedule.overlap == "skip":
                    notes.append("left out: the run before is not done")
                    continue
                for task in open_runs:
                    await self._stop(task.id, "kill")
            request = TaskRequest(
                id=schedule.run_id(due),
                program=schedule.program,
                input=schedule.input,
                principal=replace(schedule.owner, agent=f"schedule:{schedule.name}"),
                workspace=schedule.workspace,
                policies=schedule.policies,
                queue=schedule.queue,
                schedule=schedule.name,
            )
            started.append(await self._submit(request))
        await self._schedules.move_on(schedule, following, "; ".join(note for note in notes if note))
        return started
