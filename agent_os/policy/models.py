"""The `models` section: which language models may be called and where a call goes. Pure.

The first route that matches chooses providers; a call already aimed at one of them passes, any other gets a `route`
obligation, is rewritten and decided again. A fact that a route asks for and that is missing counts as found: a prompt
nobody could scan goes the guarded way. Threats: a model name that smuggles a provider, a fallback to a less trusted
place, an unclamped answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from agent_os.core import canonical
from agent_os.core.action import Action, ModelCall
from agent_os.core.decision import Obligation, Verdict
from agent_os.core.errors import ActionError
from agent_os.core.facts import Facts
from agent_os.core.label import Confidentiality
from agent_os.policy.globs import Matcher, PatternError, compile_any
from agent_os.policy.media import Medium, media_of
from agent_os.policy.rule import Context, Match
from agent_os.policy.who import compile_who

if TYPE_CHECKING:
    from agent_os.policy.schema.models import Models, Provider, Route, RouteWhen

KINDS: Final = frozenset({"model.call"})
Applies = Callable[[ModelCall, Facts], bool]


@dataclass(frozen=True, slots=True)
class CompiledProvider:
    """A provider as the section and the gateway see it."""

    name: str
    serves: Matcher
    model: str
    region: str
    spec: Provider


@dataclass(frozen=True, slots=True)
class _Route:
    rule: str
    applies: Applies | None
    use: tuple[str, ...]
    spec: Route


@dataclass(slots=True)
class _Part:
    """The routes and bounds of one file."""

    routes: list[_Route] = field(default_factory=list)
    providers: list[str] = field(default_factory=list)
    rule: str = ""
    allow: Matcher | None = None
    allow_rule: str = ""
    deny: Matcher | None = None
    deny_rule: str = ""
    max_tokens: int | None = None
    max_tokens_rule: str = ""
    aliases: Mapping[str, str] = field(default_factory=dict)
    fetched: str = "declared"
    fetched_rule: str = ""


class ModelsSection:
    """Judges model calls; built by `compile_models`. `providers` are those of every file of the layer."""

    name = "models"
    kinds = KINDS

    def __init__(self) -> None:
        self.providers: dict[str, CompiledProvider] = {}
        self.parts: list[_Part] = []
        self.hosts: Matcher = compile_any(())
        """Hosts that the layer's network section names."""
        self.may_allow = True

    def judge(self, action: Action, facts: Facts) -> Sequence[Match]:
        if not isinstance(action, ModelCall):
            return ()
        matches: list[Match] = []
        media = media_of(action.messages)
        needs = _needs(action, media)
        for part in self.parts:
            matches.extend(self._judge_part(part, action, facts, needs))
            matches.extend(self._judge_fetched(part, media))
        return matches

    def _judge_fetched(self, part: _Part, media: Sequence[Medium]) -> list[Match]:
        """Deny what the provider would fetch by itself, from a host that nobody named: it is egress past the guard."""
        if part.fetched == "any":
            return []
        for medium in media:
            for address in medium.addresses:
                host = _host_of(address)
                if part.fetched == "declared" and host and self.hosts(host.replace(".", "/")):
                    continue
                reason = f"the provider would fetch {medium.pointer} from {host or 'an address that is none'} by itself"
                advice = "send its bytes (data:), or name the host under network_policies"
                return [Match(Verdict.DENY, part.fetched_rule, reason, advice)]
        return []

    def _judge_part(self, part: _Part, action: ModelCall, facts: Facts, needs: frozenset[str]) -> list[Match]:
        wanted = part.aliases.get(action.model, action.model)
        names = {action.model, wanted, wanted.rpartition("/")[2]}
        matches: list[Match] = []
        if part.deny is not None and any(map(part.deny, names)):
            matches.append(Match(Verdict.DENY, part.deny_rule, "the model is denied"))
        if part.allow is not None and not any(map(part.allow, (action.model, wanted))):
            return matches
        route = next((route for route in part.routes if route.applies is None or route.applies(action, facts)), None)
        if route is None:
            if part.routes:
                return matches
            candidates = [name for name in self._serving(part, wanted) if self._takes(name, needs)]
            if candidates:
                matches.append(self._allow(part, part.rule, candidates, wanted, action, None))
            return matches
        if route.spec.deny:
            return [*matches, Match(Verdict.DENY, route.rule, route.spec.reason or "the route denies the call")]
        if route.spec.ask:
            matches.append(Match(Verdict.ASK, route.rule, route.spec.reason or "the route asks a person"))
        candidates = list(route.use)
        if route.spec.regions:
            candidates = [name for name in candidates if self.providers[name].region in route.spec.regions]
        asked = route.spec.model or wanted
        candidates = [
            name for name in candidates if self._can_answer(self.providers[name], asked) and self._takes(name, needs)
        ]
        if candidates:
            matches.append(self._allow(part, route.rule, candidates, wanted, action, route.spec))
        return matches

    def _serving(self, part: _Part, wanted: str) -> list[str]:
        """Return the providers that serve a model, or `provider/model`, where no route says."""
        named, slash, model = wanted.partition("/")
        if slash and named in part.providers:
            return [named] if self.providers[named].serves(model) else []
        return [name for name in part.providers if name == wanted or self.providers[name].serves(wanted)]

    def _allow(
        self, part: _Part, rule: str, candidates: list[str], wanted: str, action: ModelCall, route: Route | None
    ) -> Match:
        obligations: list[Obligation] = []
        chosen = self.providers[candidates[0]]
        conditional = len(candidates) > 1 or any(item.applies is not None for item in part.routes)
        model = (route.model if route is not None else None) or ""
        unaimed = action.provider not in candidates and (bool(action.provider) or conditional)
        if action.provider in candidates:
            chosen = self.providers[action.provider]
            candidates = [action.provider]
            unaimed = not self._serves(chosen, wanted)
        if unaimed or (model and action.model != model):
            params: dict[str, Any] = {"use": candidates, "model": model or self._model(chosen, wanted)}
            if route is not None and route.tier is not None:
                params["tier"] = route.tier
            if route is not None and route.max_usd is not None:
                params["max_usd"] = route.max_usd
            obligations.append(Obligation("route", params, rule))
        limits = [part.max_tokens, route.max_tokens if route is not None else None]
        least = min((limit for limit in limits if limit is not None), default=None)
        if least is not None and not 0 < action.max_tokens <= least:
            obligations.append(Obligation("clamp", {"max_tokens": least}, rule))
        return Match(Verdict.ALLOW, rule, obligations=tuple(obligations))

    @staticmethod
    def _serves(provider: CompiledProvider, wanted: str) -> bool:
        """Return whether a provider has the model asked for: by its name, behind the provider's, or as its default."""
        return provider.serves(wanted.removeprefix(provider.name + "/")) or wanted == provider.name

    def _takes(self, name: str, needs: frozenset[str]) -> bool:
        """Whether a provider states all that a call needs; one that states nothing takes anything."""
        stated = self.providers[name].spec.capabilities
        return not stated or not needs - set(stated)

    def _can_answer(self, provider: CompiledProvider, wanted: str) -> bool:
        return bool(provider.model) or self._serves(provider, wanted)

    @staticmethod
    def _model(provider: CompiledProvider, wanted: str) -> str:
        model = wanted.partition("/")[2] if wanted.startswith(provider.name + "/") else wanted
        return model if provider.serves(model) and model != provider.name else provider.model or model

    def advise(self, action: Action, _facts: Facts) -> str:
        """Say which providers there are, and what none of them takes."""
        if isinstance(action, ModelCall):
            needs = _needs(action, media_of(action.messages))
            left = {
                name: needs - set(one.spec.capabilities)
                for name, one in self.providers.items()
                if one.spec.capabilities
            }
            for name, missing in left.items():
                if missing and self._serves(self.providers[name], action.model):
                    return f"{name} states that it takes no {', '.join(sorted(missing))} (capabilities)"
        return "providers: " + ", ".join(self.providers) if self.providers else "no provider is configured"


