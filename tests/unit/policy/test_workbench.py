"""Explain, diff, learn and check, as functions."""

from __future__ import annotations

import time
from typing import Any

import pytest
import yaml

from agent_os.core.action import Action
from agent_os.core.errors import ActionError
from agent_os.core.facts import DEFAULTS
from agent_os.policy import Policy
from agent_os.policy.workbench.check import check_policy
from agent_os.policy.workbench.diff import diff
from agent_os.policy.workbench.explain import explain
from agent_os.policy.workbench.facts import parse_facts
from agent_os.policy.workbench.learn import Learnt, Seen, learn, to_yaml, with_overlay
from tests.unit.policy.helpers import call, verdict

POLICY = """
tools:
  read_file: {allow: {path: {under: inbox}}}
  pay: {allow: {amount: {max: 100}}, ask: {amount: {min: 50}}, deny: {iban: {not_in: [DE1]}}}
filesystem_policy: {read_only: [/usr], deny: [/etc/shadow]}
process: {allow: [ls], deny: [curl]}
"""


def learnt_from(*wires: dict[str, Any], policy: str = POLICY) -> Learnt:
    """Return what is learnt from some denied actions."""
    return learn(Policy.parse(policy), [Seen(wire, f"e{number}") for number, wire in enumerate(wires)])


def test_learn_lists_the_exact_values_seen() -> None:
    """One value is that value, several are a set, arguments that were not always there may be absent."""
    found = learnt_from(call("fetch", url="https://a/x"), call("fetch", url="https://a/y", depth=1))
    assert found.overlay() == {
        "tools": {"fetch": {"allow": {"url": {"in": ["https://a/x", "https://a/y"]}, "depth": [1, {"absent": True}]}}}
    }
    assert found.proposals[0].evidence == ["e0", "e1"]


def test_learn_generalises_only_when_there_are_many() -> None:
    """Nine files in one folder become the folder, nine numbers a range, nine texts are left open with a note."""
    many = [call("read", path=f"docs/a{n}.txt", size=n, text=f"t{n}") for n in range(9)]
    found = learnt_from(*many)
    clause = found.overlay()["tools"]["read"]["allow"]
    assert clause == {"path": {"under": "docs/"}, "size": {"min": 0, "max": 8}, "text": {"present": True}}
    assert found.proposals[0].note == "text is left open"


def test_learn_never_proposes_past_a_standing_deny() -> None:
    """What a rule forbids stays forbidden and is listed with the rule."""
    found = learnt_from(
        call("pay", amount=500, iban="DE2"), {"kind": "fs.read", "path": "/etc/shadow"},
        {"kind": "process.exec", "argv": ["curl"]}, {"kind": "process.exec", "argv": ["env", "curl"]},
    )  # fmt: skip
    assert found.proposals == []
    assert found.forbidden == {"tools.pay.deny": 1, "filesystem_policy.deny[0]": 1, "process.deny[0]": 2}


def test_learn_leaves_asks_standing() -> None:
    """A proposal may turn a denial into an ask, never an ask into an allow."""
    wire = call("pay", amount=500, iban="DE1")
    found = learnt_from(wire)
    assert verdict(with_overlay(Policy.parse(POLICY), found.overlay()), wire) == "ask"
    assert learnt_from(call("pay", amount=60, iban="DE1")).allowed == 1


@pytest.mark.parametrize(
    "wire",
    [
        {"kind": "fs.write", "path": "out/a.txt"},
        {"kind": "fs.list", "path": "/srv"},
        {"kind": "net.request", "host": "api.example.com", "port": 443, "method": "GET", "path": "/v1/x", "binary": "/usr/bin/curl", "ancestors": []},
        {"kind": "net.connect", "host": "db.example.com", "port": 5432, "binary": "/usr/bin/psql", "ancestors": []},
        {"kind": "process.exec", "argv": ["git", "log", "--oneline"], "binary_path": "/usr/bin/git"},
        {"kind": "secret.use", "name": "TOKEN", "destination": "api.example.com"},
        {"kind": "memory.read", "key": "a*b"},
        {"kind": "memory.write", "key": "notes/x"},
        {"kind": "message.send", "channel": "email", "to": ["a@b.example"]},
        {"kind": "task.schedule", "name": "nightly", "when": {"every": "1d"}, "role": "writer"},
        call("srv-tool", server="srv", a=[1, 2]),
        call("odd*name", nothing=None),
    ],
    ids=lambda wire: wire["kind"],
)  # fmt: skip
def test_what_is_learnt_allows_what_was_seen_and_little_else(wire: dict[str, Any]) -> None:
    """The overlay allows the action itself, and not a neighbour of it."""
    found = learnt_from(wire)
    widened = with_overlay(Policy.parse(POLICY), found.overlay())
    assert verdict(widened, wire) == "allow"
    neighbours = {
        "path": "/elsewhere/x", "host": "other.example", "argv": ["git", "push"], "destination": "evil.example", "key": "other",
        "to": ["x@evil.example"], "name": "other", "tool": "other",
    }  # fmt: skip
    key = next(key for key in neighbours if key in wire and not (key == "name" and "destination" in wire))
    assert verdict(widened, {**wire, key: neighbours[key]}) == "deny"


