"""Real stores in a temporary state directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_os.effects.stores.directory import open_directory
from agent_os.effects.stores.keys import Keys
from agent_os.effects.stores.state import StateDatabase


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A state directory."""
    return open_directory(tmp_path / "state")


@pytest.fixture
def keys(directory: Path) -> Keys:
    """Its keys."""
    return Keys.open(directory / "keys", environment={})


@pytest.fixture
def state(directory: Path, keys: Keys) -> Iterator[StateDatabase]:
    """Its open state.db."""
    opened = StateDatabase.open(directory, keys)
    yield opened
    opened.close()
