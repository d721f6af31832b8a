"""Rego engines behind the port `core.ports.RegoEngine`: embedded modules and OPA servers, asked side by side.

`RegoEngines(layers, clock, revision=…)` answers for every layer that judges the kind of an action. An action that an
engine cannot hold (integers beyond 2**53, too deep nesting) is a failure of that layer, not a rounded question.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from agent_os.core.errors import EffectError, Problem
from agent_os.core.facts import ExternalVerdict
from agent_os.core.ports import Clock
from agent_os.effects.rego.embedded import EmbeddedRego
from agent_os.effects.rego.remote import RemoteOpa, SecretValue
from agent_os.guards.rego import RegoLayer, failed

DEPTH_MAX: Final = 100
"""Deepest nesting of an action that is given to an engine (its own parser ends at about 128)."""
_INTEGER_MAX: Final = 2**53


async def no_secret(name: str) -> str:
    """Raise EffectError: this installation has no place where secrets are kept."""
    raise EffectError(f"the secret {name} cannot be read here")


class RegoEngines:
    """Every Rego layer of a policy. `secret` returns the value of a secret by name, or raises EffectError."""

    def __init__(
        self,
        layers: Sequence[RegoLayer],
        clock: Clock,
        *,
        revision: str,
        secret: SecretValue = no_secret,
    ) -> None:
        self._layers = list(layers)
        self.embedded = EmbeddedRego([layer for layer in layers if not layer.opa], clock)
        self.remote = {
            layer.number: RemoteOpa(layer, clock, revision=revision, secret=secret) for layer in layers if layer.opa
        }

    async def evaluate(self, document: Mapping[str, Any], digest: str) -> tuple[ExternalVerdict, ...]:
        """Return one verdict for each layer that judges this kind of action. Never raises, but for cancellation."""
        kind = str(document.get("kind", ""))
        layers = [layer for layer in self._layers if layer.judges(kind)]
        problem = unfit(document)
        if problem:
            return tuple(failed(layer, problem) for layer in layers)
        text = json.dumps(document, separators=(",", ":"))
        return tuple(await asyncio.gather(*(self._one(layer, document, digest, text) for layer in layers)))

    async def _one(self, layer: RegoLayer, document: Mapping[str, Any], digest: str, text: str) -> ExternalVerdict:
        if layer.opa:
            return await self.remote[layer.number].evaluate(document, digest)
        return await self.embedded.evaluate(layer, text)

    async def check(self) -> list[Problem]:
        """Return what refuses modules. Raises MissingPartError and EffectError."""
        return await self.embedded.check() if any(not layer.opa for layer in self._layers) else []

    async def aclose(self) -> None:
        """End workers and connections."""
        await self.embedded.aclose()
        for server in self.remote.values():
            await server.aclose()


def unfit(document: Any) -> str:
    """Return why an action cannot be put to an engine without changing it, or an empty text."""
    pending = [(document, 1)]
    while pending:
        item, depth = pending.pop()
        if depth > DEPTH_MAX:
            return f"the action is nested deeper than {DEPTH_MAX} levels"
        if isinstance(item, int) and not isinstance(item, bool) and abs(item) > _INTEGER_MAX:
            return "the action holds an integer that engines would round"
        children = item.values() if isinstance(item, dict) else item if isinstance(item, (list, tuple)) else ()
        pending += [(child, depth + 1) for child in children]
    return ""
