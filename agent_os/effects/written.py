"""Which files something changed: an inventory before it ran, one after, and what differs. The operating system's own numbers.

A file differs when its path has another inode or another change time: the kernel sets that at every write, rename, link and
change of attributes, and no program can set it back. Links are not followed. Threat: a program that an agent runs rewrites a
file of a place that the policy trusts, or moves a whole folder there, and puts the old dates on it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Final

INVENTORY_MAX: Final = 200_000
"""Files and folders of one inventory; of more nobody can say what changed."""

Inventory = Mapping[str, tuple[int, int, int]]


def inventory(roots: Iterable[str]) -> Inventory | None:
    """Return device, inode and change time of every file below some folders by path, or None when there are too many.

    What cannot be read is left out on both sides: a file that appears there later is new. Raises nothing.
    """
    found: dict[str, tuple[int, int, int]] = {}
    stack = [root for root in dict.fromkeys(roots) if not os.path.islink(root)]
    entries = 0
    while stack:
        folder = stack.pop()
        try:
            if not os.path.isdir(folder):
                info = os.lstat(folder)
                found[folder] = (info.st_dev, info.st_ino, info.st_ctime_ns)
                continue
            with os.scandir(folder) as listed:
                for entry in listed:
                    entries += 1
                    if entries > INVENTORY_MAX:
                        return None
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(entry.path)
                        continue
                    info = entry.stat(follow_symlinks=False)
                    found[entry.path] = (info.st_dev, info.st_ino, info.st_ctime_ns)
        except OSError:  # gone or closed meanwhile
            continue
    return found


def changed(before: Inventory | None, after: Inventory | None) -> list[str] | None:
    """Return the paths that are new or differ, sorted; None when nobody can say."""
    if before is None or after is None:
        return None
    return sorted(path for path, what in after.items() if before.get(path) != what)
