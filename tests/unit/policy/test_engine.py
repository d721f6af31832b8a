"""`decide`: what no section of a file says — capabilities, the registry, external verdicts, unavailable engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from agent_os.core.action import Action
from agent_os.core.decision import Obligation, Verdict
from agent_os.core.facts import DEFAULTS, Facts
from agent_os.policy import Policy, decide
from agent_os.policy.compile import Governed
from agent_os.policy.rule import Match
from tests.unit.policy.helpers import call, judge, verdict

ALLOW = "tools: {x: {allow: true}, read_file: {allow: true}}"


def test_nothing_is_allowed_by_silence() -> None:
    """An empty policy denies every kind and says so."""
    decision = judge("version: 1", call("x"))
    assert decision.verdict is Verdict.DENY
    assert decision.rules == ()
    assert "tool.call" in decision.reason


def test_the_action_s_own_facts_are_used_where_none_are_given() -> None:
    """`decide(policy, action)` takes the defaults with what stands beside the arguments."""
    policy = Policy.parse(
        "network_policies: {a: {endpoints: [{host: a.example, port: 443}], binaries: [{path: /usr/bin/curl}]}}"
    )
    wire = {"kind": "net.connect", "host": "a.example", "port": 443, "binary": "/usr/bin/curl", "ancestors": []}
    assert decide(policy, Action.parse(wire)).verdict is Verdict.ALLOW
    assert decide(policy, Action.parse({**wire, "binary": "/usr/bin/wget"})).verdict is Verdict.DENY


def test_a_capability_is_needed_where_the_agent_has_a_list() -> None:
    """None means a root agent; an empty list holds nothing; a scope is exact or a folder."""
    assert verdict(ALLOW, call("x"), {"capabilities": None}) == "allow"
    assert judge(ALLOW, call("x"), {"capabilities": []}).rules == ("runtime.capability",)
    assert verdict(ALLOW, call("x"), {"capabilities": [{"verb": "tool.call", "scope": ["x"]}]}) == "allow"
    assert verdict(ALLOW, call("x"), {"capabilities": [{"verb": "tool.call", "scope": ["y"]}]}) == "deny"
    assert verdict(ALLOW, call("x"), {"capabilities": [{"verb": "fs.read"}]}) == "deny"


def test_a_tool_the_registry_does_not_know_is_denied() -> None:
    """Identity comes from the registry; a server's tool is another tool."""
    assert verdict(ALLOW, call("x"), {"registered_tools": ["x"]}) == "allow"
    assert judge(ALLOW, call("x"), {"registered_tools": ["y"]}).rules == ("runtime.tool-not-registered",)


def test_a_server_cannot_take_the_name_of_a_builtin_tool() -> None:
    """An allow without a slash is for the runtime's own tools; a deny without one is for every tool of that name."""
    assert verdict(ALLOW, call("read_file", server="evil")) == "deny"
    assert verdict("tools: {'*': {allow: true}}", call("read_file", server="evil")) == "deny"
    assert verdict("tools: {evil/read_file: {allow: true}}", call("read_file", server="evil")) == "allow"
    assert verdict("tools: {'**': {allow: true}, read_file: {deny: true}}", call("read_file", server="evil")) == "deny"
    assert verdict("tools: {'**': {allow: true}, 'read_*': {deny: true}}", call("read_file", server="evil")) == "deny"
    assert verdict("tools: {'mail/*': {allow: true}}", call("send", server="mail")) == "allow"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"engine": "rego:p", "verdict": "allow"}, "allow"),
        ({"engine": "rego:p", "verdict": "ask", "rules": ["p.ask"]}, "ask"),
        ({"engine": "rego:p", "verdict": "deny", "rules": ["p.deny"]}, "deny"),
        ({"engine": "rego:p", "error": "timed out"}, "deny"),
        ({"engine": "rego:other", "verdict": "allow"}, "deny"),
    ],
)
def test_external_verdicts_only_restrict(given: dict[str, Any], expected: str) -> None:
    """An engine the policy names must have answered; its failure denies; its allow adds nothing."""
    policy = ALLOW + "\nrego: [{inline: x, package: p}]"
    assert verdict(policy, call("x"), {"verdicts": [given]}) == expected
    assert verdict(policy, call("x")) == "deny"
    assert (
        verdict("rego: [{inline: x, package: p}]", call("x"), {"verdicts": [{"engine": "rego:p", "verdict": "allow"}]})
        == "deny"
    )


def test_an_engine_for_some_kinds_is_not_needed_for_others() -> None:
    """`kinds` narrows a Rego layer."""
    policy = ALLOW + "\nrego: [{inline: x, package: p, kinds: [fs.read]}]"
    assert verdict(policy, call("x")) == "allow"


