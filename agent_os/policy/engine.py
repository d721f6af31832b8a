"""`decide(policy, action, facts) -> Decision`: total, deterministic, and reads nothing but its arguments (law 5).

Each layer must allow; over layers and sections deny > ask > allow, whatever the order (laws 1 and 2). A section that
raises denies; a restriction that could not be judged counts, an allow that could not does not (law 3). External
verdicts can only restrict, and one that a policy names but the facts lack denies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from agent_os.core.action import Action, ToolCall
from agent_os.core.decision import OBLIGATIONS, Decision, Obligation, Verdict
from agent_os.core.facts import DEFAULTS, Facts
from agent_os.policy.rule import Match
from agent_os.policy.standing import standing_for

if TYPE_CHECKING:
    from agent_os.policy.compile import Governed, Layer
    from agent_os.policy.policy import Policy

ALLOW, ASK, DENY = Verdict.ALLOW, Verdict.ASK, Verdict.DENY
MAX_REASON_CHARS: Final = 1000
MAX_REASONS: Final = 4


def decide(policy: Policy, action: Action, facts: Facts | None = None) -> Decision:
    """Return the decision on one action.

    `facts` absent means the documented defaults with what the action states beside its arguments
    (`Facts.defaults().with_stated(action.stated)`); the monitor always passes facts of its own.
    """
    if facts is None:
        facts = DEFAULTS.with_stated(action.stated)
    kind = action.kind
    denies: list[Match] = []
    asks: list[Match] = []
    allows: list[Match] = []
    recorded: list[Match] = []
    silent: list[Layer] = []
    obligations: list[Obligation] = []
    granted = False
    for layer in policy.compiled:
        allowed = False
        for governed in layer.by_kind.get(kind, ()):
            try:
                matches = governed.judge(action, facts)
            except Exception as error:
                denies.append(_broken(governed, error))
                continue
            for match in matches:
                effect = match.effect
                if effect is ALLOW:
                    if match.errored:
                        continue
                    if governed.grants and match.grants:
                        allowed = True
                        allows.append(match)
                    if match.obligations and not match.audit_only:
                        obligations.extend(match.obligations)
                elif match.audit_only or governed.trial:
                    recorded.append(match)
                elif effect is DENY:
                    denies.append(match)
                else:
                    asks.append(match)
                    obligations.extend(match.obligations)
        if allowed:
            granted = True
        elif layer.trial:
            granted = True
            recorded.append(Match(DENY, f"{layer.name}.default", "no rule allows it"))
        elif not layer.abstains or kind in layer.may_allow:
            silent.append(layer)
    _restrict_by_facts(policy, action, facts, denies, asks, obligations)
    if denies:
        return _denied(policy, action, facts, denies, recorded)
    if silent or not granted:
        return _unmatched(policy, action, facts, silent or policy.compiled, recorded)
    for obligation in obligations:
        if obligation.kind not in OBLIGATIONS:
            unknown = Match(DENY, obligation.rule, "asks for an obligation that is not known", errored=True)
            return _denied(policy, action, facts, [unknown], recorded)
    if len(obligations) > 1:
        obligations = _reserved_once(obligations)
    if asks and (facts.grants or any(layer.standing for layer in policy.compiled)):
        asks = _undischarged(policy, action, facts, asks, obligations)
    if asks:
        return _asked(policy, action, facts, asks, obligations, recorded)
    rules = tuple([match.rule for match in allows])
    return Decision(
        ALLOW,
        rules,
        "allowed by " + ", ".join(rules[:MAX_REASONS]) if rules else "allowed: the policy is on trial",
        tuple(match.rule for match in recorded if match.errored) if recorded else (),
        tuple(obligations),
        policy.digest,
        "",
        tuple(dict.fromkeys(match.rule for match in recorded)) if recorded else (),
    )


def _reserved_once(obligations: list[Obligation]) -> list[Obligation]:
    """Return the obligations with no unit of a budget reserved twice: two files that name one budget mean one."""
    taken: dict[tuple[str, str], float] = {}
    result = []
    for obligation in obligations:
        if obligation.kind == "reserve":
            name, amounts = str(obligation.params.get("budget")), obligation.params.get("amounts") or {}
            fresh = {unit: amount for unit, amount in amounts.items() if (name, unit) not in taken}
            taken.update({(name, unit): amount for unit, amount in fresh.items()})
            if not fresh:
                continue
            if len(fresh) < len(amounts):
                params = {**obligation.params, "amounts": fresh}
                obligation = Obligation(obligation.kind, params, obligation.rule)
        result.append(obligation)
    return result


def considered(policy: Policy, action: Action, facts: Facts) -> list[tuple[Layer, Governed, Match]]:
    """Return every match of every section with its layer, whatever became of it: for coverage and explanations."""
    found: list[tuple[Layer, Governed, Match]] = []
    for layer in policy.compiled:
        for governed in layer.by_kind.get(action.kind, ()):
            try:
                matches = governed.judge(action, facts)
            except Exception as error:
                matches = (_broken(governed, error),)
            found.extend((layer, governed, match) for match in matches)
    return found


def _restrict_by_facts(
    policy: Policy,
    action: Action,
    facts: Facts,
    denies: list[Match],
    asks: list[Match],
    obligations: list[Obligation],
) -> None:
    """Apply what is no section of a file: capabilities, the registry, unavailable engines, external verdicts."""
    if facts.capabilities is not None:
        kind, target = action.kind, action.target
        if not any(capability.covers(kind, target) for capability in facts.capabilities):
            denies.append(Match(DENY, "runtime.capability", "the agent was not given the right to do this"))
    if (
        facts.registered_tools is not None
        and isinstance(action, ToolCall)
        and action.target not in facts.registered_tools
    ):
        denies.append(Match(DENY, "runtime.tool-not-registered", "the registry knows no tool of this name"))
    if facts.unavailable:
        for layer in policy.compiled:
            for governed in layer.by_kind.get(action.kind, ()):
                name = governed.section.name
                if name in facts.unavailable:
                    reason = f"the engine of the section {name!r} is not running"
                    denies.append(Match(DENY, f"{name}.unavailable", reason, errored=True))
    for verdict in facts.verdicts:
        rules = verdict.rules or (verdict.engine,)
        if verdict.error:
            denies.append(Match(DENY, verdict.engine, f"the engine failed: {verdict.error}", errored=True))
        elif verdict.verdict is not ALLOW:
            for rule in rules:
                match = Match(verdict.verdict, rule, verdict.reason)
                (denies if verdict.verdict is DENY else asks).append(match)
        obligations.extend(verdict.obligations)
    if policy.engines:
        answered = {verdict.engine for verdict in facts.verdicts}
        for engine, kinds in policy.engines:
            if engine not in answered and (not kinds or action.kind in kinds):
                denies.append(Match(DENY, engine, "the engine gave no verdict", errored=True))


def _broken(governed: Governed, error: Exception) -> Match:
    name = governed.section.name
    return Match(DENY, name, f"the section {name!r} failed: {type(error).__name__}", errored=True)


def _undischarged(
    policy: Policy, action: Action, facts: Facts, asks: Sequence[Match], obligations: list[Obligation]
) -> list[Match]:
    """Return the asks that no grant answers: one among the facts, or one that stands in the asking layer's own files.

    Without a time every grant has expired. What stands is named by a `log` obligation, so that the record has it.
    """
    if facts.now is None:
        return list(asks)
    now, left = facts.now, []
    for match in asks:
        if any(grant.discharges(match.rule, action, policy.digest, now) for grant in facts.grants):
            continue
        origin = policy.origins.get(match.rule)
        layer = policy.compiled[origin.layer] if origin is not None else None
        stands = standing_for(layer, match.rule, action, facts) if layer is not None and layer.standing else None
        if stands is None:
            left.append(match)
        else:
            obligations.append(Obligation("log", {"standing": stands}, match.rule))
    return left


def _words(matches: Sequence[Match]) -> str:
    parts = [f"{match.rule}: {match.reason}" if match.reason else match.rule for match in matches[:MAX_REASONS]]
    if len(matches) > MAX_REASONS:
        parts.append(f"and {len(matches) - MAX_REASONS} more")
    text = "; ".join(dict.fromkeys(parts))
    return text if len(text) <= MAX_REASON_CHARS else text[: MAX_REASON_CHARS - 1] + "…"


def _advice(policy: Policy, action: Action, facts: Facts, matches: Sequence[Match], layers: Sequence[Layer]) -> str:
    given = [match.advice for match in matches if match.advice]
    if given:
        return "; ".join(dict.fromkeys(given))
    for layer in layers:
        granting = [each.section for each in layer.by_kind.get(action.kind, ()) if each.grants]
        for section in granting:
            together = getattr(section, "advise_all", None)  # what files say of one thing is told as one
            advise = getattr(section, "advise", None)
            if advise is not None:
                try:
                    alike = [each for each in granting if type(each) is type(section)]
                    text = str(together(alike, action, facts) if together is not None else advise(action, facts))
                except Exception:  # advice is a kindness: without it the denial stands
                    text = ""
                if text:
                    return text
    return ""


def _denied(
    policy: Policy, action: Action, facts: Facts, denies: Sequence[Match], recorded: Sequence[Match]
) -> Decision:
    return Decision(
        DENY,
        tuple(dict.fromkeys(match.rule for match in denies)),
        "denied by " + _words(denies),
        tuple(dict.fromkeys(match.rule for match in (*denies, *recorded) if match.errored)),
        (),
        policy.digest,
        _advice(policy, action, facts, denies, policy.compiled),
        tuple(dict.fromkeys(match.rule for match in recorded)),
    )


def _missing(action: Action, facts: Facts, layers: Sequence[Layer]) -> tuple[str, str]:
    """Ask the sections why nothing allowed; the first that knows answers."""
    for layer in layers:
        for governed in layer.by_kind.get(action.kind, ()):
            missing = getattr(governed.section, "missing", None)
            if missing is not None:
                try:
                    reason, advice = missing(action, facts)
                except Exception:  # without words the denial stands all the same
                    reason = advice = ""
                if reason:
                    return str(reason), str(advice)
    return "", ""


def _unmatched(
    policy: Policy, action: Action, facts: Facts, layers: Sequence[Layer], recorded: Sequence[Match]
) -> Decision:
    names = [layer.name for layer in layers] if len(policy.compiled) > 1 else []
    where = f" in the layer {', '.join(names)}" if names else ""
    reason, advice = _missing(action, facts, layers)
    if not reason:
        governed = any(layer.by_kind.get(action.kind) for layer in layers)
        reason = f"no rule allows this {action.kind}" if governed else f"nothing in the policy allows a {action.kind}"
    return Decision(
        DENY,
        (),
        reason + where,
        tuple(dict.fromkeys(match.rule for match in recorded if match.errored)),
        (),
        policy.digest,
        advice or _advice(policy, action, facts, (), layers),
        tuple(dict.fromkeys(match.rule for match in recorded)),
    )


def _asked(
    policy: Policy,
    action: Action,
    facts: Facts,
    asks: Sequence[Match],
    obligations: list[Obligation],
    recorded: Sequence[Match],
) -> Decision:
    rules = tuple(dict.fromkeys(match.rule for match in asks))
    for layer in policy.compiled:
        if layer.approvals is not None:
            obligations.append(layer.approvals.terms(action, facts, rules))
    return Decision(
        ASK,
        rules,
        "a person must approve: " + _words(asks),
        tuple(dict.fromkeys(match.rule for match in (*asks, *recorded) if match.errored)),
        tuple(obligations),
        policy.digest,
        _advice(policy, action, facts, asks, ()),
        tuple(dict.fromkeys(match.rule for match in recorded)),
    )
