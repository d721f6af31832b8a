"""`agentos run` as a function: policies loaded, the start asked for at the door, the program run, the end settled.

The supervisor is this process: monitor, egress guard and audit live here, outside the sandbox. The start of the program is
a `process.exec` action like any other; its intent is durable before the program runs and its outcome is written after.
"""

from __future__ import annotations

import gc
import os
import pwd
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from agent_os.core import canonical
from agent_os.core.action import Action
from agent_os.core.decision import Verdict
from agent_os.core.errors import AgentOSError, EffectError, StoppedError
from agent_os.core.facts import Facts
from agent_os.core.ports import Admission, AuditSink, Outcome
from agent_os.core.principal import Principal
from agent_os.effects.sandbox.launch import Ended, Launcher, ProgramError
from agent_os.effects.sandbox.snapshot import Snapshot, throw_away_copy
from agent_os.guards.confine import Confinement, SandboxPlan
from agent_os.guards.confine.build import network_plan
from agent_os.monitor import Monitor
from agent_os.monitor.record import describe, finished, intent
from agent_os.monitor.stopping import stopped
from agent_os.policy import Policy, decide
from agent_os.runtime import event_loop
from agent_os.runtime.compose import compose
from agent_os.runtime.policies import load_policy
from agent_os.runtime.policy_files import policy_files
from agent_os.runtime.sandbox.ending import unless_ended
from agent_os.runtime.sandbox.live import LivePolicy
from agent_os.runtime.sandbox.prepare import (
    Prepared,
    SandboxSettings,
    guard_listeners,
    guard_settings,
    policy_confinement,
    prepare,
    run_interactive,
)
from agent_os.runtime.sandbox.told import NOT_FOUND, of_end, of_guard, of_missing_program, of_no_network, tell
from agent_os.runtime.state import State, state_directory

if TYPE_CHECKING:
    from agent_os.effects.proxy import EgressGuard

