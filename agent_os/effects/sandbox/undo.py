"""The way back from a commit: what it replaced is kept beside it, and put back in one step.

One commit of a workspace can be undone: the last. What is kept lies in the state directory (`undo/<workspace>/`), never in the
workspace. Threats: a workspace that was written by nobody's friend meanwhile (no link is followed, nothing is written outside
it), and work of a person since the commit (a path that changed since is a conflict, never silently lost).
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from pathlib import Path
from typing import Any, Final

from agent_os.core.errors import EffectError
from agent_os.effects.sandbox import trees

UNDO_BYTES_MAX: Final = 4 * 1024 * 1024 * 1024


class UndoLog:
    """What the last commit into one workspace replaced."""

    def __init__(self, state: Path, workspace: str) -> None:
        key = hashlib.sha256(os.fsencode(workspace)).hexdigest()[:24]
        self.folder, self.workspace = state / "undo" / key, workspace
        self._before = self.folder / "before"
        self._journal = self.folder / "journal.json"
        self._entries: list[dict[str, Any]] = []
        self._bytes = 0

    @property
    def exists(self) -> bool:
        """Whether there is something to undo."""
        return self._journal.is_file()

    def begin(self) -> None:
        """Forget the commit before."""
        if self.folder.exists():
            trees.discard(self.folder)
        self._before.mkdir(mode=0o700, parents=True)
        self._entries, self._bytes = [], 0

    def keep(self, parent: int, name: str, path: str) -> None:
        """Keep what stands at a path before it is replaced. `parent` is its folder. Raises EffectError past the bound."""
        info = trees.lstat_at(parent, name)
        kind = "absent" if info is None else trees.kind_of(info)
        entry: dict[str, Any] = {"path": path, "was": kind}
        if info is not None and kind in ("file", "dir", "link"):
            self._bytes += trees.size_below(parent, name)
            if self._bytes > UNDO_BYTES_MAX:
                raise EffectError(f"what would be replaced is more than {UNDO_BYTES_MAX} bytes: commit with --no-undo")
            entry["kept"] = str(len(self._entries))
            trees.copy_tree(parent, name, self._before / entry["kept"])
            entry["mode"] = stat.S_IMODE(info.st_mode)
        self._entries.append(entry)

    def absent(self, path: str) -> None:
        """Say that nothing stood at a path, nor the folder it lies in."""
        self._entries.append({"path": path, "was": "absent"})

    def finish(self) -> None:
        """Write the journal: from here on the commit can be undone."""
        entries = [{**entry, "after": self._mark(entry["path"])} for entry in self._entries]
        form = {"workspace": self.workspace, "time": time.time(), "entries": entries}
        temporary = self._journal.with_suffix(".new")
        temporary.write_text(json.dumps(form))
        temporary.replace(self._journal)

    def undo(self, *, force: bool = False) -> tuple[str, ...]:
        """Put back what was replaced and return the paths; raises EffectError where a path has changed since."""
        if not self.exists:
            raise EffectError("there is no commit of this workspace to undo")
        entries = json.loads(self._journal.read_text())["entries"]
        if not force:
            for entry in entries:
                if self._mark(entry["path"]) != entry["after"]:
                    raise EffectError(f"{entry['path']!r} was changed since: look at it, then --force")
        root = os.open(self.workspace, trees.DIRECTORY)
        try:
            for entry in sorted(entries, key=lambda one: one["path"].count("/"), reverse=True):
                if entry["was"] == "absent":
                    self._take_away(root, entry)
            for entry in sorted(entries, key=lambda one: one["path"].count("/")):
                if "kept" in entry:
                    self._put_back(root, entry)
        finally:
            os.close(root)
        paths = tuple(sorted(entry["path"] for entry in entries))
        trees.discard(self.folder)
        return paths

    def _take_away(self, root: int, entry: dict[str, Any]) -> None:
        parent, name = trees.parent_of(root, entry["path"], make=False)
        if parent < 0:
            return
        try:
            trees.remove(parent, name)
        finally:
            os.close(parent)

    def _put_back(self, root: int, entry: dict[str, Any]) -> None:
        parent, name = trees.parent_of(root, entry["path"])
        try:
            trees.remove(parent, name)
            trees.restore_tree(self._before / entry["kept"], parent, name, os.fstat(root))
        finally:
            os.close(parent)

    def _mark(self, path: str) -> list[int]:
        """Return what changes when a path is changed: kind, size and time of the entry itself (a folder: its kind)."""
        info = trees.lstat(self.workspace, path)
        if info is None:
            return []
        if stat.S_ISDIR(info.st_mode):
            return [stat.S_IFMT(info.st_mode)]
        return [stat.S_IFMT(info.st_mode), info.st_size, info.st_mtime_ns, info.st_ino]
