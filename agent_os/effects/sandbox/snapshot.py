"""Snapshots: the changes of runs kept apart from a workspace, shown, then taken over or thrown away.

The changes lie as the upper layer of an overlay in the state directory: `snapshots/<workspace>/<name>/{upper,work}`.
They were written by a program nobody trusts: nothing here follows a link, takes over special files or set-id bits, or
writes outside the workspace. Protected names (guards/confine/protect.py) are left out of a commit unless a person names
them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from agent_os.core.errors import EffectError
from agent_os.effects.sandbox.trees import (
    DEPTH_MAX,
    DIRECTORY,
    copy_file,
    discard,
    kind_of,
    lstat,
    lstat_at,
    open_in,
    own,
    parent_of,
    remove,
    room_of,
)
from agent_os.effects.sandbox.undo import UndoLog
from agent_os.guards.confine.protect import protection_of

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
CHANGES_MAX: Final = 200_000
TEXT_BYTES_MAX: Final = 256 * 1024
LINKED_BYTES_MAX: Final = 1024 * 1024 * 1024
"""What the further names of hard-linked files may add when they are taken over."""
THROW_AWAY: Final = "throw-away-"
"""How the names of copies begin that are discarded with their run."""


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs. `withheld` says why a commit leaves it out; empty: it is taken over."""

    path: str
    change: Literal["added", "modified", "deleted"]
    type: Literal["file", "dir", "link", "special"]
    size: int = 0
    withheld: str = ""
    target: str = ""
    """Where a link that was made leads, as it is written."""

    def to_json(self) -> dict[str, object]:
        """Return the printable form."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


class Snapshot:
    """One named snapshot of one workspace."""

    def __init__(self, state: Path, workspace: str, name: str) -> None:
        if not NAME.fullmatch(name):
            raise EffectError("a snapshot's name is letters, digits, dots, dashes and underscores, at most 64")
        key = hashlib.sha256(os.fsencode(workspace)).hexdigest()[:24]
        self.folder = state / "snapshots" / key / name
        self.upper, self.workspace, self.name = self.folder / "upper", workspace, name
        self._undo = UndoLog(state, workspace)

    @property
    def exists(self) -> bool:
        """Whether any run has used it."""
        return self.upper.is_dir()

    def create(self) -> None:
        """Make its folders, owned as the workspace is; one that exists is used further."""
        if self.exists:
            return
        owner = os.stat(self.workspace)
        self.folder.mkdir(mode=0o700, parents=True)
        for folder in (self.upper, self.folder / "work"):
            folder.mkdir(mode=0o700)
            if os.geteuid() == 0:
                os.chown(folder, owner.st_uid, owner.st_gid)
        if os.geteuid() == 0:
            os.chown(self.folder, owner.st_uid, owner.st_gid)
        self.upper.chmod(stat.S_IMODE(owner.st_mode) & 0o777)
        (self.folder / "meta.json").write_text(json.dumps({"workspace": self.workspace, "created": time.time()}))

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Be the only one that uses it; raises EffectError where a run or a commit does already."""
        lock = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise EffectError(f"snapshot {self.name!r} is in use by a run") from None
        finally:
            os.close(lock)

    def changes(self) -> tuple[Change, ...]:
        """Return every difference, sorted by path. Raises EffectError for an unknown snapshot or too many changes."""
        if not self.exists:
            raise EffectError(f"no snapshot {self.name!r} of this workspace")
        found: list[Change] = []
        for change in self._walk(""):
            found.append(change)
            if len(found) > CHANGES_MAX:
                raise EffectError(f"more than {CHANGES_MAX} changes")
        return tuple(sorted(found, key=lambda change: change.path))

    def _walk(self, relative: str) -> Iterator[Change]:
        if relative.count("/") >= DEPTH_MAX:
            raise EffectError(f"folders more than {DEPTH_MAX} deep: nothing of this snapshot can be taken over")
        folder = self.upper / relative if relative else self.upper
        opaque = relative and _attribute(folder, "user.overlay.opaque") == b"y"
        names = set()
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        for entry in listed:
            names.add(entry.name)
            path = f"{relative}/{entry.name}" if relative else entry.name
            info = entry.stat(follow_symlinks=False)
            below = lstat(self.workspace, path) if not opaque else None
            if _whiteout(info, entry.path):
                if below is not None:
                    yield Change(path, "deleted", kind_of(below), 0, self._withheld(path, below))
                continue
            kind = kind_of(info)
            if kind == "dir":
                if below is None or not stat.S_ISDIR(below.st_mode):
                    yield Change(path, "added" if below is None else "modified", "dir", 0, self._withheld(path, info))
                yield from self._walk(path)
                continue
            change: Literal["added", "modified"] = "modified" if below is not None else "added"
            target = os.readlink(entry.path) if kind == "link" else ""
            yield Change(path, change, kind, info.st_size, self._withheld(path, info), target)
        if opaque:
            hidden = os.path.join(self.workspace, relative)
            for name in sorted(os.listdir(hidden)) if os.path.isdir(hidden) and not os.path.islink(hidden) else []:
                if name not in names:
                    path = f"{relative}/{name}"
                    below = lstat(self.workspace, path)
                    if below is not None:
                        yield Change(path, "deleted", kind_of(below), 0, self._withheld(path, below))

    def _withheld(self, path: str, info: os.stat_result) -> str:
        if kind_of(info) == "special":
            return "a special file"
        parts = path.split("/")
        for size in range(1, len(parts) + 1):
            rule = protection_of("/".join(parts[:size]))
            if rule is None:
                continue
            start = size - len(rule.parts)
            repository = "/".join((*parts[:start], ".git"))
            if rule.parts[0] == ".git" and start > 0 and lstat(self.workspace, repository) is None:
                continue  # a repository made below the workspace is one thing with its config
            return f"protected: {rule.why}"
        if parts[0] == ".git" and lstat(self.workspace, ".git") is None:
            return "protected: a repository made here could carry hooks"
        return ""

    def texts(self, path: str) -> tuple[str, str] | None:
        """Return (before, after) of a changed file, or None if either is too large or not text."""
        sides = []
        for folder in (self.workspace, str(self.upper)):
            data = _read(folder, path)
            if data is None or b"\0" in data:
                return None
            sides.append(data.decode("utf-8", errors="replace"))
        return sides[0], sides[1]

    def commit(
        self, *, include: Sequence[str] = (), only: Sequence[str] = (), force: bool = False, undo: bool = True
    ) -> tuple[Change, ...]:
        """Take changes over into the workspace and forget the snapshot; return those left out.

        `include` names protected paths to take over all the same, `only` narrows to paths (and what is below them). A file
        that was also changed in the workspace since the snapshot began is a conflict: EffectError unless `force`. With `undo`
        what is replaced is kept (effects/sandbox/undo.py); too much of it, or too little room for what is taken over, is an
        EffectError before anything is changed.
        """
        changes = self.changes()
        taken = [c for c in changes if (not c.withheld or c.path in include) and (not only or _chosen(c.path, only))]
        left = tuple(c for c in changes if c not in taken)
        if not force:
            since = float(json.loads((self.folder / "meta.json").read_text())["created"])
            for change in taken:
                below = lstat(self.workspace, change.path)
                if below is not None and change.type != "dir" and below.st_mtime > since:
                    raise EffectError(f"{change.path!r} was changed in the workspace as well: look at it, then --force")
        self._fits(taken)
        root = os.open(self.workspace, DIRECTORY)
        try:
            if undo:
                self._keep(root, taken)
            for change in sorted(taken, key=lambda c: (c.change != "deleted", c.path)):
                self._apply(root, change)
        finally:
            os.close(root)
            if undo:
                self._undo.finish()
        if not only:
            self.discard()
        return left

    def _fits(self, taken: Sequence[Change]) -> None:
        """Raise EffectError where too much would be written: each name of one file becomes a file of its own."""
        once: dict[int, int] = {}
        needed = 0
        for change in taken:
            info = lstat(str(self.upper), change.path) if change.type == "file" else None
            if info is not None:
                once[info.st_ino] = room_of(info)
                needed += room_of(info)
        disk = os.statvfs(self.workspace)
        if needed > disk.f_bavail * disk.f_frsize:
            raise EffectError(f"{needed} bytes would be taken over, more than the workspace's disk has free")
        if needed - sum(once.values()) > LINKED_BYTES_MAX:
            raise EffectError(f"further names of files (hard links) would become more than {LINKED_BYTES_MAX} bytes")

    def _keep(self, root: int, taken: Sequence[Change]) -> None:
        """Keep what the changes replace; a folder that is only gone into is no replacement."""
        self._undo.begin()
        for change in taken:
            existing = lstat(self.workspace, change.path)
            if (
                change.type == "dir"
                and change.change != "deleted"
                and existing is not None
                and stat.S_ISDIR(existing.st_mode)
            ):
                continue
            parent, name = parent_of(root, change.path, make=False)
            if parent < 0:
                self._undo.absent(change.path)
                continue
            try:
                self._undo.keep(parent, name, change.path)
            finally:
                os.close(parent)

    def _apply(self, root: int, change: Change) -> None:
        parent, name = parent_of(root, change.path)
        owner = os.fstat(root)
        try:
            existing = lstat_at(parent, name)
            source = self.upper / change.path
            if change.change == "deleted" or (existing is not None and kind_of(existing) != change.type):
                remove(parent, name)
            if change.change == "deleted":
                return
            if change.type == "dir":
                if lstat_at(parent, name) is None:
                    os.mkdir(name, 0o755, dir_fd=parent)
                    own(parent, name, owner)
                return
            temporary = f".agentos-{secrets.token_hex(6)}"
            if change.type == "link":
                os.symlink(os.readlink(source), temporary, dir_fd=parent)
            else:
                copy_file(source, parent, temporary)
            own(parent, temporary, owner)
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        finally:
            os.close(parent)

    def discard(self) -> None:
        """Throw the changes away."""
        if self.folder.exists():
            discard(self.folder)


