"""Conditions on arguments: what holds, what does not, and what cannot be judged."""

from __future__ import annotations

from typing import Any

import pytest

from agent_os.core.errors import PolicyError
from agent_os.core.facts import DEFAULTS
from agent_os.policy import Policy
from agent_os.policy.conditions import compile_condition
from agent_os.policy.schema.tools import Tool
from agent_os.policy.values import MISSING, host_of, pluck
from tests.unit.policy.helpers import call, judge, verdict

DATA = {
    "suppliers": [{"name": "acme", "iban": "DE89 3704 0044 0532 0130 00"}],
    "hosts": {"ok": ["a.example"]},
    "ids": [1, 2],
}


def answer(condition: Any, value: Any, *, wide: bool = False) -> bool | None:
    """Return the answer of a condition as a policy file would hold it."""
    tool = Tool.model_validate({"allow": {"a": condition}})
    assert isinstance(tool.allow, dict)
    return compile_condition(tool.allow["a"], wide=wide, data=DATA)(value, DEFAULTS)


@pytest.mark.parametrize(
    ("condition", "value", "expected"),
    [
        ("EUR", "EUR", True), ("EUR", "USD", False), ("EUR", 5, None), (True, True, True), (True, 1, None),
        (1, 1.0, True), (1, True, None), (None, None, True), (["EUR", "USD"], "USD", True), (["EUR", 1], "x", None),
        ({"equals": [1, 2]}, [1, 2], True), ({"equals": {"a": 1}}, {"a": 1.0}, True), ({"equals": {"a": 1}}, {}, False),
        ({"min": 5}, 5, True), ({"min": 5}, 4.99, False), ({"min": 5}, "6", None), ({"min": 5}, True, None),
        ({"max": 5}, 5, True), ({"max": 5}, 6, False), ({"above": 5}, 5, False), ({"below": 5}, 4, True),
        ({"min": 1, "max": 3}, 2, True), ({"min": 1, "max": 3}, 4, False), ({"max": 5}, float("nan"), None),
        ({"in": ["a", "b"]}, "a", True), ({"in": ["a", "b"]}, "c", False), ({"in": ["a"]}, 1, None), ({"in": []}, "a", None),
        ({"not_in": ["a"]}, "b", True), ({"not_in": ["a"]}, "a", False), ({"not_in": ["a"]}, 1, None),
        ({"in": "data.suppliers.iban", "as": "iban"}, "de89370400440532013000", True), ({"in": "data.ids"}, 2, True),
        ({"not_in": "data.suppliers.iban", "as": "iban"}, "DE00", True), ({"in": "data.ids"}, "2", None),
        ({"glob": "*.txt"}, "a.txt", True), ({"glob": "*.txt"}, "a/b.txt", False), ({"glob": "**.txt"}, "a/b.txt", True),
        ({"glob": ["a*", "b*"]}, "bc", True), ({"glob": "a?c"}, "abc", True), ({"glob": "[!a]x"}, "bx", True),
        ({"glob": "{a,b}-*"}, "b-1", True), ({"glob": r"\*"}, "*", True), ({"glob": "a*"}, 5, None),
        ({"regex": "[A-Z]{2}[0-9]+"}, "DE12", True), ({"regex": "[A-Z]{2}"}, "xDEx", False), ({"regex": "a"}, 1, None),
        ({"under": "inbox/"}, "inbox/a", True), ({"under": "inbox"}, "inbox", True), ({"under": "inbox"}, "inboxes/a", False),
        ({"under": "inbox"}, "inbox/../x", False), ({"under": "inbox"}, "/workspace/inbox/./a", True),
        ({"under": "."}, "/etc/passwd", False), ({"under": "/tmp"}, "/tmp//x", True), ({"under": "/"}, "/x", True),
        ({"under": "inbox"}, "inbox/\x00", None), ({"under": "inbox"}, "~/x", None), ({"under": ["a", "b"]}, "b/c", True),
        ({"host_in": ["*.corp.example"]}, "https://a.corp.example/x", True), ({"host_in": ["*.corp.example"]}, "a.b.corp.example", False),
        ({"host_in": ["**.corp.example"]}, "a.b.corp.example:443", True), ({"host_in": ["corp.example"]}, "x@CORP.example", True),
        ({"host_in": ["corp.example"]}, "https://corp.example@evil.example/", None),
        ({"host_in": ["corp.example"]}, "https://evil.example\\@corp.example/", None), ({"host_in": "data.hosts.ok"}, "a.example", True),
        ({"not_host_in": ["corp.example"]}, "http://evil.example", True), ({"not_host_in": ["corp.example"]}, "corp.example.", False),
        ({"length": 3}, "abc", True), ({"length": {"max": 2}}, [1, 2, 3], False), ({"length": {"min": 1}}, 5, None),
        ({"type": "string"}, "a", True), ({"type": "integer"}, 1.5, False), ({"type": "integer"}, True, False), ({"type": "array"}, [], True),
        ({"json_schema": {"type": "object", "required": ["a"]}}, {"a": 1}, True), ({"json_schema": {"maxLength": 2}}, "abc", False),
        ({"json_schema": {"pattern": "^a+$"}}, "aab", False), ({"present": True}, None, True), ({"present": False}, 1, False),
        ({"absent": True}, 1, False), ({"fields": {"b": {"min": 2}}}, {"b": 3}, True), ({"fields": {"b": {"min": 2}}}, {}, None),
        ({"fields": {"b": 1}}, "x", None), ({"every": {"min": 2}}, [2, 3], True), ({"every": {"min": 2}}, [1, 3], False),
        ({"some": {"min": 2}}, [1, 3], True), ({"some": {"min": 2}}, 5, None), ({"not": {"in": ["a"]}}, "b", True),
        ({"not": {"in": ["a"]}}, 1, None), ({"min": 1, "glob": "x"}, 5, None), ({"as": "email", "in": ["a@b.c"]}, "A <A@B.C>", True),
        ({"as": "lower", "equals": "Ab"}, "aB", True), ({"as": "digits", "equals": "12"}, "1-2", True),
        ([{"min": 100}, {"max": 1}], 200, True), ([{"min": 100}, {"max": 1}], 50, False), ([{"min": 100}, {"glob": "x"}], 5, None),
    ],
)  # fmt: skip
def test_one_value(condition: Any, value: Any, expected: bool | None) -> None:
    """True, False, or None where the argument is of the wrong type."""
    assert answer(condition, value) is expected


