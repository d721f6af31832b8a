"""The launcher process, seen from the supervisor: which kind it is, requests to it, and what is prepared for the next start."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agent_os.core.errors import EffectError, EnforcementError
from agent_os.effects.native import NotBuiltError, Program
from agent_os.effects.sandbox.cgroups import available as cgroups_available
from agent_os.effects.sandbox.group import RunGroup
from agent_os.guards.confine.inputs import Limits
from agent_os.guards.confine.wire import encode_forget, encode_keep, encode_plant

COMPILED: Final = Program("launcher", Path(__file__).with_name("compiled"))
LAUNCHER: Final = Path(__file__).with_name("launcher")
LAUNCHER_VARIABLE: Final = "AGENTOS_LAUNCHER"
"""Variable of the supervisor's environment: `python` or `compiled` asks for one kind of launcher."""
CLOSE_TIMEOUT_SECONDS: Final = 10.0


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
                program = COMPILED.sealed(state)
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
    def pid(self) -> int:
        """The launcher's process id."""
        return self._process.pid

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

    def keep(self, token: str, listed: int, workspace: int) -> None:
        """Hand over a list of stand-ins and its workspace (descriptors), to be taken away should this process be killed."""
        self.request(encode_keep(token), (listed, workspace))

    def forget(self, token: str) -> None:
        """Let go of a list: this process takes the stand-ins away itself. Raises EffectError if the launcher is gone."""
        self.request(encode_forget(token), ())

    def close(self) -> None:
        """End the launcher; sandboxes that run go on under their supervisor."""
        self._closed = True
        self._channel.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_TIMEOUT_SECONDS)
        for group in (*self._stale, *([self._seed[1]] if self._seed else ())):
            group.close()
        self._seed, self._stale = None, []
