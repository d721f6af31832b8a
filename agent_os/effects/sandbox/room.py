"""How much room a run has taken on the disks of the host that it can write to, counted by what is left free there. Reads only.

The threat: a program that fills a disk other people's work lies on, with bytes or with files (a file system has only so many),
through whichever writable folder: the workspace, the folder that keeps a snapshot's changes, or another that the policy names.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from agent_os.guards.confine.plan import Mount

DISK_FILES_MAX: Final = 1_000_000
"""Files and folders one run may add to the disks it writes to."""


class Room:
    """What was free when a run began, a file system each. `paths` are folders that it can write to."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._before: dict[int, tuple[str, int, int]] = {}
        for path in paths:
            try:
                self._before.setdefault(os.stat(path).st_dev, (path, *_free(path)))
            except OSError:
                continue  # gone meanwhile: nothing can be written there

    def taken(self) -> tuple[int, int]:
        """Return the (bytes, files) by which what is free has shrunk, over all of them."""
        used_bytes = used_files = 0
        for path, bytes_, files in self._before.values():
            try:
                now = _free(path)
            except OSError:
                continue
            used_bytes += max(bytes_ - now[0], 0)
            used_files += max(files - now[1], 0)
        return used_bytes, used_files


def written_to(mounts: Iterable[Mount]) -> list[str]:
    """Return the folders of the host that a plan's mounts let a program write to."""
    return [mount.upper or mount.source for mount in mounts
            if mount.kind in ("bind", "overlay") and mount.writable and not mount.devices]  # fmt: skip


def _free(path: str) -> tuple[int, int]:
    info = os.statvfs(path)
    return info.f_bavail * info.f_frsize, info.f_favail
