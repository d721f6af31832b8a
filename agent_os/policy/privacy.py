"""The `privacy` section: what may go where, by what is found in it. Pure.

A rule maps (entities found, labels, source) x (class of the destination) to allow, pseudonymise, redact, local-only,
ask or deny. For each finding the strictest rule that matches holds; rules of `allow` state that nothing happens and
loosen nothing. Fails closed: where findings are missing (no detector, an error, a timeout) or a part cannot be read
as text (image, audio, archive, undecoded body), every rule that could have matched fires; one that would rewrite
denies, because what was not found cannot be replaced. Threats: an exception in an analyzer that lets data through, a
picture of a passport, names that nobody looks for because no model is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from agent_os.core.action import Action, MessageSend, ModelCall, NetConnect, ToolCall
from agent_os.core.decision import Obligation, Verdict
from agent_os.core.facts import AS_SENT, OURS, Facts, Finding
from agent_os.core.label import Label
from agent_os.policy.globs import PatternError, compile_any
from agent_os.policy.media import FILE, IMAGE, Medium, media
from agent_os.policy.rule import Context, Match
from agent_os.policy.who import Holds, compile_who

if TYPE_CHECKING:
    from agent_os.policy.schema.privacy import Privacy, PrivacyRule

KINDS: Final = frozenset({"tool.call", "net.request", "model.call", "message.send"})
NAME_ENTITIES: Final = frozenset({"PERSON", "LOCATION", "ORGANIZATION", "NRP"})
LOCAL, PRIVATE, EXTERNAL = "local", "private", "external"
_REWRITES: Final = {"pseudonymise": "pseudonymise", "redact": "redact", "local-only": "local-only"}
READABLE: Final = {IMAGE: "pictures", FILE: "documents"}
"""Kinds of parts that text recognition may read, by the word for them in `privacy.read`."""
_LOCAL_KINDS: Final = frozenset({"local", "scripted"})


@dataclass(frozen=True, slots=True)
class _Rule:
    """One compiled rule."""

    name: str
    find: Callable[[str], bool]
    patterns: tuple[str, ...]
    to: frozenset[str]
    do: str
    score: float
    thresholds: Mapping[str, float]
    labels: frozenset[str]
    source: Callable[[str], bool] | None
    hosts: Callable[[str], bool] | None
    regions: frozenset[str]
    who: Holds | None
    audit_only: bool
    reason: str

    def meets(self, finding: Finding) -> bool:
        """Whether a finding is one this rule asks for, sure enough."""
        return finding.score >= max(self.score, self.thresholds.get(finding.type, 0.0)) and self.find(finding.type)


class PrivacySection:
    """Judges what leaves; built by `compile_privacy`. It never grants."""

    name = "privacy"
    kinds = KINDS

    def __init__(
        self, rules: Sequence[_Rule], unreadable: str, unreadable_rule: str, places: _Places, read: frozenset[str]
    ) -> None:
        self._rules, self._places, self._read = tuple(rules), places, read
        self._unreadable, self._unreadable_rule = unreadable, unreadable_rule

    def judge(self, action: Action, facts: Facts) -> Sequence[Match]:
        """Return the matches of every rule that applies to where this action goes and what is in it."""
        destination, region, host = self._places.of(action)
        matches: list[Match] = []
        applying = [rule for rule in self._rules if _applies(rule, action, facts, destination, region, host)]
        restricting = [rule for rule in applying if rule.do != "allow"]
        if not restricting:
            return matches
        parts = media(action)
        hidden = {item.pointer: self._fault(item, facts) for item in parts if self._fault(item, facts)}
        deep = {item.pointer: "" for item in facts.findings or () if item.type == "UNREADABLE"}
        if hidden or deep:
            matches.append(self._unread(hidden or deep, destination))
        elif any(facts.seen.get(item.pointer) == AS_SENT for item in parts):
            made_anew = Obligation("redact", {"find": []}, self._unreadable_rule)
            matches.append(Match(Verdict.ALLOW, self._unreadable_rule, obligations=(made_anew,), grants=False))
        for rule in restricting:
            if facts.findings is None or facts.detector_error:
                matches.append(_blind(rule, action, destination, facts.detector_error or "nothing was scanned"))
            elif found := [item for item in facts.findings if rule.meets(item)]:
                matches.append(_match(rule, found, action, destination))
        return matches

    def _fault(self, medium: Medium, facts: Facts) -> str:
        """Return why nobody knows what is in a part that is no text; empty where this file lets it be read, and it was."""
        unread = "cannot be read as text"
        if READABLE.get(medium.kind) not in self._read:
            return unread
        seen = facts.seen.get(medium.pointer, unread)
        return "" if seen in (OURS, AS_SENT) else seen

    def _unread(self, hidden: Mapping[str, str], destination: str) -> Match:
        where, why = ", ".join(list(hidden)[:3]), next((fault for fault in hidden.values() if fault), "")
        said = why if why.startswith("cannot") or not why else f"was not read ({why})"
        reason = f"{where} {said or 'cannot be read as text'}, so nobody knows what is in it"
        advice = "send text, or set privacy.unreadable"
        if self._unreadable == "ask":
            return Match(Verdict.ASK, self._unreadable_rule, reason, advice)
        if self._unreadable == "local-only":
            if destination == LOCAL:
                return Match(Verdict.ALLOW, self._unreadable_rule, grants=False)
            obligation = Obligation("local-only", {"find": ["*"]}, self._unreadable_rule)
            return Match(Verdict.ALLOW, self._unreadable_rule, reason, obligations=(obligation,), grants=False)
        if destination == LOCAL:
            return Match(Verdict.ALLOW, self._unreadable_rule, grants=False)
        return Match(Verdict.DENY, self._unreadable_rule, reason, advice)


def _applies(rule: _Rule, action: Action, facts: Facts, destination: str, region: str, host: str) -> bool:
    if destination not in rule.to or (rule.who is not None and not rule.who(action.principal)):
        return False
    if rule.hosts is not None and not rule.hosts(host):
        return False
    if rule.regions and region and region not in rule.regions:
        return False  # a region that is not known may be any: the rule holds
    if not rule.labels and rule.source is None:
        return True
    labels = list((facts.labels or {}).values()) + ([facts.context] if facts.context is not None else [])
    if facts.labels is None or facts.context is None:
        return True  # labels are missing: a rule that names them fires
    return any(_labelled(rule, label) for label in labels)


def _labelled(rule: _Rule, label: Label) -> bool:
    if rule.labels and not rule.labels & (
        label.tags | {label.confidentiality.name.lower(), label.integrity.name.lower()}
    ):
        return False
    return rule.source is None or any(rule.source(source) for source in label.sources)


def _blind(rule: _Rule, action: Action, destination: str, error: str) -> Match:
    """The match of a rule whose findings are missing."""
    reason = f"what is in it is not known: {error}"
    if rule.do == "ask":
        return Match(Verdict.ASK, rule.name, reason, errored=True, audit_only=rule.audit_only)
    if rule.do == "local-only" and isinstance(action, ModelCall):
        return _kept(rule, destination, reason)
    return Match(Verdict.DENY, rule.name, reason, errored=True, audit_only=rule.audit_only)


def _match(rule: _Rule, found: Sequence[Finding], action: Action, destination: str) -> Match:
    names = ", ".join(sorted({item.type for item in found})[:6])
    reason = rule.reason or f"{names} found in what goes to a destination that is {destination}"
    if rule.do == "deny":
        return Match(Verdict.DENY, rule.name, reason, f"the same without {names}", audit_only=rule.audit_only)
    if rule.do == "ask":
        return Match(Verdict.ASK, rule.name, reason, f"the same without {names}", audit_only=rule.audit_only)
    if rule.do == "local-only":
        if isinstance(action, ModelCall):
            return _kept(rule, destination, reason)
        advice = f"the same without {names}, or a model call, which can be kept local"
        return Match(Verdict.DENY, rule.name, reason, advice, audit_only=rule.audit_only)
    params = {"find": list(rule.patterns), "do": rule.do, "score": rule.score}
    obligation = Obligation(_REWRITES[rule.do], params, rule.name)
    return Match(Verdict.ALLOW, rule.name, reason, obligations=(obligation,), audit_only=rule.audit_only, grants=False)


def _kept(rule: _Rule, destination: str, reason: str) -> Match:
    if destination == LOCAL:
        return Match(Verdict.ALLOW, rule.name, grants=False)
    obligation = Obligation("local-only", {"find": list(rule.patterns)}, rule.name)
    return Match(Verdict.ALLOW, rule.name, reason, obligations=(obligation,), audit_only=rule.audit_only, grants=False)


# ---- where an action goes -------------------------------------------------------------------------------------------


class _Places:
    """Class, region and host of an action's destination, by the providers of the file."""

    def __init__(self, providers: Mapping[str, Any], tools: Mapping[str, Any]) -> None:
        self._providers = {name: (provider_place(item), item.region or "") for name, item in providers.items()}
        stated = [(pattern, tool.destination) for pattern, tool in tools.items() if tool.destination is not None]
        self._tools = [(compile_any([pattern], crossing=True), str(where)) for pattern, where in stated]

    def of(self, action: Action) -> tuple[str, str, str]:
        """Return (destination class, region or empty, host or empty); what is not known is external."""
        if isinstance(action, ModelCall):
            place, region = self._providers.get(action.provider, (EXTERNAL, ""))
            return place, region, ""
        if isinstance(action, NetConnect):
            return host_class(action.host), "", action.host
        if isinstance(action, MessageSend):
            return (LOCAL if action.channel == "agent" else EXTERNAL), "", ""
        if isinstance(action, ToolCall):
            return self._of_tool(action), "", ""
        return LOCAL, "", ""

    def _of_tool(self, action: ToolCall) -> str:
        """The farthest place that the file states for the tool; unstated: here for our own tools, else outside."""
        stated = {where for meant, where in self._tools if meant(action.target) or meant(action.tool)}
        return next(
            (place for place in (EXTERNAL, PRIVATE, LOCAL) if place in stated), EXTERNAL if action.server else LOCAL
        )


