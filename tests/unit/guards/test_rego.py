"""`guards/rego.py`: what answers of Rego layers mean, and which modules are refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from agent_os.core.decision import Verdict
from agent_os.guards.rego import RegoLayer, rego_layers, verdict_of
from agent_os.guards.rego_modules import BUILTINS, defined_rules, module_problems
from agent_os.policy import Policy

LAYER = RegoLayer("rego:finance", "finance")


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ({"allow": True}, Verdict.ALLOW),
        ({"allow": False}, Verdict.DENY),
        (True, Verdict.ALLOW),
        (False, Verdict.DENY),
        ({"allow": True, "deny": []}, Verdict.ALLOW),
        ({"allow": True, "deny": [{"id": "a", "reason": "why"}]}, Verdict.DENY),
        ({"allow": True, "ask": [{"id": "a"}]}, Verdict.ASK),
        ({"deny": {"limit": "too much"}}, Verdict.DENY),
        ({"deny": ["a sentence"]}, Verdict.DENY),
        ({"deny": True}, Verdict.DENY),
        ({"deny": False}, Verdict.ALLOW),
        ({"ask": True, "deny": True}, Verdict.DENY),
        ({"deny": [], "obligations": [{"kind": "audit"}]}, None),
    ],
)
def test_answers(answer: Any, verdict: Verdict | None) -> None:
    """Deny beats ask beats allow; obligations of an unknown kind are a failure."""
    found = verdict_of(LAYER, answer)
    assert found.verdict is verdict if verdict else found.error


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        "allow",
        1,
        {},
        {"result": True},
        {"allow": "true"},
        {"allow": 1},
        {"deny": "no"},
        {"deny": [1]},
        {"deny": [{"reason": "without an id"}]},
        {"deny": [{"id": "a", "reason": 3}]},
        {"deny": [{"id": str(n)} for n in range(65)]},
        {"allow": True, "obligations": "mask"},
        {"allow": True, "obligations": [{"kind": "launch"}]},
    ],
)
def test_what_has_no_known_shape_is_a_failure(answer: Any) -> None:
    """A failure never allows."""
    found = verdict_of(LAYER, answer)
    assert found.error
    assert found.verdict is not Verdict.ALLOW


def test_an_allow_that_is_defined_but_does_not_hold_denies() -> None:
    """`allow if …` without a default is undefined, not false: it denies all the same."""
    assert verdict_of(LAYER, {}, defines=frozenset({"allow"})).verdict is Verdict.DENY
    assert verdict_of(LAYER, {}, defines=frozenset({"deny"})).verdict is Verdict.ALLOW


def test_long_reasons_are_cut() -> None:
    """A reason cannot flood a log."""
    found = verdict_of(LAYER, {"deny": [{"id": "i" * 1000, "reason": "r" * 10_000}]})
    assert len(found.reason) <= 400
    assert len(found.rules[0]) <= 160


def trees(*modules: str) -> list[Any]:
    """Return syntax trees as the engine gives them."""
    engine = pytest.importorskip("regorus").Engine()
    for number, module in enumerate(modules):
        engine.add_policy(f"m{number}.rego", module)
    return json.loads(engine.get_ast_as_json())  # type: ignore[no-any-return]


def problems(body: str, *more: str) -> list[str]:
    """Return what is wrong with a package `p` of this body."""
    return [item.message for item in module_problems(trees(f"package p\nimport rego.v1\n{body}\n", *more), "p")]


@pytest.mark.parametrize(
    "body",
    [
        "default allow := false\nallow if input.kind == `tool.call`",
        "allow if big(input.args.amount)\nbig(x) if x > 5",
        "deny contains {`id`: `a`} if { some x in input.args.to; not endswith(x, `@corp.example`) }",
        "deny contains m if { m := sprintf(`%s is %d`, [input.tool, 3]) }",
        "allow if count([x | some x in input.args.list; x > 1]) < 3",
        "allow if every x in input.args.list { x < 3 }",
        "allow if regex.match(`^INV-[0-9]{4}$`, input.args.id)",
        "allow if { a; not b }\na if input.x == 1\nb if input.x == 2",
        "deny contains `x` if data.suppliers[input.args.to].blocked",
        "sizes[name] := n if some name, n in input.args\nallow if sizes.a < 3",
    ],
)
def test_modules_as_people_write_them_are_fine(body: str) -> None:
    """Nothing is refused that the engine and OPA read alike."""
    assert problems(body) == []


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ("allow if http.send({`url`: input.url}).status_code == 200", "http.send"),
        ("allow if opa.runtime().env.HOME == `x`", "opa.runtime"),
        ("allow if time.now_ns() > 0", "time.now_ns"),
        ("allow if rand.intn(`x`, 2) == 0", "rand.intn"),
        ("deny contains `a` if not io.jwt.verify_hs256(input.args.t, `k`)", "io.jwt.verify_hs256"),
        ("deny contains `a` if not no_such_builtin(input.x)", "no_such_builtin"),
        ("allow if { f := [x | x := http.send({})] ; count(f) > 0 }", "http.send"),
        ("allow if input.a[http.send({})]", "http.send"),
        ("allow := x if { false } else := http.send({})", "http.send"),
        ("d[http.send({}).x] := 1\nallow if d.a", "http.send"),
        ("default allow := false\nallow if every x in http.send({}) { x }", "http.send"),
        ("allow if walk(input, [p, v])", "walk"),
    ],
)
def test_builtins_outside_the_list_are_refused_by_name(body: str, named: str) -> None:
    """Wherever they stand: in bodies, comprehensions, indices, heads, else branches."""
    assert any(f"'{named}'" in item for item in problems(body))


@pytest.mark.parametrize(
    "body",
    [
        "allow if f(3)\nf(x) := f(x - 1)",
        "allow if deny\ndeny if allow",
        "allow if data.p.allow",
        "allow if data[`p`].allow",
        "allow if a.b\na.b if a.c\na.c if a.b",
        "allow if f(1)\nf(x) if g(x)\ng(x) if f(x)",
        "allow if count([x | x := allow]) > 0",
        "allow if not deny\ndeny if not allow",
        "allow if s[1]\ns contains x if s[x]",
    ],
)
def test_recursion_is_refused(body: str) -> None:
    """Through functions, rules, the package's own path, comprehensions and negation."""
    assert any("recurse" in item for item in problems(body))


