"""Any text is a policy or a PolicyError with a place; reading agrees with a second parser where both accept."""

from __future__ import annotations

import json

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_os.core.errors import PolicyError
from agent_os.policy import Policy
from agent_os.policy.globs import PatternError, compile_glob
from agent_os.policy.reader import read
from agent_os.policy.schema import KEYS

BOUNDED = settings(max_examples=300, deadline=None)
words = st.sampled_from(
    [
        *KEYS,
        "tools",
        "x",
        "allow",
        "deny",
        "true",
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\n",
        "  ",
        "- ",
        "'",
        '"',
        "&a",
        "*a",
        "!t",
        "1",
        "|",
        "#",
    ]
)


@BOUNDED
@given(st.one_of(st.text(max_size=200), st.lists(words, max_size=40).map(" ".join)))
def test_any_text_is_a_policy_or_a_policy_error(text: str) -> None:
    """Nothing but PolicyError comes out of bad input, and it names the file."""
    try:
        Policy.parse(text, file="p.yaml")
    except PolicyError as error:
        problems = error.problems
    else:
        return
    assert problems
    assert all(problem.place.file == "p.yaml" and problem.message for problem in problems)


plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-10**20, 10**20), st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=6), inner, max_size=4)),
    max_leaves=15,
)  # fmt: skip


@BOUNDED
@given(plain)
def test_json_is_read_as_json(value: object) -> None:
    """YAML 1.2 contains JSON: every JSON text has its own value and a place for every key."""
    text = json.dumps({"top": value}, ensure_ascii=False)
    try:
        document = read(text)
    except PolicyError as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert "not YAML" in said  # characters YAML cannot carry
        return
    assert document.value == {"top": value}
    assert document.place("top").line == 1


@BOUNDED
@given(plain)
def test_what_pyyaml_dumps_is_read_back(value: object) -> None:
    """Quoted texts stay texts, and core tags (`!!int "1"`) mean what they say."""
    text = yaml.safe_dump({"top": value}, allow_unicode=True, default_style='"')
    assert read(text).value == {"top": value}


@BOUNDED
@given(st.text(alphabet="ab*?[]{},!/\\.", max_size=10), st.text(alphabet="ab/.", max_size=8))
def test_a_glob_that_crosses_matches_whatever_one_that_does_not_matches(pattern: str, text: str) -> None:
    """The strict reading of a restriction takes in everything the plain reading does."""
    try:
        narrow, wide = compile_glob(pattern), compile_glob(pattern, crossing=True)
    except PatternError:
        return
    if narrow(text):
        assert wide(text)
