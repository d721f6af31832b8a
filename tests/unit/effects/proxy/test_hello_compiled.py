"""Two readers of one ClientHello: where the carrier says that a tunnel may go on unseen, the guard's own reader says so too."""

from __future__ import annotations

import random
import ssl
import struct
from collections.abc import Callable

import pytest

from agent_os.effects.proxy.hello import HelloError, parse_client_hello
from tests.unit.effects.proxy.compiled import COMPILER, asked

ROUNDS = 3_000
HOST = b"api.example.com"
pytestmark = pytest.mark.skipif(not COMPILER, reason="no C compiler here")
Ask = Callable[[list[tuple[bytes, bytes]]], str]


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """What asks the carrier's reader."""
    ask = asked(tmp_path_factory.mktemp("states"), "states.c", "hello.c")
    return lambda cases: ask(struct.pack("<IB", len(hello), len(host)) + host + hello for host, hello in cases)


def guard_says(host: bytes, data: bytes) -> bool:
    """Whether the guard, with all of it there, would let these first bytes go on to `host`."""
    try:
        hello = parse_client_hello(data)
    except HelloError:
        return False
    return hello is not None and not hello.encrypted and hello.server_name.encode() in (b"", host)


def real_hello(name: str | None = "api.example.com", alpn: bool = True) -> bytes:
    """What OpenSSL sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if alpn:
        context.set_alpn_protocols(["h2", "http/1.1"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def made(extensions: list[tuple[int, bytes]], session: bytes = b"") -> bytes:
    """A ClientHello with these extensions, in one record."""
    content = b"".join(struct.pack(">HH", kind, len(body)) + body for kind, body in extensions)
    body = b"\x03\x03" + bytes(32) + bytes([len(session)]) + session + b"\0\2\x13\x01" + b"\1\0"
    body += struct.pack(">H", len(content)) + content
    message = b"\1" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + struct.pack(">H", len(message)) + message


def names(*given: bytes, kind: int = 0) -> bytes:
    """The content of a server_name extension."""
    listed = b"".join(bytes([kind]) + struct.pack(">H", len(name)) + name for name in given)
    return struct.pack(">H", len(listed)) + listed


@pytest.mark.parametrize(
    ("hello", "goes_on"),
    [
        (real_hello(), True),
        (real_hello(alpn=False), True),
        (real_hello(None), True),
        (made([(0, names(HOST))]), True),
        (made([(0, names(HOST)), (16, b"\0\3\2h2")]), True),
        (made([]), True),
        (made([(0, names(b"other.example"))]), False),
        (made([(0, names(HOST + b".evil"))]), False),
        (made([(0, names(HOST[:-1]))]), False),
        (made([(0, names(HOST.upper()))]), False),
        (made([(0, names(HOST + b"\0.evil"))]), False),
        (made([(0, names(HOST, b"other.example"))]), False),
        (made([(0, names(HOST, kind=1))]), False),
        (made([(0, names(HOST)), (0, names(b"other.example"))]), False),
        (made([(0, names(HOST)), (0xFE0D, b"x")]), False),
        (made([(0, names(HOST)), (0xFFCE, b"x")]), False),
        (made([(16, b"\0\3\5h2")]), False),
        (made([(kind, b"") for kind in range(1000, 1064)]), True),
        (made([(kind, b"") for kind in range(1000, 1065)]), False),
        (made([(0, names(HOST))]) + b"\x16", False),
        (made([(0, names(HOST))])[:-1], False),
        (b"", False),
        (b"GET / HTTP/1.1\r\n\r\n", False),
    ],
)
def test_only_a_plain_hello_for_the_judged_host_goes_on(states: Ask, hello: bytes, goes_on: bool) -> None:
    """One whole hello that states the host, or none; fronting, ECH, two names, pieces and other spellings go to the guard."""
    assert states([(HOST, hello)]) == ("1" if goes_on else "0")


def damaged(chance: random.Random) -> bytes:
    """A hello with something wrong in it, or moved, or doubled."""
    whole = bytearray(chance.choice(SEEDS))
    for _ in range(chance.choice((1, 1, 2, 4))):
        place, how = chance.randrange(len(whole)), chance.randrange(6)
        if how == 0:
            del whole[place:]
        elif how == 1:
            whole[place] = chance.choice((0, 1, 0xFF, chance.randrange(256)))
        elif how == 2:
            whole[place : place + 2] = struct.pack(">H", chance.randrange(1 << chance.choice((4, 9, 16))))
        elif how == 3:
            del whole[place : place + chance.randrange(1, 9)]
        elif how == 4:
            whole[place:place] = chance.randbytes(chance.randrange(1, 9))
        else:
            whole[place:] = chance.choice(SEEDS)[place:]
        if not whole:
            break
    return bytes(whole)


SEEDS = (
    real_hello(), real_hello(None), made([(0, names(HOST)), (16, b"\0\3\2h2"), (43, b"\2\3\4")], b"s" * 32), made([]),
    made([(0, names(b"other.example"))]),
)  # fmt: skip


def test_no_damaged_hello_passes_one_reader_alone(states: Ask) -> None:
    """Over random damage: what the carrier lets go on, the guard's reader lets go on; no byte beside the input is read."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    cases = [(HOST, damaged(chance)) for _ in range(ROUNDS)]
    answers = states(cases)
    assert len(answers) == ROUNDS, seed
    alone = [index for index, (host, data) in enumerate(cases) if answers[index] == "1" and not guard_says(host, data)]
    assert alone == [], (seed, cases[alone[0]] if alone else "")
    assert "0" in answers
    assert "1" in answers  # some damage is none: a random or session byte
