"""Composition of Rego: the engines a policy names, ready for the monitor; and the check of their modules."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

from agent_os.core.errors import EffectError, Problem
from agent_os.core.ports import Clock
from agent_os.effects.clock import SystemClock
from agent_os.effects.rego import RegoEngines
from agent_os.effects.rego.remote import SecretValue
from agent_os.effects.secret_store import SecretVault
from agent_os.guards.rego import rego_layers
from agent_os.policy import Policy
from agent_os.runtime.sources import secret_stores


def rego_engines(
    policy: Policy,
    *,
    clock: Clock | None = None,
    vault: SecretVault | None = None,
    environment: Mapping[str, str] | None = None,
) -> RegoEngines | None:
    """Return the engines of a policy, or None when it names none. Nothing is started before the first evaluation.

    Tokens and certificates of OPA servers are secrets that the policy's `secrets:` names.
    """
    layers = rego_layers(policy)
    if not layers:
        return None
    secret = _secret_values(policy, vault, os.environ if environment is None else environment)
    return RegoEngines(layers, clock or SystemClock(), revision=policy.digest, secret=secret)


def _secret_values(policy: Policy, vault: SecretVault | None, environment: Mapping[str, str]) -> SecretValue:
    stores = secret_stores(policy, vault=vault, environment=environment)

    async def value(name: str) -> str:
        found = await stores.get(name)
        if found is None:
            raise EffectError(f"the secret {name} is not set")
        return found.value

    return value


def check_rego(policy: Policy) -> list[Problem]:
    """Return what refuses the Rego modules of a policy: syntax, recursion, builtins that are not known good.

    For `policy check`; starts a worker and ends it. A missing engine is one problem that names its install line.
    """
    engines = rego_engines(policy)
    if engines is None:
        return []

    async def run() -> list[Problem]:
        try:
            return await engines.check()
        except EffectError as error:
            return [Problem(str(error), code="rego-engine")]
        finally:
            await engines.aclose()

    return asyncio.run(run())


def opa_health(policy: Policy) -> dict[str, str]:
    """Return what is wrong with each OPA server a policy names (empty text: nothing); for `doctor`."""
    engines = rego_engines(policy)
    if engines is None:
        return {}

    async def run() -> dict[str, str]:
        try:
            return {server.layer.engine: await server.healthy() for server in engines.remote.values()}
        finally:
            await engines.aclose()

    return asyncio.run(run())
