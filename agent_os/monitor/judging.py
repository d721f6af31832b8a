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
from agent_os.core.facts import AS_SENT, Facts, Finding
from agent_os.core.reading import READ, MediaReader
from agent_os.guards.privacy.pictures import Payload, in_pictures, payloads, places, with_payloads
from agent_os.guards.privacy.rewrite import meant
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
        if done and _still_shown(facts, decision, done):
            return Judged(
                action, refusal(policy, "runtime.rewrite", "the picture still shows what was painted over"), facts
            )
        if not todo:
            return Judged(action, _accumulated(decision, asked, audit_only), facts)
        try:
            changed = await _rewritten(ports, session, action, facts, todo)
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


def _still_shown(facts: Facts, decision: Decision, done: set[tuple[str, str]]) -> bool:
    """Whether a picture shows what was painted over in it already."""
    again = [item for item in decision.obligations if (item.kind, item.rule) in done]
    return bool(again) and bool(meant(in_pictures(facts.findings or ())[0], again))


async def _rewritten(
    ports: Ports, session: Session, action: Action, facts: Facts, todo: list[Obligation]
) -> Action | None:
    """Carry out routing first, then what changes content; None where nobody can change content."""
    shown, findings = in_pictures(facts.findings or ())
    content = [item for item in todo if item.kind not in ROUTING]
    if content and session.privacy is None:
        return None
    action = routed(action, [item for item in todo if item.kind in ROUTING])
    if content and session.privacy is not None:
        action = await _painted(ports.reader, action, facts, meant(shown, content))
        action = session.privacy.rewrite(action, findings, content)
    return action


async def _painted(reader: MediaReader | None, action: Action, facts: Facts, covered: list[Finding]) -> Action:
    """Return the action with every picture that was read made anew, and what findings cover painted over in it."""
    if reader is None or not facts.seen:
        return action
    made: dict[str, tuple[Payload, bytes]] = {}
    for pointer, payload in payloads(action).items():
        found = [item for item in covered if item.pointer == pointer + READ]
        if found or facts.seen.get(pointer) == AS_SENT:
            reading = (await reader.read({pointer: payload.data}))[pointer]
            made[pointer] = (payload, await reader.painted(payload.data, places(found, reading)))
    return with_payloads(action, made) if made else action


def _accumulated(decision: Decision, asked: Mapping[str, str], audit_only: tuple[str, ...]) -> Decision:
    unique = tuple(dict.fromkeys(audit_only))
    if not asked:
        return decision if unique == decision.audit_only else replace(decision, audit_only=unique)
    rules = tuple(dict.fromkeys((*asked, *(decision.rules if decision.verdict is Verdict.ASK else ()))))
    reason = "; ".join(dict.fromkeys(asked.values()))
    return replace(decision, verdict=Verdict.ASK, rules=rules, reason=reason, audit_only=unique)
