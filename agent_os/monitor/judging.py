"""Deciding an action until it settles: gather, decide, rewrite, and decide the rewritten action again (law 9).

Does nothing to the world and writes nothing. Threats: a rewrite that nobody judges, an ask that a rewrite makes
disappear (asks accumulate), a rewrite that never settles (bounded), a router that fails (denied).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from agent_os.core.action import Action
from agent_os.core.decision import Decision, Obligation, Verdict
from agent_os.core.errors import AgentOSError
from agent_os.core.facts import Facts, Finding
from agent_os.monitor.gather import Needs, Session, gather
from agent_os.monitor.routing import ROUTING, routed
from agent_os.monitor.wiring import REWRITE_ROUNDS_MAX, Ports
from agent_os.policy import Policy, decide

REWRITES: Final = frozenset({"redact", "pseudonymise", "route", "local-only", "clamp"})


class Judged(NamedTuple):
    """The final action, what was decided of it, and on which facts."""

    action: Action
    decision: Decision
    facts: Facts


def refusal(policy: Policy, rule: str, reason: str) -> Decision:
    """Return a denial by the runtime itself, under `policy`'s digest."""
    return Decision(Verdict.DENY, (rule,), reason, policy_digest=policy.digest)


async def judge(
    policy: Policy, needs: Needs, ports: Ports, session: Session, action: Action, stated: Mapping[str, Any] | None
) -> Judged:
    """Decide, carry out rewrites, decide the rewritten action again; deny is final, asks add up."""
    asked: dict[str, str] = {}
    done: set[tuple[str, str]] = set()
    audit_only: tuple[str, ...] = ()
    for _ in range(REWRITE_ROUNDS_MAX):
        facts = await gather(ports, needs, session, action, stated)
        decision = decide(policy, action, facts)
        audit_only = (*audit_only, *decision.audit_only)
        if decision.verdict is Verdict.DENY:
            return Judged(action, decision, facts)
        if decision.verdict is Verdict.ASK:
            asked.update(dict.fromkeys(decision.rules, decision.reason))
        todo = [item for item in decision.obligations if item.kind in REWRITES and (item.kind, item.rule) not in done]
        if not todo:
            return Judged(action, _accumulated(decision, asked, audit_only), facts)
        try:
            changed = _rewritten(session, action, facts.findings or (), todo)
        except AgentOSError as error:
            return Judged(
                action, refusal(policy, "runtime.rewrite", f"the rewrite failed: {type(error).__name__}"), facts
            )
        if changed is None:
            return Judged(
                action, refusal(policy, "runtime.rewrite", "no privacy router carries out the rewrite"), facts
            )
        done.update((item.kind, item.rule) for item in todo)
        if changed.digest == action.digest:
            return Judged(action, _accumulated(decision, asked, audit_only), facts)
        action = changed
    return Judged(action, refusal(policy, "runtime.rewrite-rounds", "rewrites did not settle"), facts)


def _rewritten(
    session: Session, action: Action, findings: tuple[Finding, ...], todo: list[Obligation]
) -> Action | None:
    """Carry out routing first, then what changes content; None where nobody can change content."""
    content = [item for item in todo if item.kind not in ROUTING]
    if content and session.privacy is None:
        return None
    action = routed(action, [item for item in todo if item.kind in ROUTING])
    if content and session.privacy is not None:
        action = session.privacy.rewrite(action, findings, content)
    return action


def _accumulated(decision: Decision, asked: Mapping[str, str], audit_only: tuple[str, ...]) -> Decision:
    unique = tuple(dict.fromkeys(audit_only))
    if not asked:
        return decision if unique == decision.audit_only else replace(decision, audit_only=unique)
    rules = tuple(dict.fromkeys((*asked, *(decision.rules if decision.verdict is Verdict.ASK else ()))))
    reason = "; ".join(dict.fromkeys(asked.values()))
    return replace(decision, verdict=Verdict.ASK, rules=rules, reason=reason, audit_only=unique)
