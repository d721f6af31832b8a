"""Running a program in the sandbox: policy files to plan, plan to a watched run. The composition for `agentos run`.

The supervisor (this process) stays outside with the monitor, the guard, the keys and the state; the program sees none of
them. Everything a plan asks for that this machine cannot enforce raises EnforcementError before anything runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent_os.core.errors import EffectError, EnforcementError
from agent_os.core.ports import Door
from agent_os.core.principal import Principal
from agent_os.effects.sandbox import probe
from agent_os.effects.sandbox.holds import Holds
from agent_os.effects.sandbox.launch import Ended, Launcher, Running, launch
from agent_os.effects.sandbox.relay import CapturePipes, OutputCount, Streams, Terminal, size_of
from agent_os.guards.confine import Confinement, HostFacts, RunOptions, SandboxPlan, paths_of_interest, plan_sandbox
from agent_os.guards.confine.build import PROXY_PORT
from agent_os.guards.confine.compile import confinement_of
from agent_os.guards.confine.inputs import MISSING, sees_workspace, within
from agent_os.guards.confine.protect import held_places
from agent_os.policy import Policy
from agent_os.policy.globs import compile_glob

if TYPE_CHECKING:
    from agent_os.effects.proxy import EgressGuard

FORWARDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
CA_BUNDLE: Final = "/run/agentos/ca.pem"
"""Inside: the guard's certificate authority and the system's roots."""
NO_PROXY: Final = "localhost,127.0.0.1,::1"
CAPTURE_BYTES: Final = 1024 * 1024
__all__ = ["Confinement", "Ended", "EnforcementError", "SandboxSettings", "prepare", "run_interactive"]


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """What a run asks for beside its policy. Paths are the caller's own, not yet canonical.

    `hide` are files that must never be seen inside (policy files); `environment` names and `values` variables to pass;
    `allow_missing` layers let go by name; `snapshot` keeps changes apart; `wall_seconds` narrows the policy's limit.
    """

    workspace: str = "."
    cwd: str = ""
    hide: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    allow_missing: tuple[str, ...] = ()
    wall_seconds: float = 0.0
    output_bytes: int = 0
    guard: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    shown: Mapping[str, str] = field(default_factory=dict)
    read_only: tuple[str, ...] = ()
    upper: str = ""
    protect_workspace: bool = True


@dataclass(slots=True)
class Prepared:
    """A plan and what must be put into the workspace while it runs."""

    plan: SandboxPlan
    host: HostFacts
    state: Path
    terminal: bool = True
    """Whether the policy lets interactive programs have a terminal."""
    _holds: Holds | None = None

    def close(self) -> None:
        """Let go of a plan that is not run."""
        if self._holds is not None:
            self._holds.close()
            self._holds = None

    def hold(self, launcher: Launcher | None = None) -> None:
        """Put the stand-ins of protected names that do not exist; `close` takes them away, `launcher` if we are killed."""
        wanted = {
            mount.target[len(self.plan.workspace) + 1 :]: (mount.hold, mount.content)
            for mount in self.plan.mounts
            if mount.hold
        }
        if self._holds is not None and wanted:
            if launcher is not None:
                self._holds.keep(launcher)
            self._holds.hold(wanted)

    @contextlib.contextmanager
    def held(self, launcher: Launcher | None = None) -> Iterator[None]:
        """Hold the places of protected names for the length of the block."""
        try:
            self.hold(launcher)
            yield
        finally:
            self.close()


def policy_confinement(policy: Policy, workspace: str) -> Confinement:
    """Return what every layer of a policy grants together."""
    return confinement_of([[unit.file for unit in layer.units] for layer in policy.layers], workspace)


def guard_settings(settings: SandboxSettings, guard: EgressGuard) -> SandboxSettings:
    """Return settings for a run behind a guard: its CA bundle shown inside, proxy variables set."""
    proxy = f"http://127.0.0.1:{PROXY_PORT}"
    values = guard.environment(proxy=proxy, bundle=CA_BUNDLE, no_proxy=NO_PROXY)
    return replace(
        settings,
        guard=True,
        shown={**settings.shown, CA_BUNDLE: str(guard.ca_bundle)},
        values={**values, **settings.values},
    )


def guard_listeners(guard: EgressGuard, door: Door, principal: Principal) -> Callable[[Running], Awaitable[None]]:
    """Return what hands a sandbox's listeners to the guard before its program starts, and takes them back at its end."""

    from agent_os.runtime.network import serve_sandbox  # noqa: PLC0415 - the guard's code only where there is a network

    async def serve(running: Running) -> None:
        served = await serve_sandbox(guard, running.listeners, principal, sandbox_pid=running.anchor, door=door)
        for _kind, listener in running.listeners:
            listener.close()
        running.listeners.clear()

        def ended(_: object) -> None:
            for listener in served:
                listener.close()

        running.ended.add_done_callback(ended)

    return serve


