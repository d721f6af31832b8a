"""The ports: what the core asks of the world, as protocols. Nothing here imports an implementation.

Implementations live in `effects/` and are wired by `runtime.py` alone. Every asynchronous port has a deadline set by
its caller; a port that fails raises EffectError, and its caller denies (fail closed).
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, Protocol

from agent_os.core.action import Action
from agent_os.core.budget import Warned
from agent_os.core.decision import Decision, Obligation
from agent_os.core.errors import EffectError
from agent_os.core.facts import BudgetLeft, ExternalVerdict, Finding
from agent_os.core.label import UNTRUSTED, Label, Labeled
from agent_os.core.manifest import ToolSpec
from agent_os.core.principal import Principal


class Clock(Protocol):
    """Time. `now` is Unix seconds UTC, `monotonic` seconds that never go back."""

    def now(self) -> float: ...
    def monotonic(self) -> float: ...


class Ids(Protocol):
    """Unique, unguessable identifiers: `new("apr")` -> `apr_…`."""

    def new(self, prefix: str) -> str: ...


class Rng(Protocol):
    """Cryptographic randomness."""

    def bytes(self, count: int) -> bytes: ...


class Resolver(Protocol):
    """Names to addresses."""

    async def resolve(self, host: str, port: int) -> tuple[str, ...]:
        """Return every address of a canonical host name; raises EffectError when there is none."""
        ...


CANCELLED: Final = "cancelled"
"""Outcome of an effect that was cut off in the middle of it: its caller was cancelled, or its agent stopped."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A labelled result or a typed failure.

    `value` is plain JSON (or bytes). `error` is empty on success, else a short id such as `timeout`; `usage` is what
    settles the reservation (`tokens`, `usd`, `bytes`, `seconds`).
    """

    value: Any = None
    label: Label = UNTRUSTED
    leaves: tuple[tuple[str, Label], ...] = ()
    error: str = ""
    detail: str = ""
    usage: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    """What the agent must know beside the value: that a person changed its arguments, and which."""
    memo: Mapping[str, Any] | None = None
    """What the flow guard must know when this outcome is returned again without its effect, as plain JSON; kept with the
    outcome and nobody else's to read. None: nothing is known of it; empty: there is nothing to know.
    """

    @property
    def ok(self) -> bool:
        """Whether the effect was carried out."""
        return not self.error

    @property
    def labeled(self) -> Labeled[Any]:
        """The value with its labels: `outcome.labeled.at("/0/price")` is a part with its own."""
        return Labeled(self.value, self.label, self.leaves)


@dataclass(frozen=True, slots=True)
class Permit:
    """Single use leave to execute one action under one set of facts. Minted by the monitor only."""

    nonce: str
    action_digest: str
    facts_digest: str
    idempotency_key: str
    resolved_ips: tuple[str, ...] = ()
    """The addresses that were judged: a network effector connects to these and no others."""
    deadline: float = 0.0
    """Monotonic seconds; 0: no deadline."""
    label: Label = UNTRUSTED
    """What the effect carries, where it is kept for somebody else to read (a message): never more trusted than it is."""


class Effector(Protocol):
    """Carries out the actions of some kinds. `execute` is called by the monitor only."""

    @property
    def kinds(self) -> frozenset[str]: ...

    async def execute(self, permit: Permit, action: Action) -> Outcome:
        """Carry the action out. Raises EffectError; must not do anything the action does not say."""
        ...


class Detector(Protocol):
    """Finds personal data and secrets in texts."""

    @property
    def entities(self) -> frozenset[str]:
        """Entity names this detector can find here and now."""
        ...

    async def scan(self, texts: Mapping[str, str]) -> Sequence[Finding]:
        """Return findings for texts by RFC 6901 pointer. Raises EffectError (the caller denies)."""
        ...


class RegoEngine(Protocol):
    """Evaluates Rego layers over an action: embedded or an OPA server."""

    async def evaluate(self, document: Mapping[str, Any], digest: str) -> tuple[ExternalVerdict, ...]:
        """Return one verdict a layer. Never raises: a failure is a verdict with `error` set."""
        ...


class AuditSink(Protocol):
    """Append-only, hash-chained record."""

    def append(self, record: Mapping[str, Any]) -> Awaitable[None]:
        """Queue a record, in order of calls, and return an awaitable that ends when it is durable.

        The record is queued by the call itself; awaiting is for those who must know that it is on disk.
        The record's `type`, `time` and the monitor's fields are the caller's; sequence number, chain hash and writer id
        are the sink's. The awaitable raises EffectError when the record could not be made durable in time.
        """
        ...


class BudgetStore(Protocol):
    """Reservations against budgets, atomic across every process that shares the store."""

    async def left(self, budgets: Sequence[str]) -> tuple[BudgetLeft, ...]: ...

    async def reserve(self, reservation: str, amounts: Mapping[str, Mapping[str, float]]) -> bool:
        """Reserve all amounts (budget -> unit -> amount) or none; False when one does not fit."""
        ...

    async def settle(self, reservation: str, amounts: Mapping[str, Mapping[str, float]]) -> Sequence[Warned]:
        """Replace a reservation by what was really used; idempotent. Returns what passed its budget's `warn_at` by it."""
        ...