def test_recursion_over_packages_is_refused() -> None:
    """A cycle may run through an import of another package."""
    other = "package q\nimport rego.v1\nimport data.p as back\nx if back.allow\n"
    assert any("recurse" in item for item in problems("import data.q\nallow if q.x", other))


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (r"allow if regex.match(`^\d+$`, input.x)", "\\d"),
        (r"allow if regex.match(`[\w.]+`, input.x)", "\\w"),
        ("allow if regex.match(`[a&&b]`, input.x)", "&&"),
        ("allow if regex.match(input.pattern, input.x)", "not constant"),
        ("allow if regex.replace(input.x, input.y, `z`) == `a`", "not constant"),
        ("allow if sprintf(`%t`, [true]) == `true`", "%t"),
        ("allow if sprintf(input.format, []) == `a`", "not constant"),
    ],
)
def test_patterns_that_opa_reads_otherwise_are_refused(body: str, word: str) -> None:
    """`\\d` is every script's digits in this engine and ten characters in OPA."""
    assert any(word in item for item in problems(body))


@pytest.mark.parametrize(
    "body", ["count := 3\nallow if count == 3", "startswith(a, b) if true\nallow if startswith(1, 2)"]
)
def test_names_of_builtins_cannot_be_taken(body: str) -> None:
    """A rule named like a builtin would be called in its place, or not, by the engine."""
    assert any("takes the name" in item for item in problems(body))


def test_a_package_that_decides_nothing_is_refused() -> None:
    """A misspelt `alow` would otherwise never restrict anything."""
    assert any("neither allow" in item for item in problems("alow if true"))
    assert any("neither allow" in item for item in problems("x := 1", "package q\nallow := true\n"))


def test_defined_rules() -> None:
    """Only the package's own rules count."""
    found = trees("package p\nimport rego.v1\nallow if true\n", "package q\ndeny := true\n")
    assert defined_rules(found, "p") == {"allow"}


def test_layers_of_a_policy() -> None:
    """Modules, data sets and limits come from the policy; what is absent is said."""
    policy = Policy.parse(
        """
        version: 1
        tools: {"*": {allow: true}}
        data: {suppliers: [a, b]}
        rego:
          - {package: finance, data: [suppliers], inline: "package finance\\nallow := true", kinds: [tool.call]}
          - {package: other, path: rules/}
          - {opa: "https://opa.corp.example", decision: agentos/decision, timeout: 50ms}
        """
    )
    first, second, third = rego_layers(policy)
    assert first.data == {"suppliers": ["a", "b"]}
    assert first.judges("tool.call")
    assert not first.judges("fs.read")
    assert "was not read" in second.missing
    assert (third.opa, third.decision, third.timeout_s) == ("https://opa.corp.example", "agentos/decision", 0.05)
    assert [layer.number for layer in (first, second, third)] == [0, 1, 2]


def test_the_list_holds_nothing_that_reaches_out() -> None:
    """No network, no environment, no clock, no dice."""
    assert not {name for name in BUILTINS if name.startswith(("http.", "opa.", "rand.", "io.", "uuid."))}
    assert "time.now_ns" not in BUILTINS


def test_the_page_says_what_is_true() -> None:
    """docs/rego.md names every builtin on the list, and its policies load."""
    page = (Path(__file__).parents[3] / "docs" / "rego.md").read_text()
    named = set(re.findall(r"`([a-z0-9_.]+)`", page))
    assert {name for name in BUILTINS if not name.startswith(("array.", "object."))} <= named
    for name in BUILTINS:
        assert name.partition(".")[2] in page or "." not in name
    for text in re.findall(r"```yaml\n(.*?)```", page, re.S):
        assert rego_layers(Policy.parse(text))