def provider_place(provider: Any) -> str:
    """Return a provider's destination class: what it states, else local for local kinds and loopback, else external."""
    if provider.destination is not None:
        return str(provider.destination)
    if provider.kind in _LOCAL_KINDS:
        return LOCAL
    if provider.base_url:
        host = provider.base_url.split("://", 1)[1].split("/", 1)[0].rsplit("@", 1)[-1]
        host = host[1:].split("]", 1)[0] if host.startswith("[") else host.split(":", 1)[0]
        if host_class(host.lower()) == LOCAL:
            return LOCAL
    return EXTERNAL


def host_class(host: str) -> str:
    """Return `local` for loopback, `private` for RFC 1918 and ULA addresses and single-label names, else `external`."""
    if host in ("localhost", "::1", "inference.local") or host.startswith("127.") or host.endswith(".localhost"):
        return LOCAL
    if host.replace(".", "").isdigit() and host.count(".") == 3:
        first, second = (int(part) for part in host.split(".")[:2])
        return (
            PRIVATE
            if first == 10 or (first, second) == (192, 168) or (first == 172 and 16 <= second < 32)
            else EXTERNAL
        )
    if ":" in host:
        return PRIVATE if host[:2] in ("fc", "fd") else EXTERNAL
    return PRIVATE if "." not in host or host.endswith((".internal", ".local", ".lan", ".home.arpa")) else EXTERNAL