class RateStore(Protocol):
    """Calls in sliding windows, counted for everybody who shares the store."""

    def left(self, principal: Principal, now: float) -> Mapping[str, float]:
        """Return calls left by rule id as far as they are known without asking anybody; `take` decides."""
        ...

    async def take(self, obligations: Sequence[Obligation], principal: Principal, now: float) -> bool:
        """Count one call under every `rate` obligation, or none and return False when one has no call left."""
        ...

    async def give_back(self, obligations: Sequence[Obligation], principal: Principal, now: float) -> None:
        """Take back what `take` counted last: the call did not happen."""
        ...


class AgentAllowance(Protocol):
    """What one agent may use of its own, counted against its ancestors too."""

    async def reserve(self, amounts: Mapping[str, float]) -> bool:
        """Take amounts by unit at the worst case, or nothing and return False. Raises EffectError."""
        ...

    async def charge(self, reserved: Mapping[str, float], used: Mapping[str, float]) -> None:
        """Replace what was reserved by what was used; a unit nobody measured counts as reserved."""
        ...


class OutcomeStore(Protocol):
    """Recorded outcomes by idempotency key, so that nothing is done twice."""

    async def recall(self, key: str) -> Outcome | None:
        """Return the recorded outcome of a key, or None."""
        ...

    async def claim(self, key: str, action_digest: str) -> Outcome | None:
        """Claim a key durably before its effect: None means go ahead, an Outcome that it was done before.

        Raises EffectError("interrupted …") when the key was claimed earlier, by a holder that is gone, and no outcome
        was recorded: an intent with no outcome is never rerun blindly. Raises ActionError when the key was claimed for
        another action digest.
        """
        ...

    async def record(self, key: str, outcome: Outcome) -> None:
        """Store the outcome of a claimed key; the first one stays."""
        ...

    async def release(self, key: str) -> None:
        """Give a claim of this process back because nothing was done under it (denied after the claim); else
        nothing.
        """
        ...


class LabelStore(Protocol):
    """Labels of what was written (files, contents, memories), kept across sessions outside every workspace."""

    def recall(self, kind: str, name: str) -> tuple[Label, str] | None:
        """Return the label of a thing and the digest of the content it was given for, or None. Raises EffectError."""
        ...

    def keep(self, kind: str, name: str, label: Label, digest: str = "") -> None:
        """Store the label of a thing durably. Raises EffectError."""
        ...

    def keep_all(self, kind: str, names: Sequence[str], label: Label) -> None:
        """Store one label for many things, joined with what each had. Raises EffectError."""
        ...

    def drop(self, kind: str, name: str) -> None:
        """Forget the label of a thing that is gone. Raises EffectError."""
        ...


