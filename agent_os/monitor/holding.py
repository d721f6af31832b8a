"""Whether what was admitted may go on: a tunnel, a stream, a long upload. Writes nothing and does nothing to the world.

Judged again are the same action on the same facts, but for what time and people change: the policy in force, the clock, the
agent's rights, the grants. Labels, findings and budgets stay as they were at the door: they speak of the moment when it was
begun, and what it reserved then is its own. External engines are asked again only where the policy is another one. Threat: an
effect that outlives what allowed it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent_os.core.action import Action
from agent_os.core.decision import Decision, Verdict
from agent_os.core.facts import Facts
from agent_os.core.grant import Grant
from agent_os.monitor.discharge import Discharge
from agent_os.monitor.gather import Needs, Session, verdicts
from agent_os.monitor.judging import Judged
from agent_os.monitor.wiring import Ports
from agent_os.policy import Policy, decide
from agent_os.policy.fingerprint import fingerprint


@dataclass(frozen=True, slots=True)
class Footing:
    """On what something was admitted, or held last: facts, policy revision, and what a person answered."""

    facts: Facts
    policy_digest: str
    once: tuple[Grant, ...] = ()
    """What was spent for it."""
    lasting: tuple[Grant, ...] = ()
    """Lasting grants that cover it."""
    edit: str = ""
    """The ask whose arguments a person changed."""

    @classmethod
    def of(cls, judged: Judged, discharge: Discharge | None = None) -> Footing:
        """Return on what a judged action is admitted, `discharge` having answered its asks."""
        facts, digest = judged.facts, judged.decision.policy_digest
        if discharge is None:
            return cls(facts, digest)
        return cls(facts, digest, discharge.grants, discharge.lasting, discharge.edit)


async def still(
    policy: Policy, needs: Needs, ports: Ports, session: Session, action: Action, footing: Footing
) -> Footing | None:
    """Return the footing on which an admitted action goes on, or None where it may not."""
    now, old = ports.clock.now(), footing.facts
    changed = policy.digest != footing.policy_digest
    facts = replace(
        old,
        now=now,
        budgets=(),
        capabilities=session.capabilities,
        data=needs.data,
        unavailable=needs.unavailable,
        verdicts=(await verdicts(ports, action) if needs.verdicts else ()) if changed else old.verdicts,
    )
    decision = decide(policy, action, facts)
    if decision.verdict is Verdict.DENY:
        return None
    if decision.verdict is Verdict.ASK and not await _answered(policy, ports, action, decision, footing, now):
        return None
    return replace(footing, facts=facts, policy_digest=policy.digest)


async def _answered(
    policy: Policy, ports: Ports, action: Action, decision: Decision, footing: Footing, now: float
) -> bool:
    """Whether every ask of a decision is discharged by what the action was admitted under.

    A lasting answer must live. One for once was used when the action began, and holds while the policy that asked does.
    """
    same = decision.policy_digest == footing.policy_digest
    if same and footing.edit:
        return True
    once = {rule for grant in footing.once for rule in grant.rules} if same else frozenset()
    lasting = {rule for grant in footing.lasting for rule in grant.rules}
    live = await _live(policy, ports, action, decision, footing, now) if lasting else []
    return all(
        any(grant.discharges(rule, action, bound, now) for grant, bound in live) if rule in lasting else rule in once
        for rule in decision.rules
    )


async def _live(
    policy: Policy, ports: Ports, action: Action, decision: Decision, footing: Footing, now: float
) -> list[tuple[Grant, str]]:
    """Return which of the lasting grants live, each with what it must be bound to."""
    if ports.approvals is None:
        return []
    who, ids = action.principal, {grant.id for grant in footing.lasting}
    return [
        (grant, decision.policy_digest if grant.scope.session else fingerprint(policy, grant.rules))
        for grant in await ports.approvals.standing(who.tenant, who.user, now)
        if grant.id in ids and grant.scope is not None
    ]
