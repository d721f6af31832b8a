"""Typical slips in a policy file: each is answered with its line, the field, and how it is to be written."""

from __future__ import annotations

import pytest

from agent_os.core.errors import PolicyError
from agent_os.policy import Policy
from agent_os.policy.workbench.check import check_policy

ENDPOINT = "network_policies:\n  a:\n    endpoints:\n      - {host: a.example, port: 443%s}\n    binaries: [{path: /usr/bin/curl}]\n"


def endpoint(old: str = "", new: str = "", more: str = "") -> str:
    """A policy with one endpoint, something of it changed or added."""
    return (ENDPOINT % more).replace(old, new) if old else ENDPOINT % more


REFUSED = {
    "a tab": ("tools:\n\tread_file: {allow: true}\n", 2, "is not YAML", "no tabs"),
    "a line too deep": ("tools:\n  a: {allow: true}\n   b: {allow: true}\n", 3, "is not YAML", "indented otherwise"),
    "a colon in a text": ("name: a: b\n", 1, "is not YAML", "in quotes"),
    "a bare star": ("tools:\n  *: {allow: true}\n", 2, "is not YAML", "begins with `*`"),
    "an open bracket": ("tools: {a: {allow: true}\n", 2, "is not YAML", "not closed"),
    "a port by name": (endpoint("port: 443", "port: https"), 4, "port must be an integer", "a number: 443"),
    "a port in quotes": (endpoint("port: 443", "port: '443'"), 4, "port must be an integer", "without quotes: 443"),
    "version in quotes": ("version: '1'\n", 1, "version must be 1", "without quotes: 1"),
    "a URL for a host": (endpoint("a.example", "https://a.example/v1"), 4, "is a URL or has a path", "host: a.example"),
    "a path in the host": (endpoint("a.example", "a.example/v1"), 4, "is a URL or has a path", "host: a.example"),
    "one for a list": ("extends: pack:baseline\n", 1, "extends must be a list", "write a list: [pack:baseline]"),
    "a mapping for a list": ("approvals: {approvers: {a: b}}\n", 1, "must be a list", "each entry behind `- `"),
    "a bare program": (endpoint("{path: /usr/bin/curl}", "curl"), 5, "must be a mapping", "{path: /usr/bin/curl}"),
    "yes for true": ("tools:\n  pay: {allow: yes}\n", 2, "tools.pay.allow", "true and false are the words: true"),
    "a kind misspelt": ("models: {providers: {o: {kind: openia}}}\n", 1, "kind must be", "did you mean 'openai'?"),
    "the other spelling": ("privacy: [{find: PERSON, do: pseudonymize}]\n", 1, "do must be", "did you mean 'pseudonymise'?"),
    "a participle": ("flow: {authority_from_untrusted: denied}\n", 1, "must be", "did you mean 'deny'?"),
    "a word for a span": ("budgets: [{per: user, window: weekly, tokens: 5}]\n", 1, "window must be", "did you mean 'week'?"),
    "a provider misspelt": (
        "models:\n  providers: {openai: {kind: openai}}\n  routes:\n    - {use: openal}\n",
        4, "models.routes[0].use names 'openal'", "did you mean 'openai'?",
    ),
    "no space behind a colon": ("name:desk\ntools: {}\n", 2, "is not YAML", "a space must follow the colon"),
    "a bracket too many": ("tools: {a: {allow: true}}}\n", 1, "is not YAML", "a bracket that nothing opened"),
    "no-break spaces": ("tools:\n\u00a0\u00a0a: {allow: true}\n", 2, "no-break spaces", "ordinary spaces"),
    "true in quotes": ("tools: {a: {allow: 'true'}}\n", 1, "must be true, or conditions", "without quotes: true"),
    "tools as a list": ("tools: [read_file]\n", 1, "tools must be a mapping", "{read_file: {allow: true}}"),
    "a verdict at the top": ("deny: {tools: [a]}\n", 1, "unknown key 'deny'", "tools: {NAME: {deny: …}}"),
    "a key of a section": ("roles: {a: {}}\n", 1, "unknown key 'roles'", "it stands in agents.roles"),
    "a condition without a verdict": ("tools: {pay: {amount: {max: 5}}}\n", 1, "unknown key 'amount'", "allow: {amount: …}"),
    "another word for deny": ("tools: {pay: {block: true}}\n", 1, "unknown key 'block'", "did you mean 'deny'?"),
    "a deny with nothing behind it": ("tools:\n  a:\n    allow: true\n    deny:\n", 4, "tools.a.deny is empty", ""),
    "a number for people": ("budgets: [{per: user, window: day, tokens: 500_000}]\n", 1, "must be a number", "a number: 500000"),
    "a unit written out": ("approvals: {timeout: 15min}\n", 1, "must be a duration", "write 15m"),
    "a host with its port": (endpoint("a.example", '"a.example:443"'), 4, "holds a port", "host: a.example, port: 443"),
    "look-around": ("tools: {a: {allow: {x: {regex: '(?!y)z'}}}}\n", 1, "RE2 has no look-around", ""),
    "a secret in place": ("secrets: {KEY: abc}\n", 1, "secrets.KEY must be a mapping", "a value is never written here"),
}  # fmt: skip
LOOKED_AT = {
    "rules nobody reads": (endpoint(more=", access: read-only"), "semantics-protocol", "protocol: rest"),
    "a path without its slash": (
        endpoint(more=", protocol: rest, enforcement: enforce, rules: [{allow: {method: GET, path: v1/x}}]"),
        "network-invalid", "path: /v1/x",
    ),
    "an address for a network": (endpoint(more=", allowed_ips: [10.1.2.3/16]"), "network-host-bits", "write 10.1.0.0/16"),
    "an ask alone": ("tools: {pay: {ask: {amount: {min: 5}}}}\n", "rule-shadowed", "add `allow` to tools.pay"),
    "quotes of a word processor": ("tools: {a: {allow: {x: {glob: “y*”}}}}\n", "typographic-quotes", "write"),
    "a character that does not show": ("tools: {'read\u202e_file': {allow: true}}\n", "invisible-character", "remove it"),
    "a glob for a folder": ("tools: {t: {allow: {path: {under: 'inbox/*'}}}}\n", "glob-not-supported", "under: inbox/"),
    "a URL for a host in a condition": ("tools: {t: {allow: {u: {host_in: ['https://*.a.example/']}}}}\n", "host-never", "write *.a.example"),
    "a URL for a destination": ("secrets: {K: {from: env, destinations: [a.example/v1]}}\n", "host-never", "write a.example"),
    "everybody's domain": (endpoint("a.example", "'api.*.com'"), "over-broad-host", "*.example.com"),
    "no condition": ("tools: {a: {allow: {}}}\n", "rule-always", "allow: true"),
    "allow and deny alike": ("tools: {a: {allow: {x: 1}, deny: {x: 1}}}\n", "rule-shadowed", "remove one"),
    "a variable in a path": ("filesystem_policy: {read_only: [$HOME/data]}\n", "variable-not-replaced", "the whole path"),
    "a command line": ("process: {allow: [git push]}\n", "program-with-arguments", "{binary: git, args: [push]}"),
    "a role of nobody": ("agents: {roles: {a: {may_spawn: [b]}}}\n", "unknown-role", "roles: a"),
    "a role's tool nobody allows": ("agents: {roles: {a: {tools: [read_fil]}}}\n", "role-tool-never", "read_fil"),
    "a provider nowhere": ("models: {providers: {a: {kind: vllm, models: ['*']}}}\n", "provider-no-address", "base_url"),
    "another word for group": ("approvals: {approvers: ['groups:finance']}\n", "approver-nobody", "group:finance"),
    "seconds by omission": ("approvals: {timeout: 15}\n", "duration-without-unit", "timeout: 15s"),
    "a tool misspelt": ("tools: {raed_file: {allow: true}}\n", "unknown-tool", "'read_file'"),
    "an argument misspelt": ("tools: {read_file: {allow: {paht: {under: x}}}}\n", "unknown-argument", "'path'"),
    "a secret for nobody": ("secrets: {KEY: {from: vault}}\n", "secret-nowhere", "destinations: [api.example.com]"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_slip_is_refused_with_its_line_and_its_fix(name: str) -> None:
    """The file does not load; the problem stands at the line of the slip and says what is to be written."""
    text, line, message, fix = REFUSED[name]
    with pytest.raises(PolicyError) as caught:
        Policy.parse(text)
    problem = caught.value.problems[0]
    assert problem.place.line == line
    assert message in problem.message and fix in f"{problem.message} {problem.hint}"
    assert "abc" not in str(caught.value)


@pytest.mark.parametrize("name", LOOKED_AT)
def test_what_loads_and_is_hardly_meant_is_pointed_out(name: str) -> None:
    """`policy check` has a finding for it, with the fix."""
    text, code, fix = LOOKED_AT[name]
    known = {"read_file": {"path", "lines"}}
    assert any(finding.id == code and fix in finding.fix for finding in check_policy(Policy.parse(text), known))


@pytest.mark.parametrize(
    ("condition", "argument"),
    [
        ("{under: 'inbox/*'}", "inbox/a"),
        ("{host_in: ['https://*.a.example/']}", "https://b.a.example/"),
        ("{glob: “y*”}", "yes"),
    ],
)
def test_what_is_pointed_out_as_never_matching_never_does(condition: str, argument: str) -> None:
    """The value that its author meant is not allowed by it."""
    from agent_os import Action, decide

    policy = Policy.parse(f"tools: {{t: {{allow: {{x: {condition}}}}}}}")
    action = Action.parse({"kind": "tool.call", "tool": "t", "args": {"x": argument}})
    assert decide(policy, action).verdict.value == "deny"


def test_what_an_application_names_as_it_likes_is_no_slip() -> None:
    """Its own tools with arguments called `timeout`, people with a colon in their id, subdomains of one's own."""
    text = (
        "tools: {charge: {allow: {timeout: 5}}, read_file: {allow: {path: {under: inbox/}}}}\n"
        "approvals: {approvers: ['arn:aws:iam::1:user/lea', 'group:finance']}\n"
        + endpoint("a.example", "'*.corp.example'")
    )
    assert not [item for item in check_policy(Policy.parse(text), {"read_file": {"path"}}) if item.severity != "note"]


def test_an_ask_restricts_what_another_file_allows() -> None:
    """An ask alone is as it should be where a pack allows the tool, and in a file that only restricts."""
    base = {"pack:base": ("tools: {pay: {allow: true}}", "base.yaml")}
    asks = "tools: {pay: {ask: true}}\n"
    over = Policy.parse("extends: [pack:base]\n" + asks, resolve_pack=lambda name, _: base[name])
    for policy in (over, Policy.parse("default: abstain\n" + asks)):
        assert not [finding for finding in check_policy(policy) if finding.id == "rule-shadowed"]


def test_rules_without_a_protocol_are_held_all_the_same() -> None:
    """ATTACK by omission: without `protocol` the reference passes everything to the host; strict reads the requests."""
    from agent_os import Action, decide

    policy = Policy.parse(endpoint(more=", rules: [{allow: {method: GET, path: /ok}}]"))
    wire = {"kind": "net.request", "host": "a.example", "port": 443, "binary": "/usr/bin/curl", "ancestors": []}
    asked = [decide(policy, Action.parse({**wire, "method": method, "path": "/ok"})) for method in ("GET", "POST")]
    assert [decision.verdict.value for decision in asked] == ["allow", "deny"]


def test_advice_speaks_for_all_files_of_a_layer() -> None:
    """A file of one tool does not hide what the pack it extends allows of another; the workspace is called that."""
    from agent_os import Action, decide

    packs = {"pack:base": ("tools: {read: {allow: {path: {under: .}}}, list: {allow: true}}", "base.yaml")}
    policy = Policy.parse(
        "extends: [pack:base]\ntools: {pay: {allow: true}}\n", resolve_pack=lambda name, _: packs[name]
    )
    wire = {"kind": "tool.call", "tool": "read", "args": {"path": "/etc/passwd"}}
    assert decide(policy, Action.parse(wire)).advice == "this tool is allowed when path is in the workspace"
    assert decide(policy, Action.parse({**wire, "tool": "x"})).advice == "tools that are allowed: list, pay, read"


def test_conditions_that_only_add_to_a_packs_are_noted() -> None:
    """A lower bound beside a pack's higher one narrows nothing, which its author may not know."""
    packs = {"pack:base": ("tools: {pay: {allow: {n: {max: 50}}}}", "base.yaml")}
    policy = Policy.parse(
        "extends: [pack:base]\ntools: {pay: {allow: {n: {max: 5}}}}\n", resolve_pack=lambda name, _: packs[name]
    )
    assert [item.path for item in check_policy(policy) if item.id == "allow-adds"] == ["tools.pay.allow"]
