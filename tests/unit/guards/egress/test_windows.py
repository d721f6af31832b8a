"""Findings in what streams: found wherever it is cut, held no longer than need be, never let go unseen."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable

import pytest

from agent_os.core.facts import Finding
from agent_os.guards.egress.findings import FindingRule, counted, masked_field
from agent_os.guards.egress.joined import RECORDS_HELD_MAX, RecordWindow, continues
from agent_os.guards.egress.records import RECORD_CHARS_MAX, RecordError, Splitter
from agent_os.guards.egress.windows import RUN_CHARS_MAX, HeldFindingError, TextWindow, open_tail
from agent_os.runtime.privacy import local_detector

DETECTOR = local_detector(ner=False)
MASK = (FindingRule(("EMAIL_ADDRESS", "IBAN_CODE"), deny=False),)
DENY = (FindingRule(("SECRET",), deny=True), *MASK)
KEY = "AKIA" + "QYLPMN5HHHFPZAM2"
MAIL = "jane.roe@corp.example"


async def through(window: TextWindow | RecordWindow, pieces: Iterable[str]) -> list[str]:
    """Feed pieces as the guard does; return what went on after each, and at the end."""
    out = []
    for piece in [*pieces, None]:
        window.add(piece or "", last=piece is None)
        texts = window.texts()
        out.append(window.release(await DETECTOR.scan(texts) if texts else (), everything=piece is None))
    return out


def cut(text: str, seed: int, most: int = 9) -> list[str]:
    """Cut a text at random places."""
    rng, pieces, at = random.Random(seed), [], 0
    while at < len(text):
        size = rng.randint(1, most)
        pieces.append(text[at : at + size])
        at += size
    return pieces


def deltas(text: str, seed: int = 1, finish: bool = True) -> str:
    """A chat answer as a provider streams it, cut into tokens."""
    said = [{"id": "c1", "choices": [{"index": 0, "delta": {"content": piece}}]} for piece in cut(text, seed)]
    events = [f"data: {json.dumps(item)}\n\n" for item in said]
    return "".join([*events, "data: [DONE]\n\n"] if finish else events)


def answer(stream: str) -> str:
    """What a client of the provider reads."""
    told = [line[6:] for line in stream.splitlines() if line.startswith("data: {")]
    return "".join(json.loads(line)["choices"][0]["delta"]["content"] for line in told)


@pytest.mark.parametrize("seed", range(12))
async def test_a_text_cut_anywhere_is_masked_as_if_whole(seed: int) -> None:
    """Wherever chunks cut, addresses and account numbers are out and everything else is as it came."""
    text = f"please write to {MAIL} or pay DE89 3704 0044 0532 0130 00 before the evening, thank you. " * 3
    whole = "please write to [REDACTED_EMAIL_ADDRESS] or pay [REDACTED_IBAN_CODE] before the evening, thank you. " * 3
    assert "".join(await through(TextWindow(MASK), cut(text, seed))) == whole, f"seed {seed}"


@pytest.mark.parametrize("seed", range(12))
async def test_a_finding_spelt_over_events_is_masked(seed: int) -> None:
    """An address that a model writes token by token is one address; the rest of the answer is as it came."""
    stream = deltas(f"please write to {MAIL} about the matter, and wait for an answer.", seed)
    out = "".join(await through(RecordWindow(MASK, events=True), cut(stream, seed, 60)))
    assert answer(out) == "please write to [REDACTED_EMAIL_ADDRESS] about the matter, and wait for an answer.", out
    assert out.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("seed", range(6))
async def test_a_secret_spelt_over_events_ends_the_stream_before_it_is_whole(seed: int) -> None:
    """What went on before the denial does not hold the secret."""
    window, out = RecordWindow(DENY, events=True), []

    async def feed() -> None:
        for piece in cut(deltas(f"the key is {KEY} and that was it, as said before.", seed), seed, 40):
            window.add(piece)
            out.append(window.release(await DETECTOR.scan(window.texts()), everything=False))

    with pytest.raises(HeldFindingError, match="SECRET"):
        await feed()
    assert KEY not in answer("".join(out))


async def test_ordinary_events_go_on_at_once() -> None:
    """Nothing waits where a text ends in plain words: each event leaves with the look that saw it."""
    words = ("plain", "other", "simple")
    events = [f"event: tick\ndata: {json.dumps({'delta': {'text': f' {word} '}})}\n\n" for word in words]
    assert (await through(RecordWindow(DENY, events=True), events))[:3] == events


async def test_an_open_word_waits_for_one_event_only() -> None:
    """A token that could be the start of an address waits until the next shows that it is none."""
    window = RecordWindow(MASK, events=True)
    first, second = deltas("jane", finish=False), deltas(" went home then ", seed=3, finish=False)
    window.add(first)
    assert window.release(await DETECTOR.scan(window.texts()), everything=False) == ""
    assert window.holds
    window.add(second)
    assert answer(window.release(await DETECTOR.scan(window.texts()), everything=False)).startswith("jane went")


async def test_quiet_lets_go_and_what_follows_is_still_seen_beside_it() -> None:
    """After a pause the first half goes on; the second half is masked, or ends the stream."""
    for rules in (MASK, (FindingRule(("EMAIL_ADDRESS",), deny=True),)):
        window = RecordWindow(rules, events=True)
        window.add('data: {"delta": {"text": "write jane.roe@"}}\n\n')
        early = window.release(await DETECTOR.scan(window.texts()), everything=True)
        assert "jane.roe@" in early
        window.add('data: {"delta": {"text": "corp.example please "}}\n\n')
        found = await DETECTOR.scan(window.texts())
        if rules[0].deny:
            with pytest.raises(HeldFindingError):
                window.release(found, everything=False)
        else:
            late = window.release(found, everything=False)
            assert "corp.example" not in late
            assert "please" in late


async def test_escapes_hide_nothing_and_lines_beside_data_are_looked_at() -> None:
    """JSON escapes in data, comments, ids and event names; JSON lines too."""
    window = RecordWindow(MASK, events=True)
    hidden = 'data: {"to": "jane\\u002eroe\\u0040corp.example"}\n\n: jane.roe@corp.example\nid: 4\ndata: fine\n\n'
    out = "".join(await through(window, [hidden]))
    assert out == ('data: {"to":"[REDACTED_EMAIL_ADDRESS]"}\n\n: [REDACTED_EMAIL_ADDRESS]\nid: 4\ndata: fine\n\n')
    lines = '{"n": 1.50}\n{"to": "jane\\u002eroe@corp.example"}\n'
    assert "".join(await through(RecordWindow(MASK, events=False), [lines])) == (
        '{"n": 1.50}\n{"to":"[REDACTED_EMAIL_ADDRESS]"}\n'
    )


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("seed", range(4))
def test_every_line_end_ends_a_line(end: str, seed: int) -> None:
    """Events are cut where a client cuts them, whichever line end is used and wherever chunks are cut."""
    events = [f"event: a{end}data: 1{end}data: 2{end}{end}", f"data: 3{end}{end}", f": ping{end}{end}"]
    splitter, found = Splitter(events=True), []
    for piece in cut("".join(events), seed, 3):
        found += list(splitter.feed(piece))
    found += list(splitter.feed("", last=True))
    assert [record.raw for record in found] == events
    assert found[0].texts == {"/data": "1\n2", "/line/0": "event: a"}


def test_records_with_two_readings_or_without_end_are_refused() -> None:
    """Repeated keys, numbers that are none, a record longer than the bound; an ordinary one passes."""
    for bad in ('data: {"a": 1, "a": 2}\n\n', 'data: {"a": NaN}\n\n', "data: " + "[" * 100_000 + "\n\n"):
        with pytest.raises(RecordError):
            list(Splitter(events=True).feed(bad))
    with pytest.raises(RecordError):
        list(Splitter(events=True).feed("data: " + "x" * RECORD_CHARS_MAX))
    assert [record.is_json for record in Splitter(events=True).feed('data: {"a": 1}\n\ndata: {oh\n\n')] == [True, False]


async def test_what_waits_is_bounded() -> None:
    """A stream that is all capitals and digits does not make the guard hold it: text and records go on."""
    window, text = TextWindow(MASK), "A1 " * 20_000
    assert len("".join((await through(window, [text]))[:1])) >= len(text) - RUN_CHARS_MAX - 3
    held = RecordWindow(MASK, events=True)
    out = await through(held, [deltas("A", finish=False) * (RECORDS_HELD_MAX + 2)])
    assert out[0]


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("all of it is plain ", ""),
        ("plain unfinis", "unfinis"),
        ("call Ana de ", "Ana de "),
        ("pay DE89 3704 ", "DE89 3704 "),
    ],
)
def test_the_tail_that_waits(text: str, rest: str) -> None:
    """Plain words go; the unfinished word, and runs of names and numbers, wait."""
    assert text[open_tail(text) :] == rest


def test_which_texts_continue() -> None:
    """The pieces of a model's answer are joined; a price or a key of an object is not."""
    assert continues("/data/body/choices/0/delta/content")
    assert continues("/data/body/delta/partial_json")
    assert continues("/data")
    assert not continues("/data/body/price")
    assert not continues("/data/body/content#")


def test_fields_hold_by_design_what_they_are_for() -> None:
    """The date of a Date field and a cookie's own token are no findings; an address in a Location is."""

    def finding(name: str, kind: str) -> Finding:
        return Finding(kind, 0, 4, 1.0, "pattern", f"/0/{name}")

    fine = [finding("date", "DATE_TIME"), finding("set-cookie", "SECRET_TOKEN"), finding("location", "URL")]
    bad = [
        finding("location", "EMAIL_ADDRESS"),
        finding("set-cookie", "SECRET_AWS_KEY"),
        finding("x-made", "DATE_TIME"),
    ]
    assert counted([*fine, *bad]) == bad
    assert (
        masked_field("jane@x", [Finding("EMAIL_ADDRESS", 0, 6, 1.0, "pattern", "/0/x")], MASK)
        == "[REDACTED_EMAIL_ADDRESS]"
    )
