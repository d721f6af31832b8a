"""The `flow` section: an answer for each class of concern, exceptions with an owner."""

from __future__ import annotations

import pytest

from agent_os.core.action import Action
from agent_os.core.errors import PolicyError
from agent_os.core.facts import DEFAULTS, FlowConcern
from agent_os.policy import Policy, decide

SEND = Action.parse({"kind": "tool.call", "tool": "send", "args": {"to": "x"}})


def verdict(flow: str, *concerns: FlowConcern) -> str:
    """Return the verdict on a call with these concerns."""
    return decided(flow, concerns).verdict.value


def decided(flow: str, concerns: tuple[FlowConcern, ...] | None):  # type: ignore[no-untyped-def]
    """Return the decision on a call with these concerns."""
    from dataclasses import replace

    policy = Policy.parse(f'version: 1\ntools: {{"*": {{allow: true}}}}\nflow: {flow}\n')
    return decide(policy, SEND, replace(DEFAULTS, flow=concerns))


def test_defaults() -> None:
    """Authority asks, secrets to strangers are denied, drafts are only recorded; nothing to say means allow."""
    assert verdict("{}") == "allow"
    assert verdict("{}", FlowConcern("authority_from_untrusted", "/to")) == "ask"
    assert verdict("{}", FlowConcern("secrets_to_untrusted", "/to")) == "deny"
    recorded = decided("{}", (FlowConcern("unknown_tool"),))
    assert recorded.verdict.value == "allow"
    assert recorded.audit_only == ("flow.unknown_tool",)


@pytest.mark.parametrize(
    ("answer", "expected"), [("off", "allow"), ("warn", "allow"), ("ask", "ask"), ("deny", "deny")]
)
def test_answers(answer: str, expected: str) -> None:
    """Each class has its own answer."""
    assert verdict(f"{{untrusted_url: {answer}}}", FlowConcern("untrusted_url", "/body")) == expected


def test_the_strictest_concern_wins() -> None:
    """Several concerns: deny before ask."""
    assert verdict("{}", FlowConcern("untrusted_url"), FlowConcern("secrets_to_untrusted")) == "deny"


def test_missing_facts_fire_every_rule() -> None:
    """A guard that failed leaves no facts: the strictest answer of the file holds."""
    decision = decided("{}", None)
    assert decision.verdict.value == "deny"
    assert decision.errored
    assert decided("{secrets_to_untrusted: ask}", None).verdict.value == "ask"


def test_a_class_nobody_knows_gets_the_strictest_answer() -> None:
    """A newer guard's concern is not let through by an older policy."""
    assert verdict("{}", FlowConcern("brand_new")) == "deny"


def test_reasons_name_arguments_and_never_values() -> None:
    """The reason says which argument and from where."""
    concern = FlowConcern("authority_from_untrusted", "/to", "tool:read#1", "drop@evil.example", ("drop@evil.example",))
    decision = decided("{}", (concern,))
    assert "/to" in decision.reason
    assert "tool:read#1" in decision.reason
    assert "evil" not in decision.reason
    assert decision.advice


def test_trusted_domains_and_principals() -> None:
    """Addresses within a trusted domain need no voucher; a look-alike and a mixed list do."""
    flow = "{trusted_domains: [corp.example], trusted_principals: [treasury]}"

    def sent(*to: str) -> str:
        return verdict(flow, FlowConcern("authority_of_unknown_origin", "/to", "", "", to))

    assert sent("a@corp.example") == sent("https://wiki.corp.example/x") == sent("treasury") == "allow"
    assert (
        sent("a@corp.example.evil.example")
        == sent("a@notcorp.example")
        == sent("a@corp.example", "b@evil.example")
        == "ask"
    )
    assert sent("https://corp.example@evil.example/") == "ask"
    assert sent() == "ask"
    assert verdict(flow, FlowConcern("effect_beyond_scope", "", "", "", ("a@corp.example",))) == "ask"


def test_declassification_needs_source_and_recipient() -> None:
    """An exception names where data comes from, where it may go, why and who answers for it."""
    flow = "{declassify: [{from: ['tool:crm*'], to: ['*@corp.example'], reason: weekly report, owner: sales}]}"

    def sent(source: str, *to: str) -> str:
        return verdict(flow, FlowConcern("secrets_to_untrusted", "/body", source, "", to))

    assert sent("tool:crm_export#3", "a@corp.example") == "allow"
    assert sent("tool:crm_export#3", "a@evil.example") == "deny"
    assert sent("tool:crm_export#3, tool:vault#4", "a@corp.example") == "deny"
    assert sent("", "a@corp.example") == "deny"
    tagged = "{declassify: [{from: ['*'], to: ['*'], tags: [pii], reason: r, owner: o}]}"
    for tags, expected in ((("pii",), "allow"), (("pii", "secret"), "deny"), ((), "deny")):
        concern = FlowConcern("secrets_to_untrusted", "/body", "tool:x", "", ("a@b.example",), tags)
        assert verdict(tagged, concern) == expected
    with pytest.raises(PolicyError, match="owner"):
        Policy.parse("version: 1\nflow: {declassify: [{from: [a], to: [b], reason: c}]}\n")


def test_audit_records_only() -> None:
    """`enforcement: audit` lets through and records."""
    decision = decided("{enforcement: audit}", (FlowConcern("secrets_to_untrusted"),))
    assert decision.verdict.value == "allow"
    assert decision.audit_only == ("flow.secrets_to_untrusted",)


def test_who() -> None:
    """The section may be for some principals only."""
    assert verdict("{who: {user: ['*@corp.example']}}", FlowConcern("untrusted_url")) == "allow"
    assert verdict("{who: {user: ['*']}}", FlowConcern("untrusted_url")) == "ask"
