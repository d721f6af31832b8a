"""Asking a person: what an ask is stored as, on what terms, and how an answer is recorded (what is shown: `picture.py`).

How a grant is found and spent is in `discharge.py`. Imports ports only. Threats: an approval that covers more than what was
shown (the store holds what a lasting answer would cover, computed here from the final action), an approver who is not
among those every file names, one that hangs or fails (fail closed), an answer that no record names.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from agent_os.core.action import Action, ToolCall
from agent_os.core.approval import Answer, Approval
from agent_os.core.decision import Decision, Obligation, Verdict
from agent_os.core.errors import ActionError, AgentOSError
from agent_os.core.facts import Facts
from agent_os.core.manifest import ToolSpec
from agent_os.core.ports import Pending
from agent_os.core.scope import scopes_of
from agent_os.monitor import record
from agent_os.monitor.picture import picture
from agent_os.monitor.wiring import Ports
from agent_os.policy import Policy
from agent_os.policy.fingerprint import fingerprint


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a person answers, over every layer: the strictest of each."""

    people: int
    seconds: float
    separate: bool
    approvers: tuple[str, ...]
    nobody: bool
    """The layers name approvers and none in common: there is nobody who may answer."""
    offers: tuple[str, ...]
    waiting_max: int

    @staticmethod
    def of(obligations: tuple[Obligation, ...], seconds: float, layers: int = 1) -> Terms:
        """Return the terms of the `approve` obligations; `seconds` is how long an ask waits where none says so.

        A lasting answer is offered only where every one of the `layers` says so: a lower layer cannot offer what a
        higher one did not.
        """
        stated = [item.params for item in obligations if item.kind == "approve"]
        own = {
            item.rule: item.params for item in obligations if item.kind == "approve" and "allow_always" in item.params
        }
        named = [list(params["approvers"]) for params in stated if params.get("approvers")]
        approvers = tuple(who for who in named[0] if all(who in other for other in named)) if named else ()
        offers = [] if any(params.get("allow_edit") is False for params in stated) else ["edit"]
        for lasting in ("session", "always"):
            if len(own) >= layers and all(params.get(f"allow_{lasting}") is True for params in own.values()):
                offers.append(lasting)
        return Terms(
            people=max((int(params.get("people", 1)) for params in stated), default=1),
            seconds=min((float(params["timeout_s"]) for params in stated if "timeout_s" in params), default=seconds),
            separate=any(params.get("requester_may_approve") is False for params in stated),
            approvers=approvers,
            nobody=bool(named) and not approvers,
            offers=tuple(offers),
            waiting_max=min((int(params["max_waiting"]) for params in stated if "max_waiting" in params), default=0),
        )


async def store(
    ports: Ports, policy: Policy, action: Action, decision: Decision, facts: Facts, *, reference: str, seconds: float
) -> Approval | Decision:
    """Store the ask (or find the one that waits already) and record that it was asked; a denial where nobody can answer."""
    approvals = ports.approvals
    if approvals is None:
        return denial(decision, "runtime.no-approvals", "a person must approve this and no approval store is open")
    now = ports.clock.now()
    terms = Terms.of(decision.obligations, seconds, len(policy.compiled))
    if terms.nobody:
        return denial(decision, "runtime.no-approver", "the policy files name nobody in common who may approve this")
    said = record.describe(action, ports.keyed_digest)
    lasting = bool({"session", "always"} & set(terms.offers))
    scopes = scopes_of(action, _spec(ports, action)) if lasting else {}
    who = action.principal
    try:
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
                preview=await picture(ports.preview, _spec(ports, action), action, decision, facts),
                requester=who.user,
                separate=terms.separate,
                approvers=terms.approvers,
                tenant=who.tenant,
                agent="/".join((*who.parents, who.agent)),
                session=who.session,
                offers=tuple(offer for offer in terms.offers if offer == "edit" or scopes),
                scopes={width: scope.to_json() for width, scope in scopes.items()},
                rules_digest=fingerprint(policy, decision.rules),
                waiting_max=terms.waiting_max,
            )
        )
    except ActionError as error:
        return denial(decision, "runtime.approvals-full", str(error))
    asked = record.decided("asked", action, decision, reference=reference, now=now, said=said)
    await ports.audit.append({**asked, "approval": approval.id})
    return approval


async def put(ports: Ports, approval: Approval, decision: Decision) -> Approval | Decision:
    """Put a stored ask to the approver, if one is there; returns it as it then stands, or a denial.

    An answer that is not the approver's to give leaves the ask waiting for somebody whose it is.
    """
    if ports.approver is None:
        return approval
    try:
        async with asyncio.timeout(max(0.0, approval.expires_at - ports.clock.now())):
            given = _answer_of(await ports.approver.ask(approval))
    except TimeoutError:
        return approval
    except Exception as error:
        return denial(decision, "runtime.approver", f"the approver failed: {type(error).__name__}")
    if given is None:
        return approval
    try:
        answered = await answer(ports, approval, given)
    except ActionError:
        return approval
    if not given.approve:
        return refused(decision, answered)
    return answered


async def answer(ports: Ports, approval: Approval, given: Answer) -> Approval:
    """Record who answers what, then give the answer; an answer that does not count is recorded as void.

    Raises ActionError when it does not count, EffectError when it cannot be recorded: then it was not given.
    """
    if ports.approvals is None:
        raise ActionError("no approval store is open", field="approval")
    said = answered_record(approval, given, now=ports.clock.now())
    await ports.audit.append(said)
    try:
        return await ports.approvals.answer(approval.id, given, ports.clock.now())
    except AgentOSError:
        with suppress(AgentOSError):
            await ports.audit.append({**said, "type": "approval.void", "time": ports.clock.now()})
        raise


def _answer_of(given: Any) -> Answer | None:
    """Return an approver's answer, which may be the short form (approve, who, note)."""
    if given is None or isinstance(given, Answer):
        return given
    approve, who, note = given
    return Answer(bool(approve), str(who), str(note))


def answered_record(approval: Approval, given: Answer, *, now: float) -> dict[str, Any]:
    """Return the audit's record of an answer: who, what to, how far; no argument values."""
    said: dict[str, Any] = {
        "type": "approval.answered",
        "time": now,
        "approval": approval.id,
        "tenant": approval.tenant,
        "approve": given.approve,
        "approver": given.approver,
        "action_digest": approval.action_digest,
        "policy": approval.policy_digest,
        "rules": list(approval.rules),
    }
    if given.lasting != "once":
        said.update(lasting=given.lasting, width=given.width)
    if given.arguments is not None:
        said["edited"] = sorted(given.arguments)
    return said


def pending(approval: Approval, decision: Decision) -> Pending:
    """Return what a caller gets for an ask that waits."""
    return Pending(approval.id, decision, approval.expires_at)


def refused(decision: Decision, approval: Approval) -> Decision:
    """Return the denial that a person's no is; the agent sees the reason."""
    why = "a person denied this" + (f": {approval.answer}" if approval.answer else "")
    return denial(decision, "runtime.approval-denied", why)


def denial(decision: Decision, rule: str, reason: str) -> Decision:
    """Return a denial in place of an ask."""
    return Decision(Verdict.DENY, (rule,), reason, policy_digest=decision.policy_digest)


def _spec(ports: Ports, action: Action) -> ToolSpec | None:
    if not isinstance(action, ToolCall):
        return None
    tool = ports.registry.find(action.tool, action.server)
    return tool.spec if tool is not None else None
