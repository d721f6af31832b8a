"""`models` and `budgets`: which language models may be called, how calls are routed, and what they may cost. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, model_validator

from agent_os.core import canonical
from agent_os.core.errors import ActionError
from agent_os.core.zone import zone_of
from agent_os.policy.schema.base import Amount, Count, Duration, Enforcement, Part, Text, Who

Destination = Literal["local", "private", "external"]


class Price(Part):
    """US dollars per million tokens."""

    input: Amount = Field(default=0.0, description="Tokens sent.")
    output: Amount = Field(default=0.0, description="Tokens answered.")
    cached: Amount | None = Field(default=None, description="Tokens read from the provider's cache; absent: as input.")
    reasoning: Amount | None = Field(default=None, description="Reasoning tokens; absent: as output.")


class Provider(Part):
    """Where models are served."""

    kind: Literal[
        "openai", "anthropic", "azure", "nvidia", "vllm", "ollama", "litellm", "local", "langchain", "scripted"
    ] = Field(description="What it speaks; `local` is the embedded model, `langchain` one the application hands in.")
    base_url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] | None = Field(
        default=None, description="Root of the API; https unless the host is local."
    )
    secret: Text | None = Field(
        default=None,
        description="Name of the secret that holds the key; never the key. At a kind's own address the default is "
        "OPENAI_API_KEY, ANTHROPIC_API_KEY, NVIDIA_API_KEY.",
    )
    model: Text | None = Field(default=None, description="The model asked for when a call names none of `models`.")
    models: list[Text] = Field(
        default_factory=list, description="Model names or globs it serves; empty: its `model` only."
    )
    destination: Destination | None = Field(
        default=None, description="How far away it is for the privacy section; local kinds are local, others external."
    )
    region: Text | None = Field(default=None, description="Where data is processed.")
    tier: Text | None = Field(default=None, description="Price tier, a key of `tiers`.")
    price: Price | None = Field(default=None, description="Exact prices; wins over the tier.")
    context_tokens: Count | None = Field(default=None, description="Longest context.")
    capabilities: list[
        Literal["tools", "images", "audio", "video", "files", "json", "reasoning", "embeddings", "stream"]
    ] = Field(
        default_factory=list,
        description="What it takes; empty: not stated, takes anything. A call with tools, images, audio, video or files goes "
        "to no provider that states others; the rest is for people.",
    )
    timeout: Duration = Field(default=120.0, description="Deadline of a call.")
    retries: Annotated[int, Field(ge=0, le=10)] = Field(default=2, description="Retries with backoff.")
    concurrency: Annotated[int, Field(ge=1)] | None = Field(default=None, description="Calls at once.")
    headers: dict[str, str] = Field(default_factory=dict, description="Headers sent with each call; never secrets.")


class RouteWhen(Part):
    """What a route is for; all that is given must hold, lists are OR."""

    finds: list[Text] = Field(default_factory=list, description="Entities found in the prompt (US_SSN, PERSON, …).")
    labels: list[Text] = Field(default_factory=list, description="Label tags or `secret`/`readers` on the context.")
    model: list[Text] = Field(default_factory=list, description="Model names or aliases asked for; globs.")
    purpose: list[Text] = Field(default_factory=list, description="Purpose of the call, as the runtime states it.")
    who: Who | None = Field(default=None, description="Only for these principals.")
    min_input_tokens: Count | None = Field(default=None, description="Only prompts of at least this size.")


class Route(Part):
    """The first route that matches says where a call goes."""

    when: RouteWhen | None = Field(default=None, description="Conditions; absent: always.")
    use: list[Text] | Text | None = Field(default=None, description="Provider names, in order of preference.")
    model: Text | None = Field(default=None, description="The model asked of the provider.")
    tier: Text | None = Field(default=None, description="Price tier of the call, a key of `tiers`.")
    max_tokens: Count | None = Field(default=None, description="Clamp on the answer's length.")
    max_usd: Amount | None = Field(default=None, description="Most one call may cost.")
    regions: list[Text] = Field(default_factory=list, description="Only providers in these regions.")
    ask: bool = Field(default=False, description="A person is asked first.")
    deny: bool = Field(default=False, description="The call is denied.")
    reason: Text | None = Field(default=None, description="What is told.")

    @model_validator(mode="after")
    def _aim(self) -> Route:
        if (self.use is None) == (not self.deny):
            raise ValueError("needs exactly one of use, deny")
        return self


class Models(Part):
    """Which models may be called. A call is allowed when a route leads to a provider that serves it."""

    providers: dict[Text, Provider] = Field(default_factory=dict, description="Providers by name.")
    routes: list[Route] = Field(default_factory=list, description="Routes, first match wins; none: providers in order.")
    aliases: dict[Text, Text] = Field(default_factory=dict, description="Names that agents use -> `provider/model`.")
    allow: list[Text] | None = Field(
        default=None, description="Model names or globs that may be asked for; absent: any."
    )
    deny: list[Text] = Field(default_factory=list, description="Model names or globs that may not be asked for.")
    tiers: dict[Text, Amount] = Field(
        default_factory=lambda: {"free": 0.0, "medium": 3.0, "high": 6.0, "premium": 45.0, "ultra": 150.0},
        description="US dollars per million tokens by tier.",
    )
    max_tokens: Count | None = Field(default=None, description="Clamp on every answer's length.")
    provider_tools: list[Text] = Field(
        default_factory=list, description="Tools executed by the provider that may be offered; none by default."
    )
    remote_media: Literal["declared", "any", "none"] = Field(
        default="declared",
        description="Pictures and files that a prompt names by address, so that the provider fetches them itself: from hosts "
        "that network_policies name, from any, or from none.",
    )
    cache: bool = Field(default=False, description="Answer identical calls of one principal from a label-aware cache.")
    inspect_answers: bool = Field(
        default=True, description="Look at answers: pictures, links and markup to undeclared hosts come back as words."
    )
    bare_links: Literal["show", "defang"] = Field(
        default="show", description="Addresses written out in answers, to hosts the policy does not name."
    )
    answer_secrets: Literal["flag", "redact", "off"] = Field(
        default="flag", description="Secrets in answers: named in the audit and to the caller, or cut out too."
    )

    @model_validator(mode="after")
    def _names(self) -> Models:
        for index, route in enumerate(self.routes):
            for name in [route.use] if isinstance(route.use, str) else route.use or []:
                if name not in self.providers:
                    raise ValueError(
                        f"routes[{index}].use names {name!r}, no provider of this file ({_near(name, self.providers)})"
                    )
            if route.tier is not None and route.tier not in self.tiers:
                raise ValueError(f"routes[{index}].tier is no key of tiers ({_near(route.tier, self.tiers)})")
        for name, provider in self.providers.items():
            if provider.tier is not None and provider.tier not in self.tiers:
                raise ValueError(f"providers.{name}.tier is no key of tiers ({_near(provider.tier, self.tiers)})")
        return self


class Budget(Part):
    """What may be used in a window; reserved before a call, settled after it."""

    name: Text | None = Field(
        default=None,
        description="A name; absent: `per/window` and filters, for example user/year or user/day[tool=pay].",
    )
    per: Literal["tenant", "user", "team", "agent", "session", "task", "model", "tier", "tool"] = Field(
        description="Whom it is counted for; a user's team is looked up in the data set `teams` (user -> team)."
    )
    window: Literal["run", "hour", "day", "week", "month", "year", "total"] = Field(description="When it starts anew.")
    zone: Text | None = Field(default=None, description="Time zone whose hours, days and months count; absent: UTC.")
    tokens: Amount | None = Field(default=None, description="Tokens in and out.")
    usd: Amount | None = Field(default=None, description="US dollars.")
    calls: Amount | None = Field(default=None, description="Calls of models and tools.")
    bytes: Amount | None = Field(default=None, description="Bytes sent out.")
    seconds: Amount | None = Field(
        default=None,
        description="Wall time of calls and requests: a second is reserved for each, what it took is counted at its end.",
    )
    steps: Amount | None = Field(default=None, description="Steps of an agent: calls of models.")
    tier: list[Text] | Text | None = Field(default=None, description="Only calls of these tiers.")
    model: list[Text] | Text | None = Field(default=None, description="Only calls of these models; globs.")
    tool: list[Text] | Text | None = Field(default=None, description="Only calls of these tools; globs.")
    who: Who | None = Field(default=None, description="Only for these principals.")
    warn_at: Annotated[float, Field(gt=0, lt=1)] | None = Field(default=None, description="Warn at this share used.")
    on_exceeded: Literal["deny", "ask", "downgrade"] = Field(
        default="deny", description="`downgrade`: to the next cheaper tier, else deny."
    )
    enforcement: Enforcement = Field(default="enforce", description="`audit`: exceeding is recorded only.")

    @model_validator(mode="after")
    def _unit(self) -> Budget:
        if self.zone is not None:
            try:
                zone_of(self.zone)
            except ActionError as error:
                raise ValueError(str(error)) from None
        if all(getattr(self, unit) is None for unit in UNITS):
            raise ValueError("needs at least one of " + ", ".join(UNITS))
        return self


UNITS = ("tokens", "usd", "calls", "bytes", "seconds", "steps")
Budgets = list[Budget]


def _near(name: str, known: Iterable[str]) -> str:
    names = list(known)
    return canonical.nearest(name, names) if names else "there is none"
