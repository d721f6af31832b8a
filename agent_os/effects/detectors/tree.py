"""Text files of a directory for a scan: bounded, no links followed, what cannot be read is named. Effects (reads files).

Threat: a tree made to trap a scanner (links out of it, devices, endless files); a file that is skipped without a word.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FILE_BYTES_MAX: Final = 16 * 1024 * 1024
FILES_MAX: Final = 200_000
SKIPPED_FOLDERS: Final = frozenset(
    {".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv", ".mypy_cache", ".ruff_cache"}
)


@dataclass(frozen=True, slots=True)
class TextFile:
    """One file: its path as given, and its text, or why there is none (`skipped`)."""

    path: str
    text: str = ""
    skipped: str = ""


def text_files(root: str) -> Iterator[TextFile]:
    """Yield the files of a directory (or one file) in order of their path, text decoded as UTF-8 with replacement."""
    if not os.path.isdir(root):
        yield _read(root)
        return
    count = 0
    for folder, folders, names in os.walk(root, followlinks=False):
        folders[:] = sorted(name for name in folders if name not in SKIPPED_FOLDERS)
        for name in sorted(names):
            count += 1
            if count > FILES_MAX:
                yield TextFile(folder, skipped=f"more than {FILES_MAX} files: the rest is not scanned")
                return
            yield _read(os.path.join(folder, name))


def _read(path: str) -> TextFile:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return TextFile(path, skipped=os.strerror(error.errno or 0).lower())
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return TextFile(path, skipped="no regular file")
        if found.st_size > FILE_BYTES_MAX:
            return TextFile(path, skipped=f"larger than {FILE_BYTES_MAX} bytes")
        data = file.read(FILE_BYTES_MAX)
    if b"\0" in data[:8192]:
        return TextFile(path, skipped="binary")
    return TextFile(path, data.decode("utf-8", "replace"))


def exists(path: str) -> bool:
    """Whether there is anything at a path."""
    return Path(path).exists()
