"""How an ask is discharged: by grants for exactly this, by a lasting grant whose scope covers it, or by changed arguments.

Grants are found here and spent only when everything else that can deny has been passed (`Discharge.spend`, just before
the intent is written), so that a spent budget does not cost a person's approval; what was spent by a passage that then did
nothing is given back. Arguments that a person changed make a new action, decided again from scratch; the person who
changed them has answered for it, if it asks for nothing else. Threats: a grant used twice or by two callers at once (it is
spent in one transaction, all or none), an edit that reaches what the policy denies, a lasting grant of rules that were
written differently since.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from agent_os.core.action import Action, ToolCall
from agent_os.core.approval import Answer, Approval
from agent_os.core.decision import Decision, Verdict
from agent_os.core.errors import ActionError, AgentOSError
from agent_os.core.grant import Grant
from agent_os.core.ports import Pending
from agent_os.monitor import asking
from agent_os.monitor.judging import Judged
from agent_os.monitor.wiring import Ports
from agent_os.policy import Policy
from agent_os.policy.fingerprint import fingerprint

ROUNDS_MAX: Final = 2
"""Times an ask is looked at again after somebody answered it at once."""


@dataclass(slots=True)
class Discharge:
    """What answers an ask, until it is spent. Empty: nothing had to be answered."""

    ports: Ports
    reference: str
    grants: tuple[Grant, ...] = ()
    lasting: tuple[Grant, ...] = ()
    """Lasting grants that cover it too, also where an answer for once is spent: what they let begin ends with them."""
    edit: str = ""
    edited: tuple[str, ...] = field(default=())
    """Names of the arguments that a person changed."""
    spent: bool = False

    async def spend(self) -> bool:
        """Spend everything, all or none; False when something was used, revoked or expired meanwhile."""
        wanted = self._ids()
        if not wanted or self.ports.approvals is None:
            return True
        self.spent = await self.ports.approvals.spend(wanted, self.ports.clock.now(), by=self.reference)
        return self.spent

    async def unspend(self) -> None:
        """Give back what was spent, because nothing was done."""
        if self.spent and self.ports.approvals is not None:
            self.spent = False
            await self.ports.approvals.unspend(self._ids(), by=self.reference)

    def record(self) -> dict[str, Any]:
        """Return what the intent's record says of it: which grants, and who gave them."""
        if not self.grants:
            return {"approvals": [self.edit]} if self.edit else {}
        people = dict.fromkeys(who for grant in self.grants for who in (grant.approvers or (grant.approver,)))
        return {"approvals": self._ids(), "approvers": list(people)}

    def note(self) -> str:
        """Say what the agent must know: that a person changed what it asked for."""
        return f"a person changed {', '.join(self.edited)}" if self.edited else ""

    def _ids(self) -> list[str]:
        return [*(grant.id for grant in self.grants), *([self.edit] if self.edit else [])]


@dataclass(frozen=True, slots=True)
class Passage:
    """What of the monitor is needed here."""

    ports: Ports
    policy: Callable[[], Policy]
    decide: Callable[[Action], Awaitable[Judged]]
    """Decide (again), rewrites carried out."""
    remake: Callable[[Action, dict[str, Any]], Action]
    """The canonical, identified action of changed arguments. Raises ActionError, DeniedError."""
    seconds: float


async def answered(passage: Passage, judged: Judged, reference: str) -> tuple[Judged, Discharge] | Pending:
    """Discharge an ask, or put it to a person: the judged action with what discharges it, a denial, or Pending."""
    ports, discharge = passage.ports, Discharge(passage.ports, reference)
    for _ in range(ROUNDS_MAX):
        action, decision, facts = judged
        if decision.verdict is not Verdict.ASK:
            return judged, discharge
        if await _found(passage, action, decision, discharge):
            return _allowed(judged), discharge
        edit = await _edit(ports, action, decision)
        if edit is not None:
            return await _edited(passage, action, edit, discharge)
        stored = await asking.store(
            ports, passage.policy(), action, decision, facts, reference=reference, seconds=passage.seconds
        )
        put = await asking.put(ports, stored, decision) if isinstance(stored, Approval) else stored
        if isinstance(put, Decision):
            return judged._replace(decision=put), discharge
        if put.state not in ("approved", "edited"):
            return asking.pending(put, decision)
        # Somebody answered, and time has passed: what was approved must still be what the policy asks for now.
        judged = await passage.decide(action)
    if judged.decision.verdict is Verdict.ASK:
        if await _found(passage, judged.action, judged.decision, discharge):
            return _allowed(judged), discharge
        why = "what was approved is no longer what is asked"
        return judged._replace(decision=asking.denial(judged.decision, "runtime.approval-outdated", why)), discharge
    return judged, discharge


