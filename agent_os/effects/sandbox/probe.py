"""What this kernel and this user can enforce, and what a plan needs to know of the host's paths. Reads, never changes.

The answers are data for the pure planner. They are hints of what to plan, not promises: a layer that turns out not to
work while a sandbox is built is an error there.
"""

from __future__ import annotations

import ctypes
import os
import platform
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from agent_os.core.errors import EnforcementError
from agent_os.effects.sandbox import cgroups
from agent_os.guards.confine.inputs import HostFacts, PathFact, PathKind
from agent_os.guards.confine.protect import (
    PROTECTED_PATHS_MAX,
    SCAN_DEPTH_MAX,
    SCAN_ENTRIES_MAX,
    protection_of,
    worth_entering,
)

HIDDEN_SCAN_ENTRIES_MAX: Final = 400_000
HIDDEN_PATHS_MAX: Final = 256
LINKS_MAX: Final = 40
"""Links of one path: as many as the kernel follows (path_resolution(7))."""
_LANDLOCK_CREATE: Final = 444
_VERSION_FLAG: Final = 1
_NAMESPACE_FILES: Final = {
    "user": "user", "mount": "mnt", "pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup",
}  # fmt: skip
_KIND: Final[dict[int, PathKind]] = {
    stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link", stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device", stat.S_IFBLK: "device", stat.S_IFIFO: "socket",
}  # fmt: skip


def host_facts(paths: Iterable[str] = ()) -> HostFacts:
    """Return the facts of this machine, user and the given absolute paths."""
    missing: dict[str, str] = {}
    release = platform.release()
    names = _namespaces(missing)
    abi = landlock_abi()
    if abi < 1:
        missing["landlock"] = (
            "the kernel has no Landlock or it is not enabled (boot with lsm=landlock,…; Linux 5.13 or later)"
        )
    seccomp = Path("/proc/sys/kernel/seccomp/actions_avail").exists()
    if not seccomp:
        missing["seccomp"] = "the kernel was built without seccomp filters"
    version, controllers = cgroups.available()
    if "cpu" not in controllers:
        missing["cpu-limit"] = (
            "no cpu cgroup can be written by this user (root, or the writable root of a cgroup name space, would be needed)"
        )
    if "io" not in controllers:
        missing["io-limit"] = "no io (version 1: blkio) cgroup can be written by this user"
    elif cgroups.io_version() == 1:
        missing["io-limit-of-buffered-writes"] = (
            "version 1 control groups hold back reads and direct writes, not writes that the kernel buffers"
        )
    root = os.geteuid() == 0
    idmapped = root and at_least(release, 5, 12)
    if root and not idmapped:
        missing["idmapped-mounts"] = "Linux 5.12 or later is needed"
    return HostFacts(
        machine=platform.machine(),
        kernel=release,
        uid=os.geteuid(),
        gid=os.getegid(),
        landlock_abi=min(abi, 7),
        namespaces=names,
        seccomp=seccomp,
        cgroup_version=version,
        controllers=controllers,
        idmapped_mounts=idmapped,
        pid_max_namespaced=at_least(release, 6, 14),
        overlay="overlay" in _read("/proc/filesystems"),
        host_name=platform.node(),
        missing=missing,
        paths={path: path_fact(path) for path in paths},
    )


def at_least(release: str, major: int, minor: int) -> bool:
    """Return whether a kernel release is this version or later."""
    numbers = [int("".join(c for c in part if c.isdigit()) or 0) for part in release.split(".")[:2]]
    return tuple(numbers) >= (major, minor)