def test_models_and_agents_are_not_opened_by_example() -> None:
    """Their price and rights are a person's to state."""
    found = learnt_from({"kind": "model.call", "model": "x"}, {"kind": "agent.spawn", "role": "r"})
    assert found.proposals == []
    assert found.unknown == {"no rule can be proposed for model.call": 1, "no rule can be proposed for agent.spawn": 1}


def test_what_was_not_recorded_is_not_guessed() -> None:
    """An action whose arguments are unknown is listed as not evaluable."""
    found = learn(
        Policy.parse(POLICY),
        [Seen(None, "act_1", "arguments were not recorded"), Seen({"kind": "fs.read", "path": "~"})],
    )
    assert found.unknown == {"arguments were not recorded": 1, "malformed: path": 1}


def test_the_overlay_is_a_policy_file_with_its_evidence() -> None:
    """It loads as a policy; comments carry evidence and cannot be broken out of."""
    found = learn(Policy.parse(POLICY), [Seen({"kind": "fs.read", "path": "/srv/a"}, "act_1\nversion: 2")])
    text = to_yaml(found, Policy.parse(POLICY))
    assert yaml.safe_load(text) == {"version": 1, "filesystem_policy": {"read_only": ["/srv/a"]}}
    assert verdict(text, {"kind": "fs.read", "path": "/srv/a"}) == "allow"
    assert "act_1 version: 2" in text


def test_learn_from_a_trial() -> None:
    """What a trial let pass counts as denied: it is what the file would deny."""
    policy = "enforcement: audit\ntools: {x: {allow: {a: 1}}}"
    assert learnt_from(call("x", a=2), policy=policy).overlay() == {"tools": {"x": {"allow": {"a": 2}}}}


def test_diff_compares_behaviour() -> None:
    """Only actions whose verdict changes are listed, with which way; new and lost rules are named."""
    new = POLICY.replace("max: 100", "max: 10").replace("process: {allow: [ls], deny: [curl]}", "memory: allow")
    seen = [
        Seen(call("pay", amount=20, iban="DE1"), "a"), Seen(call("pay", amount=5, iban="DE1"), "b"),
        Seen({"kind": "memory.read", "key": "k"}, "c"), Seen(None, "d"), Seen({"kind": "nonsense"}, "e"),
    ]  # fmt: skip
    found = diff(Policy.parse(POLICY), Policy.parse(new), seen)
    assert [(change.name, change.looser) for change in found.changes] == [("a", False), ("c", True)]
    assert found.counts == {"allow -> deny": 1, "deny -> allow": 1}
    assert (found.actions, found.unknown) == (3, 2)
    assert found.rules_added == ["memory"]
    assert found.rules_removed == ["process.allow[0]", "process.deny[0]"]


def test_diff_names_rules_that_say_something_else() -> None:
    """A bound or a set of data that changed is named although no action at hand meets it; what is the same is not."""
    text = "tools: {pay: {allow: {n: {max: %s}}}, read: {allow: true}}\ndata: {a: [%s], b: [1]}\n"
    found = diff(Policy.parse(text % (5, 1)), Policy.parse(text % (50, 2)), ())
    assert found.rules_changed == ["tools.pay.allow", "data.a"]


def test_explain_says_why_each_rule_did_or_did_not_match() -> None:
    """Argument by argument, with the place of each rule and the least change."""
    policy = Policy.parse(POLICY, file="p.yaml")
    explanation = explain(policy, Action.parse(call("pay", amount=500, iban="DE1")), DEFAULTS)
    by_rule = {item.rule: item for item in explanation.considered}
    assert by_rule["tools.pay.allow"].matched == "no"
    assert by_rule["tools.pay.allow"].why == "amount does not meet: at most 100"
    assert by_rule["tools.pay.ask"].matched == "yes"
    assert by_rule["tools.pay.deny"].matched == "no"
    assert by_rule["tools.pay.allow"].place.startswith("p.yaml:4:")
    assert explanation.change == {"tools": {"pay": {"allow": {"amount": 500, "iban": "DE1"}}}}
    assert explanation.enforced.startswith("process")
    denied = explain(policy, Action.parse(call("pay", amount=5)), DEFAULTS)
    assert {item.rule: item.matched for item in denied.considered}["tools.pay.deny"] == "unclear"
    assert denied.change is None
    assert "no rule can allow past it" in denied.change_note
    assert (
        explain(policy, Action.parse(call("read_file", path="inbox/a")), DEFAULTS).change_note
        == "nothing: it is allowed"
    )


