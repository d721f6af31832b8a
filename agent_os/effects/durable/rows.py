"""Rows of the ledger and the values they stand for: sealing on the way in, opening on the way out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

from agent_os.core.canonical import json_bytes
from agent_os.core.principal import Principal
from agent_os.core.task import ROOT, Rights, Task, TaskRequest, TaskState
from agent_os.effects.durable.schema import FORMAT

COLUMNS: Final = (
    "id, program, input, principal, workspace, policies, queue, priority, deadline, parent, schedule, state, created,"
    " started, ended, attempts, token, worker, approval, reason, result, wanted, lineage, rights, waits, version"
)
SELECT: Final = "SELECT " + COLUMNS + " FROM agentos_task "  # noqa: S608
SELECT_BRIEF: Final = (
    SELECT.replace("program, input,", "program, '',").replace(" result,", " '',").replace(" rights,", " '',")
)
"""Without what is sealed: for lists of many."""
INSERT: Final = (
    "INSERT INTO agentos_task(id, program, input, principal, workspace, policies, queue, priority, deadline, parent,"
    " schedule, created, tenant, agent, root, lineage, rights, format, state, started, ended, attempts, token, worker,"
    " approval, reason, result, wanted, queued, waits)"
    " VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,'ready',0,0,0,0,'','','','','',0,'[]') ON CONFLICT(id) DO NOTHING"
)


TOKEN_MAX: Final = 2**62
"""A row whose token is past this was planted: one more would be no number that PostgreSQL keeps."""
CHUNK: Final = 500
"""Ids in one statement."""
UNREADABLE: Final = "its row was tampered with, or sealed under another key"


class Cipher(Protocol):
    """`stores.keys.Sealer`."""

    def seal(self, plain: bytes, context: bytes) -> bytes: ...
    def open(self, sealed: bytes, context: bytes) -> bytes: ...


class Rows:
    """Tasks to rows and back, under one cipher."""

    def __init__(self, cipher: Cipher) -> None:
        self._cipher = cipher

    def values(self, request: TaskRequest, task_id: str, now: float) -> tuple[Any, ...]:
        """Return what INSERT takes for a new task."""
        principal, rights = request.principal, request.rights
        return (
            task_id, request.program, self.seal(dict(request.input), "input", task_id),
            json.dumps(principal.to_json()), request.workspace, json.dumps(list(request.policies)), request.queue,
            request.priority, request.deadline, request.parent, request.schedule, now, principal.tenant,
            rights.role or principal.agent, request.lineage[0] if request.lineage else task_id,
            json.dumps(list(request.lineage)), "" if rights == ROOT else self.seal(rights.to_json(), "rights", task_id),
            FORMAT,
        )  # fmt: skip

    def new(self, request: TaskRequest, values: tuple[Any, ...]) -> Task:
        """Return the task of a request that was just stored under such values."""
        return Task(
            id=values[0],
            program=request.program,
            input=json.loads(json_bytes(dict(request.input))),
            principal=request.principal,
            workspace=request.workspace,
            policies=request.policies,
            queue=request.queue,
            priority=request.priority,
            deadline=request.deadline,
            parent=request.parent,
            schedule=request.schedule,
            state=TaskState.READY,
            created=values[11],
            lineage=request.lineage,
            rights=request.rights,
        )

    def task(self, row: Any) -> Task:
        """Return the task of a row selected by SELECT. Raises IntegrityError when what is sealed was tampered with."""
        given = self.open(row[2], "input", row[0])
        result = self.open(row[20], "result", row[0]) if row[20] else None
        return self._task(row, given, result, Rights.parse(self.open(row[23], "rights", row[0])) if row[23] else ROOT)

    def _task(self, row: Any, given: Any, result: Any, rights: Rights) -> Task:
        return Task(
            id=row[0],
            program=row[1],
            input=given,
            principal=Principal.parse(json.loads(row[3])),
            workspace=row[4],
            policies=tuple(json.loads(row[5])),
            queue=row[6],
            priority=int(row[7]),
            deadline=float(row[8]),
            parent=row[9],
            schedule=row[10],
            state=TaskState(row[11]),
            created=float(row[12]),
            started=float(row[13]),
            ended=float(row[14]),
            attempts=int(row[15]),
            token=int(row[16]),
            worker=row[17],
            approval=row[18],
            reason=row[19],
            result=result,
            wanted=row[21],
            lineage=tuple(json.loads(row[22])),
            rights=rights,
            waits=tuple(json.loads(row[24])),
            version=str(row[25]),
        )

    def brief(self, row: Any) -> Task:
        """Return the task of a row selected by SELECT_BRIEF: without input, result and rights."""
        try:
            return self._task(row, {}, None, ROOT)
        except Exception:
            return _unreadable(row)

    def shown(self, row: Any) -> Task:
        """Return the task of a row for those who only look: one that cannot be opened says so."""
        try:
            return self.task(row)
        except Exception:  # whatever stands in it: looking at one row must not keep the others from being seen
            return _unreadable(row)

    def seal(self, value: Any, what: str, task_id: str) -> str:
        """Return plain JSON sealed for one field of one task."""
        return self._cipher.seal(json_bytes(value), f"task {what} {task_id}".encode()).hex()

    def open(self, sealed: str, what: str, task_id: str) -> Any:
        """Return what was sealed for that field of that task and no other."""
        return json.loads(self._cipher.open(bytes.fromhex(sealed), f"task {what} {task_id}".encode()))


def _unreadable(row: Any) -> Task:
    """Return what can be said of a row that cannot be read."""
    known = {state.value: state for state in TaskState}
    return Task(
        id=str(row[0]), program=str(row[1]), input={}, principal=Principal(user="unknown"), workspace="/", policies=(),
        queue=str(row[6]), priority=0, deadline=0.0, parent=str(row[9]), schedule="",
        state=known.get(str(row[11]), TaskState.DEAD), created=0.0, worker=str(row[17]), reason=UNREADABLE,
    )  # fmt: skip


def listed(text: Any) -> list[str]:
    """Return what a task waits for; of a row that cannot be read nothing, so that whoever takes it finds out."""
    try:
        found = json.loads(text)
    except (ValueError, TypeError):
        return []
    return [str(each) for each in found] if isinstance(found, list) else []


def marks(values: Sequence[Any]) -> str:
    """Return `?,?,?` for some values."""
    return ",".join("?" * len(values))


def storable(text: str) -> str:
    """Return a text as both databases keep it: no NUL, no half of a surrogate pair."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")


def chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield parts of at most CHUNK."""
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]
