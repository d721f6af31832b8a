"""Files beneath granted roots: reading, writing, listing and deleting, by descriptor.

Carries out `fs.read`, `fs.write`, `fs.list` and `fs.delete` for the monitor. It decides nothing, but it holds its own
line: whatever path an action names, the descriptor opened is beneath a granted root and no link was followed on the
way. The action's path already has its links resolved (`links.py`), so any link met here appeared after the decision:
a race, and an error.

Threats: a directory swapped for a link between check and use; a hard link that gives a denied file a second name; a
FIFO or device that hangs or acts when opened; a huge or endless file; a half-written file after a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import stat
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from agent_os.core.action import Action, FsDelete, FsList, FsRead, FsWrite
from agent_os.core.carried import Carried, content_digest
from agent_os.core.errors import EffectError
from agent_os.core.label import UNTRUSTED
from agent_os.core.ports import Outcome, Permit
from agent_os.effects.openat2 import (
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    openat2,
    require_openat2,
)

READ_BYTES_MAX: Final = 16 * 1024 * 1024
WRITE_BYTES_MAX: Final = 64 * 1024 * 1024
LIST_ENTRIES_MAX: Final = 10_000
FILE_THREADS: Final = 8
FILE_SECONDS_MAX: Final = 30.0
_RESOLVE: Final = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
_TYPES: Final = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "directory"), (stat.S_ISLNK, "link"))
_SAID: Final = {
    errno.ELOOP: "a link appeared on the path after it was judged",
    errno.EXDEV: "leaves the granted root",
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "has a part that is not a directory",
    errno.EISDIR: "is a directory",
    errno.EACCES: "may not be opened by this user",
    errno.EPERM: "may not be changed by this user",
    errno.ENOTEMPTY: "is a directory that is not empty",
    errno.ENOSPC: "no space left on the device",
    errno.EROFS: "is on a read-only file system",
    errno.ENAMETOOLONG: "has a name that is too long",
}


@dataclass(frozen=True, slots=True)
class _Root:
    path: str
    descriptor: int
    writable: bool
    only: str = ""
    """The name of a granted file, `descriptor` being its directory; empty: everything beneath `path`."""


class Files:
    """The effector of the `fs.*` kinds.

    `readable` and `writable` are absolute directories or single files (writable ones are readable too); those that do
    not exist grant nothing. `hard_links` lets files with more than one name be read. `threads` are shared with other sessions,
    and whoever made them ends them. Raises EnforcementError where
    `openat2` is missing.
    """

    def __init__(
        self,
        *,
        writable: Sequence[str],
        readable: Sequence[str] = (),
        carried: Carried,
        hard_links: bool = False,
        read_bytes_max: int = READ_BYTES_MAX,
        threads: ThreadPoolExecutor | None = None,
    ) -> None:
        require_openat2()
        self._carried, self._hard_links, self._read_bytes_max = carried, hard_links, read_bytes_max
        self._roots: list[_Root] = []
        for paths, may_write in ((writable, True), (readable, False)):
            for path in paths:
                self._grant(os.path.realpath(path), may_write)
        self._roots.sort(key=lambda root: len(root.path), reverse=True)
        self._own = threads is None
        self._threads = threads or ThreadPoolExecutor(FILE_THREADS, thread_name_prefix="agentos-files")

    def _grant(self, path: str, may_write: bool) -> None:
        if any(root.path == path for root in self._roots):
            return
        only = "" if os.path.isdir(path) else os.path.basename(path)
        try:
            flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
            descriptor = os.open(os.path.dirname(path) if only else path, flags)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return
        self._roots.append(_Root(path, descriptor, may_write, only))

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of action this effector carries out."""
        return frozenset({"fs.read", "fs.write", "fs.list", "fs.delete"})

    def close(self) -> None:
        """Close the root descriptors; every later action fails."""
        if self._own:
            self._threads.shutdown(wait=False, cancel_futures=True)
        for root in self._roots:
            os.close(root.descriptor)
        self._roots = []

    async def execute(self, permit: Permit, action: Action) -> Outcome:
        """Carry out one file action and return its outcome.

        `fs.read` gives bytes; `fs.write` `{"path", "size", "created"}`; `fs.list` `{"entries": [{"name", "type",
        "size"}], "truncated"}`; `fs.delete` `{"path", "type"}`. Raises EffectError, also after FILE_SECONDS_MAX or at
        the permit's deadline (a hung disk: the thread is left behind, the action fails).
        """
        call = self._call(action)
        seconds = FILE_SECONDS_MAX
        if permit.deadline:
            seconds = max(0.0, min(seconds, permit.deadline - time.monotonic()))
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(seconds):
                return await loop.run_in_executor(self._threads, call)
        except TimeoutError:
            raise EffectError(f"{action.kind}: the file system did not answer within {seconds:g} s") from None
        except OSError as error:
            said = _SAID.get(error.errno or 0) or os.strerror(error.errno or errno.EIO).lower()
            raise EffectError(f"{action.kind}: {said}") from None

    def now(self, path: str) -> bytes:
        """Return the bytes of a file as it is now, to show a person what would change. Raises EffectError."""
        content: bytes = self._read(path).value
        return content

    def _call(self, action: Action) -> Callable[[], Outcome]:
        if isinstance(action, FsWrite):
            write = action
            return lambda: self._write(write)
        if isinstance(action, FsRead):
            return lambda: self._read(action.path)
        if isinstance(action, FsList):
            return lambda: self._list(action.path)
        if isinstance(action, FsDelete):
            return lambda: self._delete(action.path)
        raise EffectError(f"files cannot carry out {action.kind}")

    def _root(self, path: str, *, write: bool) -> tuple[_Root, str]:
        """Return the innermost granted root of a path and the path relative to it."""
        for root in self._roots:
            prefix = root.path if root.path == "/" else root.path + "/"
            if path == root.path or (path.startswith(prefix) and not root.only):
                if write and not root.writable:
                    raise EffectError("lies in a granted root that is read-only")
                if root.only:
                    return root, root.only
                return root, path[len(prefix) :] or "."
        raise EffectError("lies beneath no granted root")

    def _open(self, path: str, flags: int, *, write: bool = False) -> int:
        root, relative = self._root(path, write=write)
        return openat2(root.descriptor, relative, flags, resolve=_RESOLVE)

    def _parent(self, path: str, *, create: bool) -> tuple[int, str]:
        """Open the directory that holds `path`, for writing in it; return its descriptor and the last name."""
        root, relative = self._root(path, write=True)
        above, _, name = relative.rpartition("/")
        if name in ("", ".", ".."):
            raise EffectError("names a granted root itself")
        flags = os.O_RDONLY | os.O_DIRECTORY
        try:
            return openat2(root.descriptor, above or ".", flags, resolve=_RESOLVE), name
        except FileNotFoundError:
            if not create:
                raise
        current = openat2(root.descriptor, ".", flags, resolve=_RESOLVE)
        for part in above.split("/"):
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o777, dir_fd=current)
                inner = openat2(current, part, flags, resolve=_RESOLVE)
            finally:
                os.close(current)
            current = inner
        return current, name

    def _read(self, path: str) -> Outcome:
        # O_PATH first: opening a FIFO would hang and opening a device may act; neither happens with O_PATH.
        handle = self._open(path, os.O_PATH)
        try:
            found = os.fstat(handle)
            if stat.S_ISDIR(found.st_mode):
                raise EffectError("fs.read: is a directory")
            if not stat.S_ISREG(found.st_mode):
                raise EffectError("fs.read: is not a regular file")
            if found.st_nlink > 1 and not self._hard_links:
                raise EffectError("fs.read: has more than one name (hard link), so the name judged is not its only one")
            if found.st_size > self._read_bytes_max:
                raise EffectError(f"fs.read: larger than {self._read_bytes_max} bytes")
            # The descriptor's own inode is opened again for reading; nothing is looked up by name.
            descriptor = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        finally:
            os.close(handle)
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(self._read_bytes_max + 1)
        if len(content) > self._read_bytes_max:
            raise EffectError(f"fs.read: larger than {self._read_bytes_max} bytes")
        return Outcome(content, UNTRUSTED, usage={"bytes": float(len(content))})

    def _write(self, action: FsWrite) -> Outcome:
        content = self._carried.bytes_for(action.content_digest)
        if content_digest(content) != action.content_digest or len(content) != action.size:
            raise EffectError("fs.write: the content is not what the action says")
        if len(content) > WRITE_BYTES_MAX:
            raise EffectError(f"fs.write: larger than {WRITE_BYTES_MAX} bytes")
        directory, name = self._parent(action.path, create=True)
        try:
            mode = _replaceable(directory, name)
            temporary = f".{name[:64]}.{secrets.token_hex(8)}.tmp"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(temporary, flags, 0o666 if mode is None else 0o600, dir_fd=directory)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    if mode is not None:
                        os.fchmod(file.fileno(), mode)
                    file.flush()
                    os.fsync(file.fileno())
                self._still(directory, action.path)
                os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                _unlink_quietly(temporary, directory)
                raise
            os.fsync(directory)
        finally:
            os.close(directory)
        value = {"path": action.path, "size": len(content), "created": mode is None}
        return Outcome(value, UNTRUSTED, usage={"bytes": float(len(content))})

    def _still(self, directory: int, path: str) -> None:
        """Raise EffectError if the directory was renamed since the path was looked up."""
        expected, actual = path.rpartition("/")[0] or "/", os.readlink(f"/proc/self/fd/{directory}")
        if actual != expected:
            raise EffectError("the directory was moved while the file was written")

    def _list(self, path: str) -> Outcome:
        descriptor = self._open(path, os.O_RDONLY | os.O_DIRECTORY)
        entries: list[dict[str, Any]] = []
        truncated = False
        try:
            with os.scandir(descriptor) as scanned:
                for entry in scanned:
                    if len(entries) == LIST_ENTRIES_MAX:
                        truncated = True
                        break
                    if (found := _entry(entry)) is not None:
                        entries.append(found)
        finally:
            os.close(descriptor)
        entries.sort(key=lambda item: item["name"])
        return Outcome({"entries": entries, "truncated": truncated}, UNTRUSTED)

    def _delete(self, path: str) -> Outcome:
        directory, name = self._parent(path, create=False)
        try:
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            kind = _type(found.st_mode)
            if kind == "directory":
                os.rmdir(name, dir_fd=directory)
            else:
                os.unlink(name, dir_fd=directory)
            os.fsync(directory)
        finally:
            os.close(directory)
        return Outcome({"path": path, "type": kind}, UNTRUSTED)


def _replaceable(directory: int, name: str) -> int | None:
    """Return the permission bits of the regular file of that name, or None if there is nothing."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(found.st_mode):
        raise EffectError("fs.write: a link appeared on the path after it was judged")
    if not stat.S_ISREG(found.st_mode):
        raise EffectError("fs.write: is not a regular file")
    return stat.S_IMODE(found.st_mode) & 0o777


def _entry(entry: os.DirEntry[str]) -> dict[str, Any] | None:
    try:
        entry.name.encode()
        found = entry.stat(follow_symlinks=False)
    except (OSError, UnicodeEncodeError):  # gone meanwhile, or a name that is not UTF-8: no action can name it
        return None
    return {"name": entry.name, "type": _type(found.st_mode), "size": found.st_size}


def _type(mode: int) -> str:
    return next((name for check, name in _TYPES if check(mode)), "special")


def _unlink_quietly(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except OSError:
        return
