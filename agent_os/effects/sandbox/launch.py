"""Starts one sandbox through a launcher and returns it once its program runs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

from agent_os.core.errors import EffectError, EnforcementError
from agent_os.effects.sandbox.cgroups import block_devices
from agent_os.effects.sandbox.group import RunGroup
from agent_os.effects.sandbox.running import END_TIMEOUT_SECONDS, Ended, ProgramError, Running
from agent_os.effects.sandbox.server import Launcher
from agent_os.guards.confine.plan import SandboxPlan
from agent_os.guards.confine.wire import encode_arguments, encode_plan, encode_start

START_TIMEOUT_SECONDS: Final = 20.0
PLANT_SECONDS: Final = 0.02
__all__ = ["Ended", "Launcher", "ProgramError", "Running", "launch"]


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
    limits = plan.limits
    if plan.memory_by == "cgroup" or "cgroup" in plan.pids_by or limits.cpus or limits.io_bytes_per_second:
        planted = launcher.take(limits)
        group = planted[1] if planted else RunGroup(limits, _disks(plan) if limits.io_bytes_per_second else ())
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


def _disks(plan: SandboxPlan) -> tuple[str, ...]:
    """Return the disks that a run could read from or write to."""
    folders = [mount for mount in plan.mounts if mount.kind in ("bind", "overlay") and not mount.devices]
    places = [(mount.source, mount.writable) for mount in folders]
    return block_devices([*places, *((mount.upper, True) for mount in folders if mount.upper)])
