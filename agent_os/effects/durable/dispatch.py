"""Which ready tasks a worker takes next: fair between tenants, by priority within one, within every limit.

One transaction under a row that all workers take turns at, so that limits hold over all of them and all queues. A turn
goes to the tenant that runs least, then to the one that was served longest ago; within a tenant the smallest priority number
is first, then the oldest. What may not be started any more (its deadline passed, it killed its workers too often) becomes a
dead letter here. A task that began under one application version waits for a worker of that version or one that accepts it.
Threats: a tenant or an agent that floods a queue; a limit that each worker counts for itself.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent_os.core.errors import ActionError
from agent_os.core.stop import NONE, Stops
from agent_os.core.task import ATTEMPTS_MAX, FencedError, Task, TaskState
from agent_os.effects.durable.ledger import Ledger
from agent_os.effects.durable.rows import COLUMNS, TOKEN_MAX, UNREADABLE, marks
from agent_os.effects.durable.schema import FORMAT

TENANT_CONCURRENCY: Final = 32
"""Tasks of one tenant at once, over all workers, unless a limit says otherwise."""
TENANTS_MAX: Final = 1_000
"""Tenants of one queue that are looked at in one turn."""
SCOPES: Final = ("queue", "tenant", "agent", "tool")
SHUT: Final = -1
"""How many at once, where the row of a limit cannot be read."""
_TENANTS: Final = """
WITH RECURSIVE waiting(tenant) AS (
  SELECT min(tenant) FROM agentos_task WHERE queue=? AND state='ready' AND tenant>''
  UNION ALL
  SELECT (SELECT min(tenant) FROM agentos_task WHERE queue=? AND state='ready' AND tenant>waiting.tenant)
  FROM waiting WHERE waiting.tenant IS NOT NULL
)
SELECT tenant FROM waiting WHERE tenant IS NOT NULL LIMIT ?
"""
_log = logging.getLogger("agent_os.durable")
EACH: Final = "*"
"""As a limit's name: each one that has no limit of its own."""


@dataclass(frozen=True, slots=True)
class Limit:
    """How many at once, and how many starts within so many seconds; 0: any number."""

    scope: str
    name: str
    at_once: int = 0
    starts: int = 0
    seconds: float = 0.0

    def checked(self) -> Limit:
        """Return this limit. Raises ActionError naming the field that is out of range."""
        if self.scope not in SCOPES or not self.name:
            raise ActionError("must be one of " + ", ".join(SCOPES) + ", with a name", field="scope")
        if self.at_once < 0 or self.starts < 0 or self.seconds < 0 or (self.starts > 0) != (self.seconds > 0):
            raise ActionError("starts and seconds go together and are not negative", field="limit")
        return self