DEFAULT_POLICY: Final = "pack:baseline"


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What `agentos run` was asked. `terminal` None: one if stdin and stdout are terminals and the policy lets."""

    argv: tuple[str, ...]
    policies: tuple[str, ...] = ()
    workspace: str = "."
    cwd: str = ""
    environment: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    wall_seconds: float = 0.0
    output_bytes: int = 0
    allow_missing: tuple[str, ...] = ()
    snapshot: str = ""
    """Keep the changes apart under this name."""
    throw_away: bool = False
    """Work on a copy that is discarded at the end."""
    undoable: bool = False
    """Keep the changes apart until the end, then commit them in a way that `agentos undo` takes back."""
    terminal: bool | None = None
    observe: bool = False
    """The network guard lets pass to public addresses what policy would deny, and keeps it for `policy learn`."""


def _load(request: RunRequest) -> tuple[Policy, str, Confinement]:
    policy = load_policy(list(request.policies) or [DEFAULT_POLICY])
    workspace = os.path.realpath(request.workspace)
    if not os.path.isdir(workspace):
        raise EffectError(f"the workspace is no folder: {request.workspace}")
    confinement = policy_confinement(policy, workspace)
    return policy, workspace, replace(confinement, network=True) if request.observe else confinement


def _prepare(
    request: RunRequest, policy: Policy, workspace: str, confinement: Confinement, guard: EgressGuard | None
) -> Prepared:
    settings = SandboxSettings(
        workspace=workspace,
        cwd=request.cwd,
        hide=policy_files(policy),
        environment=request.environment,
        values=request.values,
        allow_missing=request.allow_missing,
        wall_seconds=request.wall_seconds,
        output_bytes=request.output_bytes,
        upper=_upper(request, workspace),
    )
    if guard is not None:
        settings = guard_settings(settings, guard)
    return prepare(confinement, settings, state=state_directory(workspace=workspace))


def _upper(request: RunRequest, workspace: str) -> str:
    """Return the folder that takes the changes of a snapshot run, made if need be; empty for a run in place."""
    if not request.snapshot:
        return ""
    snapshot = Snapshot(state_directory(workspace=workspace), workspace, request.snapshot)
    snapshot.create()
    return str(snapshot.folder)


def _apart(request: RunRequest, workspace: str) -> RunRequest:
    """Return the request with the snapshot that a throw-away or undoable run works in. Raises EffectError."""
    if sum((bool(request.snapshot), request.throw_away, request.undoable)) > 1:
        raise EffectError("choose one of --snapshot, --copy and --undoable")
    if request.throw_away:
        return replace(request, snapshot=throw_away_copy(state_directory(workspace=workspace), workspace).name)
    return replace(request, snapshot=f"run-{os.getpid()}-{secrets.token_hex(4)}") if request.undoable else request


def plan_of(request: RunRequest) -> SandboxPlan:
    """Return what a run would enforce; nothing is run. Raises PolicyError, EnforcementError, EffectError.

    The network part is that of a run whose guard stands ready.
    """
    policy, workspace, confinement = _load(request)
    request = _apart(request, workspace)
    prepared = _prepare(request, policy, workspace, confinement, None)
    prepared.close()
    if request.throw_away or request.undoable:
        Snapshot(state_directory(workspace=workspace), workspace, request.snapshot).discard()
    if not confinement.network:
        return prepared.plan
    return replace(prepared.plan, network=network_plan(confinement, guard=True, own_network=True))


@dataclass(frozen=True, slots=True)
class Finished:
    """How a run ended, and what of an undoable run was not taken over into the workspace."""

    ended: Ended
    left_out: tuple[str, ...] = ()


def run(request: RunRequest) -> Finished:
    """Run a program to its end.

    Raises PolicyError, DeniedError, EnforcementError, EffectError when it never began.
    """
    return event_loop.run(_run(request))


async def _run(request: RunRequest) -> Finished:
    policy, workspace, confinement = _load(request)
    request = _apart(request, workspace)
    if not request.snapshot:
        return Finished(await _composed(request, policy, workspace, confinement))
    snapshot = Snapshot(state_directory(workspace=workspace), workspace, request.snapshot)
    snapshot.create()
    with snapshot.held():
        try:
            ended = await _composed(request, policy, workspace, confinement)
            return Finished(ended, _taken_over(snapshot) if request.undoable else ())
        finally:
            if request.throw_away or (request.undoable and _empty(snapshot)):
                snapshot.discard()


def _empty(snapshot: Snapshot) -> bool:
    """Whether an undoable run left nothing to keep; what cannot be looked through is kept."""
    try:
        return snapshot.exists and not snapshot.changes()
    except EffectError:
        return False


def _taken_over(snapshot: Snapshot) -> tuple[str, ...]:
    """Commit an undoable run; return what was left out. Raises EffectError naming where the changes are kept instead."""
    try:
        left = snapshot.commit()
    except EffectError as error:
        kept = f"the changes are kept apart: agentos diff {snapshot.name}, agentos commit {snapshot.name}"
        raise EffectError(f"{error}; {kept}") from None
    return tuple(f"{change.path} ({change.withheld})" for change in left)


async def _composed(request: RunRequest, policy: Policy, workspace: str, confinement: Confinement) -> Ended:
    launcher = Launcher(state=state_directory(workspace=workspace))
    launcher.plant()  # its interpreter and control groups come up while the session is composed
    try:
        return await _supervised(request, policy, workspace, confinement, launcher)
    finally:
        launcher.close()


async def _supervised(
    request: RunRequest, policy: Policy, workspace: str, confinement: Confinement, launcher: Launcher
) -> Ended:
    named = request.policies or (DEFAULT_POLICY,)
    session = await compose(policy, Principal(user=_user(), agent="run"), workspace)
    guard: EgressGuard | None = None
    prepared: Prepared | None = None
    live: LivePolicy | None = None
    try:
        if confinement.network:
            from agent_os.runtime.network import open_guard  # noqa: PLC0415 - the guard's code only where there is a network

            vault = session.state.stores.vault
            guard = await open_guard(
                policy,
                session.monitor,
                state=session.state.path,
                vault=vault,
                observe=request.observe,
            )
        prepared = _prepare(request, policy, workspace, confinement, guard)
        start = await _admitted(session.monitor, session.state, policy, prepared.plan, request.argv)
        monitor = session.monitor
        gc.freeze()  # policy and session stand for the whole run: collecting them again and again stalls connections
        listeners = guard_listeners(guard, monitor, monitor.principal) if guard is not None else None
        live = LivePolicy(named, session, guard, prepared.plan, tell)
        try:
            program = run_interactive(
                prepared,
                request.argv,
                terminal=_terminal(request, prepared),
                on_listeners=listeners,
                launcher=launcher,
                on_reload=live.ask,
            )
            ended = await unless_ended(program, session.state.stores.stops, monitor.principal)
        except StoppedError as error:
            await start.settle(Outcome(error="stopped", detail=str(error)))
            raise
        except AgentOSError as error:
            await start.settle(Outcome(error="not-started", detail=type(error).__name__))
            if isinstance(error, ProgramError) and error.exit_status == NOT_FOUND:
                error.args = (of_missing_program(request.argv[0], prepared.plan),)
            raise
        usage = {"seconds": ended.wall_seconds, "cpu_seconds": ended.cpu_seconds}
        detail = f"status {ended.returncode}" + (f", ended: {ended.reason}" if ended.reason else "")
        await start.settle(Outcome(error="" if not ended.reason else "ended", detail=detail, usage=usage))
        if ended.network_tried and ended.returncode:
            for line in of_no_network(named):
                tell(line)
        own = bool(request.wall_seconds or request.output_bytes)  # a limit that the person set needs no advice
        return ended if own and ended.reason else replace(ended, advice=of_end(ended, prepared.plan, request.argv))
    finally:
        if live is not None:
            await live.aclose()
        if prepared is not None:
            prepared.close()
        if guard is not None:
            await guard.stop()
            for line in of_guard(guard, named):
                tell(line)
        await session.aclose()


def _terminal(request: RunRequest, prepared: Prepared) -> bool:
    if request.terminal is not None:
        return request.terminal
    return prepared.terminal and sys.stdin.isatty() and sys.stdout.isatty()


@dataclass(slots=True)
class _Start:
    """The recorded start of a run; `settle` records its end."""

    monitor: Monitor
    audit: AuditSink
    reference: str
    admission: Admission | None

    async def settle(self, outcome: Outcome) -> None:
        """Write how it ended."""
        if self.admission is not None:
            await self.monitor.settle(self.admission, outcome)
            return
        clock = self.monitor.ports.clock
        await self.audit.append(finished(self.reference, outcome, now=clock.now(), size=-1))


async def _admitted(monitor: Monitor, state: State, policy: Policy, plan: SandboxPlan, argv: tuple[str, ...]) -> _Start:
    """Ask for the start at the door. A program no rule speaks of is the person's own choice, and recorded as that.

    The person at the command line names the program; the policy governs what it may reach. So a *default* denial of
    `process.exec` (no rule matched) does not stop them, a rule that denies or asks does. Raises DeniedError.
    """
    ports = monitor.ports
    binary = _binary(argv[0], plan)
    action = Action.parse(
        {
            "kind": "process.exec",
            "argv": list(argv),
            "cwd": plan.cwd,
            **({"binary_path": binary} if binary else {}),
        },
        workspace=plan.workspace,
        principal=monitor.principal,
    )
    start = {
        "type": "sandbox",
        "time": ports.clock.now(),
        "session": monitor.principal.session,
        "user": monitor.principal.user,
        "plan": canonical.json_digest({key: value for key, value in plan.to_json().items() if key != "environment"}),
        "layers": [*plan.namespaces, f"landlock-{plan.landlock.abi}", "seccomp"],
        "memory_by": plan.memory_by,
        "network": plan.network.mode,
        "let_go": list(plan.allowed_missing),
    }
    await state.audit.append(start)
    verdict = decide(
        policy,
        action,
        Facts(now=ports.clock.now(), workspace=plan.workspace, findings=(), flow=(), budgets=(), rates={}),
    )
    person = verdict.verdict is Verdict.DENY and not verdict.rules and not verdict.errored
    if person and stopped(ports, monitor.session, policy) is None:
        chosen = replace(verdict, verdict=Verdict.ALLOW, rules=("runtime.started-by-the-person",))
        reference = ports.ids.new("run")
        said = describe(action, ports.keyed_digest)
        await state.audit.append(intent(action, chosen, reference=reference, now=ports.clock.now(), said=said))
        return _Start(monitor, state.audit, reference, None)
    return _Start(monitor, state.audit, "", await monitor.admit(action))


def _binary(program: str, plan: SandboxPlan) -> str:
    """Return the program's absolute path as far as it can be told from outside; empty when it cannot."""
    if "/" in program:
        return os.path.normpath(os.path.join(plan.cwd, program))
    for folder in plan.environment.get("PATH", "").split(":"):
        candidate = f"{folder}/{program}"
        if os.access(candidate, os.X_OK):
            return candidate
    return ""


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
