"""Placeholders, fillers and maskers: whole or cut anywhere, the result is the same."""

from __future__ import annotations

import base64
import json
import random
import string

import pytest

from agent_os.effects.proxy.credentials import BodyFiller, CredentialError, Filler, Masker, names_in, names_in_fields

VALUES = {"TOKEN": "sk_live_0123456789", "ODD": 'q"u\\o te&=/+'}


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
    assert names_in_fields(fields) == ["TOKEN"]
    filled = Filler(VALUES).fields(fields)[0][1]
    assert base64.b64decode(filled.split(" ")[1]) == b"me:sk_live_0123456789"


def test_values_are_escaped_for_where_they_stand() -> None:
    """JSON strings, forms, queries and plain text each get the value in their own spelling."""
    filler = Filler(VALUES)
    assert json.loads(filler.body(b'{"k": "agentos-secret:ODD"}', "application/json"))["k"] == VALUES["ODD"]
    assert filler.body(b"k=agentos-secret:ODD", "application/x-www-form-urlencoded") == b"k=q%22u%5Co+te%26%3D%2F%2B"
    assert filler.body(b"agentos-secret:ODD", "text/plain") == VALUES["ODD"].encode()
    assert filler.target("/x?k=agentos-secret:ODD") == "/x?k=q%22u%5Co%20te%26%3D%2F%2B"
    with pytest.raises(CredentialError):
        filler.target("/agentos-secret:ODD")
    with pytest.raises(CredentialError):
        filler.body(b"agentos-secret:UNKNOWN", "text/plain")


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
            whole = Filler(VALUES).body(text, "text/plain")
        except CredentialError:
            continue
        filler, out, at = BodyFiller(Filler(VALUES), "text/plain"), b"", 0
        while at < len(text):
            size = chance.randrange(1, 9)
            at += size
            out += filler.fill(filler.ready(text[at - size : at], last=at >= len(text)))
        assert out == whole, f"seed {seed}: {text!r}"


def test_echoes_are_masked_however_they_are_cut() -> None:
    """A secret in a response, plain, quoted, escaped or in Base64, over any cut: same length, nothing readable."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    value = "s3cret/Value+42"
    for shift in range(3):
        coded = base64.b64encode(b"x" * shift + value.encode())
        text = b"<" + value.encode() + b"> s3cret%2FValue%2B42 [" + coded + b"]"
        masker, out, at = Masker({"K": value}), b"", 0
        while at < len(text):
            size = chance.randrange(1, 7)
            at += size
            out += masker.feed(text[at - size : at], last=at >= len(text))
        assert len(out) == len(text), f"seed {seed}"
        assert b"cret" not in out, f"seed {seed}"
        assert coded[4:-4] not in out, f"seed {seed}"
        assert out.startswith(b"<***")
