"""Places held in a workspace while runs are on: empty files and folders where a protected name does not exist yet.

A name that does not exist cannot be mounted over, so a stand-in is put there, mounted read-only inside, and taken away when
the last run of the workspace ends. The launcher keeps the list too and takes them away when the supervisor was killed; if
both were, the next run does. The list (a line each: inode, path) lies in the state directory under a lock that each run
shares. Only a stand-in that is still exactly what was put there is removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from agent_os.core.errors import EffectError, EnforcementError
from agent_os.effects.sandbox.server import Launcher

_NO_LINKS: Final = os.O_NOFOLLOW | os.O_CLOEXEC
LIST_BYTES_MAX: Final = 65536
"""Far above what the protected names come to; the launchers read no more either."""


class Holds:
    """The held places of one workspace. `names` are relative paths; each run opens its own and closes it at its end."""

    def __init__(self, state: Path, workspace: str) -> None:
        folder = state / "sandbox"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = hashlib.sha256(os.fsencode(workspace)).hexdigest()[:24]
        self._keeper: tuple[Launcher, str] | None = None
        self._file = os.open(folder / f"holds-{key}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._root = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | _NO_LINKS)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._remove_all()  # nobody else runs here: what is listed was left by a crash
        except BlockingIOError:
            fcntl.flock(self._file, fcntl.LOCK_SH)

    @property
    def names(self) -> frozenset[str]:
        """What is held now; a plan must treat these as names that do not exist."""
        return frozenset(self._read())

    def hold(self, wanted: Mapping[str, tuple[str, str]]) -> None:
        """Put stand-ins there: relative path -> ("dir" or "file", content). Raises EnforcementError if one cannot be."""
        fcntl.flock(self._file, fcntl.LOCK_EX) if self._alone() else None
        listed = self._read()
        owner = os.fstat(self._root)
        try:
            for name, (kind, content) in sorted(wanted.items()):
                if name in listed:
                    continue
                parent, last = self._parent(name)
                try:
                    if kind == "dir":
                        os.mkdir(last, 0o755, dir_fd=parent)
                    else:
                        file = os.open(last, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _NO_LINKS, 0o644, dir_fd=parent)
                        os.write(file, content.encode())
                        os.close(file)
                    if os.geteuid() == 0:
                        os.chown(last, owner.st_uid, owner.st_gid, dir_fd=parent, follow_symlinks=False)
                    listed[name] = os.stat(last, dir_fd=parent, follow_symlinks=False).st_ino
                    self._append(name, listed[name])
                finally:
                    os.close(parent)
        except OSError as error:
            raise EnforcementError(["protected paths"], f"cannot hold the place of {name}: {error.strerror}") from error
        finally:
            fcntl.flock(self._file, fcntl.LOCK_SH)

    def keep(self, launcher: Launcher) -> None:
        """Let a launcher take the stand-ins away, should this process be killed. Before `hold`, so that no moment is missed."""
        token = secrets.token_hex(8)
        launcher.keep(token, self._file, self._root)
        self._keeper = (launcher, token)

    def close(self) -> None:
        """Leave; the last run takes the stand-ins away."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._remove_all()
        except BlockingIOError:
            pass  # another run still needs them and will do it
        finally:
            if self._keeper is not None:
                with contextlib.suppress(EffectError):  # a launcher that is gone keeps nothing
                    self._keeper[0].forget(self._keeper[1])
            fcntl.flock(
                self._file, fcntl.LOCK_UN
            )  # others of our processes may hold copies of the descriptor for a moment
            os.close(self._root)
            os.close(self._file)

    def _alone(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False

    def _parent(self, name: str) -> tuple[int, str]:
        parts = name.split("/")
        here = os.dup(self._root)
        for part in parts[:-1]:
            there = os.open(part, os.O_RDONLY | os.O_DIRECTORY | _NO_LINKS, dir_fd=here)
            os.close(here)
            here = there
        return here, parts[-1]

    def _read(self) -> dict[str, int]:
        listed = {}
        for line in os.pread(self._file, LIST_BYTES_MAX, 0).decode("utf-8", "surrogateescape").splitlines():
            inode, _, name = line.partition(" ")
            if inode.isdecimal() and name:
                listed[name] = int(inode)
        return listed

    def _append(self, name: str, inode: int) -> None:
        line = f"{inode} {name}\n".encode("utf-8", "surrogateescape")
        os.pwrite(self._file, line, os.fstat(self._file).st_size)

    def _remove_all(self) -> None:
        for name, inode in sorted(self._read().items(), reverse=True):
            try:
                parent, last = self._parent(name)
            except OSError:
                continue
            try:
                info = os.stat(last, dir_fd=parent, follow_symlinks=False)
                if info.st_ino != inode:
                    continue
                if stat.S_ISDIR(info.st_mode):
                    os.rmdir(last, dir_fd=parent)
                elif info.st_size <= 2:
                    os.unlink(last, dir_fd=parent)
            except OSError:
                continue  # not empty any more: it has become the person's own
            finally:
                os.close(parent)
        os.ftruncate(self._file, 0)