# ---- compiling ------------------------------------------------------------------------------------------------------


def compile_privacy(section: Privacy | Sequence[PrivacyRule], context: Context) -> PrivacySection:
    """Return the compiled section; what cannot be compiled is recorded in the context."""
    listed = isinstance(section, (list, tuple))
    rules: Sequence[PrivacyRule] = section if listed else section.rules  # type: ignore[assignment, union-attr]
    thresholds: Mapping[str, float] = {} if listed else dict(section.thresholds)  # type: ignore[union-attr]
    base = "privacy" if listed else "privacy.rules"
    compiled = [
        rule for index, item in enumerate(rules) if (rule := _compile(item, f"{base}[{index}]", thresholds, context))
    ]
    hidden = "deny" if listed else str(section.unreadable)  # type: ignore[union-attr]
    effect = Verdict.ASK if hidden == "ask" else Verdict.DENY if hidden == "deny" else Verdict.ALLOW
    name = context.rule("privacy" if listed else "privacy.unreadable", effect, id="privacy.unreadable")
    models = context.file.models
    providers = models.providers if models is not None else {}
    if not listed:
        _check_recognizers(section, context)
    read = frozenset() if listed else frozenset(section.read)  # type: ignore[union-attr]
    return PrivacySection(compiled, hidden, name, _Places(providers, context.file.tools or {}), read)


