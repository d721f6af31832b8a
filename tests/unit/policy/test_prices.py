"""What calls of models cost: one table over every file, for reservations, settlement and the bill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent_os import decide, load_policy
from agent_os.core.action import Action, ModelCall
from agent_os.policy.policy import Policy

HOUSE = """
version: 1
models:
  providers:
    dear: {kind: vllm, base_url: "http://127.0.0.1:1/v1", models: [big], price: {input: 10, output: 20, cached: 1, reasoning: 40}}
    plain: {kind: vllm, base_url: "http://127.0.0.1:1/v1", models: [small], tier: medium}
    own: {kind: local, model: tiny}
    unpriced: {kind: vllm, base_url: "http://127.0.0.1:1/v1", models: [other]}
"""
LEASE = "version: 1\nname: lease\n{top}\nbudgets: [{{name: lease, per: tenant, window: month, usd: 1}}]\n"


def call(provider: str = "dear", model: str = "big", **more: Any) -> ModelCall:
    """Return a call of 100 tokens with an answer of at most 50."""
    said = {"messages": [{"role": "user", "content": "x"}], "input_tokens": 100, "max_tokens": 50, **more}
    found = Action.parse({"kind": "model.call", "provider": provider, "model": model, **said})
    assert isinstance(found, ModelCall)
    return found


@pytest.mark.parametrize("top", ["extends: [house.yaml]", "default: abstain"])
def test_a_budget_in_one_file_counts_by_the_prices_of_another(tmp_path: Path, top: str) -> None:
    """A lease in a file of its own, extending the house's or as a layer over it, reserves dollars and denies what is too dear."""
    (tmp_path / "house.yaml").write_text(HOUSE)
    (tmp_path / "lease.yaml").write_text(LEASE.format(top=top))
    files = ["lease.yaml"] if "extends" in top else ["house.yaml", "lease.yaml"]
    policy = load_policy([tmp_path / name for name in files])
    (reserve,) = [each for each in decide(policy, call()).obligations if each.kind == "reserve"]
    assert reserve.params["amounts"] == {"usd": pytest.approx((100 * 10 + 50 * 40) / 1e6)}
    assert reserve.params["limits"] == {"usd": 1.0}


@pytest.mark.parametrize(
    ("provider", "usage", "usd", "estimated"),
    [
        ("dear", {"tokens": 30, "input_tokens": 20, "output_tokens": 10}, 400, False),
        ("dear", {"tokens": 30, "input_tokens": 20, "output_tokens": 10, "cached_tokens": 20}, 220, False),
        ("dear", {"tokens": 30, "input_tokens": 20, "output_tokens": 10, "reasoning_tokens": 10}, 600, False),
        ("dear", {"tokens": 30, "input_tokens": 20, "output_tokens": 10, "cached_tokens": 999}, 220, False),
        ("dear", {"tokens": 20}, 200, False),
        ("dear", {"tokens": 0}, 0, False),
        ("dear", {}, 3000, True),
        ("dear", {"answer_secrets": 1}, 3000, True),
        ("plain", {}, 450, True),
        ("own", {}, 0, True),
        ("unpriced", {}, 0, True),
    ],
)
def test_what_nobody_reported_is_used_as_it_was_reserved(
    provider: str, usage: dict[str, float], usd: float, estimated: bool
) -> None:
    """A believable report costs what it says, cached and reasoned tokens at their own price; none costs the whole reservation."""
    used = Policy.parse(HOUSE).prices.used(call(provider), usage)
    assert used["usd"] * 1e6 == pytest.approx(usd)
    assert bool(used.get("estimated")) is estimated


def test_a_call_that_is_not_aimed_is_reserved_at_the_dearest() -> None:
    """Without a provider, and where a price is stated nowhere, the dearest tier is reserved; a local model costs nothing."""
    prices = Policy.parse(HOUSE).prices
    assert prices.most(call("")) == prices.most(call("unpriced")) == (150.0, 150.0)
    assert prices.most(call("own")) == (0.0, 0.0)
    assert prices.dearest_tier() == "medium"


@pytest.mark.parametrize(("unit", "amount"), [("steps", 1.0), ("seconds", 1.0), ("calls", 1.0), ("tokens", 150.0)])
def test_every_unit_of_a_budget_is_reserved(unit: str, amount: float) -> None:
    """A call of a model takes of each unit that a budget may name; `bytes` are those of requests."""
    policy = Policy.parse(f"{HOUSE}\nbudgets: [{{per: user, window: day, {unit}: 1000}}]")
    (reserve,) = [each for each in decide(policy, call()).obligations if each.kind == "reserve"]
    assert reserve.params["amounts"] == {unit: amount}
