"""`Policy`: digests, packs, layers, data, origins, trials."""

from __future__ import annotations

from typing import Any

import pytest

from agent_os.core.action import Action
from agent_os.core.errors import PolicyError, Problem
from agent_os.core.facts import DEFAULTS
from agent_os.core.grant import Grant
from agent_os.policy import Policy, decide
from tests.unit.policy.helpers import call, judge, verdict

PACKS = {
    "pack:base": "tools: {read: {allow: true}, write: {deny: {path: {glob: '*.env'}}}}\nbudgets: [{per: user, window: day, calls: 5}]",
    "pack:loop": "extends: [pack:loop2]",
    "pack:loop2": "extends: [pack:loop]",
    "pack:bad": "tools: {x: {alow: 1}}",
    "team.yaml": "extends: [pack:base]\ntools: {send: {ask: true, allow: true}}",
}


def resolve(reference: str, _referring: str) -> tuple[str, str]:
    """Return a pack of this test."""
    if reference not in PACKS:
        raise PolicyError(Problem("no such pack"))
    return PACKS[reference], reference


def parse(text: str, **options: Any) -> Policy:
    """Parse with the packs of this test."""
    return Policy.parse(text, resolve_pack=resolve, **options)


def test_a_digest_is_of_the_content_not_of_its_spelling() -> None:
    """Order of keys, comments and style do not matter; a changed value does."""
    one = Policy.parse("tools: {a: {allow: true}, b: {allow: true}}")
    two = Policy.parse("# c\ntools:\n  b: {'allow': true}\n  a:\n    allow: true\n")
    assert one.digest == two.digest
    assert one == two
    assert one.digest.startswith("sha256:")
    assert Policy.parse("tools: {a: {allow: true}}").digest != one.digest
    assert Policy.parse("tools: {a: {allow: true}, b: {allow: true}}", semantics="openshell").digest != one.digest


def test_extends_unites_rules_and_the_strictest_wins() -> None:
    """A pack's allow is available, its deny cannot be overridden, and its rules carry its name."""
    policy = parse("extends: [pack:base]\ntools: {write: {allow: true}}")
    assert verdict(policy, call("read")) == "allow"
    assert judge(policy, call("write", path="a.env")).rules == ("pack:base/tools.write.deny",)
    assert verdict(policy, call("write", path="a.txt")) == "allow"
    assert set(policy.rules) == {
        "tools.write.allow", "pack:base/tools.read.allow", "pack:base/tools.write.deny", "pack:base/budgets[0]",
    }  # fmt: skip
    origin = policy.origins["pack:base/tools.write.deny"]
    assert (origin.pack, origin.place.file, origin.place.line, origin.effect) == ("pack:base", "pack:base", 1, "deny")


def test_extends_reaches_files_and_packs_through_them_once() -> None:
    """Extended files may extend; what is reached twice counts once."""
    policy = parse("extends: [team.yaml, pack:base]")
    assert verdict(policy, call("send")) == "ask"
    assert verdict(policy, call("read")) == "allow"
    assert len([rule for rule in policy.rules if rule.endswith("tools.read.allow")]) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: [pack:loop]", "loop"),
        ("extends: [../other.yaml]", "leaves the folder"),
        ("extends: [/etc/policy.yaml]", "leaves the folder"),
        ("extends: [a/../../b.yaml]", "leaves the folder"),
        ("extends: [pack:none]", "no such pack"),
        ("extends: [pack:bad]", "unknown key 'alow'"),
        ("extends: ['']", "extends"),
        ("data: {a: {file: ../x.yaml}}", "leaves the folder"),
        ("data: {a: {file: /etc/passwd}}", "leaves the folder"),
    ],
)
def test_loops_and_paths_that_leave_the_folder_are_refused(text: str, message: str) -> None:
    """`extends` and data files stay beside the policy and end."""
    with pytest.raises(PolicyError, match=message):
        parse(text)