def prepare(confinement: Confinement, settings: SandboxSettings, *, state: Path) -> Prepared:
    """Look at the host and return the plan of a run. Raises EnforcementError, EffectError.

    The same workspace may have several runs at once: names they hold count as not existing.
    """
    workspace = os.path.realpath(settings.workspace)
    if not os.path.isdir(workspace):
        raise EffectError(f"the workspace is no folder: {settings.workspace}")
    limits = confinement.limits
    if settings.wall_seconds or settings.output_bytes:
        wanted = replace(limits, wall_seconds=settings.wall_seconds, output_bytes=settings.output_bytes)
        confinement = replace(confinement, limits=limits.narrowed(wanted))
    in_place = confinement.include_workdir and not settings.upper
    held_in_place = in_place and confinement.protect and settings.protect_workspace
    holds = Holds(state, workspace) if held_in_place else None
    try:
        protected, cut = probe.protected_below(workspace) if sees_workspace(confinement, workspace) else ((), False)
        hidden = probe.matching_below(
            workspace, workspace, [compile_glob(glob, crossing=True) for glob in confinement.hidden_globs]
        )
        options = RunOptions(
            cwd=_cwd(settings, workspace),
            outside=dict(os.environ),
            values=settings.values,
            extra_names=settings.environment,
            guard=settings.guard,
            hide=(str(state), *settings.hide, *hidden),
            rules=settings.hide,
            protected=protected,
            protect_workspace=settings.protect_workspace,
            upper=settings.upper,
            allow_missing=settings.allow_missing,
            files=settings.files,
            shown=settings.shown,
            read_only=settings.read_only,
        )
        host = probe.host_facts(paths_of_interest(confinement, workspace, options))
        if holds is not None:
            gone = {f"{workspace}/{name}": MISSING for name in holds.names}
            host = replace(host, paths={**host.paths, **gone})
            options = replace(options, protected=tuple(name for name in protected if name not in holds.names))
        plan = plan_sandbox(confinement, workspace, host, options)
        if cut:
            plan = replace(plan, notes=(*plan.notes, "the walk for protected names below the workspace was cut off"))
    except BaseException:
        if holds is not None:
            holds.close()
        raise
    return Prepared(plan, host, state, confinement.terminal, holds)


def _cwd(settings: SandboxSettings, workspace: str) -> str:
    if not settings.cwd:
        return workspace
    cwd = os.path.realpath(os.path.join(workspace, settings.cwd))
    if not within(cwd, workspace):
        raise EffectError("the working directory lies outside the workspace")
    if not os.path.isdir(cwd):
        raise EffectError(f"the working directory is no folder: {settings.cwd}")
    return cwd


