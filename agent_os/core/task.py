"""Tasks: what a durable piece of an agent's work is, and the engine's port. Pure values.

A task runs a *program* (`agent`, `actions`, or one an application registers) under a principal and a policy. It survives
the process: when its worker dies another one runs the program again from its start, and every effect that was recorded
under its idempotency key is returned instead of done again. **At least once:** an effect that was under way when the
worker died is done again only if it may be repeated (reads, model calls, tools that say so); anything else fails as
`interrupted`, and its key is handed to the tool.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from agent_os.core.errors import ActionError, EffectError
from agent_os.core.principal import Capability, Principal

PRIORITY_MAX: Final = 1_000
ATTEMPTS_MAX: Final = 10
"""Starts of one task that lead nowhere before it becomes a dead letter: what kills its worker is not started for ever."""
INPUT_BYTES_MAX: Final = 1 << 20
DEFAULT_QUEUE: Final = "default"
REPEATABLE: Final = "r:"
"""How the keys of effects begin that may be done again when they were interrupted."""


class TaskState(enum.StrEnum):
    """Where a task stands. `dead` is a dead letter: it could not be run, and waits for a person's `redo`."""

    READY = "ready"
    RUNNING = "running"
    WAITING_APPROVAL = "waiting"
    WAITING_CHILDREN = "waiting-children"
    SUSPENDED = "suspended"
    DONE = "done"
    FAILED = "failed"
    KILLED = "killed"
    DEAD = "dead"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens by itself."""
        return self in (TaskState.DONE, TaskState.FAILED, TaskState.KILLED, TaskState.DEAD)


OPEN_STATES: Final = tuple(state for state in TaskState if not state.ended)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What a sub-agent's task may do and use: fixed when it was spawned, and narrowed again by the policy at each run.

    `capabilities` None: nobody narrowed them (a root task). `limits` are by unit of a budget (core/budget.py: UNITS);
    whatever is used counts against every ancestor too. `knowledge` is what the parent's information flow knew.
    """

    role: str = ""
    capabilities: tuple[Capability, ...] | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    knowledge: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the wire form."""
        held = self.capabilities
        return {
            "role": self.role,
            "capabilities": None if held is None else [each.to_json() for each in held],
            "limits": dict(self.limits),
            "knowledge": self.knowledge,
        }

    @staticmethod
    def parse(data: Mapping[str, Any]) -> Rights:
        """Return the rights of their wire form. Raises ActionError, KeyError for one that is none."""
        held = data["capabilities"]
        return Rights(
            role=data["role"],
            capabilities=None if held is None else tuple(map(Capability.parse, held)),
            limits=data["limits"],
            knowledge=data["knowledge"],
        )


ROOT: Final = Rights()


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRequest:
    """A task to be run. `input` is plain JSON; `deadline` Unix seconds (0: none) by which it must have started."""

    program: str
    input: Mapping[str, Any]
    principal: Principal
    workspace: str
    policies: tuple[str, ...] = ()
    queue: str = DEFAULT_QUEUE
    priority: int = 100
    """1 is first."""
    deadline: float = 0.0
    parent: str = ""
    id: str = ""
    """Given: submitting twice is submitting once."""
    schedule: str = ""
    lineage: tuple[str, ...] = ()
    """Ids of every ancestor, the root task first; `parent` is the last."""
    rights: Rights = ROOT

    def checked(self) -> TaskRequest:
        """Return this request. Raises ActionError naming the field that is out of range."""
        if not 1 <= self.priority <= PRIORITY_MAX:
            raise ActionError(f"must be 1 to {PRIORITY_MAX}", field="priority")
        if not self.program or not self.queue or not self.workspace.startswith("/"):
            raise ActionError("program, queue and an absolute workspace are needed", field="task")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task as it stands. Times are Unix seconds, 0 for not yet."""

    id: str
    program: str
    input: Mapping[str, Any]
    principal: Principal
    workspace: str
    policies: tuple[str, ...]
    queue: str
    priority: int
    deadline: float
    parent: str
    schedule: str
    state: TaskState
    created: float
    started: float = 0.0
    ended: float = 0.0
    attempts: int = 0
    token: int = 0
    """Fencing token: grows with each start and each takeover; whoever holds an older one may do nothing more."""
    worker: str = ""
    approval: str = ""
    reason: str = ""
    result: Any = None
    wanted: str = ""
    version: str = ""
    """The application version it is pinned to since its first start; empty: of an application that names none."""
    waits: tuple[str, ...] = ()
    """The children a task in `waiting-children` waits for."""
    lineage: tuple[str, ...] = ()
    rights: Rights = ROOT

    @property
    def root(self) -> str:
        """The task that everything of this tree was started by."""
        return self.lineage[0] if self.lineage else self.id

    def to_json(self) -> dict[str, Any]:
        """Return the wire form."""
        return {
            "id": self.id,
            "program": self.program,
            "input": dict(self.input),
            "principal": self.principal.to_json(),
            "workspace": self.workspace,
            "policies": list(self.policies),
            "queue": self.queue,
            "priority": self.priority,
            "deadline": self.deadline,
            "parent": self.parent,
            "role": self.rights.role,
            "limits": dict(self.rights.limits),
            "schedule": self.schedule,
            "state": self.state.value,
            "created": self.created,
            "started": self.started,
            "ended": self.ended,
            "attempts": self.attempts,
            "worker": self.worker,
            "version": self.version,
            "approval": self.approval,
            "waits": list(self.waits),
            "reason": self.reason,
            "result": self.result,
        }


