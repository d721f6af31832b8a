"""Starts sandboxes through the launcher and keeps watch over them from outside: signals, quotas, the end.

Everything here runs in the supervisor, which no sandboxed program can reach: it holds the control socket (whose loss ends
the sandbox), a process handle, the wall clock and the pollers for what the kernel cannot count for this user.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent_os.core.errors import EffectError, EnforcementError
from agent_os.effects.sandbox.cgroups import RunGroup
from agent_os.effects.sandbox.cgroups import available as cgroups_available
from agent_os.effects.sandbox.native import NotBuiltError, sealed_launcher
from agent_os.guards.confine.inputs import Limits
from agent_os.guards.confine.plan import SandboxPlan
from agent_os.guards.confine.wire import encode_arguments, encode_forget, encode_plan, encode_plant, encode_start

LAUNCHER: Final = Path(__file__).with_name("launcher")
LAUNCHER_VARIABLE: Final = "AGENTOS_LAUNCHER"
"""Variable of the supervisor's environment: `python` or `compiled` asks for one kind of launcher."""
START_TIMEOUT_SECONDS: Final = 20.0
END_TIMEOUT_SECONDS: Final = 10.0
PLANT_SECONDS: Final = 0.02
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
    """How a run ended. `returncode` as a shell shows it (128 + signal); `reason` is set when we ended it."""

    returncode: int
    signal: int = 0
    reason: str = ""
    cpu_seconds: float = 0.0
    max_rss_bytes: int = 0
    wall_seconds: float = 0.0


class ProgramError(EffectError):
    """The program itself cannot be run; `exit_status` is what a shell would give: 127 not found, 126 not to be run."""

    def __init__(self, number: int) -> None:
        self.exit_status = 127 if number in (errno.ENOENT, errno.ENOTDIR) else 126
        super().__init__(f"the program cannot be run inside the sandbox: {os.strerror(number).lower()}")


class Launcher:
    """A launcher process; one can start any number of sandboxes. It ends when closed or when this process ends."""

    def __init__(self, *, state: Path | None = None, kind: str = "", warm: bool = False) -> None:
        """`state`: where a compiled launcher may be kept. `warm`: prepare the next sandbox's control groups ahead of time.

        `kind`: `compiled`, `python`, or empty for the first of them that can be had. Raises EffectError if it cannot.
        """
        self.warm = warm
        self._seed: tuple[str, RunGroup] | None = None
        self._stale: list[RunGroup] = []
        self._closed = False
        kind = kind or os.environ.get(LAUNCHER_VARIABLE, "")
        if kind not in ("", "compiled", "python"):
            raise EffectError(f"{LAUNCHER_VARIABLE} is `compiled`, `python` or empty, not `{kind[:40]}`")
        program = -1
        self.why_python = "asked for" if kind == "python" else ""
        if kind != "python":
            try:
                program = sealed_launcher(state)
            except NotBuiltError as error:
                if kind:
                    raise
                self.why_python = str(error)
        command = [sys.executable, "-I", "-S", str(LAUNCHER)] if program < 0 else [f"/proc/self/fd/{program}"]
        self._channel, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                pass_fds=[theirs.fileno(), *([program] if program >= 0 else ())],
                env={"PATH": "/usr/bin:/bin"},
                stdin=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            self._channel.close()
            raise EffectError(f"the sandbox launcher cannot be started: {error.strerror}") from error
        finally:
            theirs.close()
            if program >= 0:
                os.close(program)

    @property
    def kind(self) -> str:
        """`compiled` or `python`; both carry out the same plan with the same steps."""
        return "python" if self.why_python else "compiled"

    def request(self, data: bytes, descriptors: Sequence[int]) -> None:
        """Hand one encoded request over; the answer comes on its control socket."""
        try:
            socket.send_fds(self._channel, [struct.pack("<I", len(data))], list(descriptors))
            self._channel.sendall(data)
        except OSError as error:
            raise EffectError(f"the sandbox launcher is gone: {error.strerror}") from error

    def plant(self) -> None:
        """Prepare the control groups of the next sandbox, with a process that waits in them, if there is none yet."""
        if self._seed is not None or self._closed or not cgroups_available()[0]:
            return
        try:
            group = RunGroup(Limits())
        except EnforcementError:
            return  # the next start makes its own and says what is wrong
        token = secrets.token_hex(8)
        try:
            self.request(encode_plant(token, group.procs), ())
        except EffectError:
            group.close()  # the next start says that the launcher is gone
            return
        self._seed = (token, group)

    def take(self, limits: Limits) -> tuple[str, RunGroup] | None:
        """Return a prepared (seed, group) with these limits, or None."""
        held, self._seed = self._seed, None
        if held is None or held[1].retune(limits):
            return held
        self.request(encode_forget(held[0]), ())
        self._stale.append(held[1])
        return None

    def close(self) -> None:
        """End the launcher; sandboxes that run go on under their supervisor."""
        self._closed = True
        self._channel.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_TIMEOUT_SECONDS)
        for group in (*self._stale, *([self._seed[1]] if self._seed else ())):
            group.close()
        self._seed, self._stale = None, []


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
        self._watch: asyncio.Task[None] | None = None
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
            self.pid, self._pidfd = int(fields[0]), descriptors[0]
            if self.plan.network.mode == "none" and not self.started.done():
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
        if not self.ended.done():
            self.ended.set_result(self._outcome(reason))

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
        free = _free_bytes(self.plan.workspace)
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if limits.wall_seconds and time.monotonic() - self._begun > limits.wall_seconds:
                await self.stop("wall-clock limit")
                return
            if limits.disk_bytes and free - _free_bytes(self.plan.workspace) > limits.disk_bytes:
                self.kill("disk limit")
                return
            if self.plan.memory_by == "poller" and limits.memory_bytes:
                used = await asyncio.to_thread(resident_bytes, self.pid)
                if used > limits.memory_bytes:
                    self.kill("memory limit")
                    return


