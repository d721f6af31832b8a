"""Two judges of one repeated request: what the carrier lets go on by itself, the guard's watch lets go on whole and unchanged."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import pytest

from agent_os.guards.egress import HostWatch, HttpError
from tests.unit.effects.proxy.compiled import COMPILER, asked

ROUNDS = 4_000
HEAD = b"GET /a?b=c HTTP/1.1\r\nHost: a.test\r\nX: GET / HTTP/1.1\r\n\r\n"
pytestmark = pytest.mark.skipif(not COMPILER, reason="no C compiler here")
Shape = tuple[bytes, bytes]
Ask = Callable[[list[tuple[Shape, bytes]]], str]
PIECES = {
    "the same": (HEAD, True),
    "another path": (HEAD.replace(b"/a?b=c", b"/v1/things/42"), True),
    "no path": (HEAD.replace(b"/a?b=c", b"/"), True),
    "another host": (HEAD.replace(b"a.test", b"b.test"), False),
    "a space in the target": (HEAD.replace(b"/a?b=c", b"/a b"), False),
    "a head within the target": (HEAD.replace(b"/a?b=c", b"/ HTTP/1.1\r\nHost: b.test\r\n\r\nGET /"), False),
    "eight bits in the target": (HEAD.replace(b"/a?b=c", b"/\xe4"), False),
    "another method": (HEAD.replace(b"GET /a", b"PUT /a"), False),
    "an absolute target": (HEAD.replace(b"/a?b=c", b"http://a.test/"), False),
    "another version": (HEAD.replace(b"c HTTP/1.1", b"c HTTP/1.0"), False),
    "two of them": (HEAD * 2, False),
    "a half": (HEAD[: len(HEAD) // 2], False),
    "its parts, overlapping": (b"GET / HTTP/1.1\r\n\r\n", False),
    "nothing": (b"", False),
}


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """What asks the carrier."""
    ask = asked(tmp_path_factory.mktemp("alike"), "alike.c", "alike.c")
    return lambda cases: ask(
        struct.pack("=III", len(before), len(behind), len(piece)) + before + behind + piece
        for (before, behind), piece in cases
    )


def watching(head: bytes) -> HostWatch:
    """The guard's watch of a client that sent this head last."""
    watch = HostWatch("a.test", 80)
    assert watch.feed(head) == head
    return watch


def guard_says(head: bytes, piece: bytes) -> bool:
    """Whether the guard, after this head, takes a piece for one whole request without a body and lets it go on."""
    watch = watching(head)
    try:
        return watch.feed(piece) == piece and watch.requests == 2 and watch.again == piece
    except HttpError:
        return False


@pytest.mark.parametrize("name", PIECES)
def test_only_a_whole_request_with_another_target_goes_on(alike: Ask, name: str) -> None:
    """Each piece after HEAD; the guard agrees wherever the answer is yes."""
    piece, goes_on = PIECES[name]
    shape = watching(HEAD).shape
    assert shape is not None
    assert alike([(shape, piece)]) == "01"[goes_on]
    assert guard_says(HEAD, piece) or not goes_on


def test_no_damaged_request_goes_on_that_the_guard_would_hold(alike: Ask) -> None:
    """Random damage to random heads: no yes of the carrier's alone, and it never reads outside of what it was given."""
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    heads = [
        HEAD,
        b"DELETE / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        b"GET //x HTTP/1.1\r\nHost: a.test\r\nA:  HTTP/1.1\r\n\r\n",
    ]
    marks = [
        b" ",
        b"\r\n",
        b"/",
        b" HTTP/1.1\r\n",
        b"\x00",
        b"\x7f",
        b"GET /",
        b"Host: b.test\r\n",
        b"!",
        b"~",
        b"\r\n\r\n",
    ]
    cases: list[tuple[Shape, bytes]] = []
    judged = []
    for _ in range(ROUNDS):
        head, piece = rng.choice(heads), bytearray(rng.choice(heads))
        for _ in range(rng.choice((0, 1, 1, 2, 4))):
            at = rng.randrange(len(piece) + 1)
            piece[at : at + rng.choice((0, 0, 1, 5))] = rng.choice((rng.choice(marks), rng.randbytes(1)))
        shape = watching(head).shape
        assert shape is not None
        cases.append((shape, bytes(piece)))
        judged.append(head)
    said = alike(cases)
    assert len(said) == ROUNDS
    wrong = [
        piece
        for (_, piece), head, told in zip(cases, judged, said, strict=True)
        if told == "1" and not guard_says(head, piece)
    ]
    assert not wrong, f"seed {seed}: {wrong[:3]}"
    assert 0 < said.count("1") < ROUNDS