@dataclass(frozen=True, slots=True)
class TaskStep:
    """An effect of a task as its progress shows it: what it is, when it was begun, whether it has an outcome."""

    key: str
    what: str
    at: float
    done: bool


class TaskParked(BaseException):
    """The task waits for a person: its program ends here and is run again once there is an answer.

    No Exception: it passes through agent loops that catch those.
    """

    def __init__(self, approval: str) -> None:
        self.approval = approval
        super().__init__(f"waits for approval {approval}")


HELD: Final = "held"
"""What is wanted of a task whose agent was halted or quarantined: to stand still until a person releases it."""


class TaskWaits(BaseException):
    """The task waits for children: its program ends here and is run again once all of these have ended."""

    def __init__(self, children: Sequence[str]) -> None:
        self.children = tuple(children)
        super().__init__(f"waits for {len(self.children)} children")


class TaskStopped(BaseException):
    """The task was suspended, killed, or `held` by a halt or quarantine: its program ends before its next effect."""

    def __init__(self, wanted: str, reason: str = "") -> None:
        self.wanted, self.reason = wanted, reason
        super().__init__(reason or f"{wanted} was asked for")


class FencedError(EffectError):
    """Another worker has taken this task over: whoever still runs it may do nothing more."""


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker as the others see it. `beat` is its last sign of life, Unix seconds."""

    id: str
    host: str
    pid: int
    started: float
    beat: float
    state: str
    queues: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class SessionView:
    """An open session: its id, for whom it acts, where it lives, since when (Unix seconds)."""

    id: str
    tenant: str
    user: str
    agent: str
    host: str
    pid: int
    since: float

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {
            "id": self.id, "tenant": self.tenant, "user": self.user, "agent": self.agent, "host": self.host,
            "pid": self.pid, "since": self.since,
        }  # fmt: skip


class TaskEngine(Protocol):
    """Runs tasks durably."""

    async def submit(self, request: TaskRequest) -> Task:
        """Store and queue a task. Raises ActionError, and EffectError when the queue is full."""
        ...

    async def get(self, task_id: str) -> Task | None: ...

    async def list(self, states: Sequence[TaskState] = (), *, limit: int = 1000) -> Sequence[Task]: ...

    async def stop(self, task_id: str, wanted: str) -> Sequence[str]:
        """Ask a task and everything below it to `suspend` or `kill`; returns the ids concerned."""
        ...

    async def resume(self, task_id: str) -> Task:
        """Queue a suspended, waiting, failed or dead task again."""
        ...
