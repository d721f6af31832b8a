"""What `decide` returns. Pure values."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class Verdict(enum.StrEnum):
    """The three answers; `strictest` composes them (deny > ask > allow)."""

    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"

    @property
    def strictness(self) -> int:
        """0 for allow, 1 for ask, 2 for deny."""
        return _STRICTNESS[self.value]

    @staticmethod
    def strictest(*verdicts: Verdict) -> Verdict:
        """Return the strictest of the given verdicts; DENY for none (law 1)."""
        return max(verdicts, key=lambda verdict: verdict.strictness, default=Verdict.DENY)


_STRICTNESS = {"allow": 0, "ask": 1, "deny": 2}


@dataclass(frozen=True, slots=True)
class Obligation:
    """Something that must be done for the verdict to hold.

    `kind` is one of OBLIGATIONS; an unknown one denies. `params` is plain JSON, for example
    `{"find": ["PERSON"], "do": "pseudonymise"}` or `{"budget": "user/year", "tokens": 1200}`.
    """

    kind: str
    params: Mapping[str, Any] = field(default_factory=dict)
    rule: str = ""


OBLIGATIONS = frozenset(
    {"reserve", "redact", "pseudonymise", "route", "rate", "log", "local-only", "clamp", "scan", "approve"}
)


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one action under one policy.

    `rules` are the ids of the rules that determined the verdict, `errored` those that failed and counted
    as matched because they restrict (law 3). `reason` names rules and fields, never values.
    `advice` says what would have been allowed. `audit_only` lists violations let pass by `enforcement: audit`.
    """

    verdict: Verdict
    rules: tuple[str, ...] = ()
    reason: str = ""
    errored: tuple[str, ...] = ()
    obligations: tuple[Obligation, ...] = ()
    policy_digest: str = ""
    advice: str = ""
    audit_only: tuple[str, ...] = ()

    @property
    def allowed(self) -> bool:
        """Whether the action may go ahead without a person."""
        return self.verdict is Verdict.ALLOW

    def to_json(self) -> dict[str, Any]:
        """Return the wire form, as `agentos policy decide` prints it."""
        data: dict[str, Any] = {"verdict": self.verdict.value, "rules": list(self.rules), "reason": self.reason}
        if self.advice:
            data["advice"] = self.advice
        if self.errored:
            data["errored"] = list(self.errored)
        if self.obligations:
            data["obligations"] = [
                {"kind": obligation.kind, "rule": obligation.rule, **obligation.params}
                for obligation in self.obligations
            ]
        if self.audit_only:
            data["audit_only"] = list(self.audit_only)
        data["policy"] = self.policy_digest
        return data
