"""Routing and clamping of model calls, as the policy's obligations say."""

from __future__ import annotations

import pytest

from agent_os.core.action import FsRead, ModelCall
from agent_os.core.decision import Obligation
from agent_os.core.errors import EffectError
from agent_os.monitor.routing import routed


def route(*use: str, model: str = "") -> Obligation:
    return Obligation("route", {"use": list(use), "model": model} if model else {"use": list(use)})


def clamp(tokens: int) -> Obligation:
    return Obligation("clamp", {"max_tokens": tokens})


def test_a_call_goes_to_the_first_provider_named() -> None:
    """A call aimed elsewhere is aimed at the best provider; one aimed at any of them stays."""
    assert routed(ModelCall(model="m"), [route("a", "b", model="x")]) == ModelCall(model="x", provider="a")
    assert routed(ModelCall(model="m", provider="b"), [route("a", "b")]).provider == "b"  # type: ignore[attr-defined]


def test_routes_of_several_rules_are_intersected() -> None:
    """Two layers that route a call must agree on a provider, or it cannot be made."""
    assert routed(ModelCall(model="m"), [route("a", "b"), route("b")]).provider == "b"  # type: ignore[attr-defined]
    with pytest.raises(EffectError, match="contradict"):
        routed(ModelCall(model="m"), [route("a"), route("b")])
    with pytest.raises(EffectError, match="contradict"):
        routed(ModelCall(model="m"), [route("a", model="x"), route("a", model="y")])


def test_the_least_clamp_holds_and_never_widens() -> None:
    """The smallest limit wins; a call that asks for less keeps its own."""
    assert routed(ModelCall(model="m"), [clamp(100), clamp(50)]).max_tokens == 50  # type: ignore[attr-defined]
    assert routed(ModelCall(model="m", max_tokens=10), [clamp(50)]).max_tokens == 10  # type: ignore[attr-defined]


def test_other_actions_cannot_be_routed() -> None:
    """An obligation that cannot be carried out is an error, which denies."""
    with pytest.raises(EffectError):
        routed(FsRead(path="/x"), [clamp(1)])
    assert routed(FsRead(path="/x"), []) == FsRead(path="/x")
