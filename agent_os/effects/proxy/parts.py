"""What every connection of one guard shares: ports, rules, caches. Wired by `guard.py`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from agent_os.core.decision import Decision, Verdict
from agent_os.core.ports import Clock, Door, Resolver
from agent_os.effects.models.server import HttpRequest, HttpResponse
from agent_os.effects.proxy.authority import CertificateAuthority, UpstreamContexts
from agent_os.effects.proxy.content import FindRestorer, Stage
from agent_os.effects.proxy.credentials import SecretStore
from agent_os.effects.proxy.flows import FlowTable
from agent_os.effects.proxy.identity import Identities
from agent_os.effects.proxy.limits import DENIALS_KEPT_MAX, Limits
from agent_os.effects.proxy.rules import EgressRules
from agent_os.effects.proxy.splice import Lend, Pipes
from agent_os.effects.proxy.upstream import CorporateProxy

Inference = Callable[[Door], Callable[[HttpRequest], Awaitable[HttpResponse]]]
"""The monitor of a connection -> what answers its requests at `inference.local`."""


@dataclass(slots=True)
class Gauge:
    """A count shared by every connection, whichever door it is behind."""

    value: int = 0


@dataclass(slots=True)
class GuardRevision:
    """What a guard takes from one policy revision."""

    rules: EgressRules
    secrets: SecretStore | None = None
    stages: Sequence[Stage] = ()
    inference: Inference | None = None


@dataclass(slots=True)
class Parts:
    """The shared world of one guard; what a `GuardRevision` holds is replaced on reload."""

    loop: asyncio.AbstractEventLoop
    clock: Clock
    door: Door
    resolver: Resolver
    rules: EgressRules
    limits: Limits
    authority: CertificateAuthority
    contexts: UpstreamContexts
    identities: Identities
    flows: FlowTable
    secrets: SecretStore | None = None
    stages: Sequence[Stage] = ()
    restorer: FindRestorer | None = None
    observe: bool = False
    corporate: CorporateProxy | None = None
    inference: Inference | None = None
    draining: bool = False
    lend: Lend | None = None
    """Lets another process move one direction of a tunnel, where there is one."""
    pipes: Pipes = field(default_factory=Pipes)
    inspecting: Gauge = field(default_factory=Gauge)
    background: set[asyncio.Task[None]] = field(default_factory=set)
    looked_up: dict[str, set[str]] = field(default_factory=dict)
    """Names that were asked of the resolver, by session."""
    known_secrets: dict[str, str] = field(default_factory=dict)
    """Secrets that were read, by name (empty: there is none): echoes are masked in every answer of a place they may go to."""
    untrusting: set[tuple[str, str]] = field(default_factory=set)
    """Session and host, where a program did not take the guard's certificate: it cannot be told anything in TLS."""
    denials: Counter[str] = field(default_factory=Counter)
    """What was denied and why, how often: for the person at the command line."""
    unreached: Counter[str] = field(default_factory=Counter)
    """What was allowed and could not be connected to, and why, how often: for the same person."""

    def told(self, what: str) -> None:
        """Count one denial for people; of more kinds than are kept, no further one is."""
        if what in self.denials or len(self.denials) < DENIALS_KEPT_MAX:
            self.denials[what] += 1

    def failed(self, what: str) -> None:
        """Count one destination that could not be reached, for people; within the same bound."""
        if what in self.unreached or len(self.unreached) < DENIALS_KEPT_MAX:
            self.unreached[what] += 1

    def with_door(self, door: Door) -> Parts:
        """Return the same parts behind another monitor; what is replaced on reload stays shared."""
        return _Behind(self, door)  # type: ignore[return-value]

    def refusal(self, rule: str, reason: str, advice: str = "") -> Decision:
        """Return a denial of the guard's own (framing, disagreement of names, limits)."""
        return Decision(Verdict.DENY, (rule,), reason, policy_digest=self.rules.digest, advice=advice)


class _Behind:
    """Parts seen through another door: every attribute but `door` is the shared one's, also after a reload."""

    def __init__(self, shared: Parts, door: Door) -> None:
        self._shared = shared
        self.door = door

    def __getattr__(self, name: str) -> object:
        return getattr(self._shared, name)
