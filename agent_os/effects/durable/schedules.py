"""Schedules in the ledger's database, and the loop that turns due ones into tasks.

A run's task has an id made of the schedule and its due time (or its event), and it is stored before the schedule moves on:
two workers, or one that crashed in between, start it once. Idle schedules cost one timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from agent_os.core.decision import Decision, Verdict
from agent_os.core.errors import ActionError, DeniedError, IntegrityError
from agent_os.core.principal import Principal
from agent_os.core.schedule import Schedule, due_runs, next_after, parse_schedule
from agent_os.core.stop import NONE, Stop, Stops
from agent_os.core.task import OPEN_STATES, ROOT, Rights, Task, TaskRequest
from agent_os.effects.durable.appearing import LOOK_SECONDS, FileWatch, entries, topic_of
from agent_os.effects.durable.ledger import Ledger
from agent_os.effects.durable.rows import UNREADABLE

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS agentos_schedule(
  name TEXT PRIMARY KEY, spec TEXT NOT NULL, paused INTEGER NOT NULL, next DOUBLE PRECISION NOT NULL,
  starts DOUBLE PRECISION NOT NULL, note TEXT NOT NULL, topic TEXT NOT NULL DEFAULT '', owner TEXT NOT NULL DEFAULT '',
  seen TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS agentos_schedule_next ON agentos_schedule(paused, starts)
"""
SCHEDULES_MAX: Final = 10_000
TICK_SECONDS: Final = 1.0
"""After a failure, until the next try."""
SLEEP_SECONDS_MAX: Final = 30.0
"""A clock that was set forward is noticed within this time."""
HELD_SECONDS: Final = 5.0
"""A schedule whose owner is halted or quarantined is looked at again after this; what it missed is missed by its own rule."""
NEVER: Final = 9e15
_SELECT: Final = "SELECT name, spec, paused, next, note FROM agentos_schedule "
_log = logging.getLogger("agent_os.durable")


LimitsOf = Callable[[Schedule], Awaitable[Mapping[str, float]]]
"""What a run of a schedule may use: the schedule's own limits, and those of the policy in force now."""


async def _own_limits(schedule: Schedule) -> Mapping[str, float]:
    return schedule.limits