def test_a_missing_argument_cannot_be_judged_unless_presence_is_asked() -> None:
    """Missing is None for every operator but `present` and `absent`."""
    assert answer({"min": 1}, MISSING) is None
    assert answer({"not": {"min": 1}}, MISSING) is None
    assert answer({"present": True}, MISSING) is False
    assert answer({"absent": True}, MISSING) is True
    assert answer({"present": True, "min": 1}, MISSING) is False


@pytest.mark.parametrize(
    ("condition", "value", "narrow", "wide"),
    [
        ({"in": ["a", "b"]}, ["a", "c"], False, True),
        ({"not_in": ["a"]}, ["a", "c"], False, True),
        ({"glob": "rm *"}, "rm -rf /", False, True),
        ({"regex": "rm"}, "sudo rm\n-rf", False, True),
        ({"min": 5}, [1, 9], False, True),
        ({"in": ["a"]}, [], True, False),
        ({"in": ["a"]}, ["a", 1], None, True),
    ],
)
def test_conditions_are_read_the_stricter_way(condition: Any, value: Any, narrow: Any, wide: Any) -> None:
    """An allow needs every item and the whole text, a restriction any item and any part."""
    assert answer(condition, value) is narrow
    assert answer(condition, value, wide=True) is wide


def test_missing_and_wrongly_typed_arguments_fire_restrictions_and_fail_allows() -> None:
    """A restricting rule cannot be escaped by leaving its argument out or sending a text for a number."""
    policy = "tools: {pay: {allow: true, ask: {amount: {min: 1000}}, deny: {iban: {not_in: [DE1]}}}}"
    assert verdict(policy, call("pay", amount=5, iban="DE1")) == "allow"
    assert verdict(policy, call("pay", amount="5", iban="DE1")) == "ask"
    assert verdict(policy, call("pay", iban="DE1")) == "ask"
    assert verdict(policy, call("pay", amount=5)) == "deny"
    assert verdict(policy, call("pay", amount=5, iban=["DE1"])) == "allow"
    assert verdict(policy, call("pay", amount=5, iban=["DE1", "DE2"])) == "deny"
    assert verdict("tools: {pay: {allow: {amount: {max: 10}}}}", call("pay", amount="5")) == "deny"
    decision = judge(policy, call("pay", amount=5))
    assert decision.errored == ("tools.pay.deny",)


