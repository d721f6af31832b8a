"""An ask, what a person answers to it, lasting answers, and who keeps and gives them. Values and ports.

Nothing here imports an implementation. Threat: an answer that is taken for more than was asked; so an ask carries the digest of
the exact action, the rules that asked and what may be answered, and an answer who gave it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from agent_os.core.action import Action
from agent_os.core.grant import Grant


@dataclass(frozen=True, slots=True)
class Approval:
    """One ask, waiting for or answered by a person.

    `state`: waiting, approved, edited (its arguments were changed by a person: the changed action is decided again),
    denied, expired, used.
    """

    id: str
    action: Mapping[str, Any]
    action_digest: str
    policy_digest: str
    rules: tuple[str, ...]
    reason: str
    requested_at: float
    expires_at: float
    state: str = "waiting"
    approvals: tuple[str, ...] = ()
    needed: int = 1
    answer: str = ""
    preview: Mapping[str, Any] = field(default_factory=dict)
    requester: str = ""
    """The user on whose behalf it is asked."""
    separate: bool = False
    """The policy wants another person than the requester to answer."""
    approvers: tuple[str, ...] = ()
    """Who may answer: users, globs of users and `group:` names; empty means anyone who may use this installation."""
    tenant: str = "default"
    agent: str = "main"
    """The asking agent with its parents, the root first: `main/reader-1`."""
    session: str = "-"
    offers: tuple[str, ...] = ()
    """What may be answered beside a plain yes or no: `edit`, `session`, `always`."""
    scopes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What a lasting answer would cover, by width (core/scope.py)."""
    rules_digest: str = ""
    """Fingerprint of the rules that asked: what an answer that outlives a policy revision is bound to."""
    edited: Mapping[str, Any] | None = None
    """The arguments a person put in place of those asked for, in state `edited`; that person is `edited_by`."""
    edited_by: str = ""
    waiting_max: int = 0
    """How many asks of its tenant may wait at once; 0: as many as the store holds."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one person answers to an ask. `approver` was authenticated by whoever hands the answer in.

    `lasting` (once, session, always) and `width` (exact, same) go with a yes; `arguments` instead replace the action's
    arguments, and the changed action is decided again from scratch. `groups` are the `group:` names of the approver.
    """

    approve: bool
    approver: str
    note: str = ""
    lasting: str = "once"
    width: str = "exact"
    arguments: Mapping[str, Any] | None = None
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class StandingGrant:
    """A lasting grant as people see and revoke it. `session` empty: given for always (until it expires)."""

    grant: Grant
    tenant: str
    user: str
    session: str
    given_at: float
    state: str
    uses: int
    approval: str


class ApprovalStore(Protocol):
    """Asks and grants; durable, expiring, bound to the final digest (or a stated scope)."""

    async def request(self, approval: Approval) -> Approval:
        """Store an ask; one already waiting for the same digest, rules and policy is returned instead."""
        ...

    async def get(self, approval_id: str) -> Approval | None: ...

    async def list(self, state: str | None = "waiting", tenant: str | None = None) -> Sequence[Approval]: ...

    async def answer(self, approval_id: str, answer: Answer, now: float) -> Approval:
        """Record one person's answer and return the ask as it then stands; one denial denies.

        Raises ActionError if unknown, expired, answered already, given twice by one person, not theirs to give, or
        more than was offered.
        """
        ...

    async def grants(self, action_digest: str, policy_digest: str, now: float) -> tuple[Grant, ...]:
        """Return the live single-use grants for exactly this action and policy."""
        ...

    async def standing(self, tenant: str, user: str, now: float) -> tuple[Grant, ...]:
        """Return the live lasting grants of a user; the caller checks what they cover."""
        ...

    async def edited(self, action_digest: str, policy_digest: str, now: float) -> Approval | None:
        """Return the live ask for exactly this action whose arguments a person changed, or None."""
        ...

    async def spend(self, grants: Sequence[str], now: float, *, by: str) -> bool:
        """Spend grants and edits by id: all or none (atomic). False if one was spent, expired or revoked.

        `by` is the reference of the passage through the door, under which `unspend` gives them back.
        """
        ...

    async def unspend(self, grants: Sequence[str], *, by: str) -> None:
        """Give back what was spent by a passage that then did nothing."""
        ...


class Preview(Protocol):
    """What an approver is shown beside the exact arguments: the difference to what is there now."""

    async def show(self, action: Action) -> Mapping[str, Any]:
        """Return plain JSON to be merged into the preview (`difference`: lines of a unified diff); {} for nothing."""
        ...


class Approver(Protocol):
    """Someone who can answer an ask at once: a terminal prompt or an SDK callback."""

    async def ask(self, approval: Approval) -> Answer | tuple[bool, str, str] | None:
        """Return an answer, its short form (approve, approver, note), or None to leave it parked."""
        ...
