"""Where a model call may go: names and aliases to providers, tries in order, cheaper ones, and the keys they take.

Threats: a failover or a downgrade that carries a prompt further out than the policy's first choice; a key that reaches a
host it is not bound to.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from agent_os.core.action import ModelCall
from agent_os.core.errors import DeniedError, EffectError
from agent_os.effects.models.client import BASES, KEYS, Endpoint, Key, RefusedError
from agent_os.effects.secret_store import SecretStores, Source
from agent_os.policy import Policy
from agent_os.policy.globs import compile_any
from agent_os.policy.privacy import provider_place
from agent_os.runtime.sources import secret_stores

TRIES_MAX: Final = 12
_TRUST: Final = {"local": 2, "private": 1, "external": 0}


@dataclass(frozen=True, slots=True)
class Aim:
    """Where a call may go, best first, under the names the policy gives."""

    model: str
    providers: tuple[str, ...]


class Routes:
    """The providers of the policy in force, as a call of a session may try them."""

    def __init__(self, policy: Callable[[], Policy], endpoints: Callable[[], Mapping[str, Endpoint]]) -> None:
        self._policy, self._endpoints = policy, endpoints

    def models(self) -> list[tuple[str, str]]:
        """Return (model, provider) of every model the policy names exactly, and its aliases."""
        found: dict[str, str] = {}
        for section, _layer, _unit in self._policy().sections("models"):
            for name, provider in section.providers.items():
                for model in [*provider.models, *([provider.model] if provider.model else [])]:
                    if not any(char in model for char in "*?["):
                        found.setdefault(model, name)
            for alias, wanted in section.aliases.items():
                found.setdefault(alias, wanted.partition("/")[0])
        return sorted(found.items())

    def tries(self, action: ModelCall, aim: Aim) -> list[tuple[int, ModelCall]]:
        """Return the tries of a call: the first provider with its retries, then others no less trusted."""
        tries: list[ModelCall] = []
        first = self._trust(aim.providers[0]) if aim.providers else 0
        for name in aim.providers or ("",):
            if self._trust(name) < first:
                continue
            retries = self._spec(name).retries if name else 0
            tries.extend([action.rewritten(provider=name)] * (1 + retries))  # type: ignore[list-item]
        return list(enumerate(tries[:TRIES_MAX]))

    def downgraded(self, tries: deque[tuple[int, ModelCall]], aimed: ModelCall, error: DeniedError) -> bool:
        """Replace the tries by cheaper providers where only budgets that say `downgrade` denied; False if none is left.

        Cheaper is a lower price; never less trusted; each is judged, and may be denied, like the first.
        """
        rules = {
            f"budgets[{index}]"
            for section, _layer, _unit in self._policy().sections("budgets")
            for index, budget in enumerate(section)
            if budget.on_exceeded == "downgrade"
        }
        reserved = [item for item in error.decision.obligations if item.kind == "reserve"]
        lost = error.decision.rules == ("runtime.budget",) and bool(reserved)
        if lost:
            if any(item.params.get("on_exceeded") != "downgrade" for item in reserved):
                return False
        elif not error.decision.rules or not all(rule.rpartition("/")[2] in rules for rule in error.decision.rules):
            return False
        tries.clear()
        tries.extend((0, call) for call in self._cheaper(aimed))
        return bool(tries)

    def _cheaper(self, aimed: ModelCall) -> list[ModelCall]:
        """Return this call at cheaper providers, the dearest of them first."""
        prices = self._policy().prices
        price, trust = sum(prices.of(aimed.provider)[:2]), self._trust(aimed.provider)
        found: list[tuple[float, ModelCall]] = []
        for name in self._endpoints():
            cost = sum(prices.of(name)[:2])
            spec = self._spec(name)
            model = spec.model or next((each for each in spec.models if not any(char in each for char in "*?[")), None)
            if model and cost < price and self._trust(name) >= trust:
                found.append((cost, replace(aimed, provider=name, model=model)))
        return [call for _, call in sorted(found, key=lambda each: each[0], reverse=True)][:TRIES_MAX]

    def _trust(self, name: str) -> int:
        return _TRUST[provider_place(self._spec(name))] if name else 0

    def _spec(self, name: str) -> Any:
        for section, _layer, _unit in self._policy().sections("models"):
            if name in section.providers:
                return section.providers[name]
        raise EffectError(f"no provider {name!r} is configured")


def aim_of(policy: Policy, wanted: str) -> Aim:
    """Return where a model name may lead under a policy: aliases and `provider/model` resolved, providers in order."""
    providers: list[str] = []
    model = wanted
    for section, _layer, _unit in policy.sections("models"):
        model = section.aliases.get(model, model)
    named, slash, rest = model.partition("/")
    for section, _layer, _unit in policy.sections("models"):
        if slash and named in section.providers:
            return Aim(rest, (named,))
        for name, provider in section.providers.items():
            if name not in providers and (model == name or _serves(provider, model)):
                providers.append(name)
                if model == name and provider.model:
                    return Aim(provider.model, (name,))
    return Aim(model, tuple(providers))


def _serves(provider: Any, model: str) -> bool:
    patterns = provider.models or ([provider.model] if provider.model else [])
    return bool(patterns) and compile_any(patterns, crossing=True)(model)


def endpoints_of(policy: Policy) -> dict[str, Endpoint]:
    """Return the endpoints of a policy's providers; those that only an application can hand in are left out."""
    found: dict[str, Endpoint] = {}
    for section, _layer, _unit in policy.sections("models"):
        for name, provider in section.providers.items():
            if name in found or provider.kind in ("langchain", "scripted"):
                continue
            if provider.base_url is None and provider.kind not in BASES and provider.kind != "local":
                continue  # a call of it fails and says that no such provider is configured
            found[name] = Endpoint.of(
                name,
                provider.kind,
                provider.base_url,
                secret=provider.secret or ("" if provider.base_url else KEYS.get(provider.kind, "")),
                timeout_s=provider.timeout,
                headers=dict(provider.headers),
            )
    return found


def key_source(policy: Policy, vault: Any) -> Key:
    """Return where keys come from: the policy's `secrets` section, else the vault, else the environment.

    A secret that the policy or the vault binds to destinations is given to no other host.
    """
    named = secret_stores(policy, vault=vault, environment=os.environ)

    async def key(name: str, host: str, port: int) -> str | None:
        places: list[Any] = [
            section[name].destinations for section, _, _ in policy.sections("secrets") if name in section
        ]
        if any(not compile_any(globs, crossing=True)(host) for globs in places):
            raise RefusedError(f"secrets.{name}.destinations does not name {host}")
        secret = await named.get(name)
        if secret is None and vault is not None:
            secret = await SecretStores({name: Source("vault", name)}, vault=vault, environment={}).get(name)
        if secret is None:
            return os.environ.get(name) if not places else None
        if secret.destinations and not {host, f"{host}:{port}"} & set(secret.destinations):
            raise RefusedError(f"the secret {name!r} is bound to other destinations than {host}")
        return secret.value

    return key