class Limits:
    """The limits of one ledger: what an operator set, for every worker."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def set(self, limit: Limit) -> None:
        """Set a limit, or take it away when nothing is limited. Raises ActionError."""
        limit = limit.checked()

        def work(session: Any) -> None:
            session.execute("DELETE FROM agentos_limit WHERE scope=? AND name=?", (limit.scope, limit.name))
            if limit.at_once or limit.starts:
                values = (limit.scope, limit.name, limit.at_once, limit.starts, limit.seconds)
                session.execute("INSERT INTO agentos_limit VALUES(?,?,?,?,?)", values)
            self._ledger.notify(session)

        await self._ledger.storage.run(work)

    async def list(self) -> Sequence[Limit]:
        """Return every limit that was set."""
        found = await self._ledger.storage.look(limits_of)
        return [found[key] for key in sorted(found)]


def limits_of(session: Any) -> Mapping[tuple[str, str], Limit]:
    """Return limits by scope and name, within a transaction."""
    rows = session.execute("SELECT scope, name, at_once, starts, seconds FROM agentos_limit").fetchall()
    return {(row[0], row[1]): _limit(row) for row in rows}


def _limit(row: Any) -> Limit:
    if all(isinstance(value, int | float) for value in row[2:]):
        return Limit(*row)
    _log.error("the limit of %s %s cannot be read: nothing of it starts until it is set again", row[0], row[1])
    return Limit(row[0], row[1], at_once=SHUT)


class Dispatch:
    """The turns of one worker."""

    def __init__(
        self, ledger: Ledger, worker: str, queues: Sequence[str], version: str = "", accepts: Sequence[str] = ()
    ) -> None:
        """Turns of a worker of an application `version`: it takes tasks of that, of none, and of those it `accepts`."""
        self._ledger, self._worker, self._queues = ledger, worker, tuple(queues)
        self._version, self._versions = version, tuple(dict.fromkeys(("", version, *accepts)))

    async def take(self, most: int, stops: Stops = NONE) -> Sequence[Task]:
        """Start up to `most` tasks for this worker: each has a new token; none of an agent that is stopped.

        Raises FencedError, EffectError.
        """
        rows, tasks = await self._ledger.storage.run(lambda session: self._take(session, most, stops)), []
        for row in rows:
            try:
                tasks.append(self._ledger.rows.task(row))
            except Exception as error:  # planted or torn, whatever it is: nobody runs it
                _log.error("task %s: %s: %s", row[0], UNREADABLE, type(error).__name__)
                await self._bury(row[0], row[9])
        return tasks

    async def _bury(self, task_id: str, parent: str) -> None:
        def work(session: Any) -> None:
            self._ledger.end(session, task_id, parent, TaskState.DEAD, UNREADABLE)

        await self._ledger.storage.run(work)

    def _take(self, session: Any, most: int, stops: Stops) -> list[Any]:
        ready = self._ready(session)
        chosen: list[str] = []
        if not ready or stops.halted() is not None:
            return []
        turn = self._begin(session, stops)
        for queue in ready:
            if len(chosen) < most:
                chosen += turn.choose(queue, most - len(chosen))
        if not chosen:
            return []
        rows = session.execute(
            "UPDATE agentos_task SET state='running', token=token+1, worker=?, version=?, attempts=attempts+1, reason='',"  # noqa: S608
            f" started=CASE WHEN started=0 THEN ? ELSE started END WHERE id IN ({marks(chosen)}) AND state='ready'"
            f" RETURNING {COLUMNS}",
            (self._worker, self._version, self._ledger.now(), *chosen),
        ).fetchall()
        by_id = {row[0]: row for row in rows}
        return [by_id[each] for each in chosen if each in by_id]

    def _ready(self, session: Any) -> list[str]:
        """Return those of this worker's queues that have something ready. Raises FencedError when it lost its lease."""
        any_ready = ", ".join(
            "EXISTS(SELECT 1 FROM agentos_task WHERE queue=? AND state='ready')" for _ in self._queues
        )
        sql = f"SELECT (SELECT state FROM agentos_worker WHERE id=?), {any_ready}"  # noqa: S608
        state, *found = session.execute(sql, (self._worker, *self._queues)).fetchone()
        if state != "live":
            raise FencedError("this worker lost its lease")
        return [queue for queue, some in zip(self._queues, found, strict=True) if some]

    def _begin(self, session: Any, stops: Stops) -> _Turn:
        """Take turns with the other workers, whatever queues they have: a tenant's limit counts all of its queues."""
        taken = "UPDATE agentos_queue SET turns=turns+1 WHERE name=?"
        if self._ledger.shared and session.execute(taken, (EACH,)).rowcount == 0:
            session.execute("INSERT INTO agentos_queue VALUES(?,0) ON CONFLICT(name) DO NOTHING", (EACH,))
            session.execute(taken, (EACH,))
        return _Turn(self._ledger, session, self._versions, stops)


