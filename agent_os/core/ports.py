"""The ports: what the core asks of the world, as protocols. Nothing here imports an implementation.

Implementations live in `effects/` and are wired by `runtime.py` alone. Every asynchronous port has a deadline set by
its caller; a port that fails raises EffectError, and its caller denies (fail closed).
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, Protocol, runtime_checkable

from agent_os.core.action import Action
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

    async def settle(self, reservation: str, amounts: Mapping[str, Mapping[str, float]]) -> None:
        """Replace a reservation by what was really used; idempotent."""
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


class TextRestorer(Protocol):
    """Puts originals back into one stream of text, cut anywhere."""

    def feed(self, chunk: str) -> str:
        """Return what may be shown after this chunk."""
        ...

    def finish(self) -> str:
        """Return what was held back; the stream ends."""
        ...


class PrivacyRouter(Protocol):
    """Rewrites what leaves and restores what comes back, for one session."""

    def texts(self, action: Action) -> Mapping[str, str]:
        """Return the texts of an action to be scanned, by RFC 6901 pointer into its arguments."""
        ...

    def rewrite(self, action: Action, findings: Sequence[Finding], obligations: Sequence[Obligation]) -> Action:
        """Return the action with the obligations carried out; raises EffectError where it cannot."""
        ...

    def restore(self, value: Any, action: Action) -> Any:
        """Return a value that comes back from an action with originals put back where they are allowed."""
        ...

    def stream(self, *, escape: str = "none") -> TextRestorer:
        """Return a restorer for one stream that comes back (`json`: the partial arguments of a tool call)."""
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


@runtime_checkable
class Classifier(Protocol):
    """Says how much texts look like orders to the agent. A guess: what it says can only restrict."""

    @property
    def name(self) -> str: ...

    @property
    def threshold(self) -> float:
        """The score from which a text is suspected."""
        ...

    async def score(self, texts: Sequence[str]) -> float:
        """Return the highest score of some texts, from 0 to 1; whatever it raises counts as suspicion."""
        ...


class FlowGuard(Protocol):
    """Keeps labels and provenance of one session and judges the arguments of an action.

    Order of calls: `prompt` for each message of the user; for each action `facts` before `decide`, then, only if it was
    carried out, `observing` to its end. What an action returned is known to later actions and to no earlier one.
    """

    @property
    def context(self) -> Label:
        """The join of everything the agent has read."""
        ...

    def distrust(self) -> None:
        """Let everything but the prompt count as tainted from here on: what was read elsewhere is not known here."""
        ...

    def prompt(self, text: str) -> None:
        """Take a message of the user: trusted text. The effects it asks for are the scope of the session."""
        ...

    @property
    def prompts(self) -> tuple[str, ...]:
        """The messages of the user, oldest first."""
        ...

    @property
    def task(self) -> str:
        """The last of them, or nothing."""
        ...

    def untrusted(self, text: str, source: str) -> None:
        """Take text that reaches the model beside the results of actions (a memory, a tool's description, a file name)."""
        ...

    def examined(self, action: Action, outcome: Outcome) -> Mapping[str, str] | None:
        """Return the texts of an outcome by RFC 6901 pointer, for detectors; None: more than they may be given."""
        ...

    def observing(
        self, action: Action, outcome: Outcome, found: Sequence[Any] | None = ()
    ) -> Generator[None, None, Outcome]:
        """Take the outcome of an action that was carried out, in pieces; the value is the outcome with its labels, per JSON
        leaf. `found` is what detectors found in the `examined` texts (`guards/flow/found.py`); None: nobody could look.
        """
        ...

    @property
    def busy(self) -> bool:
        """Whether an outcome is being taken: what is judged now would not know all of it."""
        ...

    def recall(self, action: Action, outcome: Outcome) -> None:
        """Take a recorded outcome that is returned again without its effect: what was read then has been read."""
        ...

    def begin_handles(self, number: int) -> None:
        """Number what is handed out by reference from here on, so that another session's handles mean nothing here."""
        ...

    def resolve(self, action: Action) -> Action:
        """Return the action with the handles among its arguments filled in, before it is judged. Raises ActionError."""
        ...

    def inside(self, action: Action, *, warned: bool = False) -> AbstractContextManager[None]:
        """Mark what happens in here as a tool's own doing; `warned`: a rule had something against it and only recorded it."""
        ...

    def facts(self, action: Action) -> tuple[Mapping[str, Label], Label, tuple[Any, ...]]:
        """Return labels of the arguments by RFC 6901 pointer, the join of the context, and FlowConcern values."""
        ...

    @property
    def watched(self) -> tuple[str, ...]:
        """Folders and files, absolute, in which a program's changes are to be told to this guard."""
        ...

    def programs_wrote(self, paths: Sequence[str] | None) -> None:
        """Take which files a program changed; None: nobody can say. Raises EffectError when it cannot be kept."""
        ...

    def unlooked(self, action: Action, outcome: Outcome) -> Sequence[str]:
        """Return the texts of an outcome that an advisory classifier should look at: untrusted ones that are now read."""
        ...

    def suspect(self, action: Action, why: str) -> None:
        """Take a classifier's suspicion of what an action returned: later effects are a concern."""
        ...

    def answer(self, text: str) -> tuple[Any, ...]:
        """Return the FlowConcern values of what the agent says to its user."""
        ...

    def child(self, task: str) -> FlowGuard:
        """Return the guard of a sub-agent: it knows what this one knows, and its scope lies within this one's."""
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
