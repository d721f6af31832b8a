"""The world of the guard's tests."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_os.effects.native import COMPILERS
from tests.e2e.network.world import World

BOTH_WAYS = frozenset({"test_attacks", "test_identity", "test_operations", "test_tunnels"})
"""Modules whose tests run with a carrier too: what goes through a tunnel, in it and around it."""
CARRIER_ONLY = frozenset({"test_carrier"})


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of some modules with and without the compiled carrier."""
    if "world" not in metafunc.fixturenames:
        return
    module = metafunc.module.__name__.rpartition(".")[2]
    compiler = any(map(shutil.which, COMPILERS))
    carried = pytest.param("always", marks=pytest.mark.skipif(not compiler, reason="no C compiler: no carrier"))
    ways = [carried] if module in CARRIER_ONLY else ["never", carried] if module in BOTH_WAYS else ["never"]
    metafunc.parametrize("carry", ways, ids=["carried" if way is carried else "here" for way in ways], indirect=True)


@pytest.fixture
def carry(request: pytest.FixtureRequest) -> str:
    """Whether the guard has a carrier for passed tunnels."""
    way: str = request.param
    return way


@pytest.fixture
async def world(tmp_path: Path, carry: str) -> AsyncIterator[World]:
    """A guard that is not started yet; stopped at the end, with every admission settled."""
    made = World(tmp_path, carry)
    yield made
    if made.guard is not None and made.guard.parts is not None:
        await made.stop()
        assert made.door.open == 0, "an admission was never settled"
