"""Archives are opened within bounds: bombs of every kind are refused, ordinary ones pass, damage never raises."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import zipfile

import pytest

from agent_os.guards.egress.archives import ARCHIVE_DEPTH_MAX, archive_kind, archive_problem

MOST, RATIO = 64 << 20, 200
ZEROS = b"\0" * 40_000_000


def zipped(*data: bytes) -> bytes:
    """A zip archive of some members."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, item in enumerate(data):
            archive.writestr(str(number), item)
    return out.getvalue()


def problem(body: bytes) -> str:
    return archive_problem(body, most=MOST, ratio=RATIO)


@pytest.mark.parametrize("pack", [zipped, gzip.compress, bz2.compress, lzma.compress])
def test_bombs_are_refused_and_ordinary_archives_pass(pack: object) -> None:
    """Forty megabytes of nothing grow beyond the ratio, alone and inside a zip; a text does not."""
    assert callable(pack)
    assert problem(pack(ZEROS)) == "an archive grows beyond the limit"
    assert problem(zipped(b"x", pack(ZEROS))) == "an archive grows beyond the limit"
    assert problem(pack(b"an ordinary text " * 1000)) == ""
    assert problem(zipped(b"x", pack(b"an ordinary text " * 1000))) == ""


def test_a_header_that_lies_about_sizes_does_not_help() -> None:
    """What is counted is what comes out: a declared size of one byte opens nothing."""
    bomb = zipped(ZEROS)
    size = len(ZEROS).to_bytes(4, "little")
    lying = bomb.replace(size, b"\x01\0\0\0")
    assert problem(lying)


def test_joined_streams_and_deep_nesting_are_counted() -> None:
    """Gzip members one after the other add up; archives deeper than the bound are refused, one less passes."""
    assert problem(gzip.compress(b"\0" * 20_000_000) * 8)
    assert problem(gzip.compress(b"a") * 3) == ""
    body = b"hello"
    for _ in range(ARCHIVE_DEPTH_MAX):
        body = zipped(body)
    assert problem(body) == ""
    assert problem(zipped(body)) == "archives are nested too deep"


@pytest.mark.parametrize(
    "body",
    [b"7z\xbc\xaf\x27\x1c1234", b"Rar!\x1a\x07\0", b"\x28\xb5\x2f\xfd12", zipped(b"x")[:-9]],
    ids=["7z", "rar", "zstd", "zip cut off"],
)
def test_what_cannot_be_opened_is_a_problem(body: bytes) -> None:
    """Unknown formats and broken archives are refused by name; a text is none."""
    assert archive_kind(body)
    assert problem(body)
    assert problem(b"plain text") == ""


def test_damaged_archives_never_raise() -> None:
    """Any damage is an answer."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    whole = [
        zipped(b"abc" * 100, gzip.compress(b"y" * 100)),
        gzip.compress(b"z" * 500),
        lzma.compress(b"q" * 500),
        bz2.compress(b"w" * 500),
    ]
    for _ in range(1500):
        raw = bytearray(chance.choice(whole))
        for _ in range(chance.randrange(1, 6)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        try:
            problem(bytes(raw[: chance.randrange(1, len(raw) + 1)]))
        except Exception as error:
            pytest.fail(f"seed {seed}: {error!r}")
