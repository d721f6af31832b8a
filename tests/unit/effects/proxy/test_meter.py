"""The byte meter: what is charged is what passes, and never more than `most`."""

from __future__ import annotations

import random

from agent_os.effects.proxy.meter import Meter


def test_a_meter_never_passes_its_limit() -> None:
    """Whatever the sizes asked for, charges add up to the limit exactly and then to nothing."""
    dice = random.Random(7)
    meter, passed = Meter(10_000), 0
    for _ in range(200):
        passed += meter.take(dice.randrange(0, 400))
    assert passed == meter.used == 10_000
    assert (meter.left, meter.take(1)) == (0, 0)


def test_no_limit_counts_all_the_same() -> None:
    """0 is no limit; what went through is known when a limit comes later, also one that is passed already."""
    meter = Meter()
    assert meter.take(5_000) == 5_000
    meter.most = 4_000
    assert (meter.left, meter.take(10)) == (0, 0)
    meter.most = 5_001
    assert meter.take(10) == 1
