"""Attacks on the privacy router, each with its benign twin. Times are bounds of order, not measurements."""

from __future__ import annotations

import asyncio
import base64
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from agent_os.core.action import Action
from agent_os.core.decision import Obligation
from agent_os.core.errors import EffectError
from agent_os.core.facts import DEFAULTS, Finding
from agent_os.core.principal import Principal
from agent_os.effects.detectors import detector as detectors
from agent_os.guards.privacy.content import texts_of
from agent_os.guards.privacy.pseudonyms import REALISTIC_CHARS_MAX, PseudonymBook
from agent_os.guards.privacy.restore import StreamRestorer
from agent_os.guards.privacy.rewrite import rewrite_text
from agent_os.guards.privacy.router import SessionRouter
from agent_os.policy import Policy
from agent_os.runtime.privacy import local_detector, router_for

DETECTOR = local_detector(ner=False)

HOSTILE = {
    "at signs": "@" * 200_000,
    "local parts": "a" * 200_000 + "@",
    "dotted": "a." * 100_000,
    "digits": "1" * 200_000,
    "spaced digits": "1 " * 100_000,
    "dashed digits": "1-" * 100_000,
    "open pem": "-----BEGIN PRIVATE KEY-----" * 8_000,
    "passwords": "password=" * 20_000,
    "colons": "a:" * 100_000,
    "equals": "key=" * 50_000,
    "capitals": "A" * 200_000,
    "capital words": "Aa " * 60_000,
    "base64": "QUFB" * 50_000,
    "percent": "%41" * 60_000,
    "brackets": "[PERSON_1_" * 20_000,
    "quotes": "\"'" * 100_000,
    "urls": "https://" * 25_000,
    "jwt": "eyJ" * 60_000,
    "ips": "1." * 100_000,
    "hex": "0a:" * 60_000,
    "streets": "12 Main " * 25_000,
    "csv": "ssn,name,ssn\n" * 15_000,
    "entities": "&#64;" * 40_000,
    "at words": " at " * 50_000,
    "cyrillic": "\u0430a" * 100_000,
    "zero width": "1\u200b" * 100_000,
    "number words": "one " * 50_000,
    "anchors": "AKIA ghp_ sk- xoxb- AIza " * 8_000,
    "months": "may " * 50_000,
    "unterminated": 'password: "' + "x" * 200_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_scanned_in_bounded_time(name: str) -> None:
    """ATTACK: no input makes a recogniser backtrack without end: 200 kB take seconds at most."""
    text = HOSTILE[name]
    start = time.monotonic()
    DETECTOR.scan_text(text + name)
    assert time.monotonic() - start < 20 * max(1.0, len(text) / 200_000)


def test_a_prompt_over_the_bound_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """ATTACK: a prompt longer than the bound is refused, not cut short and passed; one within it is scanned."""
    monkeypatch.setattr(detectors, "TEXT_CHARS_MAX", 1_000)
    with pytest.raises(EffectError, match="not scanned"):
        DETECTOR.scan_text("x" * 1_001)
    assert DETECTOR.scan_text("mail a@b.example " + "x" * 900)


def test_many_tiny_entities_are_all_found() -> None:
    """ATTACK: a hundred thousand findings in one text do not blow up, and none is dropped."""
    text = "a@b.io " * 100_000
    assert len(DETECTOR.scan_text(text)) == 100_000


def test_too_many_findings_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """ATTACK: beyond the bound the scan fails, which denies."""
    monkeypatch.setattr(detectors, "FINDINGS_MAX", 10)
    with pytest.raises(EffectError, match="more than"):
        DETECTOR.scan_text("mail a@b.example " * 20)


@pytest.mark.parametrize("depth", [1, 2, 5, 10])
def test_nested_encodings_hide_nothing(depth: int) -> None:
    """ATTACK: "send the key in Base64, ten times"; the twin without a key is left alone."""
    secret, harmless = "key AKIAQ3EGRZ7FWXTV2MNB", "nothing of interest here, only words"
    for _ in range(depth):
        secret, harmless = (base64.b64encode(item.encode()).decode() for item in (secret, harmless))
    assert "SECRET_AWS_ACCESS_KEY" in {item.type for item in DETECTOR.scan_text(f"note: {secret}")}
    assert not DETECTOR.scan_text(f"note: {harmless}")


@pytest.mark.parametrize(
    "text",
    ["4111\u200b1111\u200b1111\u200b1111", "\uff14\uff11\uff11\uff11 1111 1111 1111", "4-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1", "4111%201111%201111%201111", "4111&nbsp;1111&nbsp;1111&nbsp;1111",
     "\\u0034111 1111 1111 1111", "4111/1111/1111/1111", "\u0664\u0661\u0661\u0661 1111 1111 1111"],
)  # fmt: skip
def test_a_disguised_card_is_found(text: str) -> None:
    """ATTACK: separators, other scripts and escapes do not hide a card; the twin with a wrong check digit is none."""
    assert "CREDIT_CARD" in {item.type for item in DETECTOR.scan_text(f"pay with {text} ok")}
    wrong = text[:-1] + "2"
    assert "CREDIT_CARD" not in {item.type for item in DETECTOR.scan_text(f"pay {wrong} ok")}


POLICY = """
version: 1
models: {providers: {cloud: {kind: openai, base_url: "https://llm.example/v1", model: m}}}
privacy:
  - {find: [PERSON], to: external, do: pseudonymise}
"""


def _session(name: str, key: bytes) -> SessionRouter:
    router = router_for(Policy.parse(POLICY), Principal(tenant="t", user="u", session=name), key=key)
    assert router is not None
    return router


def _ask(text: str) -> Action:
    return Action.parse(
        {"kind": "model.call", "model": "m", "provider": "cloud", "messages": [{"role": "user", "content": text}]}
    )


def test_deeper_than_the_bound_is_reported_not_passed() -> None:
    """ATTACK: Base64 twenty times over is not read to the end, and says so: the policy takes it like an image."""
    secret = "key AKIAQ3EGRZ7FWXTV2MNB"
    for _ in range(20):
        secret = base64.b64encode(secret.encode()).decode()
    assert "UNREADABLE" in {item.type for item in DETECTOR.scan_text(f"note: {secret}")}
    section = next(
        item.section
        for layer in Policy.parse(POLICY).compiled
        for item in layer.by_kind["model.call"]
        if item.section.name == "privacy"
    )
    blind = Finding("UNREADABLE", 0, 4, 1.0, pointer="/messages/0/content")
    matches = section.judge(_ask("note"), replace(DEFAULTS, findings=(blind,)))
    assert [match.effect.value for match in matches] == ["deny"]


def test_two_sessions_cannot_read_each_others_pseudonyms() -> None:
    """ATTACK: a placeholder of one session shown to another, under one tenant key, stays what it is; its own restores."""
    one, two = _session("one", b"k" * 32), _session("two", b"k" * 32)
    rule = [Obligation("pseudonymise", {"find": ["PERSON"]}, "r")]
    finding = [Finding("PERSON", 0, 9, 0.9, pointer="/messages/0/content")]
    sent = one.rewrite(_ask("Ada Byron asks"), finding, rule)
    placeholder = sent.messages[0]["content"].split(" ")[0]
    two.rewrite(_ask("Bob Moran asks"), finding, rule)
    assert two.restore({"content": placeholder}, sent) == {"content": placeholder}
    assert one.restore({"content": placeholder}, sent) == {"content": "Ada Byron"}


def test_spelling_a_placeholder_reveals_nothing() -> None:
    """ATTACK: a model told to spell, guess or vary placeholders gets no original; the exact one restores."""
    book = PseudonymBook(b"k" * 32)
    real = book.pseudonym("US_SSN", "536-22-1234")
    for guess in (
        real.lower(),
        real.replace("_1_", "_2_"),
        real[:-2] + ("1]" if real[-2] == "0" else "0]"),
        real[1:-1],
        " ".join(real),
        real.replace("SSN", "SSN_X"),
    ):
        restorer = StreamRestorer(book)
        assert "536" not in restorer.feed(guess) + restorer.finish()
    restorer = StreamRestorer(book)
    assert restorer.feed(real) + restorer.finish() == "536-22-1234"


def test_half_a_stream_shows_no_half_placeholder_as_original() -> None:
    """ATTACK: a provider that breaks off within a placeholder leaves it as it came."""
    book = PseudonymBook(b"k" * 32)
    real = book.pseudonym("PERSON", "Ada Byron")
    restorer = StreamRestorer(book)
    assert restorer.feed("x " + real[:-3]) == "x "
    assert restorer.finish() == real[:-3]


def calls_of(work: Callable[[], object]) -> int:
    """Return how many Python functions (each resumption of a generator too) some work enters: time, but exact."""
    count = 0

    def seen(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def entities(count: int, *, looks: bool = False) -> tuple[str, list[tuple[Finding, str]]]:
    """Return a text of so many addresses, each beside a look-alike of a placeholder if wanted, and what is found in it."""
    parts, chosen, at = [], [], 0
    for index in range(count):
        address = f"a{index}@b.co"
        chosen.append((Finding("EMAIL_ADDRESS", at, at + len(address), 1.0), "pseudonymise"))
        parts.append(f"{address} [PERSON_{index}_0123abcd] " if looks else f"{address} ")
        at += len(parts[-1])
    return "".join(parts), chosen


@pytest.mark.parametrize("looks", [False, True], ids=["plain", "beside look-alikes"])
@pytest.mark.parametrize("realistic", [False, True], ids=["placeholders", "realistic"])
def test_the_work_of_replacing_grows_with_the_text_and_not_with_its_square(looks: bool, realistic: bool) -> None:
    """ATTACK: thousands of tiny entities in one prompt held the loop of every tenant for a minute; all come back exactly."""

    def work(count: int) -> int:
        text, chosen = entities(count, looks=looks)
        book = PseudonymBook(b"k" * 32, realistic=realistic)
        kept: list[str] = []
        spent = calls_of(lambda: kept.append(rewrite_text(text, chosen, book)))
        assert "@b.co" not in kept[0]
        restored: list[str] = []

        def restore() -> None:
            restorer = StreamRestorer(book)
            pieces = [kept[0][at : at + 400] for at in range(0, len(kept[0]), 400)]
            restored.extend([*map(restorer.feed, pieces), restorer.finish()])

        spent += calls_of(restore)
        assert "".join(restored) == text
        return spent

    assert work(2_000) < 5 * work(500)


def test_stand_ins_of_a_long_text_are_placeholders() -> None:
    """Looking for each stand-in in the whole text is only done where the text is short."""
    text, chosen = entities(8_000)
    assert len(text) > REALISTIC_CHARS_MAX
    book = PseudonymBook(b"k" * 32, realistic=True)
    assert rewrite_text(text, chosen, book).startswith("[EMAIL_ADDRESS_1_")
    assert rewrite_text("a@b.co", [(Finding("EMAIL_ADDRESS", 0, 6, 1.0), "pseudonymise")], book).endswith(".example")


@pytest.mark.parametrize(
    ("hidden", "entity"),
    [
        ("[REDACTED_DE89370400440532013000]", "IBAN_CODE"),
        ("[REDACTED_AKIAJ4TQZ7RKWPX2LMNB]", "SECRET_AWS_ACCESS_KEY"),
        ("[DE89370400440532013000_1_deadbeef]", "IBAN_CODE"),
    ],
)
def test_the_form_of_a_placeholder_hides_nothing(hidden: str, entity: str) -> None:
    """ATTACK: a value dressed as one of our redactions or placeholders is found; real ones are nobody's data."""
    assert [item.type for item in DETECTOR.scan_text(f"pay {hidden} now")] == [entity]
    for ours in (
        "[REDACTED_IBAN_CODE]",
        "[PERSON_1_9f2c04ab]",
        "[REDACTED_SECRET_GITHUB_TOKEN]",
        "[US_SSN_1_12345678]",
    ):
        assert DETECTOR.scan_text(f"pay {ours} now") == ()


def found_in(*messages: dict[str, object]) -> dict[str, str]:
    """Return what is found in a model call, by pointer."""
    call = Action.parse({"kind": "model.call", "provider": "p", "model": "m", "messages": list(messages)})
    return {item.pointer: item.type for item in asyncio.run(DETECTOR.scan(texts_of(call)))}


def test_words_of_the_protocol_are_where_the_protocol_has_them() -> None:
    """ATTACK: a number in an argument called `id` or `type`, or in a call's id; the protocol's own words are left alone."""
    card = "4111111111111111"
    arguments = {"id": "078-05-1120", "type": card, "amount": 4111111111111111.0, "count": 12.5}
    call = {"id": "call_0a1b2c3d", "name": "pay", "args": arguments}
    found = found_in({"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "tool_call_id": card})
    place = "/messages/0/tool_calls/0/args"
    assert found == {
        f"{place}/id": "US_SSN",
        f"{place}/type": "CREDIT_CARD",
        f"{place}/amount": "CREDIT_CARD",
        "/messages/1/tool_call_id": "CREDIT_CARD",
    }
    uuid = "3f2c9a10-8b1d-4a6e-9c55-0d7e1f2a3b4c"
    words = {"role": "tool", "tool_call_id": uuid, "content": [{"type": "text", "text": "fine"}]}
    assert found_in({"role": "assistant", "tool_calls": [{**call, "args": {"id": 7}}]}, words) == {}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ghp_16C7e42F292c6912E7710c838347Ae178B4a", True),
        ("call_16C7e42F292c6912E7710c838347", False),
        ("abc123XYZ", False),
    ],
)
def test_an_id_of_a_call_is_read_unless_providers_make_such(name: str, told: bool) -> None:
    """ATTACK: a key goes out as the id of a tool call; ids as providers make them are no content."""
    call = {"id": name, "name": "look", "args": {}}
    action = Action.parse(
        {"kind": "model.call", "model": "m", "messages": [{"role": "assistant", "tool_calls": [call]}]}
    )
    assert (name in texts_of(action).values()) is told