def compile_models(parts: Sequence[tuple[Models, Context]]) -> ModelsSection:
    """Return the section of every file of a layer together; a provider name taken twice keeps the outer file's."""
    section = ModelsSection()
    for models, context in parts:
        for name, provider in models.providers.items():
            if name not in section.providers:
                section.providers[name] = _provider(name, provider, context)
        section.parts.append(_part(models, context))
    declared = [
        endpoint.host.lower()
        for _models, context in parts
        for policy in (context.file.network_policies or {}).values()
        for endpoint in policy.endpoints
        if endpoint.host
    ]
    section.hosts = compile_any([host.replace(".", "/") for host in declared], crossing=False)
    return section


def _needs(action: ModelCall, media: Sequence[Medium]) -> frozenset[str]:
    """Return what a provider must take to answer a call, in the words of `capabilities`."""
    return frozenset(medium.kind for medium in media) | (frozenset({"tools"}) if action.tools else frozenset())


def _host_of(address: str) -> str:
    try:
        return canonical.url(address).host
    except ActionError:
        return ""


def _provider(name: str, provider: Provider, context: Context) -> CompiledProvider:
    patterns = provider.models or ([provider.model] if provider.model else ["**"])
    try:
        serves = compile_any(patterns, crossing=True)
    except PatternError as error:
        context.problem(f"models.providers.{name}.models", str(error))
        serves = compile_any(())
    return CompiledProvider(name, serves, provider.model or "", provider.region or "", provider)