class Schedules:
    """The schedules of one ledger."""

    def __init__(
        self, ledger: Ledger, limits: LimitsOf | None = None, stopped: Callable[[], Stops] = lambda: NONE
    ) -> None:
        self._ledger = ledger
        self._limits = limits or _own_limits
        self._stopped = stopped

    async def add(self, schedule: Schedule, *, active_max: int = 0) -> Schedule:
        """Store a new schedule.

        Raises ActionError when its name is taken, it is never due, there are too many, or its owner has `active_max`.
        """
        now = self._ledger.now()
        schedule = replace(schedule, created=now)
        due = next_after(schedule.trigger, now, now)
        if due is None and schedule.trigger.kind != "event":
            raise ActionError("is never due again", field="when")
        schedule = replace(schedule, next_due=due or 0.0)
        starts = due + schedule.delay(due) if due is not None else NEVER
        owner = schedule.owner.owner
        seen = self.seal_seen(schedule.key, entries(schedule)) if schedule.trigger.event == "file" else ""
        values = (schedule.key, self._seal(schedule), due or 0.0, starts, topic_of(schedule.trigger), owner, seen)

        def work(session: Any) -> None:
            if session.execute("SELECT count(*) FROM agentos_schedule").fetchone()[0] >= SCHEDULES_MAX:
                raise ActionError(f"{SCHEDULES_MAX} schedules exist already", field="name")
            _refuse_beyond(session, owner, active_max)
            added = session.execute(
                "INSERT INTO agentos_schedule(name, spec, paused, next, starts, note, topic, owner, seen)"
                " VALUES(?,?,0,?,?,'',?,?,?) ON CONFLICT(name) DO NOTHING",
                values,
            ).rowcount
            if added != 1:
                raise ActionError(f"a schedule is called {schedule.name!r} already", field="name")
            self._ledger.notify(session)

        await self._ledger.storage.run(work)
        return schedule

    async def signal(self, event: str, name: str, payload: Any, *, event_id: str) -> Sequence[Task]:
        """Start the runs of every schedule that waits for this event; the same `event_id` starts them once.

        `payload` is plain JSON from outside: the run's input has it as `event`, and nothing in it is trusted. Returns the
        runs. Raises ActionError when it is too large, EffectError.
        """
        started: list[Task] = []
        for schedule in await self.of_topic(f"{event}:{name}"):
            started += await self.start(schedule, schedule.event_id(event_id), {"event": event, "payload": payload})
        return started

    async def of_topic(self, topic: str) -> Sequence[Schedule]:
        """Return the schedules that wait for a topic and are not paused."""
        sql = _SELECT + "WHERE topic=? AND paused=0 ORDER BY name"
        return await self._readable(await self._ledger.rows_of(sql, topic))

    async def start(self, schedule: Schedule, run_id: str, event: Mapping[str, Any] | None = None) -> Sequence[Task]:
        """Start one run of a schedule as its `overlap` says: the task, or none when it is left out.

        Raises DeniedError while its runs are halted or quarantined.
        """
        stop = self.stop_of(schedule)
        if stop is not None:
            raise DeniedError(Decision(Verdict.DENY, (stop.rule,), stop.said, advice=stop.advice))
        if schedule.overlap != "queue":
            running = await self._ledger.list(OPEN_STATES, schedule=schedule.key, brief=True)
            open_runs = [task for task in running if task.id != run_id and not task.parent]
            if open_runs and schedule.overlap == "skip":
                return []
            for task in open_runs:
                await self._ledger.want(task.id, "kill")
        given = dict(schedule.input) if event is None else {**schedule.input, "event": dict(event)}
        limits = await self._limits(schedule)
        request = TaskRequest(
            id=run_id,
            program=schedule.program,
            input=given,
            principal=runs_as(schedule),
            workspace=schedule.workspace,
            policies=schedule.policies,
            queue=schedule.queue,
            schedule=schedule.key,
            rights=Rights(limits=limits) if limits else ROOT,
        )
        task, _ = await self._ledger.add(request, run_id)
        return [task]

    def stop_of(self, schedule: Schedule) -> Stop | None:
        """Return the stop that holds a schedule's runs, or None. Raises EffectError when nobody can say."""
        return self._stopped().holding(runs_as(schedule))

    async def postpone(self, schedule: Schedule, note: str) -> None:
        """Look at a due schedule again later; when it is due stays as it is."""
        later = self._ledger.now() + HELD_SECONDS
        sql = "UPDATE agentos_schedule SET starts=?, note=? WHERE name=? AND next=?"
        values = (later, note, schedule.key, schedule.next_due)
        await self._ledger.write(sql, *values)

    async def seen(self, name: str) -> Mapping[str, str]:
        """Return which files a schedule has seen, by name with their time of change."""
        sql = "SELECT seen FROM agentos_schedule WHERE name=?"
        rows = await self._ledger.rows_of(sql, name)
        if not rows or not rows[0][0]:
            return {}
        found: dict[str, str] = self._ledger.rows.open(rows[0][0], "seen", name)
        return found

    async def set_seen(self, name: str, found: Mapping[str, str]) -> None:
        """Note which files a schedule has seen."""
        sealed = self.seal_seen(name, found)
        sql = "UPDATE agentos_schedule SET seen=? WHERE name=?"
        await self._ledger.write(sql, sealed, name)

    def seal_seen(self, name: str, found: Mapping[str, str]) -> str:
        """Return what `seen` reads, sealed for this schedule."""
        return self._ledger.rows.seal(dict(found), "seen", name)

    async def list(self) -> Sequence[Schedule]:
        """Return every schedule by key."""
        return await self._readable(await self._ledger.rows_of(_SELECT + "ORDER BY name"))

    async def notes(self) -> Mapping[str, str]:
        """Return what was noted when each schedule was last due (missed, left out, held), by key."""
        rows = await self._ledger.rows_of("SELECT name, note FROM agentos_schedule WHERE note<>''")
        return {row[0]: row[1] for row in rows}

    async def get(self, name: str) -> Schedule:
        """Return a schedule by its key. Raises ActionError when there is none."""
        rows = await self._ledger.rows_of(_SELECT + "WHERE name=?", name)
        if not rows:
            raise ActionError(f"no schedule is called {name!r}", field="name")
        return self._schedule(rows[0])

    async def pause(self, name: str, paused: bool, *, active_max: int = 0) -> Schedule:
        """Pause a schedule, or let it go on from now: what was due meanwhile is not made up for.

        Raises ActionError when there is none of that key, or its owner has `active_max` that are active.
        """
        schedule = await self.get(name)
        due = schedule.next_due
        if not paused:
            due = next_after(schedule.trigger, self._ledger.now(), schedule.created) or 0.0
        starts = due + schedule.delay(due) if due else NEVER
        sql = "UPDATE agentos_schedule SET paused=?, next=?, starts=? WHERE name=?"

        def work(session: Any) -> None:
            if schedule.paused and not paused:
                _refuse_beyond(session, schedule.owner.owner, active_max)
            session.execute(sql, (int(paused), due, starts, name))
            self._ledger.notify(session)

        await self._ledger.storage.run(work)
        return replace(schedule, paused=paused, next_due=due)

    async def remove(self, name: str) -> None:
        """Remove a schedule; runs that were started go on. Raises ActionError when there is none of that name."""
        if await self._ledger.write("DELETE FROM agentos_schedule WHERE name=?", name) != 1:
            raise ActionError(f"no schedule is called {name!r}", field="name")

    async def due(self) -> Sequence[Schedule]:
        """Return the schedules that are to start something now."""
        sql = _SELECT + "WHERE paused=0 AND starts<=? ORDER BY starts LIMIT 200"
        return await self._readable(await self._ledger.rows_of(sql, self._ledger.now()))

    async def next_start(self) -> float:
        """Return when the next run is to be started, far in the future if never."""
        sql = "SELECT min(starts) FROM agentos_schedule WHERE paused=0 AND starts<=?"
        ((starts,),) = await self._ledger.rows_of(sql, NEVER)
        return float(starts) if starts is not None else NEVER

    async def move_on(self, schedule: Schedule, due: float | None, note: str) -> None:
        """Set the next due time, unless somebody else has moved the schedule on already."""
        starts = due + schedule.delay(due) if due else NEVER
        sql = "UPDATE agentos_schedule SET next=?, starts=?, note=? WHERE name=? AND next=?"
        await self._ledger.write(sql, due or 0.0, starts, note, schedule.key, schedule.next_due)

    async def _readable(self, rows: Sequence[Any]) -> Sequence[Schedule]:
        """Return schedules; one whose row cannot be read is paused and says so, and the others go on."""
        found = []
        for row in rows:
            try:
                found.append(self._schedule(row))
            except IntegrityError as error:
                _log.error("%s", error)
                sql = "UPDATE agentos_schedule SET paused=1, note=? WHERE name=? AND paused<>1"
                await self._ledger.write(sql, UNREADABLE, row[0])
        return found

    def _seal(self, schedule: Schedule) -> str:
        plain = json.dumps(schedule.to_json()).encode()
        return self._ledger.cipher.seal(plain, f"schedule {schedule.key}".encode()).hex()

    def _schedule(self, row: Any) -> Schedule:
        try:
            spec = json.loads(self._ledger.cipher.open(bytes.fromhex(row[1]), f"schedule {row[0]}".encode()))
            found = parse_schedule({**spec, "paused": bool(row[2]), "next": float(row[3])})
            if found.key != row[0]:
                raise ValueError
            return found
        except Exception:  # whatever stands in it, or a row that was copied under another name
            raise IntegrityError(f"schedule {row[0]}: {UNREADABLE}") from None


