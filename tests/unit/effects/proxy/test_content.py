"""Opening coded bodies: whole or refused; nothing stays unseen behind the end of what was opened."""

from __future__ import annotations

import gzip
import random
import zlib

import pytest

from agent_os.effects.proxy import Limits
from agent_os.effects.proxy.content import ContentError, Inflation, decode

LIMITS = Limits()


@pytest.mark.parametrize("size", [0, 1, 1 << 18, (1 << 18) + 1, 3 << 18, 2_000_000])
def test_what_is_opened_is_the_whole_of_it(size: int) -> None:
    """Long runs too, whose last bytes zlib holds back when its output is full."""
    chance = random.Random(size)
    for data in (b"a" * size, chance.randbytes(size)):
        assert decode(gzip.compress(data), "gzip", Limits(inflate_ratio=10_000)) == data
        assert decode(zlib.compress(data), "deflate", Limits(inflate_ratio=10_000)) == data
    assert decode(gzip.compress(b"one") + gzip.compress(b"two"), "x-gzip", LIMITS) == b"onetwo"


@pytest.mark.parametrize("cut", [1, 4, 8, 9, 20])
def test_a_coded_body_that_ends_early_is_refused(cut: int) -> None:
    """ATTACK: the receiver may be more patient than we are and read what we did not."""
    whole = gzip.compress(b"a secret beyond the end" * 10)
    with pytest.raises(ContentError):
        decode(whole[:-cut], "gzip", LIMITS)
    with pytest.raises(ContentError):
        decode(whole + b"trailing", "gzip", LIMITS)


def test_a_meter_counts_the_same_however_a_body_is_cut() -> None:
    """A bomb in pieces is refused like a bomb in one."""
    bomb = gzip.compress(b"\0" * 30_000_000)
    for step in (1000, len(bomb)):
        meter = Inflation("gzip", LIMITS)
        with pytest.raises(ContentError, match="grows"):
            [meter.feed(bomb[at : at + step]) for at in range(0, len(bomb), step)]
