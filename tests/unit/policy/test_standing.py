"""The `standing` section: what was approved for always, as policy text, and everything it does not reach."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from agent_os import Action, Policy, PolicyError, decide
from agent_os.core.action import ToolCall
from agent_os.core.facts import DEFAULTS
from agent_os.core.grant import Grant
from agent_os.core.manifest import Argument, Effect, Role, ToolSpec
from agent_os.core.principal import Principal
from agent_os.core.scope import scopes_of
from agent_os.policy.standing import overlay

ANA = Principal(user="ana", session="s1")
ASKS = """
version: 1
name: desk
extends: [standing.yaml]
tools:
  pay: {allow: {to: {in: [bo, cy]}}, ask: {amount: {min: 100}}, deny: {amount: {min: 10000}}}
approvals: {allow_always: true}
"""
SPEC = ToolSpec(
    name="pay", effect=Effect.PAY,
    arguments={"to": Argument(role=Role.AUTHORITY), "amount": Argument(role=Role.PAYLOAD, type="number")},
)  # fmt: skip


def call(principal: Principal = ANA, **args: Any) -> ToolCall:
    """Return a payment."""
    return ToolCall(principal=principal, tool="pay", tool_digest="sha256:t", args={"to": "bo", "amount": 150, **args})


def given(**changes: Any) -> str:
    """Return the overlay of a lasting grant for a payment of 150 to bo."""
    values: dict[str, Any] = {
        "id": "std_1", "rules": ("tools.pay.ask",), "action_digest": "", "policy_digest": "x", "expires_at": 5000.0,
        "approver": "lea", "approvers": ("lea",), "scope": scopes_of(call(), SPEC)["same"],
    }  # fmt: skip
    return yaml.safe_dump(overlay([Grant(**{**values, **changes})]))


def parse(text: str = ASKS, standing: str = "") -> Policy:
    """Return the policy with its overlay."""
    return Policy.parse(text, file="policy.yaml", resolve_pack=lambda name, _: (standing or given(), name))


def verdict(policy: Policy, action: Action, now: float | None = 100.0) -> str:
    """Return the verdict at a time."""
    return decide(policy, action, replace(DEFAULTS, now=now)).verdict.value


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (call(), "allow"),
        (call(amount=120), "allow"),
        (call(amount=151), "ask"),
        (call(to="cy"), "ask"),
        (call(to="eve"), "deny"),
        (call(amount=20000), "deny"),
        (call(bcc="eve"), "ask"),
        (call(Principal(user="eve")), "ask"),
        (call(ANA.child("reader-1")), "ask"),
        (replace(call(), tool_digest="sha256:changed"), "ask"),
    ],
)
def test_it_answers_what_it_states(action: Action, expected: str) -> None:
    """Within its scope the ask is answered, beside it asked as before; it never allows what is not allowed."""
    assert verdict(parse(), action) == expected


def test_it_ends_and_needs_a_time() -> None:
    """After `until` it is over; without a time it has ended."""
    assert verdict(parse(), call(), 5000.0) == "ask"
    assert verdict(parse(), call(), None) == "ask"


@pytest.mark.parametrize(
    "text",
    [
        ASKS.replace("allow_always: true", "allow_always: false"),
        ASKS.replace("approvals: {allow_always: true}", ""),
        ASKS.replace("allow_always: true", "allow_always: true, two_person: {}"),
    ],
    ids=["not offered", "no approvals", "two people"],
)
def test_it_counts_only_on_the_asking_files_terms(text: str) -> None:
    """Where the file does not offer lasting answers, or wants two people and one gave it, it is asked."""
    assert verdict(parse(text), call()) == "ask"
    two = given(approvers=("lea", "max"))
    assert (
        verdict(parse(ASKS.replace("allow_always: true", "allow_always: true, two_person: {}"), two), call()) == "allow"
    )


def test_another_layer_answers_nothing() -> None:
    """A user's file cannot answer what the organisation's file asks, whatever it says of approvals."""
    organisation = Policy.parse(ASKS.replace("extends: [standing.yaml]\n", ""))
    own = Policy.parse(
        "name: own\ntools: {pay: {allow: true}}\napprovals: {allow_always: true}\nextends: [standing.yaml]",
        resolve_pack=lambda name, _: (given(rules=("tools.pay.ask", "desk/tools.pay.ask")), name),
    )
    layered = Policy.layered([organisation, own])
    assert verdict(layered, call()) == "ask"


def test_what_stands_is_named_in_the_decision() -> None:
    """The decision says which grant answered, so that the record has it."""
    decision = decide(parse(), call(), replace(DEFAULTS, now=100.0))
    assert [item.params for item in decision.obligations if item.kind == "log"] == [{"standing": "std_1"}]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("kind: tool.call", "kind: process.exec"),
        ("kind: tool.call", "kind: nothing"),
        ("agent:\n    - main", "agent: []"),
        ("amount: 150.0", "amount: -1"),
        ("until: 5000.0", "until: tomorrow"),
        ("id: std_1", "id: std_1\n  any: true"),
    ],
)
def test_nonsense_is_refused_at_load(old: str, new: str) -> None:
    """A kind that is approved one at a time, a missing agent, a negative bound, unknown keys: policy errors."""
    text = given()
    assert old in text
    with pytest.raises(PolicyError):
        parse(standing=text.replace(old, new))


def test_a_grant_of_one_session_is_no_overlay() -> None:
    """What was given for a session is not written down for always."""
    scope = scopes_of(call(), SPEC)["same"].for_session("s1")
    grant = Grant("std_1", ("r",), "", "x", 5.0, "lea", ("lea",), scope)
    assert overlay([grant])["standing"] == []
