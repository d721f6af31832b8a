"""The DNS responder: names policy can allow get one synthetic address each, nothing else exists."""

from __future__ import annotations

import random
import struct

import pytest

from agent_os.effects.proxy.names import DnsQueryError, SyntheticNames, answer_query, parse_query


def query(name: str, kind: int = 1, *, flags: int = 0x0100, identifier: int = 7) -> bytes:
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split(".") if label)
    return struct.pack(">6H", identifier, flags, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", kind, 1)


def ask(name: str, kind: int = 1, names: SyntheticNames | None = None) -> tuple[int, str]:
    """The code and address of an answer."""
    answer = answer_query(query(name, kind), names or SyntheticNames(), lambda host: host.endswith("good.test"))
    assert answer is not None
    assert answer[:2] == b"\0\x07"
    code, count = answer[3] & 15, struct.unpack(">H", answer[6:8])[0]
    return code, ".".join(map(str, answer[-4:])) if count else ""


def test_an_allowed_name_keeps_its_address() -> None:
    """Two spellings of one name are one name; another one gets another address; addresses map back."""
    names = SyntheticNames()
    code, first = ask("good.test", names=names)
    assert code == 0
    assert first.startswith("198.18.")
    assert ask("GOOD.test", names=names) == (0, first)
    _, second = ask("a.good.test", names=names)
    assert second != first
    assert names.name(first) == "good.test"
    assert names.covers(first)
    assert not names.covers("93.184.215.14")


def test_other_names_do_not_exist() -> None:
    """NXDOMAIN for what no rule can allow, and for what is no host name."""
    assert ask("stolen.evil.test") == (3, "")
    assert ask("sp\x01ce.good.test") == (3, "")


@pytest.mark.parametrize("kind", [28, 65, 64, 16, 15, 33])
def test_other_types_are_empty(kind: int) -> None:
    """AAAA, HTTPS (with its ECH keys), TXT and the rest: no error, no data."""
    assert ask("good.test", kind) == (0, "")


def test_the_table_is_bounded() -> None:
    """Past the bound new names are refused, known ones stay: what labels can carry out is bounded."""
    names = SyntheticNames(most=3)
    given = [ask(f"n{n}.good.test", names=names) for n in range(5)]
    assert [code for code, _ in given] == [0, 0, 0, 5, 5]
    assert ask("n1.good.test", names=names) == given[1]


@pytest.mark.parametrize(
    "raw",
    [
        query("good.test")[:-1],
        query("good.test", flags=0x8000),
        struct.pack(">6H", 7, 0, 2, 0, 0, 0) + query("good.test")[12:] * 2,
        struct.pack(">6H", 7, 0, 1, 0, 0, 0) + b"\xc0\x0c\x00\x01\x00\x01",
        struct.pack(">6H", 7, 0, 1, 0, 0, 0) + b"\x03a.b\x00\x00\x01\x00\x01",
        struct.pack(">6H", 7, 0, 1, 0, 0, 0) + b"\x01a\x00\x00\x01\x00\x03",
        b"",
    ],
)
def test_malformed_questions_are_refused(raw: bytes) -> None:
    """Two questions, pointers, dots inside labels, other classes, responses: refused."""
    with pytest.raises(DnsQueryError):
        parse_query(raw)


def test_damaged_questions_never_crash() -> None:
    """Random bytes yield an answer or nothing."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    for _ in range(3000):
        damaged = bytearray(query("a.good.test"))
        for _ in range(chance.randrange(1, 8)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            answer_query(bytes(damaged[: chance.randrange(len(damaged) + 1)]), SyntheticNames(), lambda _: True)
        except Exception as error:
            pytest.fail(f"seed {seed}: {error!r}")