def findings(text: str, **options: Any) -> dict[str, Any]:
    """Return the findings of a policy text by id."""
    return {item.id: item for item in check_policy(Policy.parse(text, **options))}


@pytest.mark.parametrize(
    ("text", "name", "severity"),
    [
        ("tools: {x: {allow: true, deny: true}}", "rule-shadowed", "warning"),
        ("tools: {x_y: {allow: true}, 'x_*': {deny: true}}", "rule-shadowed", "warning"),
        ("tools: {x: {ask: true}}", "rule-shadowed", "warning"),
        ("tools: {x: {deny: {a: {min: 5, max: 4}}}}", "rule-empty", "warning"),
        ("tools: {x: {allow: {a: {above: 5, max: 5}}}}", "rule-empty", "warning"),
        ("tools: {x: {allow: {a: {in: []}}}}", "rule-empty", "warning"),
        ("tools: {x: {allow: {a: {in: [b], not_in: [b]}}}}", "rule-empty", "warning"),
        ("tools: {x: {rules: [{deny: {a: {fields: {b: {in: []}}}}}]}}", "rule-empty", "warning"),
        ("tools: {'**': {allow: true}}", "over-broad-tool", "warning"),
        ("tools: {m: {allow: {to: {glob: '*@corp.example'}}}}", "glob-for-address", "note"),
        ("tools: {m: {allow: [{u: [x, {glob: 'https://a.example/**'}]}]}}", "glob-for-address", "note"),
        ("filesystem_policy: {read_only: [/]}", "over-broad-path", "warning"),
        ("filesystem_policy: {read_write: [/home]}", "over-broad-path", "warning"),
        ("filesystem_policy: {read_only: ['/usr/*']}", "glob-not-supported", "warning"),
        ("filesystem_policy: {read_only: [/usr, /usr/]}", "rule-duplicate", "note"),
        ("filesystem_policy: {read_only: [/srv], read_write: [/srv]}", "rule-conflict", "warning"),
        ("filesystem_policy: {read_only: [/srv/a], deny: [/srv]}", "rule-shadowed", "warning"),
        ("filesystem_policy: {read_only: [/srv/a], read_write: [/srv]}", "semantics-nested-read-only", "note"),
        ("process: {allow: ['*']}", "over-broad-program", "warning"),
        ("process: {allow: [bash]}", "over-broad-program", "note"),
        ("process: {allow: [/usr/bin/curl], deny: [curl]}", "rule-shadowed", "warning"),
        ("network_policies: {a: {endpoints: [{host: a.example, port: 443}]}}", "semantics-binaries", "warning"),
        ("network_policies: {a: {endpoints: [{host: a.example, port: 443, protocol: rest, access: full}], binaries: [{path: /x}]}}", "over-broad-request", "note"),
        ("network_policies: {a: {endpoints: [{host: a.example, port: 443, protocol: rest, access: full}], binaries: [{path: /x}]}}", "semantics-enforcement", "warning"),
        ("network_policies: {a: {endpoints: [{host: a.example, port: 443}], binaries: [{path: /x}]}}", "semantics-private-addresses", "note"),
        ("network_policies: {a: {endpoints: [{host: '**.a.example', port: 443}], binaries: [{path: /x}]}}", "over-broad-host", "note"),
        ("secrets: {A: {destinations: ['**']}}", "over-broad-secret", "error"),
        ("messages: {allow: [{channel: email, to: ['*']}]}", "over-broad-message", "warning"),
        ("agents: {roles: {'*': {}}}", "over-broad-role", "warning"),
        ("models: {providers: {a: {kind: openai, base_url: 'http://x.example'}}}", "plain-http", "warning"),
        ("models: {providers: {a: {kind: openai, secret: K}}}", "secret-not-listed", "note"),
        ("models: {providers: {a: {kind: local}}, routes: [{use: a}, {use: a}]}", "rule-shadowed", "warning"),
        ("models: {providers: {a: {kind: local}, b: {kind: local}}, routes: [{use: a}]}", "unused-provider", "note"),
        ("tools: {x: {allow: true, ask: true}}", "no-approvers", "note"),
        ("data: {a: [1]}", "unused-data", "note"),
        ("data: {a: {file: a.yaml}}\ntools: {x: {allow: {i: {in: data.a.b}}}}", "data-not-read", "warning"),
        ("tools: {x: {allow: {i: {in: data.nowhere.b}}}}", "data-not-defined", "error"),
        ("enforcement: audit", "on-trial", "warning"),
        ("models: {providers: {a: {kind: openai, secret: sk-abcdefghijklmnopqrstuvwxyz}}}", "secret-in-clear", "error"),
        ("process: {set_env: {DB_PASSWORD: hunter2-Kx9-qq}}", "secret-in-clear", "error"),
        ("description: 'postgres://user:pa55word@db.example/x'", "secret-in-clear", "error"),
    ],
)  # fmt: skip
def test_check_finds(text: str, name: str, severity: str) -> None:
    """Each kind of finding, with its severity, a place and words that do not repeat a secret."""
    found = findings(text)
    assert name in found, found
    assert found[name].severity == severity
    assert found[name].place.line >= (1 if found[name].path in text or "." not in found[name].path else 0)
    assert "hunter2" not in str(found[name])