async def _found(passage: Passage, action: Action, decision: Decision, discharge: Discharge) -> bool:
    """Find grants that together discharge every ask rule of the decision; True when all are discharged."""
    store = passage.ports.approvals
    if store is None or not decision.rules:
        return False
    now, digest = passage.ports.clock.now(), decision.policy_digest
    grants = [(grant, digest) for grant in await store.grants(action.digest, digest, now)]
    who = action.principal
    lasting = await store.standing(who.tenant, who.user, now)
    if lasting:
        policy = passage.policy()
        terms = asking.Terms.of(decision.obligations, passage.seconds, len(policy.compiled))
        for grant in lasting:
            session = grant.scope is not None and bool(grant.scope.session)
            if ("session" if session else "always") in terms.offers and len(set(grant.approvers)) >= terms.people:
                grants.append((grant, digest if session else fingerprint(policy, grant.rules)))
    chosen: list[Grant] = []
    for rule in decision.rules:
        match = next((grant for grant, bound in grants if grant.discharges(rule, action, bound, now)), None)
        if match is None:
            return False
        if match not in chosen:
            chosen.append(match)
    discharge.grants = tuple(chosen)
    covering = [
        grant for grant, bound in grants if any(grant.discharges(r, action, bound, now) for r in decision.rules)
    ]
    discharge.lasting = tuple(grant for grant in covering if grant.scope is not None)
    return True


async def _edit(ports: Ports, action: Action, decision: Decision) -> Approval | None:
    if ports.approvals is None:
        return None
    return await ports.approvals.edited(action.digest, decision.policy_digest, ports.clock.now())


async def _edited(
    passage: Passage, action: Action, edit: Approval, discharge: Discharge
) -> tuple[Judged, Discharge] | Pending:
    """Decide the action with the arguments a person put in, from scratch."""
    ports, given = passage.ports, dict(edit.edited or {})
    before = dict(action.args) if isinstance(action, ToolCall) else action.arguments
    discharge.edit = edit.id
    discharge.edited = tuple(sorted(name for name in {*before, *given} if before.get(name) != given.get(name)))
    try:
        judged = await passage.decide(passage.remake(action, given))
    except ActionError as error:
        await discharge.spend()
        raise ActionError(f"the arguments a person put in do not fit: {error}") from None
    changed, decision, facts = judged
    if decision.verdict is Verdict.DENY:
        await discharge.spend()
        return judged, discharge
    if decision.verdict is Verdict.ALLOW:
        return judged, discharge
    if await _found(passage, changed, decision, discharge):
        return _allowed(judged), discharge
    stored = await asking.store(
        ports, passage.policy(), changed, decision, facts, reference=discharge.reference, seconds=passage.seconds
    )
    if isinstance(stored, Decision):
        return judged._replace(decision=stored), discharge
    vouched = set(decision.rules) <= set(edit.rules) and await _vouched(ports, stored, edit)
    if vouched and await _found(passage, changed, decision, discharge):
        return _allowed(judged), discharge
    return asking.pending(stored, decision)


async def _vouched(ports: Ports, stored: Approval, edit: Approval) -> bool:
    """Count the person who changed the arguments as one who approved the changed action; True when that is enough.

    Their groups were checked against the list of the first ask; they count again only where the list is the same.
    """
    groups = frozenset(name for name in edit.approvers if name.startswith("group:"))
    same = groups if stored.approvers == edit.approvers else frozenset()
    if not edit.edited_by or edit.edited_by in stored.approvals:
        return False
    try:
        given = Answer(True, edit.edited_by, "changed the arguments", groups=same)
        return (await asking.answer(ports, stored, given)).state == "approved"
    except AgentOSError:
        return False


def _allowed(judged: Judged) -> Judged:
    return judged._replace(decision=replace(judged.decision, verdict=Verdict.ALLOW))
