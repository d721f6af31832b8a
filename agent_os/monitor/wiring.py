"""What a monitor is made of: one frozen record of ports, built by the composition root. Pure.

A part that is absent is None, and what the policy asks of an absent part is denied (fail closed): see `gather`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from agent_os.core.approval import ApprovalStore, Approver, Preview
from agent_os.core.guards import Classifier
from agent_os.core.ports import (
    AuditSink,
    BudgetStore,
    Clock,
    Detector,
    Effector,
    Ids,
    Links,
    OutcomeStore,
    PayloadStore,
    RateStore,
    RegoEngine,
    Resolver,
    ToolRegistry,
)
from agent_os.core.reading import MediaReader
from agent_os.core.stop import StopStore
from agent_os.monitor.rates import Rates

DETECT_TIMEOUT_S: Final = 10.0
READ_TIMEOUT_S: Final = 120.0
"""For all pictures and documents of one action that were not read before."""
RESOLVE_TIMEOUT_S: Final = 5.0
BUDGET_TIMEOUT_S: Final = 5.0
REGO_TIMEOUT_S: Final = 2.0
TAKING_TIMEOUT_S: Final = 60.0
"""How long a call waits while its session is taking a large result; then its provenance is not known."""
LABEL_TIMEOUT_S: Final = 10.0
EXECUTE_TIMEOUT_S: Final = 600.0
REWRITE_ROUNDS_MAX: Final = 4
APPROVAL_TIMEOUT_S: Final = 900.0
"""Terminal behaviour of each: docs/limits.md."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The world, as one monitor may reach it."""

    clock: Clock
    ids: Ids
    audit: AuditSink
    registry: ToolRegistry
    keyed_digest: Callable[[str], str]
    """HMAC of a value under the audit's digest key: what the audit holds instead of the value."""
    effectors: Mapping[str, Effector] = field(default_factory=dict)
    """Action kind -> who carries it out."""
    links: Links | None = None
    resolver: Resolver | None = None
    detector: Detector | None = None
    reader: MediaReader | None = None
    """Who reads pictures and documents; None where the policy lets nobody read them."""
    finder: Detector | None = None
    """Who looks through results for what the flow guard labels (`labelling.py`)."""
    classifier: Classifier | None = None
    rego: RegoEngine | None = None
    budgets: BudgetStore | None = None
    approvals: ApprovalStore | None = None
    approver: Approver | None = None
    preview: Preview | None = None
    outcomes: OutcomeStore | None = None
    payloads: PayloadStore | None = None
    rates: RateStore = field(default_factory=Rates)
    stops: StopStore | None = None
    """Halts and quarantines; None only where no state is open (tests, `policy decide`)."""
    execute_timeout_s: float = EXECUTE_TIMEOUT_S
