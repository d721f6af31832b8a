"""What calls of models cost: the prices that every file of every layer states, as one table. Pure.

Reservations, what a call is settled at, the meter, the bill and the choice of a cheaper provider all read this table, so that
they agree to the last digit. Threats: a budget in one file that does not see the prices of another and therefore never
fills; an answer without a believable report (cut off by its reader, or by a provider) that costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from agent_os.core.action import ModelCall
from agent_os.core.budget import ESTIMATED

if TYPE_CHECKING:
    from agent_os.policy.schema.models import Models, Provider

ANSWER_TOKENS_DEFAULT: Final = 4096
"""What is reserved for an answer whose length the call does not bound."""
LOCAL_KINDS: Final = frozenset({"local", "ollama", "scripted"})


class Price(NamedTuple):
    """US dollars per million tokens: sent, answered, and of these read from the provider's cache and reasoned."""

    input: float = 0.0
    output: float = 0.0
    cached: float = 0.0
    reasoning: float = 0.0

    @property
    def most(self) -> tuple[float, float]:
        """What a token sent, and one answered, costs at most, whatever kind it turns out to be."""
        return max(self.input, self.cached), max(self.output, self.reasoning)


class Prices:
    """Prices and tiers by provider. A name taken twice is the outermost file's; of a tier stated twice the dearer holds."""

    def __init__(self, sections: Sequence[Models] = ()) -> None:
        self.tiers: dict[str, float] = {}
        self._tier: dict[str, str] = {}
        self._price: dict[str, Price | None] = {}
        for models in sections:
            for tier, usd in models.tiers.items():
                self.tiers[tier] = max(usd, self.tiers.get(tier, usd))
        for models in sections:
            for name, provider in models.providers.items():
                if name not in self._price:
                    self._tier[name] = tier = provider.tier or _routed(models, name)
                    self._price[name] = self._stated(provider, tier)

    def _stated(self, provider: Provider, tier: str) -> Price | None:
        stated = provider.price
        if stated is not None:
            cached = stated.input if stated.cached is None else stated.cached
            reasoning = stated.output if stated.reasoning is None else stated.reasoning
            return Price(stated.input, stated.output, cached, reasoning)
        if tier:
            return Price(*(self.tiers[tier],) * 4)
        own = provider.destination == "local" or (provider.destination is None and provider.kind in LOCAL_KINDS)
        return Price() if own else None

    def knows(self, provider: str) -> bool:
        """Return whether some file names this provider."""
        return provider in self._price

    def tier(self, provider: str) -> str:
        """Return the price tier of a provider; empty without one."""
        return self._tier.get(provider, "")

    def dearest_tier(self) -> str | None:
        """Return the dearest tier that a call which is not aimed yet could get."""
        return max(filter(None, self._tier.values()), key=self.tiers.__getitem__, default=None)

    def of(self, provider: str) -> Price:
        """Return what a provider's tokens cost; nothing where no file says."""
        return self._price.get(provider) or Price()

    def most(self, call: ModelCall) -> tuple[float, float]:
        """Return the dollars per million tokens that a call is reserved at; of one that is not aimed, the dearest it could get.

        A provider whose price nobody stated is reserved at the dearest tier.
        """
        among = [self._price[call.provider]] if call.provider in self._price else list(self._price.values())
        worst = max(self.tiers.values(), default=0.0)
        each = [price.most if price is not None else (worst, worst) for price in among]
        return max((one for one, _ in each), default=0.0), max((two for _, two in each), default=0.0)

    def reserved(self, call: ModelCall) -> dict[str, float]:
        """Return what a call may use, by unit: its estimate, and the longest answer."""
        answer = call.max_tokens or ANSWER_TOKENS_DEFAULT
        into, out = self.most(call)
        usd = (call.input_tokens * into + answer * out) / 1e6
        return {"tokens": float(call.input_tokens + answer), "usd": usd, "calls": 1.0}

    def used(self, call: ModelCall, usage: Mapping[str, float]) -> dict[str, float]:
        """Return what a call used, with its dollars; the whole reservation, marked, where its report says nothing.

        `usage` is the report by unit: `tokens`, `input_tokens`, `output_tokens`, `cached_tokens`, `reasoning_tokens`.
        """
        if "tokens" not in usage:
            most, sent = self.reserved(call), float(call.input_tokens)
            counts = {"tokens": most["tokens"], "input_tokens": sent, "output_tokens": most["tokens"] - sent}
            usd = most["usd"] if self._price.get(call.provider) is not None else 0.0  # nobody stated a price
            return {**usage, **counts, "usd": usd, ESTIMATED: 1.0}
        price = self.of(call.provider)
        sent = usage.get("input_tokens", usage["tokens"])  # embeddings: nothing is answered in tokens
        answered = usage.get("output_tokens", 0.0)
        cached = min(usage.get("cached_tokens", 0.0), sent)
        reasoned = min(usage.get("reasoning_tokens", 0.0), answered)
        usd = (sent - cached) * price.input + cached * price.cached
        usd += (answered - reasoned) * price.output + reasoned * price.reasoning
        return {**usage, "usd": usd / 1e6}


def _routed(models: Models, name: str) -> str:
    """Return the tier that the first route to a provider states."""
    for route in models.routes:
        if route.tier and (route.use == name or (isinstance(route.use, list) and name in route.use)):
            return route.tier
    return ""


__all__ = ["ANSWER_TOKENS_DEFAULT", "Price", "Prices"]
