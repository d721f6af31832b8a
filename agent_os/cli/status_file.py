"""Writing how a run ended to the file that was asked for, past what the program left beside it.

The file often lies in the workspace, where the program writes. The folder is opened before the run, the name written under is
one that nobody can know beforehand, and no link is followed. Threat: links planted under the names a writer would use, or in
the folder's place, that lead the supervisor to a file of the person.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from errno import EISDIR
from typing import Any


class StatusFile:
    """A file in the place `path`; an empty path is none."""

    def __init__(self, path: str) -> None:
        """Opens the folder. Raises OSError."""
        folder, self._name = os.path.split(path)
        if path and (not self._name or os.path.isdir(path)):
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR), path)
        self._folder = os.open(folder or ".", os.O_DIRECTORY | os.O_CLOEXEC) if path else -1

    def write(self, form: Mapping[str, Any]) -> None:
        """Put the form in place, whole. Raises OSError."""
        if self._folder < 0:
            return
        fresh = f".{self._name}.{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(fresh, flags, 0o644, dir_fd=self._folder), "w", encoding="utf-8") as file:
                file.write(json.dumps(form) + "\n")
            os.replace(fresh, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except OSError:
            with suppress(OSError):
                os.unlink(fresh, dir_fd=self._folder)
            raise