def test_two_files_of_one_name_are_two_files() -> None:
    """What `sub/team.yaml` means by `base.yaml` is the one beside it; its restrictions are not lost."""
    texts = {
        "base.yaml": "tools: {x: {allow: true}}",
        "sub/team.yaml": "extends: [base.yaml]",
        "sub/base.yaml": "tools: {x: {deny: {a: 1}}}",
    }

    def beside(reference: str, referring: str) -> tuple[str, str]:
        folder = referring.rpartition("/")[0]
        file = f"{folder}/{reference}" if folder else reference
        return texts[file], file

    policy = Policy.parse("extends: [base.yaml, sub/team.yaml]", file="top.yaml", resolve_pack=beside)
    assert verdict(policy, call("x", a=2)) == "allow"
    assert judge(policy, call("x", a=1)).rules == ("base.yaml#2/tools.x.deny",)
    texts["sub/base.yaml"] = "extends: [team.yaml]"
    with pytest.raises(PolicyError, match="loop"):
        Policy.parse("extends: [sub/team.yaml]", file="top.yaml", resolve_pack=beside)


def test_without_a_resolver_extends_is_refused() -> None:
    """Parsing is pure: nothing is read behind the caller's back."""
    with pytest.raises(PolicyError, match="nothing here can read it"):
        Policy.parse("extends: [pack:base]")


def test_long_chains_of_extends_end() -> None:
    """Depth and number of files are bounded."""

    def chain(reference: str, _referring: str) -> tuple[str, str]:
        number = int(reference.removesuffix(".yaml").removeprefix("f"))
        return f"extends: [f{number + 1}.yaml]", reference

    with pytest.raises(PolicyError, match="deeper than"):
        Policy.parse("extends: [f0.yaml]", resolve_pack=chain)

    def wide(reference: str, _referring: str) -> tuple[str, str]:
        return "tools: {}", reference

    with pytest.raises(PolicyError, match="more than 32 files"):
        Policy.parse(f"extends: [{', '.join(f'f{i}.yaml' for i in range(40))}]", resolve_pack=wide)


def test_layers_can_only_narrow() -> None:
    """Each layer must allow; rules carry the layer's name; strictest over layers."""
    org = Policy.parse("tools: {read: {allow: true}, pay: {allow: true, ask: true}}", file="org.yaml")
    user = Policy.parse(
        "tools: {read: {allow: {path: {under: mine}}}, pay: {allow: true}, more: {allow: true}}", file="user.yaml"
    )
    policy = Policy.layered([org, user])
    assert verdict(policy, call("read", path="mine/a")) == "allow"
    assert verdict(policy, call("read", path="other")) == "deny"
    assert judge(policy, call("pay")).rules == ("org/tools.pay.ask",)
    denied = judge(policy, call("more"))
    assert denied.verdict == "deny"
    assert "org" in denied.reason
    assert Policy.layered([org]) is org
    same = Policy.layered([org, org])
    assert {rule.split("/")[0] for rule in same.rules} == {"org", "org#2"}
    with pytest.raises(PolicyError):
        Policy.layered([])


def test_an_abstaining_layer_only_restricts() -> None:
    """`default: abstain` leaves kinds it allows nothing of to other layers; alone it still denies."""
    base = Policy.parse("tools: {read: {allow: true}, pay: {allow: true}}\nmemory: allow", file="base.yaml")
    extra = Policy.parse("default: abstain\ntools: {pay: {deny: true}}", file="extra.yaml")
    policy = Policy.layered([base, extra])
    assert verdict(policy, call("read")) == "allow"
    assert verdict(policy, call("pay")) == "deny"
    assert verdict(policy, {"kind": "memory.read", "key": "a"}) == "allow"
    assert verdict(extra, call("read")) == "deny"
    grants = Policy.parse("default: abstain\ntools: {read: {allow: {a: 1}}}", file="grants.yaml")
    assert verdict(Policy.layered([base, grants]), call("read")) == "deny"


