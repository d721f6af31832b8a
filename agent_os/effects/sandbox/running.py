"""One sandbox while it runs, watched from outside: what it says, signals, quotas, the end.

Everything here runs in the supervisor, which no sandboxed program can reach: it holds the control socket (whose loss ends
the sandbox), a process handle, the wall clock and the pollers for what the kernel cannot count for this user.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import time
from dataclasses import dataclass, replace
from typing import Final

from agent_os.core.errors import EffectError, EnforcementError
from agent_os.effects.sandbox.attempts import Attempts
from agent_os.effects.sandbox.group import RunGroup
from agent_os.effects.sandbox.room import DISK_FILES_MAX, Room, written_to
from agent_os.guards.confine.plan import SandboxPlan

END_TIMEOUT_SECONDS: Final = 10.0
GRACE_SECONDS: Final = 2.0
POLL_SECONDS: Final = 0.1
MESSAGE_BYTES_MAX: Final = 65536
MESSAGE_FDS_MAX: Final = 128
PROCESSES_COUNTED_MAX: Final = 4096

_HINTS: Final = {
    "namespaces": "user name spaces cannot be made here: see `agentos doctor`",
    "id maps": "user name spaces are restricted here: see `agentos doctor`",
    "private-root": "the kernel refused this mount; as root, the file system must support idmapped mounts",
}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended. `returncode` as a shell shows it (128 + signal); `reason` is set when we ended it.

    `advice` says which line of a policy would change that, for the person.
    `network_tried`: something inside asked for a name or an address, and the sandbox had no network.
    """

    returncode: int
    signal: int = 0
    reason: str = ""
    cpu_seconds: float = 0.0
    max_rss_bytes: int = 0
    wall_seconds: float = 0.0
    network_tried: bool = False
    advice: str = ""


class ProgramError(EffectError):
    """The program itself cannot be run; `exit_status` is what a shell would give: 127 not found, 126 not to be run."""

    def __init__(self, number: int) -> None:
        self.exit_status = 127 if number in (errno.ENOENT, errno.ENOTDIR) else 126
        super().__init__(f"the program cannot be run inside the sandbox: {os.strerror(number).lower()}")


