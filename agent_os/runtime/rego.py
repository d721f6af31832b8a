"""Composition of Rego: the engines a policy names, ready for the monitor; and the check of their modules."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent_os.core.errors import EffectError, Problem
from agent_os.core.ports import Clock
from agent_os.effects.clock import SystemClock
from agent_os.effects.rego import RegoEngines
from agent_os.policy import Policy
from agent_os.guards.rego import rego_layers


def rego_engines(
    policy: Policy, clock: Clock | None = None, *, secret: Callable[[str], str] = lambda _name: ""
) -> RegoEngines | None:
    """Return the engines of a policy, or None when it names none. Nothing is started before the first evaluation."""
    layers = rego_layers(policy)
    if not layers:
        return None
    return RegoEngines(layers, clock or SystemClock(), revision=policy.digest, secret=secret)


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