def test_a_pointer_reaches_into_arguments() -> None:
    """A name that begins with `/` is an RFC 6901 pointer."""
    policy = "tools: {pay: {allow: {/payee/iban: DE1, /lines/0/amount: {max: 5}}}}"
    assert verdict(policy, call("pay", payee={"iban": "DE1"}, lines=[{"amount": 5}])) == "allow"
    assert verdict(policy, call("pay", payee={"iban": "DE2"}, lines=[{"amount": 5}])) == "deny"
    assert verdict(policy, call("pay", payee={"iban": "DE1"}, lines=[])) == "deny"


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("{regex: '(a'}", "not a valid pattern"),
        ("{regex: '(?=a)'}", "not a valid pattern"),
        ("{glob: '[a'}", "unclosed"),
        ("{glob: '{a'}", "unclosed"),
        ("{under: ../x}", "must not contain"),
        ("{json_schema: {type: 5}}", "JSON Schema"),
        ("{json_schema: {$ref: 'https://x.example/s'}}", "inside the schema"),
        ("{json_schema: {patternProperties: {a: {}}}}", "not supported"),
        ("{json_schema: {pattern: '(a'}}", "not a valid pattern"),
        ("{in: data.missing.x}", None),
        ("{in: data.s.nothing}", "names no values"),
        ("{length: {min: 3, max: 1}}", "above the greatest"),
        ("{present: true, absent: true}", "contradict"),
        ("{not: {regex: '['}}", "not a valid pattern"),
        ("{every: {glob: '['}}", "unclosed"),
    ],
)
def test_unparsable_conditions_are_refused_at_load(condition: str, message: str | None) -> None:
    """A condition that cannot be compiled never becomes a rule that never matches; the place is its key."""
    text = f"data: {{s: [{{iban: DE1}}]}}\ntools: {{x: {{deny: {{a: {condition}}}}}}}"
    if message is None:
        assert verdict(text, call("x", a="v")) == "deny"
        return
    with pytest.raises(PolicyError, match=message) as caught:
        Policy.parse(text)
    assert caught.value.line == 2


def test_evil_regexes_take_linear_time() -> None:
    """The classic catastrophic pattern answers at once on a long input."""
    policy = Policy.parse("tools: {x: {deny: {a: {regex: '(a+)+$', length: {min: 1}}}, allow: true}}")
    assert verdict(policy, call("x", a="a" * 50_000 + "!")) == "allow"
    many = "*a" * 30
    policy = Policy.parse(f"tools: {{x: {{allow: {{a: {{glob: '{many}*b'}}}}}}}}")
    assert verdict(policy, call("x", a="a" * 50_000)) == "deny"


def test_data_sets_are_found_in_lists_and_mappings() -> None:
    """`data.suppliers.iban` answers for a list of records, a mapping of records, and a mapping of lists."""
    assert pluck([{"iban": "A"}, {"iban": "B"}], ["iban"]) == ["A", "B"]
    assert pluck({"x": {"iban": "A"}}, ["iban"]) == ["A"]
    assert pluck({"iban": ["A", "B"]}, ["iban"]) == ["A", "B"]
    assert pluck({"iban": {"deep": [1]}}, ["iban"]) is None
    assert pluck(["A"], []) == ["A"]


def test_data_that_only_the_runtime_has_is_looked_up_in_the_facts() -> None:
    """Without it a deny fires and an allow does not match; with it both are exact."""
    policy = "data: {s: {file: s.yaml}}\ntools: {x: {allow: true, deny: {i: {not_in: data.s.iban}}}}"
    assert verdict(policy, call("x", i="DE1")) == "deny"
    assert verdict(policy, call("x", i="DE1"), {"data": {"s": [{"iban": "DE1"}]}}) == "allow"
    assert verdict(policy, call("x", i="DE2"), {"data": {"s": [{"iban": "DE1"}]}}) == "deny"


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("https://A.example:443/x?y#z", "a.example"), ("a@b.example", "b.example"), ("b.example.", "b.example"),
        ("http://0x7f.1/", "127.0.0.1"), ("http://[::1]:80/", "::1"), ("http://a b/", None), ("//x/y", None), ("", None),
        ("https://user:pw@a.example/", None), ("https://a.example\t.evil/", None), ("a@b@c", None), ("http:///x", None),
    ],
)  # fmt: skip
def test_the_host_of_a_text(text: str, host: str | None) -> None:
    """A host is only named where every parser would find the same one."""
    assert host_of(text) == host
