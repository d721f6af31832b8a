"""The control groups of one run: made where this user may, with the run's limits in them, and removed after it.

The threat: aggregate memory, process, processor and disk use of everything in the sandbox, including memory no process maps.
Groups are named `agentos-…`. A limit that cannot be written is an error; what a kernel may lack (swap accounting) is not.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from agent_os.core.errors import EnforcementError
from agent_os.effects.sandbox.cgroups import Hierarchy, available, hierarchies
from agent_os.guards.confine.inputs import Limits

PREFIX: Final = "agentos-"
REMOVE_ATTEMPTS: Final = 50
REMOVE_PAUSE_SECONDS: Final = 0.02
STALE_SECONDS: Final = 120.0
SWEPT_MAX: Final = 64
CPU_PERIOD_US: Final = 100_000


class RunGroup:
    """The groups of one run. `procs` are the files a pid is written to; `close` removes the groups."""

    def __init__(self, limits: Limits, devices: Sequence[str] = ()) -> None:
        """`devices`: the disks ("major:minor") that `io_bytes_per_second` holds for. Raises EnforcementError."""
        self.directories: list[Path] = []
        self._made: list[tuple[Hierarchy, Path, frozenset[str]]] = []
        self.version, _ = available()
        name, found = PREFIX + secrets.token_hex(6), hierarchies()
        _sweep(one.directory for one in found)
        asked = (
            {"memory", "pids"} | ({"cpu"} if limits.cpus else set()) | ({"io"} if limits.io_bytes_per_second else set())
        )
        try:
            for one in found:
                controllers = one.controllers & asked
                if controllers:
                    self._make(one, one.directory / name, controllers)
            self._limit(limits, devices)
        except OSError as error:
            self.close()
            raise EnforcementError(["control-group"], f"{error.strerror} at {error.filename}") from error

    def _make(self, hierarchy: Hierarchy, group: Path, controllers: frozenset[str]) -> None:
        if hierarchy.version == 2:
            wanted = " ".join(f"+{name}" for name in sorted(controllers))
            _write(hierarchy.directory / "cgroup.subtree_control", wanted)
        group.mkdir()
        self.directories.append(group)
        self._made.append((hierarchy, group, controllers))

    def _limit(self, limits: Limits, devices: Sequence[str]) -> None:
        for hierarchy, group, controllers in self._made:
            for controller in sorted(controllers):
                for file, value, needed in settings(hierarchy.version, controller, limits, devices):
                    with contextlib.nullcontext() if needed else contextlib.suppress(OSError):
                        _write(group / file, value)

    def retune(self, limits: Limits) -> bool:
        """Give an unused group other limits; False if it lacks a controller they need."""
        if limits.cpus or limits.io_bytes_per_second:
            return False
        try:
            self._limit(limits, ())
        except OSError:
            return False
        return True

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


def settings(version: int, controller: str, limits: Limits, devices: Sequence[str]) -> Iterator[tuple[str, str, bool]]:
    """Yield (file, value, whether the kernel must take it) for one controller, in the order to be written.

    Source: Linux Documentation/admin-guide/cgroup-v1 (memory, pids, blkio-controller) and cgroup-v2.
    """
    memory, swap, rate = limits.memory_bytes, limits.swap_bytes, limits.io_bytes_per_second
    if controller == "memory" and version == 1:
        yield "memory.memsw.limit_in_bytes", "-1", False  # it may not lie below the other, which may grow
        yield "memory.limit_in_bytes", str(memory or -1), True
        yield "memory.memsw.limit_in_bytes", str(memory + swap if memory else -1), False
    elif controller == "memory":
        yield "memory.max", str(memory or "max"), True
        yield "memory.swap.max", str(swap) if memory else "max", False
        yield "memory.oom.group", "1", False
    elif controller == "pids":
        yield "pids.max", str(limits.processes or "max"), True
    elif controller == "cpu" and version == 1:
        yield "cpu.cfs_period_us", str(CPU_PERIOD_US), True
        yield "cpu.cfs_quota_us", str(int(limits.cpus * CPU_PERIOD_US)), True
    elif controller == "cpu":
        yield "cpu.max", f"{int(limits.cpus * CPU_PERIOD_US)} {CPU_PERIOD_US}", True
    elif controller == "io":
        for device in devices:
            if version == 1:
                yield "blkio.throttle.read_bps_device", f"{device} {rate}", True
                yield "blkio.throttle.write_bps_device", f"{device} {rate}", True
            else:
                yield "io.max", f"{device} rbps={rate} wbps={rate}", True


def _sweep(bases: Iterable[Path]) -> None:
    """Remove groups that supervisors which were killed left behind: old ones, and only where nothing runs in them."""
    for base in bases:
        for directory in sorted(base.glob(PREFIX + "*"))[:SWEPT_MAX]:
            with contextlib.suppress(OSError):  # a group with a process in it cannot be removed
                if time.time() - directory.stat().st_mtime > STALE_SECONDS:
                    directory.rmdir()


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(descriptor)
