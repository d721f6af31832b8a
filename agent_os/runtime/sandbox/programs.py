"""The effector of `process.exec`: every program an agent starts runs in a sandbox of its own under the session's policy.

One warm launcher serves a session; the egress guard is opened with the first program of a policy that names endpoints. The
plan is made anew for each start (files come and go). Threat: a permitted program that does something else than its name
says: it meets the kernel, not a promise.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent_os.core.action import Action, ProcessExec
from agent_os.core.errors import AgentOSError, EffectError, EnforcementError
from agent_os.core.guards import FlowGuard
from agent_os.core.label import UNTRUSTED
from agent_os.core.ports import Door, Outcome, Permit
from agent_os.core.principal import Principal
from agent_os.core.stop import StopStore
from agent_os.effects.sandbox.launch import Launcher, ProgramError
from agent_os.effects.secret_store import SecretVault
from agent_os.effects.written import Inventory, changed, inventory
from agent_os.guards.confine import Confinement
from agent_os.policy import Policy
from agent_os.runtime.policy_files import policy_files
from agent_os.runtime.sandbox.ending import unless_ended
from agent_os.runtime.sandbox.prepare import (
    Captured,
    SandboxSettings,
    guard_listeners,
    guard_settings,
    policy_confinement,
    prepare,
    run_captured,
)

if TYPE_CHECKING:
    from agent_os.effects.proxy import EgressGuard

PROGRAMS_AT_ONCE: Final = 8
"""Further starts wait."""
OUTPUT_TEXT_MAX: Final = 200_000
"""Characters of each stream that an agent is shown; the rest is counted."""
DEFAULT_WALL_SECONDS: Final = 600.0


class SandboxPrograms:
    """Implements core.ports.Effector for `process.exec`. Bind it to its monitor before the first start."""

    def __init__(
        self,
        policy: Policy,
        workspace: str,
        state: Path,
        principal: Principal,
        *,
        vault: SecretVault | None = None,
        stops: StopStore | None = None,
    ) -> None:
        self._policy, self._workspace, self._state, self._principal = policy, workspace, state, principal
        self._vault, self._stops = vault, stops
        self._confinement: Confinement | None = None
        self._launcher: Launcher | None = None
        self._guard: EgressGuard | None = None
        self._door: Door | None = None
        self._flow: FlowGuard | None = None
        self._slots = asyncio.Semaphore(PROGRAMS_AT_ONCE)
        self._opening = asyncio.Lock()

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of action this effector carries out."""
        return frozenset({"process.exec"})

    def bind(self, door: Door, flow: FlowGuard | None = None) -> None:
        """Say whose door the programs' network goes through, and which guard is told what they write."""
        self._door, self._flow = door, flow

    async def execute(self, permit: Permit, action: Action) -> Outcome:
        """Run a program to its end. The value: status, stdout, stderr, truncated, ended_by.

        Raises EnforcementError where the sandbox cannot be had, EffectError where the program cannot be run.
        """
        if not isinstance(action, ProcessExec):
            raise EffectError(f"not a program: {action.kind}")
        async with self._slots:
            captured = await unless_ended(self._run(action, _seconds(permit)), self._stops, action.principal)
        ended = captured.ended
        value = {
            "status": ended.returncode,
            "stdout": _text(captured.stdout),
            "stderr": _text(captured.stderr),
            "truncated": bool(captured.dropped_bytes) or len(captured.stdout) > OUTPUT_TEXT_MAX,
            "ended_by": ended.reason or "itself",
        }
        usage = {"seconds": ended.wall_seconds, "cpu_seconds": ended.cpu_seconds}
        return Outcome(value, UNTRUSTED, usage=usage)

    async def _run(self, action: ProcessExec, seconds: float) -> Captured:
        launcher, confinement, guard = await self._open()
        settings = SandboxSettings(
            workspace=self._workspace,
            cwd=action.cwd,
            hide=policy_files(self._policy),
            values={name: str(value) for name, value in action.env.items()},
            wall_seconds=seconds,
        )
        if guard is not None:
            settings = guard_settings(settings, guard)
        prepared = await asyncio.to_thread(prepare, confinement, settings, state=self._state)
        flow = self._flow
        before = await asyncio.to_thread(inventory, flow.watched) if flow is not None else None
        try:
            listeners: Any = None
            if guard is not None and self._door is not None:
                listeners = guard_listeners(guard, self._door, self._principal)
            return await run_captured(prepared, list(action.argv), on_listeners=listeners, launcher=launcher)
        except (EnforcementError, ProgramError):
            raise
        except AgentOSError as error:
            raise EffectError(str(error)) from error
        finally:
            prepared.close()
            if flow is not None:  # also of a program that failed or was ended
                await asyncio.shield(self._tell(flow, before))

    async def _tell(self, flow: FlowGuard, before: Inventory | None) -> None:
        after = await asyncio.to_thread(inventory, flow.watched) if before is not None else None
        flow.programs_wrote(changed(before, after))

    async def _open(self) -> tuple[Launcher, Confinement, EgressGuard | None]:
        async with self._opening:
            if self._launcher is None:
                self._launcher = await asyncio.to_thread(Launcher, state=self._state, warm=True)
            if self._confinement is None:
                self._confinement = policy_confinement(self._policy, self._workspace)
            if self._guard is None and self._confinement.network:
                if self._door is None:
                    raise EnforcementError(["network"], "the session's door is not bound yet")
                from agent_os.runtime.network import open_guard  # noqa: PLC0415 - the guard's code only where there is a network

                self._guard = await open_guard(self._policy, self._door, state=self._state, vault=self._vault)
            return self._launcher, self._confinement, self._guard

    def prepared(self, policy: Policy) -> Callable[[], None]:
        """Return what lets programs started from now on, and the guard at once, be confined as another policy says.

        Raises PolicyError, EnforcementError, EffectError: nothing has changed then.
        """
        confinement = policy_confinement(policy, self._workspace) if self._confinement is not None else None
        swap: Callable[[], None] | None = None
        if self._guard is not None:
            from agent_os.runtime.network import prepare_guard_soon  # noqa: PLC0415 - the guard's code only where there is a network

            swap = prepare_guard_soon(self._guard, policy, self._vault)

        def take() -> None:
            self._policy, self._confinement = policy, confinement
            if swap is not None:
                swap()

        return take

    async def aclose(self) -> None:
        """End the launcher and the guard."""
        if self._guard is not None:
            await self._guard.stop()
        if self._launcher is not None:
            await asyncio.to_thread(self._launcher.close)
        self._guard = self._launcher = None


def _seconds(permit: Permit) -> float:
    if permit.deadline:
        return max(permit.deadline - time.monotonic(), 0.1)
    return DEFAULT_WALL_SECONDS


def _text(data: bytes) -> str:
    return replace_controls(data.decode("utf-8", errors="replace")[:OUTPUT_TEXT_MAX])


def replace_controls(text: str) -> str:
    """Return text without terminal controls other than line ends and tabs."""
    return "".join(char if char >= " " or char in "\n\r\t" else "\ufffd" for char in text)
