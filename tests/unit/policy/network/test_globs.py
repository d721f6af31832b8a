"""The glob dialects: components, delimiters, values, and what cannot be read."""

from __future__ import annotations

import random

import pytest

from agent_os.policy.network.globs import GlobError, compile_glob, syntax_problem

CASES = [
    ("/repos/**", "/", "/repos", False),
    ("/repos/**", "/", "/repos/", True),
    ("/repos/**", "/", "/repos/a/b", True),
    ("/**/info/refs*", "/", "/info/refs", True),
    ("/**/info/refs*", "/", "/a/b/info/refs", True),
    ("/**/git-upload-pack", "/", "/o/r.git/git-upload-pack", True),
    ("/a**", "/", "/a/b", False),
    ("/a**", "/", "/ab", True),
    ("/bot*/**", "/", "/bot1/send", True),
    ("/bot*/**", "/", "/bot1", False),
    ("/repos/*/issues", "/", "/repos/a/issues", True),
    ("/repos/*/issues", "/", "/repos/a/b/issues", False),
    ("/v?", "/", "/v1", True),
    ("/v[!1]", "/", "/v1", False),
    ("/v{1,2}", "/", "/v2", True),
    ("/usr/bin/*", "/", "/usr/bin/a/b", False),
    ("/x/**/py*", "/", "/x/py3", True),
    ("**.example.com", ".", "a.b.example.com", True),
    ("**.example.com", ".", "example.com", False),
    ("*.example.com", ".", "a.b.example.com", False),
    ("*-api.example.com", ".", "x-api.example.com", True),
    ("api.**.com", ".", "api.com", False),
    ("api.**.com", ".", "api.x.y.com", True),
    ("prod*", ".", "prod.eu", False),
    ("prod*", "", "prod.eu", True),
    ("*", "", "a.b/c", True),
    ("a\\*", "", "a*", True),
    ("a\\*", "", "ab", False),
    ("", "", "", True),
    ("foo-*", "", "", False),
    ("a.c", "", "abc", False),
]


@pytest.mark.parametrize(("pattern", "separator", "text", "expected"), CASES)
def test_globs_match_whole_texts(pattern: str, separator: str, text: str, expected: bool) -> None:
    """Stars stay between delimiters, double stars cross them as whole components, values have none."""
    assert compile_glob(pattern, separator)(text) is expected


@pytest.mark.parametrize("pattern", ["[a", "{a,b", "a}", "a\\", "[b-a]", "x" * 5000])
def test_unreadable_globs_are_refused(pattern: str) -> None:
    """What has no one meaning raises GlobError instead of matching something."""
    with pytest.raises(GlobError):
        compile_glob(pattern, "/")


def test_syntax_problems_are_named() -> None:
    """Unclosed and unmatched brackets are told apart for warnings."""
    assert "unclosed '['" in syntax_problem("[a")
    assert "unclosed '{'" in syntax_problem("{a")
    assert "unmatched ']'" in syntax_problem("a]")
    assert syntax_problem("a[b]{c,d}") == ""


def test_hostile_values_do_not_stall() -> None:
    """Patterns with many stars take linear time on long near-misses (they run on RE2)."""
    match = compile_glob("*a*a*a*a*a*a*b", "")
    assert not match("a" * 200_000)
    path = compile_glob("/**/a/**/a/**/b", "/")
    assert not path("/a" * 50_000)


def test_globs_agree_with_the_reference_engine() -> None:
    """Random patterns and texts: the same answer as `glob.match` of an embedded Rego engine, where one is installed."""
    regorus = pytest.importorskip("regorus")
    engine = regorus.Engine()
    engine.add_policy("p.rego", "package p\nimport rego.v1\nx := glob.match(input.p, input.d, input.v)")
    seed = random.randrange(10**6)
    rnd = random.Random(seed)
    for separator, delimiters in (("/", ["/"]), (".", ["."])):
        for _ in range(300):
            pattern = "".join(
                rnd.choice(["a", "b", separator, separator, "*", "**", "?", "[ab]", "{a,b}"]) for _ in range(6)
            )
            text = "".join(rnd.choice(["a", "b", "c", separator]) for _ in range(rnd.randint(0, 6)))
            import json

            engine.set_input_json(json.dumps({"p": pattern, "d": delimiters, "v": text}))
            assert compile_glob(pattern, separator)(text) == engine.eval_rule("data.p.x"), (seed, pattern, text)