def _free_bytes(path: str) -> int:
    try:
        info = os.statvfs(path)
    except OSError:
        return 0
    return info.f_bavail * info.f_frsize


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


async def launch(
    launcher: Launcher,
    plan: SandboxPlan,
    argv: Sequence[str],
    *,
    stdio: Sequence[int] = (),
    terminal: tuple[int, int] | None = None,
    on_listeners: Callable[[Running], Any] | None = None,
) -> Running:
    """Start `argv` under `plan` and return it once the program runs.

    `stdio`: three descriptors for the program (they stay the caller's to close); or `terminal`: (rows, columns) of a
    terminal made inside. `on_listeners` (sync or async) is called when a guarded run's listeners are there, before the
    program starts. Raises EnforcementError if a layer cannot be enforced, EffectError if the program cannot be run.
    """
    if plan.unenforced:
        reasons = "; ".join(f"{layer}: {plan.missing[layer]}" for layer in plan.unenforced)
        raise EnforcementError(list(plan.unenforced), reasons)
    if not argv:
        raise EffectError("no program was named")
    try:
        encoded, arguments = encode_plan(plan), encode_arguments(argv)
    except ValueError as error:
        raise EffectError(str(error)) from None
    planted, group = None, None
    if plan.memory_by == "cgroup" or "cgroup" in plan.pids_by:
        planted = launcher.take(plan.limits)
        group = planted[1] if planted else RunGroup(plan.limits)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    running = Running(plan, ours, group)
    groups = list(group.procs) if group and not planted else []
    seed = planted[0] if planted else ""
    data = encode_start(encoded, arguments, seed=seed, cgroups=groups, terminal=terminal)
    with theirs:
        launcher.request(data, [theirs.fileno(), *stdio])
    try:
        await asyncio.wait_for(asyncio.shield(running.started), START_TIMEOUT_SECONDS)
        if plan.network.mode == "guarded":
            if on_listeners is None:
                raise EnforcementError(["network"], "a guarded run was started without its guard")
            result = on_listeners(running)
            if asyncio.iscoroutine(result):
                await result
            running.go()
        await asyncio.wait_for(asyncio.shield(running.ready), START_TIMEOUT_SECONDS)
        if launcher.warm:
            # Later, or at the end: preparing groups holds a lock of the kernel that the end of this run waits for.
            timer = asyncio.get_running_loop().call_later(PLANT_SECONDS, launcher.plant)
            running.ended.add_done_callback(lambda _: timer.cancel())
            running.ended.add_done_callback(lambda _: launcher.plant())
    except BaseException as error:
        running.kill("not started")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(running.wait(), END_TIMEOUT_SECONDS)
        if isinstance(error, TimeoutError):
            raise EnforcementError(["sandbox"], f"not built within {START_TIMEOUT_SECONDS:.0f} s") from None
        raise
    return running