def _compile(rule: PrivacyRule, path: str, thresholds: Mapping[str, float], context: Context) -> _Rule | None:
    patterns = (rule.find,) if isinstance(rule.find, str) else tuple(rule.find)
    to: set[str] = {rule.to} if isinstance(rule.to, str) else set(rule.to)
    if "any" in to:
        to = {LOCAL, PRIVATE, EXTERNAL}
    effect = {"deny": Verdict.DENY, "ask": Verdict.ASK}.get(rule.do, Verdict.ALLOW)
    if not patterns:
        context.problem(path + ".find", "names no entity", "write find: [PERSON] or find: '*'")
        return None
    try:
        return _Rule(
            name=context.rule(path, effect),
            find=finder(patterns),
            patterns=patterns,
            to=frozenset(to),
            do=rule.do,
            score=rule.score or 0.0,
            thresholds=thresholds,
            labels=frozenset(rule.labels),
            source=compile_any(rule.source, crossing=True) if rule.source else None,
            hosts=compile_any(rule.hosts, crossing=True, fold=True) if rule.hosts else None,
            regions=frozenset(rule.regions),
            who=compile_who(rule.who),
            audit_only=rule.enforcement == "audit",
            reason=rule.reason or "",
        )
    except PatternError as error:
        context.problem(path, str(error), "quote special characters with a backslash")
        return None


def finder(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Return a predicate on entity names: exact, globs, and `SECRET` for every SECRET_ kind."""
    exact = frozenset(patterns)
    globs = tuple(pattern for pattern in patterns if any(char in pattern for char in "*?["))
    secrets = "SECRET" in exact

    def find(entity: str) -> bool:
        if entity in exact or (secrets and entity.startswith("SECRET_")):
            return True
        return any(fnmatchcase(entity, pattern) for pattern in globs)

    return find


def wants_names(rules: Sequence[PrivacyRule]) -> bool:
    """Whether restricting rules ask for entities that only a language model finds well."""
    asked = [
        finder((rule.find,) if isinstance(rule.find, str) else tuple(rule.find)) for rule in rules if rule.do != "allow"
    ]
    return any(find(name) for find in asked for name in NAME_ENTITIES)


def _check_recognizers(section: Any, context: Context) -> None:
    for index, item in enumerate(section.recognizers):
        place = f"privacy.recognizers[{index}]"
        if not item.regex and not item.words:
            context.problem(place, "has neither regex nor words", "give it one of them")
        if item.regex:
            try:
                import re2  # noqa: PLC0415

                re2.compile(item.regex)
            except Exception as error:
                context.problem(place + ".regex", f"is no RE2 pattern: {error}", "no lookaround and no backreferences")
