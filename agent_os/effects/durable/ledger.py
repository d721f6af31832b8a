"""The ledger: tasks, workers, leases and outcomes in `agents.db` or PostgreSQL. What the engine's promises rest on.

DBOS queues and restarts; who may act is decided here. Each start and each takeover of a task raises its fencing
token, and every claim of an effect compares it in the transaction that writes the claim: a worker that froze, lost
its lease and thawed can claim nothing. A worker's lease is its heartbeat. Inputs, results and outcomes are sealed at
rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

from agent_os.core.canonical import json_bytes
from agent_os.core.errors import ActionError, EffectError
from agent_os.core.principal import Principal
from agent_os.core.task import (
    ATTEMPTS_MAX,
    INPUT_BYTES_MAX,
    Task,
    TaskRequest,
    TaskState,
    WorkerView,
)

T = TypeVar("T")
READY_MAX: Final = 100_000
"""Ready tasks of one queue; beyond it `submit` refuses (back-pressure)."""
KEEP_SECONDS: Final = 90 * 86_400.0

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS agentos_task(
  id TEXT PRIMARY KEY, program TEXT NOT NULL, input TEXT NOT NULL, principal TEXT NOT NULL, workspace TEXT NOT NULL,
  policies TEXT NOT NULL, queue TEXT NOT NULL, priority INTEGER NOT NULL, deadline DOUBLE PRECISION NOT NULL,
  parent TEXT NOT NULL, schedule TEXT NOT NULL, state TEXT NOT NULL, created DOUBLE PRECISION NOT NULL,
  started DOUBLE PRECISION NOT NULL, ended DOUBLE PRECISION NOT NULL, attempts INTEGER NOT NULL,
  token BIGINT NOT NULL, worker TEXT NOT NULL, approval TEXT NOT NULL, reason TEXT NOT NULL, result TEXT NOT NULL,
  wanted TEXT NOT NULL, queued INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS agentos_task_state ON agentos_task(state, queue);
CREATE INDEX IF NOT EXISTS agentos_task_parent ON agentos_task(parent);
CREATE INDEX IF NOT EXISTS agentos_task_worker ON agentos_task(worker);
CREATE INDEX IF NOT EXISTS agentos_task_schedule ON agentos_task(schedule, created);
CREATE TABLE IF NOT EXISTS agentos_worker(
  id TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, started DOUBLE PRECISION NOT NULL,
  beat DOUBLE PRECISION NOT NULL, state TEXT NOT NULL, queues TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS agentos_outcome(
  key TEXT PRIMARY KEY, task TEXT NOT NULL, token BIGINT NOT NULL, action_digest TEXT NOT NULL,
  at DOUBLE PRECISION NOT NULL, value TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS agentos_outcome_task ON agentos_outcome(task)
"""

_COLUMNS: Final = (
    "id, program, input, principal, workspace, policies, queue, priority, deadline, parent, schedule, state, created,"
    " started, ended, attempts, token, worker, approval, reason, result, wanted"
)
_SELECT: Final = "SELECT " + _COLUMNS + " FROM agentos_task "  # noqa: S608


class Storage(Protocol):
    """`stores.database.Database` or `durable.postgres.PostgresDatabase`."""

    async def run(self, work: Callable[[Any], T]) -> T: ...
    def run_sync(self, work: Callable[[Any], T]) -> T: ...
    def read(self, work: Callable[[Any], T]) -> T: ...
    def close(self) -> None: ...


class Cipher(Protocol):
    """`stores.keys.Sealer`."""

    def seal(self, plain: bytes, context: bytes) -> bytes: ...
    def open(self, sealed: bytes, context: bytes) -> bytes: ...