def snapshots_of(state: Path, workspace: str) -> tuple[str, ...]:
    """Return the names of a workspace's snapshots that are kept."""
    return tuple(name for name in _names(state, workspace) if not name.startswith(THROW_AWAY))


def throw_away_copy(state: Path, workspace: str) -> Snapshot:
    """Return a new snapshot that is discarded with its run; those that killed runs left behind are swept first."""
    for name in _names(state, workspace):
        left = Snapshot(state, workspace, name)
        if name.startswith(THROW_AWAY) and left.exists:
            with contextlib.suppress(EffectError), left.held():
                left.discard()
    return Snapshot(state, workspace, THROW_AWAY + secrets.token_hex(8))


def _names(state: Path, workspace: str) -> list[str]:
    folder = Snapshot(state, workspace, "x").folder.parent
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []


def _chosen(path: str, only: Sequence[str]) -> bool:
    return any(
        path == entry or path.startswith(entry.rstrip("/") + "/") or entry.startswith(path + "/") for entry in only
    )


def _whiteout(info: os.stat_result, path: str) -> bool:
    if stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
        return True
    return (
        stat.S_ISREG(info.st_mode) and info.st_size == 0 and _attribute(Path(path), "user.overlay.whiteout") is not None
    )


def _attribute(path: Path, name: str) -> bytes | None:
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        return None


def _read(folder: str, path: str) -> bytes | None:
    """Return a text to compare; behind a link a program planted lies nothing that belongs to a workspace."""
    if lstat(folder, path) is None:
        return b""
    try:
        descriptor = open_in(folder, path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or info.st_size > TEXT_BYTES_MAX:
            return None
        return os.read(descriptor, TEXT_BYTES_MAX)
    finally:
        os.close(descriptor)
