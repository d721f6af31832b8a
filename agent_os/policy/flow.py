"""The `flow` section: what happens at each class of sink when its argument's provenance is doubtful. Pure.

The guard (`guards/flow`) states concerns as facts; this section gives each class its answer. It only ever restricts.
A concern of a class this version does not know counts as the strictest answer of the file, and missing facts count as
a concern of every class (law 3). Reasons name arguments and sources, never values (those stand in the approval's preview).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from agent_os.core.action import Action
from agent_os.core.decision import Verdict
from agent_os.core.facts import Facts, FlowConcern
from agent_os.policy.flow_labels import ENTITY, TAGS
from agent_os.policy.globs import PatternError, compile_any
from agent_os.policy.rule import Context, Match
from agent_os.policy.schema.flow import SINKS
from agent_os.policy.values import pluck
from agent_os.policy.who import Holds, compile_who

if TYPE_CHECKING:
    from agent_os.policy.schema.flow import Declassify, Flow, Trusted

KINDS: Final = frozenset(
    {
        "tool.call", "fs.write", "fs.delete", "net.connect", "net.request", "message.send", "memory.write", "agent.spawn",
        "task.schedule", "process.exec", "secret.use",
    }
)  # fmt: skip
ADVICE: Final = {
    "authority_from_untrusted": "name it in the task, or take it from a trusted record the task leads to",
    "authority_of_unknown_origin": "name it in the task, or take it from a trusted record the task leads to",
    "effect_beyond_scope": "ask for this effect in the task",
    "repeats_beyond_scope": "ask for it as often as it is needed",
    "contradicts_prompt": "use a date the task states",
    "secrets_to_untrusted": "leave the guarded value out",
    "secrets_to_named": "leave the guarded value out",
    "personal_to_untrusted": "leave the personal data out",
    "untrusted_url": "leave the web address out, or name it in the task",
    "untrusted_image": "leave the image or frame out, or name its address in the task",
    "answer_url": "leave the web address out, or name it in the task",
    "autorun_write": "name the file in the task, or write what does not run by itself",
    "code_write": "have a person look at the code",
    "policy_write": "leave policies and agents' instructions to people",
    "invite_write": "name the words of the invitation in the task",
    "schedule_write": "name in the task what is to run",
    "code_from_untrusted": "name the command in the task",
    "injection_suspected": "leave out what was read there, or have a person look at it",
    "memory_poisoning": "remember what the task says, not what was read",
}
TRUSTED_KINDS: Final = ("file", "tool", "host", "memory", "data")
"""How the sources of reference lists begin."""
_LINKS: Final = frozenset({"untrusted_url", "untrusted_image", "answer_url"})
_BY_ADDRESS: Final = _LINKS | {"authority_from_untrusted", "authority_of_unknown_origin"}
_DOMAIN: Final = re.compile(
    r"(?:[a-z][a-z0-9+.-]*://)?(?:[^@/\s]*@)?([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?::\d+)?(?:[/?#].*)?"
)

Excuse = Callable[[FlowConcern], bool]


class FlowSection:
    """Judges the concerns of one action; built by `compile_flow`."""

    name = "flow"
    kinds = KINDS
    may_allow = False

    def __init__(self, rules: dict[str, Match], excuses: Sequence[Excuse], who: Holds | None) -> None:
        self._rules, self._excuses, self._who = rules, tuple(excuses), who
        order = sorted(rules.values(), key=lambda match: (not match.audit_only, match.effect.strictness))
        self._strictest = order[-1] if order else None

    def judge(self, action: Action, facts: Facts) -> Sequence[Match]:
        concerns = facts.flow
        if concerns == ():
            return ()
        if self._who is not None and not self._who(action.principal):
            return ()
        if concerns is None:
            return [_errored(match) for match in self._rules.values()]
        matches: dict[str, Match] = {}
        for concern in concerns:
            known = concern.sink in SINKS
            match = self._rules.get(concern.sink) if known else self._strictest
            if match is None or concern.sink in matches or any(excuse(concern) for excuse in self._excuses):
                continue
            matches[concern.sink] = _told(match, concern)
        return list(matches.values())


def _errored(match: Match) -> Match:
    return Match(match.effect, match.rule, "provenance is not known", errored=True, audit_only=match.audit_only)


def _told(match: Match, concern: FlowConcern) -> Match:
    where = f"argument {concern.argument}" if concern.argument else "the call"
    source = f", from {concern.source}" if concern.source else ""
    reason = f"{where}: {concern.sink.replace('_', ' ')}{source}"
    return Match(match.effect, match.rule, reason, ADVICE.get(concern.sink, ""), audit_only=match.audit_only)


def compile_flow(flow: Flow, context: Context) -> FlowSection:
    """Return the compiled section. `warn` is a restriction that is recorded and not enforced."""
    rules: dict[str, Match] = {}
    for sink in SINKS:
        answer = getattr(flow, sink)
        if answer == "off":
            continue
        effect = Verdict.DENY if answer == "deny" else Verdict.ASK
        audit = answer == "warn" or flow.enforcement == "audit"
        rules[sink] = Match(effect, context.rule(f"flow.{sink}", None if audit else effect), audit_only=audit)
    excuses: list[Excuse] = []
    builders: list[tuple[str, Callable[[], Excuse | None]]] = [
        ("flow.trusted_domains", lambda: _trusted_domains(flow.trusted_domains)),
        ("flow.trusted_principals", lambda: _trusted_principals(flow.trusted_principals)),
        *((f"flow.declassify[{index}]", _declassifier(entry)) for index, entry in enumerate(flow.declassify)),
    ]
    for index, entry in enumerate(flow.trusted):
        _check_trusted(entry, f"flow.trusted[{index}]", context)
    for entity in flow.find:
        if entity not in TAGS and not ENTITY.fullmatch(entity):
            context.problem(
                "flow.find", f"{entity!r} is no kind of finding", "name `secret`, `pii` or an entity such as IBAN_CODE"
            )
    for path, compile_excuse in builders:
        try:
            excuse = compile_excuse()
        except PatternError as error:
            context.problem(path, str(error))
            continue
        if excuse is not None:
            excuses.append(excuse)
    try:
        who = compile_who(flow.who)
    except PatternError as error:
        context.problem("flow.who", str(error))
        who = None
    return FlowSection(rules, excuses, who)


def _check_trusted(entry: Trusted, path: str, context: Context) -> None:
    for source in entry.from_:
        kind, _, rest = source.partition(":")
        if kind not in TRUSTED_KINDS or not rest:
            context.problem(
                f"{path}.from",
                f"{source!r} is no source",
                f"begin with one of {', '.join(TRUSTED_KINDS)}, then a colon",
            )
            continue
        if kind == "data":
            name, *fields = rest.split(".")
            if name not in context.data or pluck(context.data[name], fields) is None:
                context.problem(f"{path}.from", f"{source!r} names no values of `data`", "name a set and a field of it")
            continue
        try:
            compile_any([source], crossing=True)
        except PatternError as error:
            context.problem(f"{path}.from", str(error))


def domain_of(value: str) -> str:
    """Return the host of a web or e-mail address in lower case, or nothing."""
    found = _DOMAIN.fullmatch(value.strip().lower())
    return found[1] if found and ("." in found[1]) else ""


def _trusted_domains(patterns: Sequence[str]) -> Excuse | None:
    if not patterns:
        return None
    matches = compile_any(
        [*patterns, *(f"*.{pattern}" for pattern in patterns if "*" not in pattern)], crossing=True, fold=True
    )
    return lambda concern: (
        concern.sink in _BY_ADDRESS and bool(concern.to) and all(matches(domain_of(value)) for value in concern.to)
    )


def _trusted_principals(patterns: Sequence[str]) -> Excuse | None:
    if not patterns:
        return None
    matches = compile_any(patterns, crossing=True, fold=True)
    return lambda concern: (
        concern.sink in _BY_ADDRESS
        and concern.sink not in _LINKS
        and bool(concern.to)
        and all(map(matches, concern.to))
    )


def _declassifier(entry: Declassify) -> Callable[[], Excuse | None]:
    def build() -> Excuse | None:
        sources = compile_any(entry.from_, crossing=True)
        recipients = compile_any(entry.to, crossing=True, fold=True)

        def excuse(concern: FlowConcern) -> bool:
            if entry.tags and not (concern.tags and set(concern.tags) <= set(entry.tags)):
                return False
            if not concern.source or not concern.to:
                return False
            known = all(sources(source.partition("#")[0]) for source in concern.source.split(", "))
            return known and all(recipients(value) or recipients(domain_of(value)) for value in concern.to)

        return excuse

    return build