class Running:
    """One sandbox, from its request to its end. Made by `launch`; used on one event loop."""

    def __init__(self, plan: SandboxPlan, control: socket.socket, group: RunGroup | None) -> None:
        loop = asyncio.get_running_loop()
        self.plan, self._control, self._group, self._loop = plan, control, group, loop
        self.pid = 0
        self.terminal: int | None = None
        self.listeners: list[tuple[str, socket.socket]] = []
        self.started: asyncio.Future[None] = loop.create_future()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[Ended] = loop.create_future()
        self._pidfd = -1
        self._reason = ""
        self._exit: tuple[int, float, int] | None = None
        """(wait status, processor seconds, largest resident KiB)"""
        self._begun = time.monotonic()
        self._room = Room(written_to(plan.mounts))
        self._watch: asyncio.Task[None] | None = None
        self._attempts: Attempts | None = None
        control.setblocking(False)
        loop.add_reader(control.fileno(), self._readable)

    # -- what the launcher and the init say ---------------------------------------------------------------------

    def _readable(self) -> None:
        while True:
            try:
                data, descriptors, _flags, _address = socket.recv_fds(self._control, MESSAGE_BYTES_MAX, MESSAGE_FDS_MAX)
            except BlockingIOError:
                return
            except OSError:
                data, descriptors = b"", []
            if not data:
                self._loop.remove_reader(self._control.fileno())
                self._loop.create_task(self._finish())
                return
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
            self._message(os.fsdecode(data).split("\0"), descriptors)

    def _message(self, message: list[str], descriptors: list[int]) -> None:
        kind, *fields = message
        if kind == "started":
            self.pid, self._pidfd, *counters = int(fields[0]), *descriptors
            self._attempts = Attempts(counters[0]) if counters else None
            if self.plan.network.mode == "none":
                if not self.started.done():
                    self.started.set_result(None)
        elif kind == "listeners":
            for name, descriptor in zip(fields[1:], descriptors, strict=True):
                self.listeners.append((name, socket.socket(fileno=descriptor)))
            if fields[0] == "1" and not self.started.done():
                self.started.set_result(None)
        elif kind == "terminal":
            self.terminal = descriptors[0]
        elif kind == "ready":
            if not self.ready.done():
                self.ready.set_result(None)
            self._watch = self._loop.create_task(self._watch_over())
        elif kind == "error":
            self._failed(fields[0], int(fields[1]), fields[2])
        elif kind == "exit":
            self._exit = (int(fields[0]), int(fields[1]) / 1e6, int(fields[2]))

    def _failed(self, stage: str, number: int, detail: str) -> None:
        if stage == "exec":
            error: EffectError = ProgramError(number)
            self._exit = (127 << 8, 0.0, 0)
        else:
            words = f"{os.strerror(number).lower()} {detail}".strip() if number else detail
            hint = _HINTS.get(stage.split(":", maxsplit=1)[0], "")
            error = EnforcementError([stage], f"{words}; {hint}" if hint else words)
        for future in (self.started, self.ready):
            if not future.done():
                future.set_exception(error)
                future.exception()

    @property
    def anchor(self) -> int:
        """The host's pid of a process that stands for the sandbox's name spaces and may be looked at (0: none)."""
        try:
            with open(f"/proc/{self.pid}/task/{self.pid}/children", encoding="ascii") as file:
                return int(file.read().split()[0])
        except (OSError, ValueError, IndexError):
            return 0

    # -- what we say --------------------------------------------------------------------------------------------

    def go(self) -> None:
        """Let a guarded run begin: the guard now listens on every listener."""
        self._control.send(b"go")

    def signal(self, number: int) -> None:
        """Send a signal to the program's process group."""
        with contextlib.suppress(OSError):
            self._control.send(b"signal\0%d" % number)

    def kill(self, reason: str = "") -> None:
        """End everything inside at once; `reason` is what the end is reported with."""
        self._reason = self._reason or reason
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        else:
            with contextlib.suppress(OSError):  # it has ended already
                self._control.shutdown(socket.SHUT_RDWR)

    async def stop(self, reason: str) -> None:
        """Ask the program to end (SIGTERM), then end it."""
        self._reason = self._reason or reason
        self.signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self.ended), GRACE_SECONDS)
            return
        self.kill(reason)

    async def wait(self) -> Ended:
        """Return how the run ended; everything inside is dead by then."""
        return await asyncio.shield(self.ended)

    # -- the end ------------------------------------------------------------------------------------------------

    async def _finish(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if self._pidfd >= 0:
            await self._dead()
        failure = None
        for future in (self.started, self.ready):
            if not future.done():
                future.set_exception(EnforcementError(["sandbox"], "the sandbox ended while it was being built"))
                future.exception()
            failure = failure or future.exception()
        reason = self._reason
        if self._group is not None:
            if not reason and self._group.memory_failures() and self._killed():
                reason = "memory limit"
            if not self._group.remove():
                await asyncio.to_thread(self._group.close)
        for _kind, listener in self.listeners:
            listener.close()
        self._control.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        tried = self.plan.network.mode == "none" and self._attempts is not None and self._attempts.any()
        if self._attempts is not None:
            self._attempts.close()
        if not self.ended.done():
            self.ended.set_result(replace(self._outcome(reason), network_tried=tried))

    def _killed(self) -> bool:
        return self._exit is None or os.waitstatus_to_exitcode(self._exit[0]) in (-9, 137)

    async def _dead(self) -> None:
        dead: asyncio.Future[None] = self._loop.create_future()

        def readable() -> None:
            if not dead.done():
                dead.set_result(None)

        self._loop.add_reader(self._pidfd, readable)
        try:
            await asyncio.wait_for(dead, END_TIMEOUT_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        finally:
            self._loop.remove_reader(self._pidfd)

    def _outcome(self, reason: str) -> Ended:
        wall = time.monotonic() - self._begun
        if self._exit is None:
            return Ended(137, 9, reason or "killed", wall_seconds=wall)
        status, cpu_seconds, rss_kib = self._exit
        code = os.waitstatus_to_exitcode(status)
        number = -code if code < 0 else 0
        return Ended(128 + number if number else code, number, reason, cpu_seconds, rss_kib * 1024, wall)

    # -- quotas -------------------------------------------------------------------------------------------------

    async def _watch_over(self) -> None:
        limits = self.plan.limits
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if limits.wall_seconds and time.monotonic() - self._begun > limits.wall_seconds:
                await self.stop("wall-clock limit")
                return
            used_bytes, used_files = self._room.taken()
            if (limits.disk_bytes and used_bytes > limits.disk_bytes) or used_files > DISK_FILES_MAX:
                self.kill("disk limit" if used_files <= DISK_FILES_MAX else "limit of files on a disk")
                return
            if self.plan.memory_by == "poller" and limits.memory_bytes:
                used = await asyncio.to_thread(resident_bytes, self.pid)
                if used > limits.memory_bytes:
                    self.kill("memory limit")
                    return


def resident_bytes(init: int) -> int:
    """Return the resident memory of a sandbox's processes, shared pages counted once a process (an upper bound)."""
    total, queue, seen = 0, [init], 0
    page = os.sysconf("SC_PAGE_SIZE")
    while queue and seen < PROCESSES_COUNTED_MAX:
        pid = queue.pop()
        seen += 1
        try:
            with open(f"/proc/{pid}/statm", encoding="ascii") as file:
                fields = file.read().split()
            if pid != init:
                total += int(fields[1]) * page
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                    queue += [int(child) for child in file.read().split()]
        except (OSError, ValueError, IndexError):
            continue
    return total