async def run_interactive(
    prepared: Prepared,
    argv: Sequence[str],
    *,
    terminal: bool,
    on_listeners: Any = None,
    launcher: Launcher | None = None,
    on_reload: Callable[[], None] | None = None,
) -> Ended:
    """Run a program on this process's own stdin, stdout and stderr (or terminal) and return how it ended.

    Signals of FORWARDED that reach this process are passed on; with `on_reload`, a SIGHUP that is no hang-up of the
    terminal calls that instead. Raises EnforcementError, EffectError if it never began.
    """
    own = launcher is None
    launcher = launcher or Launcher(state=prepared.state)
    loop = asyncio.get_running_loop()
    handled: list[int] = []
    relay: Streams | Terminal | None = None
    running: Running | None = None
    count = OutputCount(prepared.plan.limits.output_bytes, lambda: loop.call_soon_threadsafe(_too_much, running))
    try:
        with prepared.held(launcher):
            if terminal and prepared.plan.unenforced == ():
                running = await launch(launcher, prepared.plan, argv, terminal=size_of(0), on_listeners=on_listeners)
                if running.terminal is None:
                    raise EffectError("the sandbox made no terminal")
                relay = Terminal(running.terminal, count)
                loop.add_signal_handler(signal.SIGWINCH, relay.resized)
                handled.append(signal.SIGWINCH)
                relay.start()
            else:
                streams = Streams(count)
                try:
                    running = await launch(
                        launcher, prepared.plan, argv, stdio=streams.inside, on_listeners=on_listeners
                    )
                except BaseException:
                    streams.abandon()
                    raise
                relay = streams
                streams.start()
            for forwarded in FORWARDED:
                loop.add_signal_handler(forwarded, running.signal, forwarded)
                handled.append(forwarded)
            if on_reload is not None:
                loop.add_signal_handler(signal.SIGHUP, _hang_up, running, terminals(), on_reload)
            ended = await running.wait()
            await asyncio.to_thread(relay.finish)
            return ended
    finally:
        if isinstance(relay, Terminal):
            relay.restore()
        for number in handled:
            loop.remove_signal_handler(number)
        if running is not None and not running.ended.done():
            running.kill("supervisor ends")
        if own:
            launcher.close()


def _hang_up(running: Running, held: frozenset[int], on_reload: Callable[[], None]) -> None:
    if held - terminals():
        running.signal(signal.SIGHUP)
    else:
        on_reload()


def terminals() -> frozenset[int]:
    """Return which of stdin, stdout and stderr are a terminal that is there; one that hung up is none any more."""
    found = set()
    for number in (0, 1, 2):
        with contextlib.suppress(OSError):
            poll = select.poll()
            poll.register(number, 0)
            if os.isatty(number) and not poll.poll(0):
                found.add(number)
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class Captured:
    """A run whose output was kept: at most `capture_bytes` of each stream, the rest dropped and counted."""

    ended: Ended
    stdout: bytes
    stderr: bytes
    dropped_bytes: int


async def run_captured(
    prepared: Prepared,
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    capture_bytes: int = CAPTURE_BYTES,
    on_listeners: Any = None,
    launcher: Launcher | None = None,
) -> Captured:
    """Run a program with its output kept, no terminal. Raises EnforcementError, EffectError if it never began."""
    own = launcher is None
    launcher = launcher or Launcher(state=prepared.state)
    pipes = CapturePipes(stdin, capture_bytes, prepared.plan.limits.output_bytes)
    running: Running | None = None
    try:
        with prepared.held(launcher):
            try:
                running = await launch(launcher, prepared.plan, argv, stdio=pipes.inside, on_listeners=on_listeners)
            except BaseException:
                pipes.abandon()
                raise
            loop, started = asyncio.get_running_loop(), running
            pipes.start(lambda: loop.call_soon_threadsafe(started.kill, "output limit"))
            ended = await running.wait()
            stdout, stderr, dropped = await asyncio.to_thread(pipes.finish)
            return Captured(ended, stdout, stderr, dropped)
    finally:
        if running is not None and not running.ended.done():
            running.kill("supervisor ends")
        if own:
            launcher.close()


def _too_much(running: Running | None) -> None:
    if running is not None:
        running.kill("output limit")


def unheld_names() -> tuple[str, ...]:
    """Return the names that are held at a workspace's root while they do not exist (for the documentation)."""
    return tuple(rule.pattern for rule in held_places())
