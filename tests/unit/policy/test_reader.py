"""The YAML reader: YAML 1.2 core scalars, places, and what is refused."""

from __future__ import annotations

import time

import pytest

from agent_os.core.errors import PolicyError
from agent_os.policy import reader
from agent_os.policy.reader import read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: no", "no"), ("a: on", "on"), ("a: yes", "yes"), ("a: NO", "NO"), ("a: true", True), ("a: False", False),
        ("a: 0o17", 15), ("a: 017", 17), ("a: 0x1F", 31), ("a: 1_000", "1_000"), ("a: 12:30:45", "12:30:45"),
        ("a: 1e3", 1000.0), ("a: .5", 0.5), ("a: +1", 1), ("a: -x", "-x"), ("a: ~", None), ("a:", None), ("a: null", None),
        ("a: 'true'", "true"), ('a: "1"', "1"), ("a: !!str 1", "1"), ("a: 2026-11-21", "2026-11-21"), ("a: 1.0.0", "1.0.0"),
    ],
)  # fmt: skip
def test_plain_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    """`no` is a text, `017` is seventeen, dates and sexagesimals are texts."""
    assert read(text).value == {"a": value}
    assert type(read(text).value["a"]) is type(value)


def test_keys_are_texts_and_know_their_place() -> None:
    """Every key and item has a line and column from 1; a path below the known ones falls back to its parent."""
    document = read("a:\n  b: [1, {c: 2}]\n443: x\n", file="p.yaml")
    assert document.value == {"a": {"b": [1, {"c": 2}]}, "443": "x"}
    assert str(document.place("a.b[1].c")) == "p.yaml:2:11"
    assert str(document.place("a.b[1].c.d.e")) == "p.yaml:2:11"
    assert str(document.place("443")) == "p.yaml:3:1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "twice"),
        ("a: {b: 1, b: 2}", "twice"),
        ("a: &x 1\nb: *y", "anchor"),
        ("a: &x [*x]", "anchor"),
        ("a: !!python/object/apply:os.system [ls]", "tag"),
        ("a: !foo 1", "tag"),
        ("%TAG ! tag:x,2000:\n---\na: 1", "tag handles"),
        ("a: !!int x", "tag"),
        ("a: !!bool 1", "tag"),
        ("<<: {a: 1}", "merge key"),
        ("? [a]\n: 1", "plain text"),
        ("? {a: 1}\n: 1", "plain text"),
        ("a: 1\n---\nb: 2", "more than one document"),
        ("a: .nan", "finite"),
        ("a: -.inf", "finite"),
        ("a: 1e999", "out of range"),
        ("a: " + "9" * 100, "too many digits"),
        ("a: [1, 2", "not YAML"),
        ("a: 'x", "not YAML"),
        ("\tb: 1", "not YAML"),
        ("a: \x00", "not YAML"),
        ("a: \ud800", "surrogate"),
        ("? " + "k" * 2000 + "\n: 1", "longer than"),
    ],
)
def test_what_two_readers_could_read_differently_is_refused(text: str, message: str) -> None:
    """Duplicate keys, tags, merge keys, odd keys, non-finite numbers and broken texts are errors with a message."""
    with pytest.raises(PolicyError, match=message):
        read(text)


def test_a_quoted_merge_key_is_an_ordinary_key() -> None:
    """Only the plain `<<` is refused."""
    assert read('"<<": 1').value == {"<<": 1}


def test_aliases_are_values_and_count_at_their_full_size() -> None:
    """An alias repeats its value; a bomb of aliases is refused before anything is expanded."""
    assert read("a: &x [1]\nb: *x").value == {"a": [1], "b": [1]}
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
    )
    with pytest.raises(PolicyError, match="full size"):
        read(bomb)


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000, "a:\n" + " " * 10])
def test_nesting_is_bounded(text: str) -> None:
    """A hundred thousand levels end at MAX_DEPTH, quickly."""
    if text.startswith("a:"):
        assert read(text).value == {"a": None}
        return
    with pytest.raises(PolicyError, match="nested deeper"):
        read(text)


def test_a_hundred_megabytes_are_refused_at_once() -> None:
    """Size is looked at before anything is parsed."""
    text = "a" * 100_000_000
    before = time.process_time()
    with pytest.raises(PolicyError, match="larger than"):
        read(text)
    assert time.process_time() - before < 2.0


def test_the_number_of_values_is_bounded() -> None:
    """A flat file of too many values is refused as well."""
    text = "[" + "1," * (reader.MAX_NODES + 1) + "]"
    with pytest.raises(PolicyError, match="more than"):
        read(text)
