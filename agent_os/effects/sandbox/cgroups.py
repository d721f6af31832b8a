"""Where control groups can be made by this user: version 1, version 2, or some controllers of each. Reads, never changes.

Groups are made below this process's own (or below the root group, where this process is root's).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent_os.core.errors import EnforcementError

WANTED: Final = ("memory", "pids", "cpu", "io")
"""Version 2's names; version 1 calls the last one blkio."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A folder in which this user can make groups, and which of the wanted controllers would limit there."""

    version: int
    directory: Path
    controllers: frozenset[str]


def available() -> tuple[int, frozenset[str]]:
    """Return the newest version in which groups can be made (0: none) and the controllers that would limit."""
    found = hierarchies()
    return max((one.version for one in found), default=0), frozenset().union(*(one.controllers for one in found))


def io_version() -> int:
    """Return the version of the hierarchy that would limit disk bandwidth; 0: none would."""
    return next((one.version for one in hierarchies() if "io" in one.controllers), 0)


def hierarchies() -> list[Hierarchy]:
    """Return every hierarchy in which a group with a wanted controller can be made."""
    own: dict[str, str] = {}
    try:
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _number, names, path = line.split(":", 2)
            for name in names.split(",") if names else [""]:
                own[name] = path
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found: dict[Path, Hierarchy] = {}
    for line in mounts:
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if kind[0] == "cgroup":
            offered = {"io" if name == "blkio" else name: name for name in kind[2].split(",")}
            controllers = offered.keys() & set(WANTED)
            if not controllers:
                continue
            base = Path(fields[4] + _below(own.get(offered[min(controllers)], "/"), fields[3]))
            if os.access(base, os.W_OK):
                found[base] = Hierarchy(1, base, frozenset(controllers))
        elif kind[0] == "cgroup2" and own.get("", "/") == "/":
            base = Path(fields[4])
            controllers = _words(base / "cgroup.controllers") & set(WANTED)
            if controllers and os.access(base / "cgroup.subtree_control", os.W_OK):
                found[base] = Hierarchy(2, base, frozenset(controllers))
    return list(found.values())


def block_devices(folders: Iterable[tuple[str, bool]]) -> tuple[str, ...]:
    """Return the whole disks ("major:minor") below paths; each comes with whether it must lie on one.

    Raises EnforcementError for a path that must and does not (a memory, network or merged file system).
    """
    found = {}
    for path, needed in folders:
        number = os.stat(path).st_dev
        entry = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
        if os.major(number) == 0 or not entry.exists():
            if needed:
                raise EnforcementError(["io-limit"], f"{path} lies on no disk whose bandwidth could be limited")
            continue
        real = entry.resolve()
        disk = real.parent if (real / "partition").exists() else real
        found[(disk / "dev").read_text(encoding="ascii").strip()] = True
    return tuple(found)


def _below(path: str, mounted: str) -> str:
    relative = path[len(mounted) :] if mounted != "/" and path.startswith(mounted) else path
    return "" if relative == "/" else relative


def _words(path: Path) -> set[str]:
    try:
        return set(path.read_text(encoding="utf-8").split())
    except OSError:
        return set()