def landlock_abi() -> int:
    """Return the Landlock ABI version, 0 for none."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return max(
        int(libc.syscall(ctypes.c_long(_LANDLOCK_CREATE), None, ctypes.c_long(0), ctypes.c_long(_VERSION_FLAG))), 0
    )


def _namespaces(missing: dict[str, str]) -> frozenset[str]:
    names = {name for name, file in _NAMESPACE_FILES.items() if Path("/proc/self/ns", file).exists()}
    for name in _NAMESPACE_FILES.keys() - names:
        missing[f"{name}-namespace"] = "the kernel was built without it"
    if platform.system() != "Linux":
        missing["user-namespace"] = "the sandbox needs Linux; on other systems run it in a Linux virtual machine"
        return frozenset()
    reasons = []
    if _read("/proc/sys/user/max_user_namespaces").strip() == "0":
        reasons.append("user.max_user_namespaces is 0 (sysctl user.max_user_namespaces=15000)")
    if os.geteuid() != 0:
        if _read("/proc/sys/kernel/unprivileged_userns_clone").strip() == "0":
            reasons.append("kernel.unprivileged_userns_clone is 0 (sysctl kernel.unprivileged_userns_clone=1)")
        if _read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").strip() == "1":
            reasons.append(
                "AppArmor restricts user name spaces (Ubuntu 24.04): give the Python interpreter a profile with `userns,` "
                "or set sysctl kernel.apparmor_restrict_unprivileged_userns=0"
            )
    if reasons:
        missing["user-namespace"] = "; ".join(reasons)
        names.discard("user")
    return frozenset(names)


def path_fact(path: str) -> PathFact:
    """Return what `lstat` and link resolution say of an absolute path."""
    try:
        info = os.lstat(path)
    except OSError:
        return PathFact("missing")
    kind = _KIND.get(stat.S_IFMT(info.st_mode), "device")
    target = ""
    if kind == "link":
        target = os.readlink(path)
        try:
            info = os.stat(path)
        except OSError:
            return PathFact("missing")
    real = os.path.realpath(path)
    through = () if real == path else links_on(path)
    return PathFact(kind, real, info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode), info.st_nlink, target, through)


def links_on(path: str) -> tuple[str, ...]:
    """Return where the symbolic links lie that an absolute path passes through, in order, each by its real path."""
    found: list[str] = []
    here, rest = "", path.split("/")[::-1]
    while rest and len(found) <= LINKS_MAX:
        part = rest.pop()
        if part in ("", "."):
            continue
        if part == "..":
            here = here.rpartition("/")[0]
            continue
        try:
            target = os.readlink(f"{here}/{part}")
        except OSError:
            here = f"{here}/{part}"
            continue
        found.append(f"{here}/{part}")
        here = "" if target.startswith("/") else here
        rest.extend(target.split("/")[::-1])
    return tuple(found)


def protected_below(workspace: str) -> tuple[tuple[str, ...], bool]:
    """Return existing protected paths below a workspace, relative to it, and whether the walk was cut off by its bounds."""
    found: list[str] = []
    seen = 0
    queue = [("", 0)]
    while queue:
        relative, depth = queue.pop(0)
        for entry in _entries(os.path.join(workspace, relative)):
            seen += 1
            if seen > SCAN_ENTRIES_MAX or len(found) >= PROTECTED_PATHS_MAX:
                return tuple(found), True
            name = f"{relative}/{entry.name}" if relative else entry.name
            if protection_of(name) is not None:
                found.append(name)
            if entry.is_dir(follow_symlinks=False) and depth < SCAN_DEPTH_MAX and worth_entering(name, entry.name):
                queue.append((name, depth + 1))
    return tuple(found), False


def matching_below(source: str, shown: str, matchers: Sequence[Callable[[str], bool]]) -> tuple[str, ...]:
    """Return existing paths below `source`, as seen at `shown`, that one of the matchers takes.

    Raises EnforcementError when the walk's bounds do not suffice: a path that was not looked at could not be hidden.
    """
    if not matchers:
        return ()
    found: list[str] = []
    seen, queue = 0, [""]
    while queue:
        relative = queue.pop()
        for entry in _entries(os.path.join(source, relative)):
            seen += 1
            if seen > HIDDEN_SCAN_ENTRIES_MAX or len(found) > HIDDEN_PATHS_MAX:
                raise EnforcementError(
                    ["filesystem_policy.deny"], "too many files to look through: name folders instead of globs"
                )
            name = f"{relative}/{entry.name}" if relative else entry.name
            if any(matches(f"{shown}/{name}") for matches in matchers):
                found.append(f"{shown}/{name}")
            elif entry.is_dir(follow_symlinks=False):
                queue.append(name)
    return tuple(found)


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from list(entries)
    except OSError:
        return


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
