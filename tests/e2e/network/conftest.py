"""The world of the guard's tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_os.effects import native
from agent_os.effects.native import COMPILERS, NotBuiltError, Program
from agent_os.effects.proxy.carrier import PROGRAM
from tests.e2e.network.world import World

BOTH_WAYS = frozenset(
    {
        "test_attacks",
        "test_fronting",
        "test_halted",
        "test_identity",
        "test_no_longer_allowed",
        "test_operations",
        "test_transparent",
        "test_tunnels",
    }
)
"""Modules whose tests run with a carrier too: what goes through a tunnel, in it and around it."""
CARRIER_ONLY = frozenset({"test_carrier", "test_carrier_lent", "test_carrier_life", "test_carrier_repeated"})


_NAMES = {"never": "here", "always": "carried", "sanitized": "sanitized"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of some modules with and without the compiled carrier."""
    if "world" not in metafunc.fixturenames:
        return
    module = metafunc.module.__name__.rpartition(".")[2]
    compiler = any(map(shutil.which, COMPILERS))
    carried = pytest.param("always", marks=pytest.mark.skipif(not compiler, reason="no C compiler: no carrier"))
    sanitized = pytest.param("sanitized", marks=carried.marks)
    ways = [carried, sanitized] if module in CARRIER_ONLY else ["never", carried] if module in BOTH_WAYS else ["never"]
    metafunc.parametrize(
        "carry", ways, ids=[_NAMES.get(way if isinstance(way, str) else way.values[0]) for way in ways], indirect=True
    )


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> int:
    """The carrier built to stop at the first byte it should not touch; without its filter, which the sanitizers do not know."""
    sources = tmp_path_factory.mktemp("sanitized") / "compiled"
    shutil.copytree(PROGRAM.sources, sources, ignore=shutil.ignore_patterns("built"))
    (sources / "confine.c").write_text('#include "carrier.h"\n\nbool confine(void) { return true; }\n')
    flags = ("-std=c11", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "FLAGS", flags)
        try:
            return Program("carrier", sources).sealed()
        except NotBuiltError:
            return -1


@pytest.fixture
def carry(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether the guard has a carrier for passed tunnels."""
    way: str = request.param
    if way != "sanitized":
        return way
    program: int = request.getfixturevalue("sanitized")
    if program < 0:
        pytest.skip("the compiler has no sanitizers")
    monkeypatch.setattr(Program, "sealed", lambda self, state=None: os.dup(program))
    return "always"


@pytest.fixture
async def world(tmp_path: Path, carry: str) -> AsyncIterator[World]:
    """A guard that is not started yet; stopped at the end, with every admission settled."""
    made = World(tmp_path, carry)
    yield made
    if made.guard is not None and made.guard.parts is not None:
        await made.stop()
        assert made.door.open == 0, "an admission was never settled"
