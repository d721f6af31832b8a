"""Rules over header and body fields: every reading counts, an allow needs all of them, a deny one."""

from __future__ import annotations

from typing import Any

import pytest

from agent_os import Action, Policy, decide
from agent_os.core.decision import Verdict
from agent_os.core.errors import PolicyError
from agent_os.policy.network.fields import UNREADABLE, document, field_values

POLICY = """
version: 1
network_policies:
  bank:
    endpoints:
      - host: bank.test
        port: 443
        protocol: rest
        enforcement: enforce
        rules:
          - allow: {method: GET, path: "/**"}
          - allow:
              method: POST
              path: /transfers
              headers: {X-Env: "test*", Content-Type: {any: [application/json, application/x-www-form-urlencoded]}}
              body: {payee: {iban: "DE*"}, amount: {min: 1, max: 100}}
          - allow: {method: PUT, path: "/**"}
        deny_rules:
          - {method: PUT, path: "/**", body: {role: admin}}
          - {headers: {X-Debug: {any: ["1", "true"]}}}
"""
GOOD = {"payee": {"iban": "DE1"}, "amount": 50}


def errors(text: str) -> list[str]:
    """What is wrong with a policy that does not load; nothing for one that does."""
    try:
        Policy.parse(text)
    except PolicyError as error:
        return [problem.message for problem in error.problems]
    return []


def verdict(method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, **more: Any) -> Verdict:
    """What is decided of one request."""
    wire = {"kind": "net.request", "host": "bank.test", "port": 443, "method": method, "path": path}
    given = {"x-env": "test-1", "content-type": "application/json", **(headers or {})}
    return decide(Policy.parse(POLICY), Action.parse({**wire, "body": body, "headers": given, **more})).verdict


ALLOW = {
    "as the rule says": (GOOD, {}, True),
    "a dotted key": ({"payee.iban": "DE1", "amount": 1}, {}, True),
    "every transfer of a list": ([GOOD, GOOD], {}, True),
    "a form": ("payee.iban=DE1&amount=100", {"content-type": "application/x-www-form-urlencoded"}, True),
    "too much": ({**GOOD, "amount": 101}, {}, False),
    "too much, beside enough": ({**GOOD, "AMOUNT": 101}, {}, False),
    "no number": ({**GOOD, "amount": "0x1"}, {}, False),
    "nothing": ({**GOOD, "amount": None}, {}, False),
    "an object for a number": ({**GOOD, "amount": {"value": 5}}, {}, False),
    "one of a list": ({**GOOD, "amount": [5, 500]}, {}, False),
    "another payee": ({"payee": {"iban": "FR1"}, "amount": 50}, {}, False),
    "another payee under a dotted key": ({**GOOD, "payee.iban": "FR1"}, {}, False),
    "one of a list lacks it": ([GOOD, {"amount": 5}], {}, False),
    "no body": (None, {}, False),
    "a form that says it twice": (
        "payee.iban=DE1&amount=5&amount=500", {"content-type": "application/x-www-form-urlencoded"}, False),
    "xml": ("<t><amount>5</amount></t>", {"content-type": "application/xml"}, False),
    "another environment": (GOOD, {"x-env": "prod"}, False),
    "another environment beside it": (GOOD, {"x-env": "test, prod"}, False),
    "another environment under an underscore": (GOOD, {"x_env": "prod"}, False),
    "no environment": (GOOD, {"x-env": ""}, False),
    "another type": (GOOD, {"content-type": "text/plain"}, False),
}  # fmt: skip
DENY = {
    "the field": ({"role": "admin"}, {}, True),
    "in other letters": ({"ROLE": "admin"}, {}, True),
    "in a list": ([{"role": "user"}, {"role": "admin"}], {}, True),
    "in a list of values": ({"role": ["user", "admin"]}, {}, True),
    "as text": ('{"role": "admin"}', {"content-type": "text/plain"}, True),
    "in a form": ("role=user&role=admin", {"content-type": "application/x-www-form-urlencoded"}, True),
    "in what nobody reads": ("<role>admin</role>", {"content-type": "application/xml"}, True),
    "twice": ('{"role": "user", "role": "admin"}', {"content-type": "text/plain"}, True),
    "another value": ({"role": "user"}, {}, False),
    "elsewhere": ({"note": {"role": "admin"}}, {}, False),
    "no body": (None, {}, False),
    "a header": ({"role": "user"}, {"x-debug": "0, 1"}, True),
    "a header under an underscore": ({"role": "user"}, {"x_debug": "true"}, True),
    "another header": ({"role": "user"}, {"x-debug": "0"}, False),
}