@dataclass(frozen=True, slots=True)
class RegisteredTool:
    """What the registry knows of a tool: its semantics and the digest of its code and manifest."""

    spec: ToolSpec
    digest: str
    server: str = ""


class ToolRegistry(Protocol):
    """Identity of tools: names to digests and semantics. The only source of a tool's identity."""

    def find(self, tool: str, server: str = "") -> RegisteredTool | None:
        """Return the tool of that exact name, or None."""
        ...

    def names(self) -> frozenset[str]:
        """Return every registered name, `server/tool` for tools of a server."""
        ...


class PayloadStore(Protocol):
    """Encrypted arguments, prompts and results beside the audit; opt-in."""

    async def put(self, reference: str, payload: Mapping[str, Any]) -> None: ...
    async def get(self, reference: str) -> Mapping[str, Any] | None: ...


class Links(Protocol):
    """Resolves symbolic links, so that a path judged is the path opened."""

    def resolve(self, path: str) -> str:
        """Return the canonical path of an absolute path with links resolved; parts that do not exist stay as they are.

        Raises ActionError for loops and for magic links (`/proc/self/root`, `/proc/<pid>/fd/…`).
        """
        ...


@dataclass(frozen=True, slots=True)
class Pending:
    """What `perform` returns for an action that waits for a person; the same call again, once approved, does it.

    It answers like an outcome that failed (`ok` is False, `error` says `waits`), and has no value.
    """

    approval_id: str
    decision: Decision
    expires_at: float

    @property
    def ok(self) -> bool:
        """False: nothing was done yet."""
        return False

    @property
    def error(self) -> str:
        """`waits`, as an outcome says why it failed."""
        return "waits"

    @property
    def detail(self) -> str:
        """What waits, and who answers it how."""
        return f"waits for approval {self.approval_id} (agentos approvals show {self.approval_id})"

    @property
    def value(self) -> NoReturn:
        """There is none: raises EffectError with what waits."""
        raise EffectError(self.detail)


@dataclass(frozen=True, slots=True)
class Admission:
    """An action that was let through the door but is carried out by someone who streams, such as the egress proxy.

    The intent is already durable in the audit. Whoever holds it calls `Door.settle` exactly once.
    """

    action: Action
    decision: Decision
    permit: Permit


class Door(Protocol):
    """The monitor, as effects that stream see it: admit before the first byte, settle after the last."""

    async def admit(self, action: Action, *, stated: Mapping[str, Any] | None = None) -> Admission:
        """Decide, reserve and record the intent; return leave to carry out exactly this action.

        `stated` are facts by name of the Facts field that only the caller can know (the executable of a peer, the
        addresses that a name resolved to). Raises DeniedError with the decision for deny and
        for an ask nobody answered.
        """
        ...

    async def admit_alike(
        self, action: Action, *, stated: Mapping[str, Any] | None = None, count: int
    ) -> Sequence[Admission] | None:
        """Admit `count` times the same action of this moment, where that is plain; None: admit each by itself.

        Nothing was recorded, or it was closed again, when the answer is None.
        """
        ...

    async def consider(self, action: Action, *, stated: Mapping[str, Any] | None = None) -> Decision:
        """Return what would be decided now: nothing is recorded, asked, reserved or done."""
        ...

    async def holds(self, admission: Admission) -> bool:
        """Return whether what was admitted, and is not settled, may go on: by the policy in force now, the time, the
        agent's rights and halts, and the grants it was admitted under. What it reserved itself does not count against it.
        """
        ...

    def halted(self) -> Decision | None:
        """Return the denial of everything, once a person has stopped this agent or it is over: what streams is cut."""
        ...

    async def settle(self, admission: Admission, outcome: Outcome) -> None:
        """Record what happened and settle what was reserved; idempotent."""
        ...
