"""Control groups for one run: version 1 and version 2, made where this user may, removed after it.

The threat: aggregate memory, process and processor use of everything in the sandbox, including memory no process maps.
Only groups below this process's own are made (or below the root group, where this process is root's), named `agentos-…`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from agent_os.core.errors import EnforcementError
from agent_os.guards.confine.inputs import Limits

PREFIX: Final = "agentos-"
REMOVE_ATTEMPTS: Final = 50
REMOVE_PAUSE_SECONDS: Final = 0.02
STALE_SECONDS: Final = 120.0
SWEPT_MAX: Final = 64
CPU_PERIOD_US: Final = 100_000
WANTED: Final = ("memory", "pids", "cpu")


def available() -> tuple[int, frozenset[str]]:
    """Return the cgroup version whose groups this user can make (0: none) and the controllers that would limit."""
    bases = _bases()
    if not bases:
        return 0, frozenset()
    return (2 if "unified" in bases else 1), frozenset(name for name in bases if name != "unified")


def _bases() -> dict[str, Path]:
    """Return controller -> directory in which a group may be made; with version 2 also the key `unified`."""
    own: dict[str, str] = {}
    try:
        for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _number, names, path = line.split(":", 2)
            for name in names.split(",") if names else [""]:
                own[name] = path
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    bases: dict[str, Path] = {}
    for line in mounts:
        left, _, right = line.partition(" - ")
        fields, kind = left.split(), right.split()
        if kind[0] == "cgroup":
            for name in set(kind[2].split(",")) & set(WANTED):
                base = Path(fields[4] + _below(own.get(name, "/"), fields[3]))
                if os.access(base, os.W_OK):
                    bases[name] = base
        elif kind[0] == "cgroup2" and own.get("", "/") == "/":
            base = Path(fields[4])
            offered = _words(base / "cgroup.controllers")
            if os.access(base / "cgroup.subtree_control", os.W_OK) and offered & set(WANTED):
                bases |= dict.fromkeys(offered & set(WANTED), base) | {"unified": base}
    return bases


def _below(path: str, mounted: str) -> str:
    relative = path[len(mounted) :] if mounted != "/" and path.startswith(mounted) else path
    return "" if relative == "/" else relative


def _words(path: Path) -> set[str]:
    try:
        return set(path.read_text(encoding="utf-8").split())
    except OSError:
        return set()


class RunGroup:
    """The groups of one run. `procs` are the files a pid is written to; `close` removes the groups."""

    def __init__(self, limits: Limits) -> None:
        self.directories: list[Path] = []
        self.version, _ = available()
        name, bases = PREFIX + secrets.token_hex(6), _bases()
        _sweep(set(bases.values()))
        try:
            self._make(bases, name, limits)
        except OSError as error:
            self.close()
            raise EnforcementError(["memory-limit"], f"cgroup: {error.strerror} at {error.filename}") from error

    def _make(self, bases: Mapping[str, Path], name: str, limits: Limits) -> None:
        if "unified" in bases:
            base = bases["unified"]
            wanted = [key for key in WANTED if key in bases]
            _write(base / "cgroup.subtree_control", " ".join("+" + key for key in wanted))
            group = base / name
            group.mkdir()
            self.directories.append(group)
            values = {"pids.max": limits.processes, "memory.oom.group": 1}
            if limits.memory_bytes:
                values |= {"memory.max": limits.memory_bytes, "memory.swap.max": limits.swap_bytes}
            self._settings(group, values)
            if limits.cpus:
                _write(group / "cpu.max", f"{int(limits.cpus * CPU_PERIOD_US)} {CPU_PERIOD_US}")
            return
        for key, base in bases.items():
            if key == "cpu" and not limits.cpus:
                continue
            group = base / name
            group.mkdir()
            self.directories.append(group)
            if key == "memory" and limits.memory_bytes:
                _write(group / "memory.limit_in_bytes", str(limits.memory_bytes))
                with contextlib.suppress(OSError):  # swap accounting may be off: then there is no such file
                    _write(group / "memory.memsw.limit_in_bytes", str(limits.memory_bytes + limits.swap_bytes))
            elif key == "pids" and limits.processes:
                _write(group / "pids.max", str(limits.processes))
            elif key == "cpu":
                _write(group / "cpu.cfs_period_us", str(CPU_PERIOD_US))
                _write(group / "cpu.cfs_quota_us", str(int(limits.cpus * CPU_PERIOD_US)))

    def _settings(self, group: Path, values: Mapping[str, int]) -> None:
        for name, value in values.items():
            if (group / name).exists() and (value or name == "memory.swap.max"):
                _write(group / name, str(value))

    def retune(self, limits: Limits) -> bool:
        """Give an unused group other limits; False if it lacks a controller they need."""
        if limits.cpus and not any("cpu" in directory.parts for directory in self.directories):
            return False
        try:
            for directory in self.directories:
                self._retune(directory, limits)
        except OSError:
            return False
        return True

    def _retune(self, directory: Path, limits: Limits) -> None:
        memory, swap = limits.memory_bytes, limits.swap_bytes
        for name, value in (
            ("memory.max", memory or "max"),
            ("memory.swap.max", swap if memory else "max"),
            ("memory.memsw.limit_in_bytes", -1),
            ("memory.limit_in_bytes", memory or -1),
            ("memory.memsw.limit_in_bytes", memory + swap if memory else -1),
            ("pids.max", limits.processes or "max"),
        ):
            if (directory / name).exists():
                _write(directory / name, str(value))

    @property
    def procs(self) -> tuple[str, ...]:
        """The files that take a pid into the groups."""
        return tuple(str(directory / "cgroup.procs") for directory in self.directories)

    def memory_failures(self) -> int:
        """Return how many processes the kernel ended for this group's memory limit."""
        for directory in self.directories:
            for name in ("memory.oom_control", "memory.events"):
                path = directory / name
                if path.exists():
                    words = path.read_text(encoding="utf-8").split()
                    return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0
        return 0

    def remove(self) -> bool:
        """Remove the groups if nothing runs in them any more; returns whether all are gone."""
        left = []
        for directory in self.directories:
            try:
                directory.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                left.append(directory)
        self.directories = left
        return not left

    def close(self) -> None:
        """Remove the groups; the processes in them must be gone, or about to go."""
        for _ in range(REMOVE_ATTEMPTS):
            if self.remove():
                return
            time.sleep(REMOVE_PAUSE_SECONDS)
        self.directories = []


def _sweep(bases: Collection[Path]) -> None:
    """Remove groups that supervisors which were killed left behind: old ones, and only where nothing runs in them."""
    for base in bases:
        for directory in sorted(base.glob(PREFIX + "*"))[:SWEPT_MAX]:
            with contextlib.suppress(OSError):  # a group with a process in it cannot be removed
                if time.time() - directory.stat().st_mtime > STALE_SECONDS:
                    directory.rmdir()


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
