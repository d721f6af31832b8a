"""Placeholders, fillers and maskers: whole or cut anywhere, the result is the same."""

from __future__ import annotations

import base64
import html
import json
import random
import string
from urllib.parse import quote

import pytest

from agent_os.guards.egress.masking import Masker
from agent_os.guards.egress.placeholders import (
    BodyFiller,
    PlaceholderError,
    fill_body,
    fill_fields,
    fill_target,
    names_in,
    names_in_field,
    names_in_target,
)

VALUES = {"TOKEN": "sk_live_0123456789", "SPACED": "two words", "ODD": 'q"u\\o te&=/+'}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("agentos-secret:TOKEN", ["TOKEN"]),
        ("a=agentos-secret%3ATOKEN&b=1", ["TOKEN"]),
        ("AGENTOS-SECRET:TOKEN", ["TOKEN"]),
        ("openshell:resolve:env:A_1", ["A_1"]),
        ("xoxb-OPENSHELL-RESOLVE-ENV-A", ["A"]),
        ("agentos-secret: TOKEN", []),
        ("agentos-secret:1", []),
        ("my agentos-secrets are safe", []),
    ],
)
def test_placeholders_are_found(text: str, names: list[str]) -> None:
    """Every form that is replaced is found, and ordinary text is not."""
    assert names_in(text.encode()) == names


def test_basic_credentials_are_opened() -> None:
    """A placeholder inside Basic credentials is found and filled."""
    coded = base64.b64encode(b"me:agentos-secret:TOKEN").decode()
    fields = [("authorization", f"Basic {coded}")]
    assert names_in_field(*fields[0]) == ([], ["TOKEN"])
    filled = fill_fields(fields, VALUES)[0][1]
    assert base64.b64decode(filled.split(" ")[1]) == b"me:sk_live_0123456789"


def test_values_are_escaped_for_where_they_stand() -> None:
    """JSON strings, forms, queries and plain text each get the value in their own spelling."""
    filled = fill_body(b'{"k": "agentos-secret:ODD"}', "application/json", VALUES)
    assert json.loads(filled)["k"] == VALUES["ODD"]
    form = "application/x-www-form-urlencoded"
    assert fill_body(b"k=agentos-secret:ODD", form, VALUES) == b"k=q%22u%5Co+te%26%3D%2F%2B"
    assert fill_body(b"\xff agentos-secret:ODD", "text/plain", VALUES) == b"\xff " + VALUES["ODD"].encode()
    assert fill_target("/x?k=agentos-secret:ODD", VALUES) == "/x?k=q%22u%5Co%20te%26%3D%2F%2B"
    assert fill_target("/x/agentos-secret:SPACED/y", VALUES) == "/x/two%20words/y"
    with pytest.raises(PlaceholderError):
        fill_target("/agentos-secret:ODD", VALUES)
    with pytest.raises(PlaceholderError):
        fill_body(b"agentos-secret:UNKNOWN", "text/plain", VALUES)


@pytest.mark.parametrize(
    ("target", "filled"),
    [
        ("/a%20agentos-secret:TOKEN%0d%0aX:%20y", "/a%20sk_live_0123456789%0D%0AX:%20y"),
        ("/agentos-secret:TOKEN%2F..%2Fadmin", "/sk_live_0123456789%2F..%2Fadmin"),
        ("/x?q=%26b=agentos-secret%3ATOKEN%23%ff", "/x?q=%26b=sk_live_0123456789%23%FF"),
        ("/x?q=a+b&k=%61gentos-secret:TOKEN", "/x?q=a+b&k=sk_live_0123456789"),
        ("/%7e/x?y=%C3%A9&k=agentos-secret:TOKEN", "/%7e/x?y=%C3%A9&k=sk_live_0123456789"),
    ],
)
def test_what_stands_beside_a_placeholder_in_a_target_stays_encoded(target: str, filled: str) -> None:
    """ATTACK: a line end, a slash or an ampersand smuggled in beside a placeholder is not decoded on the way out."""
    assert any(names_in_target(target))
    assert fill_target(target, VALUES) == filled


