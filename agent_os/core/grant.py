"""What a person's answer to an ask is worth: a grant, bound to what was shown. Pure values."""

from __future__ import annotations

from dataclasses import dataclass

from agent_os.core.action import Action
from agent_os.core.scope import Scope


@dataclass(frozen=True, slots=True)
class Grant:
    """A person's answer to an ask: it discharges that ask and nothing else.

    Bound to the ask rules, to the exact action digest (or a stated `scope`, core/scope.py), to the policy revision and
    to an expiry (Unix seconds). Looked up by the monitor, never taken from a caller.
    """

    id: str
    rules: tuple[str, ...]
    action_digest: str
    policy_digest: str
    expires_at: float
    approver: str
    approvers: tuple[str, ...] = ()
    scope: Scope | None = None
    """What a lasting grant covers instead of one digest; it may be used again until it expires or is revoked."""

    def discharges(self, rule: str, action: Action, policy_digest: str, now: float) -> bool:
        """Return whether this grant answers `rule` for this action under this policy at this time.

        `policy_digest` is what the grant must be bound to: the policy's digest, or for a grant that outlives a revision
        the fingerprint of the rules that asked (policy/fingerprint.py).
        """
        fits = self.scope.covers(action) if self.scope is not None else self.action_digest == action.digest
        return fits and rule in self.rules and self.policy_digest == policy_digest and now < self.expires_at
