"""Files and folders taken over, kept and put back by descriptor: no link is followed, no special file or set-id bit kept.

What lies in a workspace after a run was written by a program nobody trusts; every step opens its parent anew, beneath the
folder it was given. Threats: a link in the way, folders nested deeper than a stack or a path can hold, folders that their
owner may not enter: what is kept or taken over has a bound of depth, and what is removed goes whatever its shape.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path
from typing import Final, Literal

from agent_os.core.errors import EffectError
from agent_os.effects.openat2 import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2

COPY_BYTES: Final = 1 << 20
DEPTH_MAX: Final = 256
"""Folders within folders that are compared, kept, taken over and put back."""
REMOVE_ROUNDS_MAX: Final = 100_000
"""Turns of a removal, one for each level: a program that goes on writing below must not hold it for ever."""
_BENEATH: Final = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
Kind = Literal["file", "dir", "link", "special"]


def kind_of(info: os.stat_result) -> Kind:
    """Return what an entry is."""
    if stat.S_ISREG(info.st_mode):
        return "file"
    if stat.S_ISDIR(info.st_mode):
        return "dir"
    return "link" if stat.S_ISLNK(info.st_mode) else "special"


def open_in(folder: str, path: str, flags: int) -> int:
    """Open what lies at a path below a folder; a link on the way is an error, like a path that leads out. Raises OSError."""
    root = os.open(folder, DIRECTORY)
    try:
        return openat2(root, path, flags, resolve=_BENEATH)
    finally:
        os.close(root)


def lstat(folder: str, path: str) -> os.stat_result | None:
    """Return the entry at a path below a folder, or None; behind a link there is nothing."""
    try:
        found = open_in(folder, path, os.O_PATH | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        return os.fstat(found)
    finally:
        os.close(found)


def lstat_at(parent: int, name: str) -> os.stat_result | None:
    """Return the entry of a folder, or None."""
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def parent_of(root: int, path: str, *, make: bool = True) -> tuple[int, str]:
    """Open the parent of a path below `root` without following a link, made if it is not there.

    Where something else than a folder stands in the way: EffectError. With `make` false: -1 for both.
    """
    parts = path.split("/")
    here = os.dup(root)
    for part in parts[:-1]:
        try:
            there = os.open(part, DIRECTORY, dir_fd=here)
        except FileNotFoundError:
            if not make:
                os.close(here)
                return -1, parts[-1]
            os.mkdir(part, 0o755, dir_fd=here)
            own(here, part, os.fstat(root))
            there = os.open(part, DIRECTORY, dir_fd=here)
        except OSError as error:
            os.close(here)
            if not make:
                return -1, parts[-1]
            raise EffectError(f"{path!r}: cannot be taken over: {error.strerror}") from error
        os.close(here)
        here = there
    return here, parts[-1]


def own(parent: int, name: str, owner: os.stat_result) -> None:
    """Give an entry to the owner of the workspace, where we may."""
    if os.geteuid() == 0:
        os.chown(name, owner.st_uid, owner.st_gid, dir_fd=parent, follow_symlinks=False)


def remove(parent: int, name: str) -> None:
    """Remove an entry and all below it, however deep and whatever its permissions.

    What a folder holds is moved up beside it before it goes, so that no level needs a descriptor, a path or a stack of its
    own. Raises EffectError where something goes on being written there.
    """
    info = lstat_at(parent, name)
    if info is None:
        return
    if not stat.S_ISDIR(info.st_mode):
        os.unlink(name, dir_fd=parent)
        return
    top = _enter(parent, name)
    try:
        for _ in range(REMOVE_ROUNDS_MAX):
            names = os.listdir(top)
            if not names:
                break
            for entry in names:
                _lift(top, entry)
        else:
            raise EffectError("cannot be removed: something goes on writing there")
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _lift(top: int, name: str) -> None:
    """Remove an entry of `top`; the folders in it are moved up into `top`. What went away meanwhile is gone."""
    try:
        if not stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=top)
            return
        folder = _enter(top, name)
    except FileNotFoundError:
        return
    try:
        for entry in os.listdir(folder):
            info = lstat_at(folder, entry)
            if info is None:
                continue
            if stat.S_ISDIR(info.st_mode):
                os.close(_enter(folder, entry))
                os.rename(entry, f".agentos-{secrets.token_hex(12)}", src_dir_fd=folder, dst_dir_fd=top)
            else:
                os.unlink(entry, dir_fd=folder)
    except FileNotFoundError:
        pass
    finally:
        os.close(folder)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=top)


def _enter(parent: int, name: str) -> int:
    """Open a folder to remove what it holds, made accessible where its owner took that away; no link is followed."""
    found = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        mode = stat.S_IMODE(os.fstat(found).st_mode)
        if mode & 0o700 != 0o700:
            os.chmod(f"/proc/self/fd/{found}", mode | 0o700)
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(found)


def discard(folder: Path) -> None:
    """Remove a folder of ours and all below it; one that is not there is gone already."""
    parent = os.open(folder.parent, DIRECTORY)
    try:
        remove(parent, folder.name)
    finally:
        os.close(parent)


def copy_file(source: str | Path, parent: int, name: str, *, source_parent: int | None = None) -> None:
    """Copy a regular file's bytes and permission bits (no set-id bits) to a new file of a folder; holes stay holes."""
    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source_parent)
    try:
        mode = stat.S_IMODE(os.fstat(reading).st_mode) & 0o777
        writing = os.open(
            name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent
        )
        try:
            _copy_bytes(reading, writing)
            os.fchmod(writing, mode)
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _copy_bytes(reading: int, writing: int) -> None:
    """Copy what a file holds. Its size is what its writer says it is: a hole takes no room, here as there."""
    at, size = 0, os.fstat(reading).st_size
    while at < size:
        try:
            at = os.lseek(reading, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # only a hole is left
        end = os.lseek(reading, at, os.SEEK_HOLE)
        while at < end and (data := os.pread(reading, min(COPY_BYTES, end - at), at)):
            view = memoryview(data)
            while view:
                done = os.pwrite(writing, view, at)
                at, view = at + done, view[done:]
    os.ftruncate(writing, size)


def room_of(info: os.stat_result) -> int:
    """Return the bytes that a copy of a file takes on a disk."""
    return min(info.st_size, info.st_blocks * 512)


def size_below(parent: int, name: str, depth: int = 0) -> int:
    """Return the bytes of a file, or of all files below a folder. Raises EffectError past DEPTH_MAX."""
    info = lstat_at(parent, name)
    if info is None or not stat.S_ISDIR(info.st_mode):
        return info.st_size if info is not None else 0
    if depth >= DEPTH_MAX:
        raise EffectError(f"folders more than {DEPTH_MAX} deep")
    folder = os.open(name, DIRECTORY, dir_fd=parent)
    try:
        return sum(size_below(folder, entry, depth + 1) for entry in os.listdir(folder))
    finally:
        os.close(folder)


def copy_tree(parent: int, name: str, target: Path) -> None:
    """Keep an entry and all below it at a path of ours; special files are left out."""
    there = os.open(target.parent, DIRECTORY)
    try:
        _copy(parent, name, there, target.name, None)
    finally:
        os.close(there)


def restore_tree(source: Path, parent: int, name: str, owner: os.stat_result) -> None:
    """Put what was kept back into a folder of the workspace."""
    here = os.open(source.parent, DIRECTORY)
    try:
        _copy(here, source.name, parent, name, owner)
    finally:
        os.close(here)


def _copy(parent: int, name: str, into: int, as_name: str, owner: os.stat_result | None) -> None:
    info = lstat_at(parent, name)
    kind = kind_of(info) if info is not None else "special"
    if info is None or kind == "special":
        return
    if kind == "file":
        copy_file(name, into, as_name, source_parent=parent)
        os.utime(as_name, ns=(info.st_atime_ns, info.st_mtime_ns), dir_fd=into, follow_symlinks=False)
    elif kind == "link":
        os.symlink(os.readlink(name, dir_fd=parent), as_name, dir_fd=into)
    else:
        os.mkdir(as_name, 0o700, dir_fd=into)
        folder, target = os.open(name, DIRECTORY, dir_fd=parent), os.open(as_name, DIRECTORY, dir_fd=into)
        try:
            for entry in sorted(os.listdir(folder)):
                _copy(folder, entry, target, entry, owner)
            os.fchmod(target, stat.S_IMODE(info.st_mode) & 0o777)
        finally:
            os.close(folder)
            os.close(target)
    if owner is not None:
        own(into, as_name, owner)