def _part(models: Models, context: Context) -> _Part:
    part = _Part(providers=list(models.providers), aliases=models.aliases, max_tokens=models.max_tokens)
    part.fetched = models.remote_media
    if part.fetched != "any":
        stated = "remote_media" in models.model_fields_set  # a default is no rule that tests would have to meet
        name = "models.remote_media"
        part.fetched_rule = context.rule(name, Verdict.DENY) if stated else context.prefix + name
    for index, route in enumerate(models.routes):
        path = f"models.routes[{index}]"
        effect = Verdict.DENY if route.deny else Verdict.ASK if route.ask else Verdict.ALLOW
        rule = context.rule(path, effect)
        try:
            applies = _when(route.when) if route.when is not None else None
        except PatternError as error:
            context.problem(f"{path}.when", str(error))
            continue
        use = (route.use,) if isinstance(route.use, str) else tuple(route.use or ())
        part.routes.append(_Route(rule, applies, use, route))
    if not models.routes:
        part.rule = context.rule("models.providers", Verdict.ALLOW)
    try:
        if models.allow is not None:
            part.allow, part.allow_rule = compile_any(models.allow), "models.allow"
        if models.deny:
            part.deny, part.deny_rule = (
                compile_any(models.deny, crossing=True),
                context.rule("models.deny", Verdict.DENY),
            )
    except PatternError as error:
        context.problem("models", str(error))
    return part


def _when(when: RouteWhen) -> Applies:
    """Return the predicate of a route's `when`; a missing fact counts as met."""
    tests: list[Applies] = []
    if when.finds:
        finds = compile_any([name if any(char in name for char in "*?[{") else f"{name}{{,_*}}" for name in when.finds])
        tests.append(lambda _call, facts: facts.findings is None or any(finds(item.type) for item in facts.findings))
    if when.labels:
        labels = frozenset(when.labels)
        tests.append(lambda _call, facts: _labelled(facts, labels))
    if when.model:
        model = compile_any(when.model, crossing=True)
        tests.append(lambda call, _facts: model(call.model))
    if when.purpose:
        purpose = compile_any(when.purpose)
        tests.append(lambda call, _facts: purpose(call.purpose))
    if when.min_input_tokens is not None:
        least = when.min_input_tokens
        tests.append(lambda call, _facts: call.input_tokens >= least)
    who = compile_who(when.who)
    if who is not None:
        tests.append(lambda call, _facts: who(call.principal))
    return lambda call, facts: all(test(call, facts) for test in tests)


def _labelled(facts: Facts, wanted: frozenset[str]) -> bool:
    if facts.context is None or facts.labels is None:
        return True
    for label in (facts.context, *facts.labels.values()):
        words = set(label.tags)
        if label.confidentiality is not Confidentiality.PUBLIC:
            words.add(label.confidentiality.name.lower())
        if words & wanted:
            return True
    return False