def test_data_files_come_through_the_resolver_and_change_the_digest() -> None:
    """Data is part of what is decided, so it is part of the digest."""
    text = "data: {s: {file: s.yaml}}\ntools: {x: {allow: {i: {in: data.s.iban}}}}"
    one = Policy.parse(text, resolve_data=lambda _path, _file: [{"iban": "DE1"}])
    two = Policy.parse(text, resolve_data=lambda _path, _file: [{"iban": "DE2"}])
    assert verdict(one, call("x", i="DE1")) == "allow"
    assert verdict(two, call("x", i="DE1")) == "deny"
    assert one.digest != two.digest


def test_rules_can_have_names_and_two_of_one_name_are_refused() -> None:
    """`id` makes a rule's id stable; ids are unique."""
    text = "tools: {x: {allow: true, rules: [{id: big, deny: {a: {min: 5}}, reason: too big, cites: [ASI02]}]}}"
    decision = judge(text, call("x", a=6))
    assert decision.rules == ("tools.x.big",)
    assert "too big [ASI02]" in decision.reason
    with pytest.raises(PolicyError, match="two rules with the id"):
        Policy.parse("tools: {x: {rules: [{id: a, deny: true}, {id: a, deny: true}]}}")


def test_a_trial_records_and_lets_pass() -> None:
    """`enforcement: audit` on a tool or on the file: the decision names what would have denied."""
    decision = judge("tools: {x: {allow: true, deny: {a: 1}, enforcement: audit}}", call("x", a=1))
    assert (decision.verdict.value, decision.audit_only) == ("allow", ("tools.x.deny",))
    decision = judge("enforcement: audit\nname: trial\ntools: {x: {deny: true}}", call("y"))
    assert (decision.verdict.value, decision.audit_only) == ("allow", ("trial.default",))
    strict = Policy.parse("tools: {y: {ask: true, allow: true}}", file="strict.yaml")
    both = Policy.layered([strict, Policy.parse("enforcement: audit\ntools: {}", file="trial.yaml")])
    assert verdict(both, call("y")) == "ask"
    assert verdict(both, call("x")) == "deny"


def test_who_narrows_a_rule_to_principals() -> None:
    """A mapping is AND, a list OR; a restriction for some leaves the others alone."""
    policy = Policy.parse(
        "tools: {x: {allow: true, who: {user: ['*@corp.example'], tenant: default}}, y: {allow: true, rules: [{deny: true, who: {depth: 1}}]}}"
    )
    wire = {**call("x"), "principal": {"user": "a@corp.example"}}
    assert verdict(policy, wire) == "allow"
    assert verdict(policy, {**wire, "principal": {"user": "a@evil.example"}}) == "deny"
    assert verdict(policy, {**wire, "principal": {"user": "a@corp.example", "tenant": "other"}}) == "deny"
    assert verdict(policy, call("y")) == "allow"
    assert verdict(policy, {**call("y"), "principal": {"parents": ["main"]}}) == "deny"


def test_a_grant_discharges_its_ask_and_nothing_else() -> None:
    """Bound to rule, action digest, policy digest and time."""
    policy = Policy.parse("tools: {x: {allow: true, ask: true}}")
    action = Action.parse(call("x", a=1))
    grant = Grant("g", ("tools.x.ask",), action.digest, policy.digest, 100.0, "boss")

    def with_grant(given: Grant, now: float | None = 50.0, wire: dict[str, Any] | None = None) -> str:
        from dataclasses import replace

        facts = replace(DEFAULTS, grants=(given,), now=now)
        return decide(policy, Action.parse(wire or call("x", a=1)), facts).verdict.value

    assert with_grant(grant) == "allow"
    assert with_grant(grant, now=100.0) == "ask"
    assert with_grant(grant, now=None) == "ask"
    assert with_grant(grant, wire=call("x", a=2)) == "ask"
    from dataclasses import replace

    assert with_grant(replace(grant, policy_digest="sha256:other")) == "ask"
    assert with_grant(replace(grant, rules=("tools.y.ask",))) == "ask"