def test_long_words_are_searched_in_linear_time() -> None:
    """A megabyte of letters with a mark in it costs no more than a megabyte of anything else."""
    body = b"a" * 1_000_000 + b"-OPENSHELL-RESOLVE-ENV-" + b"agentos-secret" * 10_000
    assert names_in(body) == ["agentos"]
    assert fill_body(body[:-140_000] + b"TOKEN", "text/plain", VALUES).endswith(b"aaa" + VALUES["TOKEN"].encode())


def test_a_streamed_body_is_filled_however_it_is_cut() -> None:
    """Random texts with placeholders, cut at random: the pieces together are what the whole gives."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    parts = [
        "agentos-secret:TOKEN",
        "openshell:resolve:env:TOKEN",
        "v-OPENSHELL-RESOLVE-ENV-TOKEN",
        "agentos-",
        "a",
        " ",
    ]
    parts += ["openshell:resolve", "-OPENSHELL", "…", "x.y-z", '"', ":"]
    for _ in range(400):
        text = "".join(chance.choice([*parts, chance.choice(string.ascii_letters)]) for _ in range(12)).encode()
        try:
            whole = fill_body(text, "text/plain", VALUES)
        except PlaceholderError:
            continue
        filler, out, at = BodyFiller(VALUES, "text/plain"), b"", 0
        while at < len(text):
            size = chance.randrange(1, 9)
            at += size
            out += filler.fill(filler.ready(text[at - size : at], last=at >= len(text)))
        assert out == whole, f"seed {seed}: {text!r}"


def spellings(value: str) -> dict[str, bytes]:
    """A secret as servers write it back."""
    quoted, coded = quote(value, safe=""), base64.b64encode(f"user:{value}".encode()).decode()
    texts = {
        "plain": value,
        "upper case": value.upper(),
        "quoted": quoted,
        "quoted in small letters": quoted.lower(),
        "half quoted": quote(value, safe="/"),
        "quoted twice": quote(quoted, safe=""),
        "every character quoted": "".join(f"%{byte:02x}" for byte in value.encode()),
        "json": json.dumps(value),
        "json, slashes escaped": json.dumps(value).replace("/", "\\/"),
        "json in json": json.dumps(json.dumps(value)),
        "json, all escaped": "".join(f"\\u{ord(char):04X}" for char in value),
        "html": html.escape(value),
        "html in numbers": "".join(f"&#{ord(char)};" if not char.isalnum() else char for char in value),
        "html in hexadecimal": value.replace("/", "&#x2F;").replace("+", "&#x002b;"),
        "hexadecimal": value.encode().hex(),
        "base64": coded,
        "base64 in a url": quote(coded.replace("+", "-").replace("/", "_"), safe=""),
    }
    return {name: text.encode() for name, text in texts.items()} | {"utf-16": value.encode("utf-16-le")}


@pytest.mark.parametrize("value", ["s3cret/Value+42", 'quo"te&<plus>=', "p\u00e4ss\\word%41"])
def test_echoes_are_masked_however_they_are_spelt_and_cut(value: str) -> None:
    """A secret in a response, in any spelling, over any cut: same length, nothing readable. What is no secret goes on as it is."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    for name, spelt in spellings(value).items():
        text = b'{"a": "50% \\u0041 &amp; c:\\\\x", "said": "' + spelt + b'"} [s3cr, s3cre%2'
        at = text.index(spelt)
        whole = Masker({"K": value}).feed(text, last=True)
        assert len(whole) == len(text), name
        assert whole[:at] == text[:at], name
        assert whole.endswith(b"} [s3cr, s3cre%2"), name
        hidden = spelt[12:-8] if "base64" in name else spelt.strip(b'"')
        assert hidden not in whole, name
        assert b"*" * (len(hidden) - 8) in whole, name
        masker, out, at = Masker({"K": value}), b"", 0
        while at < len(text):
            size = chance.randrange(1, 7)
            at += size
            out += masker.feed(text[at - size : at], last=at >= len(text))
        assert out == whole, f"{name}, seed {seed}"


def test_a_record_that_holds_no_secret_waits_for_nothing() -> None:
    """An event of a stream goes on when it is there; only what may be the start of an echo is held."""
    masker = Masker({"K": "s3cret/Value+42"})
    assert masker.feed(b"data: {}\n\n") == b"data: {}\n\n"
    assert masker.feed(b"data: s3cret%2") == b"data: "
    assert masker.feed(b"Fv") == b""
    assert masker.feed(b"ision\n\n") == b"s3cret%2Fvision\n\n"