class _Turn:
    """One worker's choice, queue by queue, within a transaction that holds everybody's turn.

    INVARIANT: what was chosen from one queue counts as running when the next one is looked at.
    """

    def __init__(self, ledger: Ledger, session: Any, versions: Sequence[str], stops: Stops) -> None:
        self._ledger, self._session, self._stops, self._versions = ledger, session, stops, versions
        self._queue = ""
        self._limits, self._now = limits_of(session), ledger.now()
        self._running: Counter[tuple[str, str]] = Counter()
        self._chosen: list[str] = []
        self._waiting: dict[str, list[tuple[str, str]]] = {}
        sql = "SELECT tenant, agent, queue, count(*) FROM agentos_task WHERE state='running' GROUP BY tenant, agent, queue"
        for tenant, agent, name, count in session.execute(sql).fetchall():
            self._running["tenant", tenant] += count
            self._running["agent", agent] += count
            self._running["queue", name] += count
        self._starts: dict[tuple[str, str], int] = {}
        self._full = {name for scope, name in self._running if scope == "agent" and not self._room("agent", name)}
        """Agents of which no more may start in this turn; each look passes over them, so that every look gets on."""

    def choose(self, queue: str, most: int) -> list[str]:
        """Return the ids to start from a queue, best first; what cannot be started any more ends."""
        self._queue, self._chosen, self._waiting = queue, [], {}
        shares = self._session.execute("SELECT tenant, served FROM agentos_share").fetchall()
        served = {tenant: when for tenant, when in shares if isinstance(when, int | float)}
        tenants = self._tenants()
        while tenants and len(self._chosen) < most and self._room("queue", self._queue):
            tenant = min(tenants, key=lambda each: (self._running["tenant", each], served.get(each, 0.0), str(each)))
            held = self._stops.halted(tenant) is not None or tenant in self._stops.names("tenant", tenant)
            found = self._next(tenant, most) if self._room("tenant", tenant) and not held else None
            if found is None:
                tenants.remove(tenant)
                continue
            task_id, agent = found
            self._chosen.append(task_id)
            served[tenant] = self._now + len(self._chosen) * 1e-6
            for key in (("tenant", tenant), ("agent", agent), ("queue", self._queue)):
                self._running[key] += 1
                if key in self._starts:
                    self._starts[key] += 1
        for tenant in self._waiting:
            self._session.execute(
                "INSERT INTO agentos_share VALUES(?,?) ON CONFLICT(tenant) DO UPDATE SET served=excluded.served",
                (tenant, served.get(tenant, 0.0)),
            )
        return self._chosen

    def _tenants(self) -> list[str]:
        """Return the tenants that have something ready here: one index look-up each, however much they have."""
        return [row[0] for row in self._session.execute(_TENANTS, (self._queue, self._queue, TENANTS_MAX)).fetchall()]

    def _next(self, tenant: str, most: int) -> tuple[str, str] | None:
        """Return (id, agent) of a tenant's next task whose agent has room, or None."""
        if tenant not in self._waiting:
            self._waiting[tenant] = self._look(tenant, most)
        while self._waiting[tenant]:
            task_id, agent = self._waiting[tenant].pop(0)
            if self._room("agent", agent):
                return task_id, agent
            self._full.add(agent)
            self._waiting[tenant] = self._look(tenant, most)  # others stand behind what this agent has waiting
        return None

    def _look(self, tenant: str, most: int) -> list[tuple[str, str]]:
        """Read a tenant's next tasks, passing over agents that have no room; ends what is too late."""
        full = sorted(self._full, key=str)
        agents, roles = (self._stops.names(scope, tenant) for scope in ("agent", "role"))  # others: when they run
        left_out = (
            ("agent IN", full),
            ("id IN", self._chosen),
            ("parent='' AND agent IN", agents),
            ("parent<>'' AND agent IN", roles),
        )
        beyond = "".join(f" AND NOT ({which} ({marks(values)}))" for which, values in left_out if values)
        sql = (
            "SELECT id, agent, deadline, attempts, parent, token FROM agentos_task WHERE queue=? AND state='ready' AND tenant=?"  # noqa: S608
            f" AND format<=? AND version IN ({marks(self._versions)}){beyond} ORDER BY priority, created LIMIT ?"
        )
        found: list[tuple[str, str]] = []
        values = (self._queue, tenant, FORMAT, *self._versions, *full, *self._chosen, *agents, *roles, most)
        for task_id, agent, deadline, attempts, parent, token in self._session.execute(sql, values).fetchall():
            numbers = isinstance(deadline, int | float) and isinstance(attempts, int) and isinstance(token, int)
            if not numbers or not 0 <= token < TOKEN_MAX:
                why = UNREADABLE
            elif deadline and self._now > deadline:
                why = "its deadline passed before it could start"
            elif attempts >= ATTEMPTS_MAX:
                why = f"started {ATTEMPTS_MAX} times and never ended"
            else:
                found.append((task_id, agent))
                continue
            self._ledger.end(self._session, task_id, parent, TaskState.DEAD, why)
        return found

    def _room(self, scope: str, name: str) -> bool:
        """Return whether one more of this queue, tenant or agent may start now."""
        limit = self._limits.get((scope, name)) or self._limits.get((scope, EACH))
        at_once = limit.at_once if limit is not None else TENANT_CONCURRENCY if scope == "tenant" else 0
        if at_once and self._running[scope, name] >= at_once:  # SHUT is less than any number
            return False
        if limit is None or not limit.starts:
            return True
        key = (scope, name)
        if key not in self._starts:
            sql = f"SELECT count(*) FROM agentos_task WHERE {scope}=? AND started>?"  # noqa: S608 - one of SCOPES
            self._starts[key] = self._session.execute(sql, (name, self._now - limit.seconds)).fetchone()[0]
        return self._starts[key] < limit.starts
