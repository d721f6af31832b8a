"""Symbolic links resolved by the kernel, so that the path that is judged is the path that is opened.

Implements `core.ports.Links`. May not open a file's content: `O_PATH` descriptors only. Threat: `inbox/a.eml` is a link
to `customers.csv` and a check on its name lets it pass; `/proc/self/root/etc/shadow` names the file without naming it.
A swap after this resolution is caught by `files.py`, which refuses every link.
"""

from __future__ import annotations

import errno
import os
import posixpath
from typing import Final

from agent_os.core.errors import ActionError
from agent_os.effects.openat2 import AT_FDCWD, RESOLVE_NO_MAGICLINKS, openat2, require_openat2

DANGLING_MAX: Final = 40
"""Dangling links followed by hand before a path counts as a loop (the kernel's own limit, path_resolution(7))."""
_DELETED: Final = " (deleted)"
_MISSING: Final = (errno.ENOENT, errno.ENOTDIR)


class KernelLinks:
    """Resolves links through `openat2` with RESOLVE_NO_MAGICLINKS."""

    def __init__(self) -> None:
        require_openat2()

    def resolve(self, path: str) -> str:
        """Return an absolute path with every link resolved; parts that do not exist stay as they are.

        Raises ActionError for link loops, for magic links, and for what this process may not look at.
        """
        if not path.startswith("/"):
            raise ActionError("must be absolute", field="path")
        current, rest = path, ""
        for _ in range(DANGLING_MAX + path.count("/") + 1):
            try:
                found = _real(current)
            except OSError as error:
                if error.errno == errno.ELOOP:
                    raise ActionError("passes through a link loop or a magic link", field="path") from None
                if error.errno not in _MISSING:
                    raise ActionError("cannot be resolved here", field="path") from None
            else:
                return _joined(found, rest)
            parent, name = posixpath.split(current.rstrip("/"))
            target = _link_target(current)
            if target is None:
                rest = _joined(name, rest)
                current = parent or "/"
            else:
                current = posixpath.join(parent, target)
        raise ActionError("passes through too many links", field="path")


def _joined(head: str, rest: str) -> str:
    whole = posixpath.join(head, rest) if rest else head
    return posixpath.normpath(whole) if ".." in whole else whole


def _real(path: str) -> str:
    """Return the kernel's own name of an existing path. Raises OSError."""
    descriptor = openat2(AT_FDCWD, path, os.O_PATH, resolve=RESOLVE_NO_MAGICLINKS)
    try:
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        if not name.startswith("/") or (name.endswith(_DELETED) and os.fstat(descriptor).st_nlink == 0):
            raise OSError(errno.EACCES, "has no name here")
        return name
    finally:
        os.close(descriptor)


def _link_target(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None