class Ledger:
    """Tasks and workers. `now` is the clock that leases are judged by."""

    def __init__(self, storage: Storage, cipher: Cipher, now: Callable[[], float]) -> None:
        self.storage, self.cipher, self.now = storage, cipher, now

    # ---- tasks -----------------------------------------------------------------------------------------------------

    async def add(self, request: TaskRequest, task_id: str) -> tuple[Task, bool]:
        """Store a task; returns it, and whether it is new. Raises ActionError, EffectError (queue full)."""
        plain = json_bytes(dict(request.input))
        if len(plain) > INPUT_BYTES_MAX:
            raise ActionError(f"more than {INPUT_BYTES_MAX} bytes", field="input")
        sealed = self._seal(request.input, "input", task_id)

        def work(session: Any) -> tuple[Task, bool]:
            held = session.execute(_SELECT + "WHERE id=?", (task_id,)).fetchone()
            if held is not None:
                return self._task(held), False
            ready = session.execute(
                "SELECT count(*) FROM agentos_task WHERE state='ready' AND queue=?", (request.queue,)
            ).fetchone()[0]
            if ready >= READY_MAX:
                raise EffectError(f"queue {request.queue!r} is full: {ready} tasks are ready")
            values = (
                task_id, request.program, sealed, json.dumps(request.principal.to_json()), request.workspace,
                json.dumps(list(request.policies)), request.queue, request.priority, request.deadline, request.parent,
                request.schedule, self.now(),
            )  # fmt: skip
            session.execute(
                "INSERT INTO agentos_task VALUES(?,?,?,?,?,?,?,?,?,?,?,'ready',?,0,0,0,0,'','','','','',0)", values
            )
            return self._task(session.execute(_SELECT + "WHERE id=?", (task_id,)).fetchone()), True

        return await self.storage.run(work)

    async def get(self, task_id: str) -> Task | None:
        """Return a task, or None."""
        row = await self.storage.run(lambda session: session.execute(_SELECT + "WHERE id=?", (task_id,)).fetchone())
        return self._task(row) if row is not None else None

    async def list(self, states: Sequence[TaskState] = (), *, schedule: str = "", limit: int = 1000) -> Sequence[Task]:
        """Return tasks, newest first; of some states, or of one schedule."""
        where: list[str] = ["1=1"]
        values: list[str] = []
        if states:
            where.append("state IN (" + ",".join("?" for _ in states) + ")")
            values.extend(state.value for state in states)
        if schedule:
            where.append("schedule=?")
            values.append(schedule)
        sql = _SELECT + "WHERE " + " AND ".join(where) + " ORDER BY created DESC LIMIT ?"
        rows = await self.storage.run(lambda session: session.execute(sql, (*values, limit)).fetchall())
        return [self._task(row) for row in rows]

    async def unqueued(self, queues: Sequence[str]) -> Sequence[Task]:
        """Return ready tasks of some queues that were not handed on yet (a crash in between, or written elsewhere)."""
        marks = ",".join("?" for _ in queues)
        sql = _SELECT + "WHERE state='ready' AND queued=0 AND queue IN (" + marks + ") ORDER BY created LIMIT 1000"
        rows = await self.storage.run(lambda session: session.execute(sql, tuple(queues)).fetchall())
        return [self._task(row) for row in rows]

    async def mark_queued(self, task_id: str, token: int) -> None:
        """Note that the queue has the task as it was with this token."""
        await self.storage.run(
            lambda session: (
                session.execute("UPDATE agentos_task SET queued=1 WHERE id=? AND token=?", (task_id, token)).rowcount
            )
        )

    async def requeue_all(self) -> None:
        """Have every ready task handed to the queue anew: the queue may have lost what it had."""
        await self.storage.run(
            lambda session: session.execute("UPDATE agentos_task SET queued=0 WHERE state='ready'").rowcount
        )

    async def unqueue(self, task_id: str) -> None:
        """Have a task that is still ready handed to the queue anew, under another id."""
        await self.storage.run(
            lambda session: (
                session.execute(
                    "UPDATE agentos_task SET queued=0, token=token+1 WHERE id=? AND state='ready'", (task_id,)
                ).rowcount
            )
        )

    async def begin(self, task_id: str, worker: str) -> Task | str:
        """Start or take over a task for a worker: returns it with a new token, or why it is not to be run."""

        def work(session: Any) -> Task | str:
            now = self.now()
            alive = session.execute("SELECT state FROM agentos_worker WHERE id=?", (worker,)).fetchone()
            if alive is None or alive[0] != "live":
                return "this worker lost its lease"
            taken = session.execute(
                "UPDATE agentos_task SET token=token+1, worker=?, state='running', attempts=attempts+1,"
                " started=CASE WHEN started=0 THEN ? ELSE started END, reason='' WHERE id=? AND"
                " (state='ready' OR (state='running' AND worker=''))",
                (worker, now, task_id),
            ).rowcount
            if taken != 1:
                return "not ready, or run by another worker"
            task = self._task(session.execute(_SELECT + "WHERE id=?", (task_id,)).fetchone())
            refusal = ""
            if task.wanted == "kill":
                refusal = self._end(session, task, TaskState.KILLED, "killed before it started")
            elif task.wanted == "suspend":
                refusal = self._end(session, task, TaskState.SUSPENDED, "suspended before it started")
            elif task.deadline and now > task.deadline:
                refusal = self._end(session, task, TaskState.DEAD, "its deadline passed before it could start")
            elif task.attempts > ATTEMPTS_MAX:
                refusal = self._end(session, task, TaskState.DEAD, f"started {ATTEMPTS_MAX} times and never ended")
            return refusal or task

        return await self.storage.run(work)

    def _end(self, session: Any, task: Task, state: TaskState, reason: str) -> str:
        session.execute(
            "UPDATE agentos_task SET state=?, reason=?, ended=?, worker='', wanted='' WHERE id=?",
            (state.value, reason, self.now(), task.id),
        )
        return reason

    async def finish(
        self, task: Task, state: TaskState, *, reason: str = "", result: Any = None, approval: str = ""
    ) -> bool:
        """Write how a run ended; False (and nothing written) when the token is no longer the task's."""
        sealed = self._seal(result, "result", task.id) if result is not None else ""
        ended = self.now() if state.ended else 0.0
        rowcount: int = await self.storage.run(
            lambda session: (
                session.execute(
                    "UPDATE agentos_task SET state=?, reason=?, result=?, approval=?, ended=?, worker='', wanted='',"
                    " queued=0, token=token+1 WHERE id=? AND token=? AND state='running'",
                    (state.value, reason[:2000], sealed, approval, ended, task.id, task.token),
                ).rowcount
            )
        )
        return rowcount == 1

    async def want(self, task_id: str, wanted: str) -> Sequence[tuple[str, str]]:
        """Ask a task and all below it to stop; those that do not run end at once. Returns (id, worker) of the
        others.
        """

        def work(session: Any) -> Sequence[tuple[str, str]]:
            concerned, level = [task_id], [task_id]
            while level and len(concerned) < READY_MAX:
                marks = ",".join("?" for _ in level)
                rows = session.execute(
                    "SELECT id FROM agentos_task WHERE parent IN (" + marks + ")",  # noqa: S608
                    tuple(level),
                ).fetchall()
                level = [row[0] for row in rows]
                concerned.extend(level)
            running = []
            for each in concerned:
                row = session.execute("SELECT state, worker FROM agentos_task WHERE id=?", (each,)).fetchone()
                if row is None or TaskState(row[0]).ended:
                    continue
                if row[0] == "running":
                    session.execute("UPDATE agentos_task SET wanted=? WHERE id=?", (wanted, each))
                    running.append((each, row[1]))
                elif wanted == "kill":
                    session.execute(
                        "UPDATE agentos_task SET state='killed', ended=?, wanted='', token=token+1 WHERE id=?",
                        (self.now(), each),
                    )
                elif row[0] == "ready":
                    session.execute("UPDATE agentos_task SET state='suspended', queued=0 WHERE id=?", (each,))
            return running

        return await self.storage.run(work)

    async def wake(self, task_id: str, *, redo: bool = False) -> Task:
        """Make a suspended or waiting task ready again, with `redo` a failed or dead one too. Raises ActionError."""
        allowed = ("suspended", "waiting", *(("failed", "dead", "killed") if redo else ()))

        def work(session: Any) -> Task:
            row = session.execute(_SELECT + "WHERE id=?", (task_id,)).fetchone()
            if row is None:
                raise ActionError(f"no task has the id {task_id}", field="task")
            task = self._task(row)
            if task.state.value not in allowed:
                raise ActionError(f"is {task.state.value}", field="task", hint="one of " + ", ".join(allowed))
            attempts = 0 if redo else max(0, task.attempts - 1)  # waiting for a person is no failed start
            session.execute(
                "UPDATE agentos_task SET state='ready', queued=0, wanted='', ended=0, attempts=?,"
                " deadline=0, token=token+1 WHERE id=?",
                (attempts, task_id),
            )
            return self._task(session.execute(_SELECT + "WHERE id=?", (task_id,)).fetchone())

        return await self.storage.run(work)

    async def waiting(self) -> Sequence[tuple[str, str]]:
        """Return (task, approval) of the tasks that wait for a person."""
        rows = await self.storage.run(
            lambda session: session.execute("SELECT id, approval FROM agentos_task WHERE state='waiting'").fetchall()
        )
        return [(row[0], row[1]) for row in rows]

    async def wanted_of(self, worker: str) -> Sequence[tuple[str, str]]:
        """Return (task, wanted) of a worker's running tasks that somebody wants stopped."""
        rows = await self.storage.run(
            lambda session: session.execute(
                "SELECT id, wanted FROM agentos_task WHERE worker=? AND state='running' AND wanted<>''", (worker,)
            ).fetchall()
        )
        return [(row[0], row[1]) for row in rows]

    # ---- fencing ---------------------------------------------------------------------------------------------------

    def fence(self, session: Any, task_id: str, token: int) -> str:
        """Return an empty string if this token may still act, else `fenced` or what is wanted (`kill`, `suspend`).

        Takes the task's row, so that a takeover happens before or after the caller's transaction and never within it.
        """
        held = session.execute(
            "UPDATE agentos_task SET token=token WHERE id=? AND token=? AND state='running'", (task_id, token)
        ).rowcount
        if held != 1:
            return "fenced"
        wanted: str = session.execute("SELECT wanted FROM agentos_task WHERE id=?", (task_id,)).fetchone()[0]
        return wanted

    async def orphans(self) -> Sequence[tuple[str, int]]:
        """Return (id, token) of tasks that are called running and that no worker runs."""
        rows = await self.storage.run(
            lambda session: session.execute(
                "SELECT id, token FROM agentos_task WHERE state='running' AND worker='' LIMIT 1000"
            ).fetchall()
        )
        return [(row[0], row[1]) for row in rows]

    async def adopt(self, task_id: str, token: int) -> None:
        """Make an orphan ready again."""
        await self.storage.run(
            lambda session: (
                session.execute(
                    "UPDATE agentos_task SET state='ready', queued=0, token=token+1 WHERE id=? AND token=?"
                    " AND state='running' AND worker=''",
                    (task_id, token),
                ).rowcount
            )
        )

    # ---- workers ---------------------------------------------------------------------------------------------------

    async def enter(self, worker: WorkerView) -> None:
        """Enter a worker as live."""
        await self.storage.run(
            lambda session: (
                session.execute(
                    "INSERT INTO agentos_worker VALUES(?,?,?,?,?,'live',?)",
                    (worker.id, worker.host, worker.pid, self.now(), self.now(), json.dumps(list(worker.queues))),
                ).rowcount
            )
        )

    async def beat(self, worker: str) -> bool:
        """Renew a worker's lease; False when it was declared dead: it must stop at once."""
        rowcount: int = await self.storage.run(
            lambda session: (
                session.execute(
                    "UPDATE agentos_worker SET beat=? WHERE id=? AND state='live'", (self.now(), worker)
                ).rowcount
            )
        )
        return rowcount == 1

    async def leave(self, worker: str) -> None:
        """Take a worker out in good order; its running tasks become somebody else's."""

        def work(session: Any) -> None:
            session.execute("UPDATE agentos_worker SET state='gone' WHERE id=?", (worker,))
            self._take_away(session, worker)

        await self.storage.run(work)

    async def bury_all(self) -> None:
        """Declare every worker dead: for the one process that holds the lock of a SQLite file."""

        def work(session: Any) -> None:
            for (worker,) in session.execute("SELECT id FROM agentos_worker").fetchall():
                self._take_away(session, worker)
            session.execute("DELETE FROM agentos_worker")

        await self.storage.run(work)

    async def declare_dead(self, lease_seconds: float, but: str) -> Sequence[str]:
        """Declare workers dead whose lease ran out, raise the token of what they ran; returns dead ones not yet
        recovered.
        """

        def work(session: Any) -> Sequence[str]:
            limit = self.now() - lease_seconds
            rows = session.execute(
                "SELECT id FROM agentos_worker WHERE state='live' AND beat<? AND id<>?", (limit, but)
            ).fetchall()
            for (worker,) in rows:
                won = session.execute(
                    "UPDATE agentos_worker SET state='dead' WHERE id=? AND state='live' AND beat<?", (worker, limit)
                ).rowcount
                if won == 1:
                    self._take_away(session, worker)
            return [
                row[0]
                for row in session.execute("SELECT id FROM agentos_worker WHERE state IN ('dead','gone')").fetchall()
            ]

        return await self.storage.run(work)

    def _take_away(self, session: Any, worker: str) -> None:
        session.execute(
            "UPDATE agentos_task SET token=token+1, worker='' WHERE worker=? AND state='running'", (worker,)
        )

    async def recovered(self, worker: str) -> None:
        """Forget a dead worker whose work was handed on."""
        await self.storage.run(
            lambda session: (
                session.execute(
                    "DELETE FROM agentos_worker WHERE id=? AND state IN ('dead','gone')", (worker,)
                ).rowcount
            )
        )

    async def workers(self) -> Sequence[WorkerView]:
        """Return every worker that is known."""
        rows = await self.storage.run(
            lambda session: session.execute(
                "SELECT id, host, pid, started, beat, state, queues FROM agentos_worker ORDER BY started"
            ).fetchall()
        )
        return [WorkerView(*row[:6], queues=tuple(json.loads(row[6]))) for row in rows]  # type: ignore[misc]

    # ---- rows ------------------------------------------------------------------------------------------------------

    def _task(self, row: Any) -> Task:
        return Task(
            id=row[0],
            program=row[1],
            input=self._open(row[2], "input", row[0]),
            principal=Principal.parse(json.loads(row[3])),
            workspace=row[4],
            policies=tuple(json.loads(row[5])),
            queue=row[6],
            priority=row[7],
            deadline=row[8],
            parent=row[9],
            schedule=row[10],
            state=TaskState(row[11]),
            created=row[12],
            started=row[13],
            ended=row[14],
            attempts=row[15],
            token=row[16],
            worker=row[17],
            approval=row[18],
            reason=row[19],
            result=self._open(row[20], "result", row[0]) if row[20] else None,
            wanted=row[21],
        )

    def _seal(self, value: Any, what: str, task_id: str) -> str:
        return self.cipher.seal(json_bytes(value), f"task {what} {task_id}".encode()).hex()

    def _open(self, sealed: str, what: str, task_id: str) -> Any:
        return json.loads(self.cipher.open(bytes.fromhex(sealed), f"task {what} {task_id}".encode()))