def _refuse_beyond(session: Any, owner: str, active_max: int) -> None:
    """Raise ActionError for an owner who has as many active schedules as the policy lets (0: any)."""
    active = "SELECT count(*) FROM agentos_schedule WHERE owner=? AND paused=0"
    if active_max and session.execute(active, (owner,)).fetchone()[0] >= active_max:
        raise ActionError(f"its owner has {active_max} active schedules already", field="schedules.max_active")


def runs_as(schedule: Schedule) -> Principal:
    """Return on whose behalf a schedule's runs act: its owner, as an agent of the schedule's name."""
    return schedule.owner.run_of(schedule.name)


class Scheduler:
    """The loop of one worker that starts what is due, and what a file that appeared starts."""

    def __init__(self, schedules: Schedules, ledger: Ledger, started: Callable[[], None] = lambda: None) -> None:
        self._schedules, self._ledger, self._started = schedules, ledger, started
        self._news = asyncio.Event()
        self._files = FileWatch(schedules)

    def wake(self) -> None:
        """Look again: a schedule may have been added or changed."""
        self._news.set()

    async def run(self) -> None:
        """Start what is due, for ever; one schedule that fails does not hold up the others.

        Sleeps until the next one is due, or somebody wakes it; while files are watched, until the next look at them.
        """
        while True:
            self._news.clear()
            pause, least = TICK_SECONDS, 0.0
            try:
                for schedule in await self._schedules.due():
                    try:
                        await self.fire(schedule)
                    except Exception as error:
                        _log.error("schedule %s: %s: %s", schedule.name, type(error).__name__, error)
                        least = TICK_SECONDS
                most = LOOK_SECONDS if await self._files.look() else SLEEP_SECONDS_MAX
                pause = min(max(await self._schedules.next_start() - self._ledger.now(), least), most)
            except Exception as error:  # whatever one moment has: the others are started all the same
                _log.error("schedules: %s: %s", type(error).__name__, error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._news.wait()

    async def fire(self, schedule: Schedule) -> list[Task]:
        """Start the runs of a schedule that are due, as its `missed` and `overlap` say, and move it on."""
        stop = self._schedules.stop_of(schedule)
        if stop is not None:
            await self._schedules.postpone(schedule, f"held: {stop.said}")
            return []
        times, following, missed = due_runs(schedule, self._ledger.now())
        notes = [f"{missed} missed" if missed else ""]
        started: list[Task] = []
        for due in times:
            found = await self._schedules.start(schedule, schedule.run_id(due))
            started += found
            if not found:
                notes.append("left out: the run before is not done")
        await self._schedules.move_on(schedule, following, "; ".join(note for note in notes if note))
        self._started()
        return started