def test_unavailable_sections_deny_what_they_govern() -> None:
    """A section whose engine is not running denies, and says which."""
    decision = judge(ALLOW, call("x"), {"unavailable": ["tools"]})
    assert decision.rules == ("tools.unavailable",)
    assert decision.errored == ("tools.unavailable",)


class Odd:
    """A section with a fixed answer, or one that breaks."""

    name = "odd"
    kinds = frozenset({"tool.call"})

    def __init__(self, matches: Sequence[Match] | None) -> None:
        self._matches = matches

    def judge(self, _action: Action, _facts: Facts) -> Sequence[Match]:
        if self._matches is None:
            raise RuntimeError("the value 4711")
        return self._matches


def _with(section: Odd, *, grants: bool = False) -> Policy:
    policy = Policy.parse(ALLOW)
    layer = policy.compiled[0]
    extra = Governed(section, section.judge, grants, False)
    by_kind = {**layer.by_kind, "tool.call": (*layer.by_kind["tool.call"], extra)}
    return replace(policy, compiled=(replace(layer, by_kind=by_kind),))


def test_a_section_that_raises_denies_without_repeating_values() -> None:
    """An exception in a guard is a denial; its text never reaches the agent."""
    decision = judge(_with(Odd(None)), call("x"))
    assert decision.verdict is Verdict.DENY
    assert decision.errored == ("odd",)
    assert "4711" not in decision.reason


def test_an_allow_of_a_guard_section_grants_nothing() -> None:
    """Guards carry obligations; permission comes from the granting sections."""
    match = Match(Verdict.ALLOW, "odd", obligations=(Obligation("redact", {}, "odd"),))
    policy = _with(Odd([match]))
    assert verdict(policy, call("nope")) == "deny"
    assert [item.kind for item in judge(policy, call("x")).obligations] == ["redact"]
    assert verdict(_with(Odd([Match(Verdict.ALLOW, "odd")]), grants=True), call("nope")) == "allow"
    assert verdict(_with(Odd([Match(Verdict.ALLOW, "odd", errored=True)]), grants=True), call("nope")) == "deny"


def test_an_unknown_obligation_denies() -> None:
    """What nobody knows how to carry out cannot be a condition of an allow."""
    decision = judge(_with(Odd([Match(Verdict.ALLOW, "odd", obligations=(Obligation("sing", {}, "odd"),))])), call("x"))
    assert decision.rules == ("odd",)
    assert decision.verdict is Verdict.DENY


def test_reasons_name_rules_and_fields_and_never_values() -> None:
    """A reason can be shown to the agent: no argument's value stands in it, and it says what would be allowed."""
    policy = "tools: {pay: {allow: {amount: {max: 10}, note: {length: {max: 5}}}, deny: {iban: {not_in: [DE1]}}}}"
    decision = judge(policy, call("pay", amount=5, iban="SECRET-VALUE", note="hush"))
    assert "SECRET-VALUE" not in repr(decision)
    assert "tools.pay.deny" in decision.reason
    assert "iban" in decision.reason
    assert "amount is at most 10" in decision.advice
    assert "read_file, x" in judge(ALLOW, call("nope")).advice


def test_rates_are_facts() -> None:
    """Calls left allow, none left or nobody knows denies; the obligation says what to count."""
    policy = "tools: {x: {allow: true, rate: {calls: 3, window: 1m}}}"
    decision = judge(policy, call("x"))
    assert decision.obligations[0].params == {"rule": "tools.x.rate", "calls": 3, "window_s": 60.0, "per": "session"}
    assert verdict(policy, call("x"), {"rates": {"tools.x.rate": 0}}) == "deny"
    assert verdict(policy, call("x"), {"rates": {"tools.x.rate": 1}}) == "allow"
    assert judge(policy, call("x"), {"rates": None}).errored == ("tools.x.rate",)


def test_asks_carry_the_terms_of_approval() -> None:
    """Two people where the policy says so, or where it cannot be told."""
    policy = """
tools: {pay: {allow: true, ask: true}, other: {allow: true, ask: true}}
approvals: {timeout: 5m, approvers: [boss], two_person: {when: {amount: {min: 10}}}}
"""
    terms = judge(policy, call("pay", amount=5)).obligations[-1]
    assert terms.kind == "approve"
    assert (terms.params["people"], terms.params["timeout_s"], terms.params["approvers"]) == (1, 300.0, ["boss"])
    assert judge(policy, call("pay", amount=10)).obligations[-1].params["people"] == 2
    assert judge(policy, call("pay", amount="10")).obligations[-1].params["people"] == 2
    assert judge(policy, call("other")).obligations[-1].params["people"] == 1


def test_default_facts_are_what_the_documentation_says() -> None:
    """No facts: no findings, trusted arguments, unlimited budgets, a public address."""
    assert judge("budgets: [{per: user, window: day, calls: 1}]\n" + ALLOW, call("x")).verdict is Verdict.ALLOW
    assert DEFAULTS.findings == ()
