"""The map of the package: every file of the flow guard stands in it."""

from __future__ import annotations

import re
from pathlib import Path

from agent_os.guards import flow


def test_every_file_stands_in_the_map() -> None:
    """The package's docstring names each of its files, and no other."""
    named = set(re.findall(r"`(\w+)`", flow.__doc__ or ""))
    files = {path.stem for path in Path(flow.__file__).parent.glob("*.py")} - {"__init__"}
    assert files - named == set()
    assert named - files == set()
