"""Asking a person: what an ask is stored as, who may answer, and how a grant is spent. Imports ports only.

Threats: an approval that covers more than what was shown (it is bound to the digest of the final action and to the policy
revision), one that is used twice, one that the caller brought along, an approver that hangs or fails (fail closed).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agent_os.core.action import Action
from agent_os.core.decision import Decision, Grant, Obligation, Verdict
from agent_os.core.facts import Facts
from agent_os.core.ports import Approval, Pending
from agent_os.monitor import record
from agent_os.monitor.wiring import Ports


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a person answers, over every layer: the strictest of each."""

    people: int
    seconds: float
    separate: bool
    approvers: tuple[str, ...]

    @staticmethod
    def of(obligations: tuple[Obligation, ...], seconds: float) -> Terms:
        """Return the terms of the `approve` obligations; `seconds` is how long an ask waits where none says so."""
        stated = [item.params for item in obligations if item.kind == "approve"]
        named = [list(params["approvers"]) for params in stated if params.get("approvers")]
        return Terms(
            people=max((int(params.get("people", 1)) for params in stated), default=1),
            seconds=min((float(params["timeout_s"]) for params in stated if "timeout_s" in params), default=seconds),
            separate=any(params.get("requester_may_approve") is False for params in stated),
            approvers=tuple(who for who in named[0] if all(who in other for other in named)) if named else (),
        )


async def spend(ports: Ports, action: Action, decision: Decision) -> bool:
    """Spend grants that together discharge every ask rule of the decision; True when all are discharged."""
    if ports.approvals is None:
        return False
    now, policy = ports.clock.now(), decision.policy_digest
    grants = await ports.approvals.grants(action.digest, policy, now)
    chosen: list[Grant] = []
    for rule in decision.rules:
        match = next((grant for grant in grants if grant.discharges(rule, action.digest, policy, now)), None)
        if match is None:
            return False
        if match not in chosen:
            chosen.append(match)
    for grant in chosen:
        if not await ports.approvals.use(grant.id, now):
            return False
    return bool(chosen)


async def ask(
    ports: Ports, action: Action, decision: Decision, facts: Facts, *, reference: str, seconds: float
) -> Pending | Decision | None:
    """Store the ask and put it to the approver, if one is there.

    Returns None once it was approved (a grant lies in the store; the action is to be decided again), a denial when a
    person or the approver's failure said no, and Pending when nobody answered yet.
    """
    approvals = ports.approvals
    if approvals is None:
        return _denial(decision, "runtime.no-approvals", "a person must approve this and no approval store is open")
    now = ports.clock.now()
    terms = Terms.of(decision.obligations, seconds)
    said = record.describe(action, ports.keyed_digest)
    approval = await approvals.request(
        Approval(
            id=ports.ids.new("apr"),
            action=said,
            action_digest=action.digest,
            policy_digest=decision.policy_digest,
            rules=decision.rules,
            reason=decision.reason,
            requested_at=now,
            expires_at=now + terms.seconds,
            needed=terms.people,
            preview=_preview(action, decision, facts),
            requester=action.principal.user,
            separate=terms.separate,
            approvers=terms.approvers,
        )
    )
    asked = record.decided("asked", action, decision, reference=reference, now=now, said=said)
    await ports.audit.append({**asked, "approval": approval.id})
    pending = Pending(approval.id, decision, approval.expires_at)
    if ports.approver is None:
        return pending
    try:
        async with asyncio.timeout(terms.seconds):
            answer = await ports.approver.ask(approval)
    except TimeoutError:
        return pending
    except Exception as error:
        return _denial(decision, "runtime.approver", f"the approver failed: {type(error).__name__}")
    if answer is None:
        return pending
    approve, who, note = answer
    answered = await approvals.answer(approval.id, approve=approve, approver=who, now=ports.clock.now(), note=note)
    if not approve:
        return _denial(decision, "runtime.approval-denied", "a person denied this" + (f": {note}" if note else ""))
    return None if answered.state == "approved" else pending


def _denial(decision: Decision, rule: str, reason: str) -> Decision:
    return Decision(Verdict.DENY, (rule,), reason, policy_digest=decision.policy_digest)


def _preview(action: Action, decision: Decision, facts: Facts) -> Mapping[str, Any]:
    """Return what the person is shown: the exact effect, where it goes, and where its authority came from."""
    return {
        "kind": action.kind,
        "target": action.target,
        "arguments": action.arguments,
        "reason": decision.reason,
        "provenance": [
            {"sink": item.sink, "argument": item.argument, "source": item.source, "detail": item.detail}
            for item in facts.flow or ()
        ],
    }