@pytest.mark.parametrize("name", ALLOW)
def test_an_allow_rule_needs_every_reading(name: str) -> None:
    """ATTACK and twin: fields beside the judged one, lists, letter case, forms."""
    body, headers, allowed = ALLOW[name]
    assert (verdict("POST", "/transfers", body, headers) is Verdict.ALLOW) is allowed


@pytest.mark.parametrize("name", DENY)
def test_a_deny_rule_fires_on_one_reading(name: str) -> None:
    """ATTACK and twin: what some server could take for the denied value is denied; another value is not."""
    body, headers, denied = DENY[name]
    assert (verdict("PUT", "/users/7", body, headers) is Verdict.DENY) is denied


def test_a_body_that_is_no_text_has_no_fields_for_an_allow_and_all_for_a_deny() -> None:
    """Bytes that nobody here reads: size and digest say that there is a body."""
    assert verdict("PUT", "/x", None, size=4, body_digest="sha256:" + "0" * 64) is Verdict.DENY
    assert verdict("POST", "/transfers", None, size=4) is Verdict.DENY
    assert verdict("GET", "/x") is Verdict.ALLOW


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ('allow: {method: GET, path: "/**", headers: {Authorization: "x*"}}', "credential's field"),
        ('allow: {method: GET, path: "/**", headers: {Proxy_Authorization: x}}', "credential's field"),
        ('allow: {method: GET, path: "/**", body: {n: {min: 5, max: 1}}}', "least number is above"),
        ('allow: {method: GET, path: "/**", body: {n: {min: five}}}', ""),
    ],
)
def test_what_could_never_hold_is_refused(rule: str, says: str) -> None:
    """A rule about credentials, an empty range: the file says where; a word for a number is a field named `min`."""
    text = (
        "version: 1\nnetwork_policies: {a: {endpoints: [{host: a.test, port: 443, protocol: rest, rules: [{RULE}]}]}}"
    )
    found = errors(text.replace("RULE", rule))
    assert (not found) if not says else any(says in message for message in found), found


def test_other_protocols_have_no_such_rules() -> None:
    """Header and body matchers outside REST are refused, not ignored."""
    text = (
        "version: 1\nnetwork_policies: {a: {endpoints: [{host: a.test, port: 443, protocol: websocket, "
        'rules: [{allow: {method: GET, path: "/**", headers: {X-A: b}}}]}]}}'
    )
    assert any("only valid for protocol rest" in message for message in errors(text))


@pytest.mark.parametrize(
    ("value", "path", "texts"),
    [
        ({"a": {"b": 1}}, "a.b", ["1"]),
        ({"a": [{"b": 1}, {"c": 2}]}, "a.b", ["1", None]),
        ({"a": {}}, "a.b", []),
        ({"a": True}, "a", ["true"]),
        ({"a": []}, "a", [None]),
        ("text", "a", []),
        ([], "a", []),
    ],
)
def test_where_a_path_leads(value: Any, path: str, texts: list[str | None]) -> None:
    """Dots and lists; what is no scalar, or lacks where others have it, is None."""
    assert field_values(value, path) == texts


def test_a_form_that_is_none_is_unreadable() -> None:
    """Percent codes that are no text, or no pairs at all."""
    wire = {"kind": "net.request", "host": "a.test", "port": 443, "method": "POST", "path": "/"}
    for body in ("a=%ff", "a", "a=b\x00"):
        action: Any = Action.parse(
            {**wire, "body": body, "headers": {"content-type": "application/x-www-form-urlencoded"}}
        )
        assert document(action) is UNREADABLE, body
