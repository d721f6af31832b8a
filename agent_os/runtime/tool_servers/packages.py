"""Python packages of this installation, shown read-only to a tool server that imports them.

Only top-level packages of pure Python: the sandbox mounts them without leave to execute, and its interpreter may be another one.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Final

PACKAGES: Final = "/run/agentos/packages"
"""Inside: the folder a server puts on its path."""


def shown_packages(names: Iterable[str]) -> dict[str, str]:
    """Return path inside -> path here of the installed ones among some distributions, their metadata too."""
    found: dict[str, str] = {}
    for name in names:
        try:
            files = metadata.distribution(name).files or []
        except metadata.PackageNotFoundError:
            continue
        inside = [file for file in files if file.parts[0] not in ("..", "__pycache__")]
        tops = {Path(str(file.locate())).parents[len(file.parts) - 1] / file.parts[0] for file in inside}
        found |= {f"{PACKAGES}/{top.name}": str(top.resolve()) for top in sorted(tops)}
    return found


def versions(names: Iterable[str]) -> list[str]:
    """Return `name==version` of the installed ones: part of what is pinned of a server's code."""
    found = []
    for name in names:
        try:
            found.append(f"{name}=={metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return sorted(found)
