"""Facts: what else a decision needs, as data. Pure values.

`None` means *missing*: a restricting rule that names a missing fact fires (law 3). `Facts.defaults()` is what
`agentos policy decide` assumes: unlimited budgets, a public address, no findings, trusted arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from agent_os.core.decision import Obligation, Verdict
from agent_os.core.executable import Executable
from agent_os.core.grant import Grant
from agent_os.core.label import TRUSTED, Label


@dataclass(frozen=True, slots=True)
class Finding:
    """A span a detector found. `start`/`end` are character offsets into the text at `pointer` (RFC 6901)."""

    type: str
    start: int
    end: int
    score: float = 1.0
    by: str = "pattern"
    pointer: str = ""


OURS: Final = "ours"
"""A picture that was read, and is pixels alone, made anew here."""
AS_SENT: Final = "as-sent"
"""A picture that was read, and may hold more than was read."""


@dataclass(frozen=True, slots=True)
class ExternalVerdict:
    """What an engine outside `decide` said of this action: a Rego package, an OPA server, a classifier.

    It can only restrict. `error` set means that the engine failed, which denies.
    """

    engine: str
    verdict: Verdict = Verdict.DENY
    rules: tuple[str, ...] = ()
    reason: str = ""
    obligations: tuple[Obligation, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class FlowConcern:
    """One thing the flow guard noticed about an argument.

    `sink` is the sink class the policy's `flow:` section names (`authority_from_untrusted`, `secrets_to_untrusted`,
    `effect_beyond_scope`, …), `argument` an RFC 6901 pointer, `source` where the value came from.
    """

    sink: str
    argument: str = ""
    source: str = ""
    detail: str = ""
    to: tuple[str, ...] = ()
    """Who the effect would reach, in plain form: what a declassification or a trusted domain is matched against."""
    tags: tuple[str, ...] = ()
    """Classes of the guarded data that would leave (`secret`, `pii`)."""
    quote: str = ""
    """The words around the value where it was read: for the person who approves, never for a reason or a log."""


@dataclass(frozen=True, slots=True)
class BudgetLeft:
    """What is left of one budget: amounts by unit (`tokens`, `usd`, `calls`, `bytes`, `seconds`, `steps`)."""

    budget: str
    left: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything `decide` may know beside the policy and the action."""

    now: float | None = None
    """Unix seconds, UTC."""
    workspace: str = "/workspace"
    """Absolute canonical path that `under:` is relative to."""
    executable: Executable | None = None
    resolved_ips: tuple[str, ...] | None = None
    labels: Mapping[str, Label] | None = None
    """Labels of the action's arguments by RFC 6901 pointer; `""` is the whole action."""
    context: Label | None = None
    """The join of everything the agent has read so far."""
    flow: tuple[FlowConcern, ...] | None = None
    task: str = ""
    """The user's last message, for the person who is asked; no rule reads it. Empty where a privacy router guards content."""
    findings: tuple[Finding, ...] | None = None
    detector_error: str = ""
    seen: Mapping[str, str] = field(default_factory=dict)
    """Pointer of each picture and document that somebody tried to read -> OURS, AS_SENT, or why it was not read."""
    budgets: tuple[BudgetLeft, ...] | None = None
    rates: Mapping[str, float] | None = None
    """Calls left in the window of each rate limit, by rule id."""
    grants: tuple[Grant, ...] = ()
    verdicts: tuple[ExternalVerdict, ...] = ()
    depth: int = 0
    """How many parents the acting agent has."""
    children: int = 0
    """How many live children the acting agent has."""
    capabilities: tuple[Any, ...] | None = None
    """`Capability` values of a sub-agent; None for a root agent, which holds what the policy allows."""
    require_binary_identity: bool = True
    registered_tools: frozenset[str] | None = None
    """Names the registry knows; None where no registry stands behind the question."""
    data: Mapping[str, Any] = field(default_factory=dict)
    unavailable: frozenset[str] = frozenset()
    """Policy sections whose engine is not installed or not running: what they govern is denied."""

    @staticmethod
    def defaults() -> Facts:
        """Return the facts that `agentos policy decide` assumes where none are stated."""
        return DEFAULTS

    def with_stated(self, stated: Mapping[str, Any]) -> Facts:
        """Return these facts with those stated beside an action's arguments in its wire form."""
        return replace(self, **stated) if stated else self


PUBLIC_ADDRESS: Final = "93.184.215.14"
DEFAULTS: Final = Facts(
    now=0.0,
    resolved_ips=(PUBLIC_ADDRESS,),
    labels={"": TRUSTED},
    context=TRUSTED,
    flow=(),
    findings=(),
    budgets=(),
    rates={},
)