def test_a_good_file_has_no_findings_and_openshell_no_semantic_ones() -> None:
    """No noise where nothing is wrong."""
    good = "tools: {x: {allow: {a: {in: [1]}}, deny: {b: {min: 3}}}}\nfilesystem_policy: {include_workdir: true, read_only: [/usr/lib]}"
    assert findings(good) == {}
    shell = "network_policies: {a: {endpoints: [{host: a.example, port: 443, protocol: rest, access: full}], binaries: [{path: /x}]}}"
    assert not [name for name in findings(shell, semantics="openshell") if name.startswith("semantics-")]


def test_a_host_with_declared_addresses_is_the_same_under_both_semantics() -> None:
    """`allowed_ips`, `local`, a wildcard and an address as the host leave no difference to list."""
    for endpoint in (
        "host: a.example, allowed_ips: [10.0.0.1]",
        "host: a.example, local: true",
        "host: '*.a.example'",
        "host: 10.0.0.1",
    ):
        text = f"network_policies: {{a: {{endpoints: [{{{endpoint}, port: 443}}], binaries: [{{path: /x}}]}}}}"
        assert "semantics-private-addresses" not in findings(text), endpoint


def test_a_thousand_rules_are_checked_in_under_a_second() -> None:
    """Parse, compile and check; by processor time, so that a busy machine does not matter."""
    rule = "{allow: {path: {under: inbox}, mode: {in: [r, w]}}, ask: {size: {min: 10}}, deny: {path: {glob: '*.key'}}}"
    text = "tools:\n" + "".join(f"  tool_{number}: {rule}\n" for number in range(334))
    Policy.parse("tools: {}")
    before = time.process_time()
    assert len(Policy.parse(text).rules) == 1002
    check_policy(Policy.parse(text))
    assert time.process_time() - before < 2.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"findngs": []}, "did you mean 'findings'"),
        ({"depth": -1}, "depth"),
        ({"now": "x"}, "facts.now"),
        ({"budgets": [1]}, "facts.budgets"),
        ({"verdicts": [{"verdict": "allow"}]}, "facts.verdicts"),
        ({"labels": {"": {"integrity": "high"}}}, "facts.labels"),
        ({"capabilities": [{}]}, "facts.capabilities"),
        ([], "must be an object"),
    ],
)
def test_malformed_facts_are_refused(given: Any, message: str) -> None:
    """A misspelt fact is an error, not a default."""
    with pytest.raises(ActionError, match=message):
        parse_facts(given)


def test_what_no_valid_rule_can_allow_is_listed_not_raised() -> None:
    """A memory key that the schema refuses ends as "does not compile" in the learnt list, never as an exception."""
    learnt = learn(Policy.parse("version: 1\n"), [Seen({"kind": "memory.write", "key": "", "value": None})])
    assert not learnt.proposals
    assert any("does not compile" in reason for reason in learnt.unknown)


def test_diff_tells_the_same_verdict_by_other_rules() -> None:
    """An ask that another rule asks is no change of verdict, and is shown all the same."""
    seen = [Seen({"kind": "tool.call", "tool": "send", "args": {"amount": 5}}, "one")]
    old = Policy.parse("version: 1\ntools: {send: {allow: true, ask: true}}")
    new = Policy.parse("version: 1\ntools: {send: {allow: true, ask: {amount: {min: 1}}}, '*': {ask: true}}")
    found = diff(old, new, seen)
    assert not found.changes
    (change,) = found.regrounded
    assert change.before.verdict is change.after.verdict
    assert change.before.rules != change.after.rules
    assert not diff(old, old, seen).regrounded
