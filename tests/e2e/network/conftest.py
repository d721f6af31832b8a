"""The world of the guard's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.network.world import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A guard that is not started yet; stopped at the end, with every admission settled."""
    made = World(tmp_path)
    yield made
    if made.guard is not None and made.guard.parts is not None:
        await made.stop()
        assert made.door.open == 0, "an admission was never settled"
