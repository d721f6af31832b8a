"""The ledger: tasks and their states in `agents.db` or PostgreSQL. What the engine's promises rest on.

Each start and each takeover of a task raises its fencing token, and every claim of an effect compares it in the
transaction that writes the claim: a worker that froze, lost its lease and thawed can claim nothing. A task that waits, for
a person or for its children, is a row and nothing else; what it waits for makes it ready in its own transaction, so that no
crash comes between.
INVARIANT: a transaction that takes several tasks' rows takes an ancestor before its descendant (no deadlocks, and no child
that ends unseen while its parent goes to sleep).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from agent_os.core.canonical import json_bytes
from agent_os.core.errors import ActionError, EffectError
from agent_os.core.task import HELD, INPUT_BYTES_MAX, OPEN_STATES, Task, TaskRequest, TaskState
from agent_os.effects.durable.rows import (
    INSERT,
    SELECT,
    SELECT_BRIEF,
    TOKEN_MAX,
    Cipher,
    Rows,
    chunks,
    listed,
    marks,
    storable,
)
from agent_os.effects.durable.schema import EVERYTHING, FORGET_HELD, LEFT_CHILDREN, LEFT_HELD
from agent_os.effects.stores.database import Storage

READY_MAX: Final = 100_000
"""Ready tasks of one queue; beyond it `submit` refuses (back-pressure)."""
COUNT_SECONDS: Final = 1.0
TREE_MAX: Final = 100_000
"""Tasks of one tree that a stop reaches."""
REASON_CHARS_MAX: Final = 2_000
Running = list[tuple[str, str]]
"""(task, worker) of tasks that run."""
Ids = list[str]
_WAITING: Final = "SELECT id, approval FROM agentos_task WHERE state='waiting'"
_WANTED: Final = "SELECT id, wanted FROM agentos_task WHERE worker=? AND state='running' AND wanted<>''"
_OPEN: Final = "('" + "','".join(OPEN_STATES) + "')"


class Ledger:
    """Tasks. `now` is the clock that leases are judged by; `wake` is called after a commit that made work."""

    def __init__(self, storage: Storage, cipher: Cipher, now: Callable[[], float], *, shared: bool = False) -> None:
        self.storage, self.cipher, self.now, self.shared = storage, cipher, now, shared
        self.rows = Rows(cipher)
        self._room: dict[str, tuple[float, int]] = {}

    async def rows_of(self, sql: str, *values: Any) -> list[Any]:
        """Return the rows of one SELECT, read outside of any transaction."""
        found: list[Any] = await self.storage.look(lambda session: session.execute(sql, values).fetchall())
        return found

    async def write(self, sql: str, *values: Any) -> int:
        """Run one statement as a transaction of its own; returns how many rows it changed."""
        changed: int = await self.storage.run(lambda session: session.execute(sql, values).rowcount)
        return changed

    # ---- tasks -----------------------------------------------------------------------------------------------------

    async def add(self, request: TaskRequest, task_id: str) -> tuple[Task, bool]:
        """Store a task; returns it, and whether it is new. Raises ActionError, EffectError (queue full)."""
        if len(json_bytes(dict(request.input))) > INPUT_BYTES_MAX:
            raise ActionError(f"more than {INPUT_BYTES_MAX} bytes", field="input")
        values = self.rows.values(request, task_id, self.now())

        def work(session: Any) -> Any:
            if not self.insert(session, request, values):
                return session.execute(SELECT + "WHERE id=?", (task_id,)).fetchone()
            self.notify(session)
            return None

        held = await self.storage.run(work)
        return (self.rows.task(held), False) if held is not None else (self.rows.new(request, values), True)

    def insert(self, session: Any, request: TaskRequest, values: tuple[Any, ...]) -> bool:
        """Insert a task's row and limits within a transaction; False when its id is there already.

        Raises EffectError when its queue is full.
        """
        if request.parent:
            session.execute("UPDATE agentos_task SET queued=queued|1 WHERE id=?", (request.parent,))
        if session.execute(INSERT, values).rowcount != 1:
            return False
        self._refuse_beyond(session, request.queue)
        for unit, most in request.rights.limits.items():
            session.execute("INSERT INTO agentos_allowance VALUES(?,?,?,0)", (values[0], unit, float(most)))
        return True

    def _refuse_beyond(self, session: Any, queue: str) -> None:
        """Raise EffectError when a queue is full: its ready tasks are counted once a second, and what is added between."""
        at, left = self._room.get(queue, (0.0, 0))
        if left <= 0 or not 0 <= self.now() - at < COUNT_SECONDS:
            sql = "SELECT count(*) FROM (SELECT 1 FROM agentos_task WHERE queue=? AND state='ready' LIMIT ?) AS held"
            at, left = self.now(), READY_MAX + 1 - session.execute(sql, (queue, READY_MAX + 1)).fetchone()[0]
            if left <= 0:
                raise EffectError(f"queue {queue!r} is full: {READY_MAX} tasks are ready")
        self._room[queue] = (at, left - 1)

    def notify(self, session: Any) -> None:
        """Tell other processes that there is something new; SQLite tells by itself (changes.py)."""
        if self.shared:
            session.notify()

    async def get(self, task_id: str) -> Task | None:
        """Return a task, or None."""
        found = await self.get_all([task_id])
        return found[0] if found else None

    async def get_all(self, ids: Sequence[str]) -> Sequence[Task]:
        """Return those of some tasks that exist."""
        found: list[Any] = []
        for part in chunks(ids):
            found += await self.rows_of(SELECT + f"WHERE id IN ({marks(part)})", *part)
        return [self.rows.shown(row) for row in found]

    async def list(
        self,
        states: Sequence[TaskState] = (),
        *,
        schedule: str = "",
        parent: str = "",
        beginning: str = "",
        limit: int = 1000,
        brief: bool = False,
    ) -> Sequence[Task]:
        """Return tasks, newest first; of some states, one schedule, one parent, or whose id begins like that.

        `brief` ones are without input, result and rights: nothing is opened.
        """
        where: list[str] = ["1=1"]
        values: list[Any] = []
        if states:
            where.append(f"state IN ({marks(states)})")
            values.extend(state.value for state in states)
        for column, wanted in (("schedule", schedule), ("parent", parent)):
            if wanted:
                where.append(column + "=?")
                values.append(wanted)
        if beginning:
            where.append("substr(id, 1, ?)=?")
            values.extend((len(beginning), beginning))
        sql = (SELECT_BRIEF if brief else SELECT) + "WHERE " + " AND ".join(where) + " ORDER BY created DESC LIMIT ?"
        rows = await self.rows_of(sql, *values, limit)
        return [self.rows.brief(row) if brief else self.rows.shown(row) for row in rows]

    # ---- ends ------------------------------------------------------------------------------------------------------

    async def finish(
        self,
        task: Task,
        state: TaskState,
        *,
        reason: str = "",
        result: Any = None,
        approval: str = "",
        waits: Sequence[str] = (),
        wanted: str = "",
    ) -> bool:
        """Write how a run ended; False (and nothing written) when the token is no longer the task's.

        A task that waits for children that have all ended is ready again at once; one that ended takes its children along.
        """
        sealed = self.rows.seal(result, "result", task.id) if result is not None else ""
        ended = self.now() if state.ended else 0.0

        def work(session: Any) -> bool:
            self.hold(session, task.parent)
            written = session.execute(
                "UPDATE agentos_task SET state=?, reason=?, result=?, approval=?, waits=?, ended=?, worker='',"
                " wanted=?, token=token+1 WHERE id=? AND token=? AND state='running' RETURNING queued",
                (state.value, storable(reason)[:REASON_CHARS_MAX], sealed, approval, json.dumps(list(waits)), ended, wanted,
                 task.id, task.token),
            ).fetchone()  # fmt: skip
            if written is None:
                return False
            left = written[0] if task.token == 1 and isinstance(written[0], int) else EVERYTHING
            if state is TaskState.DONE and left & LEFT_HELD:
                session.execute(FORGET_HELD, (task.id,))
            if state is TaskState.WAITING_CHILDREN:
                self._wake_waiting(session, task.id)
            elif state.ended:
                if left & LEFT_CHILDREN:
                    self._below(session, task.id, "kill")
                self._wake_waiting(session, task.parent)
            return True

        return await self.storage.run(work)

    def end(self, session: Any, task_id: str, parent: str, state: TaskState, reason: str) -> None:
        """End a task that does not run, within a transaction; whoever waits for it may go on."""
        session.execute(
            "UPDATE agentos_task SET state=?, reason=?, ended=?, worker='', wanted='',"
            " token=CASE WHEN token<? THEN token+1 ELSE token END WHERE id=?",
            (state.value, reason, self.now(), TOKEN_MAX, task_id),
        )
        self._wake_waiting(session, parent)

    def hold(self, session: Any, task_id: str) -> None:
        """Take a task's row until the transaction ends."""
        if task_id and self.shared:
            session.execute("SELECT 1 FROM agentos_task WHERE id=? FOR UPDATE", (task_id,))

    def _wake_waiting(self, session: Any, task_id: str) -> None:
        """Make a task ready that waits for children of which none is open any more."""
        row = None
        if task_id:
            sql = "SELECT waits FROM agentos_task WHERE id=? AND state='waiting-children'"
            row = session.execute(sql, (task_id,)).fetchone()
        if row is None:
            return
        for part in chunks(listed(row[0])):
            sql = f"SELECT 1 FROM agentos_task WHERE id IN ({marks(part)}) AND state IN {_OPEN} LIMIT 1"  # noqa: S608
            if session.execute(sql, tuple(part)).fetchone() is not None:
                return
        session.execute(
            "UPDATE agentos_task SET state='ready', token=token+1, attempts=CASE WHEN attempts>0 THEN attempts-1"
            " ELSE 0 END WHERE id=? AND state='waiting-children'",
            (task_id,),
        )
        self.notify(session)

    # ---- stopping and going on -------------------------------------------------------------------------------------

    async def want(self, task_id: str, wanted: str) -> Sequence[tuple[str, str]]:
        """Ask a task and all below it to stop (`kill`, `suspend`); those that do not run stop at once.

        Returns (id, worker) of the others.
        """

        def work(session: Any) -> Running:
            row = session.execute("SELECT parent FROM agentos_task WHERE id=?", (task_id,)).fetchone()
            if row is None:
                return []
            self.hold(session, row[0])
            running = self._stop(session, [task_id], wanted) + self._below(session, task_id, wanted)
            if wanted == "kill":
                self._wake_waiting(session, row[0])
            self.notify(session)
            return running

        return await self.storage.run(work)

    def _below(self, session: Any, task_id: str, wanted: str) -> Running:
        """Stop everything below a task, generation by generation; returns (id, worker) of what runs."""
        running: Running = []
        for level in self._generations(session, task_id):
            running += self._stop(session, level, wanted)
        if running:
            self.notify(session)
        return running

    def _generations(self, session: Any, task_id: str, *, of: str = _OPEN) -> Iterator[Ids]:
        """Yield the descendants of a task that are in some states, by generation; each is read after the one above was
        written.
        """
        level, seen = [task_id], 0
        while level and seen < TREE_MAX:
            below: Ids = []
            for part in chunks(level):
                sql = f"SELECT id FROM agentos_task WHERE parent IN ({marks(part)}) AND state IN {of} ORDER BY id"  # noqa: S608
                below += [row[0] for row in session.execute(sql, tuple(part)).fetchall()]
            level, seen = below, seen + len(below)
            if level:
                yield level

    def _stop(self, session: Any, ids: Sequence[str], wanted: str) -> Running:
        running: Running = []
        for part in chunks(ids):
            some, values = f"id IN ({marks(part)})", tuple(part)
            session.execute(
                f"UPDATE agentos_task SET wanted=? WHERE {some} AND state='running'",  # noqa: S608
                (wanted, *values),
            )
            if wanted == "kill":
                session.execute(
                    f"UPDATE agentos_task SET state='killed', ended=?, wanted='', token=token+1 WHERE {some}"  # noqa: S608
                    f" AND state IN {_OPEN} AND state<>'running'",
                    (self.now(), *values),
                )
            else:
                session.execute(
                    f"UPDATE agentos_task SET state='suspended' WHERE {some}"  # noqa: S608
                    " AND state IN ('ready', 'waiting', 'waiting-children')",
                    values,
                )
            rows = session.execute(
                f"SELECT id, worker FROM agentos_task WHERE {some} AND state='running'",  # noqa: S608
                values,
            )
            running += [(row[0], row[1]) for row in rows.fetchall()]
        return running

    async def wake(self, task_id: str, *, redo: bool = False) -> Task:
        """Make a suspended or waiting task ready again, with what is suspended below it.

        With `redo` also one that ended badly, and what ended badly below it. Raises ActionError.
        """
        allowed = ("suspended", "waiting", *(("failed", "dead", "killed") if redo else ()))

        def work(session: Any) -> Any:
            row = session.execute("SELECT state, parent FROM agentos_task WHERE id=?", (task_id,)).fetchone()
            if row is None:
                raise ActionError(f"no task has the id {task_id}", field="task")
            if row[0] not in allowed:
                raise ActionError(f"is {row[0]}", field="task", hint="one of " + ", ".join(allowed))
            self._refuse_orphan(session, row[1])
            attempts = "0" if redo else "CASE WHEN attempts>0 THEN attempts-1 ELSE 0 END"  # waiting is no failed start
            session.execute(
                f"UPDATE agentos_task SET state='ready', wanted='', ended=0, attempts={attempts}, deadline=0,"  # noqa: S608
                " token=token+1 WHERE id=?",
                (task_id,),
            )
            again = "('suspended','failed','dead','killed')" if redo else "('suspended')"
            for level in self._generations(session, task_id, of=again if redo else _OPEN):
                for part in chunks(level):
                    session.execute(
                        "UPDATE agentos_task SET state='ready', wanted='', ended=0, token=token+1"  # noqa: S608
                        f" WHERE id IN ({marks(part)}) AND state IN {again}",
                        tuple(part),
                    )
            self.notify(session)
            return session.execute(SELECT + "WHERE id=?", (task_id,)).fetchone()

        return self.rows.task(await self.storage.run(work))

    def _refuse_orphan(self, session: Any, parent: str) -> None:
        """A child whose parent is over is not run again: nobody would gather what it does."""
        row = session.execute("SELECT state FROM agentos_task WHERE id=?", (parent,)).fetchone() if parent else None
        if row is not None and TaskState(row[0]).ended:
            raise ActionError(f"its parent {parent} is {row[0]}", field="task", hint="redo the parent")

    async def migrate(self, old: str, new: str) -> int:
        """Let workers of the application version `new` go on with what is pinned to `old` and not over; returns how many.

        What runs under `old` meanwhile ends or is taken over as ever, and is pinned anew when it is taken again.
        """
        sql = f"UPDATE agentos_task SET version=? WHERE version=? AND state IN {_OPEN} AND state<>'running'"  # noqa: S608

        def work(session: Any) -> int:
            moved: int = session.execute(sql, (new, old)).rowcount
            self.notify(session)
            return moved

        return await self.storage.run(work)

    async def waiting(self) -> Sequence[tuple[str, str]]:
        """Return (task, approval) of the tasks that wait for a person."""
        return [(row[0], row[1]) for row in await self.rows_of(_WAITING)]

    async def held(self) -> Sequence[Task]:
        """Return the tasks that stand still because their agent was halted or quarantined; brief ones."""
        sql = SELECT_BRIEF + "WHERE state='suspended' AND wanted=?"
        return [self.rows.brief(row) for row in await self.rows_of(sql, HELD)]

    async def running_on(self, worker: str) -> Sequence[str]:
        """Return the tasks that stand as running on a worker."""
        rows = await self.rows_of("SELECT id FROM agentos_task WHERE worker=? AND state='running'", worker)
        return [row[0] for row in rows]

    async def wanted_of(self, worker: str) -> Sequence[tuple[str, str]]:
        """Return (task, wanted) of a worker's running tasks that somebody wants stopped."""
        return [(row[0], row[1]) for row in await self.rows_of(_WANTED, worker)]

    # ---- fencing ---------------------------------------------------------------------------------------------------

    def fence(self, session: Any, task_id: str, token: int) -> str:
        """Return an empty string if this token may still act, else `fenced` or what is wanted (`kill`, `suspend`).

        Takes the task's row, so that a takeover happens before or after the caller's transaction and never within it.
        """
        lock = " FOR UPDATE" if self.shared else ""  # SQLite has one writer at a time
        row = session.execute(
            f"SELECT token, state, wanted FROM agentos_task WHERE id=?{lock}",  # noqa: S608
            (task_id,),
        ).fetchone()
        if row is None or row[0] != token or row[1] != "running":
            return "fenced"
        wanted: str = row[2]
        return wanted
