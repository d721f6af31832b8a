"""Composition of one session: opens the state, builds the effects the policy can reach, and wires the monitor.

This is the only place where a port meets its implementation. What a policy asks for and this installation does not have
is named in `Needs.unavailable`, and `decide` denies what it governs.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_os.agents.builtin_tools import register_builtin_tools
from agent_os.agents.tool_door import BuiltinTool, ToolDoor
from agent_os.agents.toolbox import Toolbox
from agent_os.core.action import Action
from agent_os.core.approval import Answer, Approval, Approver
from agent_os.core.carried import Carried
from agent_os.core.errors import AgentOSError, DeniedError, EffectError
from agent_os.core.label import UNTRUSTED, Integrity
from agent_os.core.ports import Effector, LabelStore, Outcome, Pending
from agent_os.core.principal import Principal
from agent_os.effects.clock import SystemClock
from agent_os.effects.files import Files
from agent_os.effects.http import Http
from agent_os.effects.ids import RandomIds
from agent_os.effects.links import KernelLinks
from agent_os.effects.memory import Memory
from agent_os.effects.models.client import Providers
from agent_os.effects.models.local import LocalModels
from agent_os.effects.preview import FilePreview
from agent_os.effects.resolver import SystemResolver
from agent_os.monitor import Monitor, Ports
from agent_os.monitor.gather import Needs, Session
from agent_os.policy import Policy
from agent_os.runtime.engines import (
    Specs,
    budgets_of,
    classifier_of,
    detector_of,
    engines_of,
    finder_of,
    flow_of,
    needs_of,
    privacy_of,
    reader_of,
    rego_of,
)
from agent_os.runtime.metering import metered, rated
from agent_os.runtime.model_routes import endpoints_of, key_source
from agent_os.runtime.models import models_folder
from agent_os.runtime.post import Post, post_keys
from agent_os.runtime.sandbox.programs import SandboxPrograms
from agent_os.runtime.state import State, open_state
from agent_os.runtime.tool_servers.host import Caller, ServerHost
from agent_os.runtime.tool_servers.records import ServerStore
from agent_os.runtime.tool_servers.session import SessionServers

if TYPE_CHECKING:
    from agent_os.effects.rego import RegoEngines


@dataclass(slots=True)
class Composition:
    """An open session: the monitor, and what must be closed after it."""

    monitor: Monitor
    toolbox: Toolbox
    carried: Carried
    state: State
    files: Files
    http: Http
    programs: SandboxPrograms
    models: Providers
    servers: SessionServers
    post: Post
    rego: RegoEngines | None = None
    retired: list[RegoEngines] = field(default_factory=list)
    """Engines of policies that were in force before: what they are still asked ends first."""
    doors: list[Monitor] = field(default_factory=list)
    """Other doors of the same session (a durable run's): a policy is put in force in them too."""
    entry: str = ""
    """Under which it stands among the open sessions; a task's run stands in the ledger."""

    def prepared(self, policy: Policy) -> Callable[[], None]:
        """Make everything of another policy; return what puts it in force at once, in every part of the session.

        Raises PolicyError, EffectError, ActionError, also for what needs a restart: nothing has changed then.
        """
        monitor, vault = self.monitor, self.state.stores.vault
        fresh = engines_of(policy, monitor, self.state, vault)
        swaps = (self.programs.prepared(policy), self.servers.prepared(policy))

        def take() -> None:
            if self.rego is not None:
                self.retired.append(self.rego)
            self.rego = fresh.rego
            for door in (monitor, *self.doors):
                door.reload(policy, fresh.needs, fresh.ports, fresh.adjust)
            self.models.reconfigure(fresh.endpoints, fresh.key)
            rated(monitor.ports.audit, policy)
            for swap in swaps:
                swap()

        return take

    def reload(self, policy: Policy) -> None:
        """Put another policy in force: the monitor, what was made from the policy itself, and the guards."""
        self.prepared(policy)()

    async def aclose(self) -> None:
        """Close in the order of dependence; the audit last."""
        await self.aclose_run()
        try:
            with contextlib.suppress(EffectError):  # it counts no more once this process has ended
                await self.state.stores.sessions.leave(self.entry)
                await self.state.stores.sessions.forget_kills(self.state.stores.stops)
        finally:
            self.state.close()

    async def aclose_run(self) -> None:
        """Close everything but the state, which other sessions use too."""
        closing = getattr(self.monitor.session.privacy, "aclose", None)
        if closing is not None:
            await closing()
        await self.servers.aclose()
        await self.programs.aclose()
        for engines in (*self.retired, *filter(None, [self.rego])):
            await engines.aclose()
        await self.models.aclose()
        await self.http.aclose()
        self.files.close()


@dataclass(slots=True)
class _Door:
    """The session as its built-in tools see it; bound to the monitor once that stands."""

    workspace: str
    carried: Carried
    mail: Post
    monitor: Monitor | None = None

    @property
    def principal(self) -> Principal:
        """On whose behalf the tools act."""
        return self._bound().principal

    async def perform(self, action: Action | Mapping[str, Any]) -> Outcome | Pending:
        """Put one action through the monitor."""
        return await self._bound().perform(action)

    def _bound(self) -> Monitor:
        if self.monitor is None:
            raise AgentOSError("the session is not open yet")
        return self.monitor


async def compose(
    policy: Policy,
    principal: Principal,
    workspace: str,
    *,
    state: str | Path | None = None,
    approver: Approver | Callable[..., Any] | None = None,
) -> Composition:
    """Return an open session. Raises EffectError, EnforcementError, IntegrityError; closes what it opened on failure."""
    ids, resumable = RandomIds(), principal.session != "-"
    if not resumable:
        principal = replace(principal, session=ids.new("ses"))
    environment = dict(os.environ)
    if state is not None:
        environment["AGENTOS_STATE"] = str(state)
    opened = open_state(
        workspace=workspace,
        environment=environment,
        info={"policy": policy.digest, "session": principal.session},
        retention_days=_retention_days(policy),
        payload_days=_payload_days(policy),
    )
    try:
        composition = wire(policy, principal, workspace, opened, ids, _approver(approver))
        if resumable:
            _resume(composition.monitor.session, opened.stores.labels)
            await opened.stores.sessions.forget_kills(opened.stores.stops)
        composition.entry = await opened.stores.sessions.enter(principal)
        return composition
    except BaseException:
        opened.close()
        raise


def _resume(session: Session, labels: LabelStore) -> None:
    """Let a session that has an id of its own know whether it read untrusted text before, and note when it does."""
    if session.flow is None:
        return
    who = session.principal
    name = json.dumps([who.tenant, who.user, who.agent, who.session])
    held = labels.recall("session", name)
    if held is not None and held[0].integrity is Integrity.UNTRUSTED:
        session.flow.distrust()
    else:
        session.on_untrusted = lambda: labels.keep("session", name, UNTRUSTED)


def wire(
    policy: Policy,
    principal: Principal,
    workspace: str,
    state: State,
    ids: RandomIds,
    approver: Approver | None,
    *,
    run: str = "",
    threads: ThreadPoolExecutor | None = None,
    needs: Needs | None = None,
) -> Composition:
    """Return a session over a state that is open already; whoever opened it closes it.

    `run` is what budgets of a run are counted by, where that is not the session alone; `threads` are for files, shared with
    other sessions of this process; `needs` are the policy's, where they are known already.
    """
    carried, toolbox = Carried(), Toolbox()
    readable, writable = granted_roots(policy, workspace)
    files = Files(writable=writable, readable=readable, carried=carried, threads=threads)
    http = Http(carried=carried)
    effectors: dict[str, Effector] = {"net.request": http, "tool.call": toolbox}
    effectors.update(dict.fromkeys(files.kinds, files))
    models = Providers(
        endpoints_of(policy), key_source(policy, state.stores.vault), local=LocalModels(models_folder(state.path))
    )
    effectors["model.call"] = models
    memory = Memory(state.stores.vault)
    effectors.update(dict.fromkeys(memory.kinds, memory))
    programs = SandboxPrograms(
        policy, workspace, state.path, principal, vault=state.stores.vault, stops=state.stores.stops
    )
    effectors.update(dict.fromkeys(programs.kinds, programs))
    stops = state.stores.stops
    post = Post(
        lambda: state.stores.boxes(state.keys, post_keys(state.keys)),
        SystemClock(),
        state.path,
        state.keys,
        state.environment,
        stops.current,
    )
    effectors.update(dict.fromkeys(post.kinds, post))
    door = _Door(workspace, carried, post)
    budgets = tuple(budgets_of(policy))
    rego, detector = rego_of(policy), detector_of(policy)
    ports = Ports(
        rego=rego,
        clock=SystemClock(),
        ids=ids,
        audit=metered(policy, state),
        registry=toolbox,
        keyed_digest=state.keyed_digest,
        effectors=effectors,
        links=KernelLinks(),
        resolver=SystemResolver(),
        detector=detector,
        reader=reader_of(policy),
        finder=finder_of(policy, detector),
        classifier=classifier_of(policy),
        budgets=state.stores.budgets.view(budgets, principal, run=run or principal.session) if budgets else None,
        approvals=state.stores.approvals,
        approver=approver,
        preview=FilePreview(files.now, carried),
        outcomes=state.stores.outcomes,
        payloads=state.stores.payloads,
        rates=state.stores.rates,
        stops=stops,
    )
    session = Session(
        principal,
        workspace,
        flow=flow_of(policy, Specs(toolbox), principal, workspace, state.stores.labels),
        privacy=privacy_of(policy, principal, state.stores.vault),
    )
    monitor = Monitor(policy, ports, session, needs=needs or needs_of(policy))
    door.monitor = monitor
    programs.bind(monitor, session.flow)
    bound: ToolDoor = door
    register_builtin_tools(toolbox, bound)
    register_builtin_tools(toolbox, bound, reference_tools_of(policy, session.flow))
    host = ServerHost(policy, workspace, state.path, vault=state.stores.vault)
    servers = SessionServers(host, ServerStore(state.path), Caller(principal, door=monitor))
    servers.register(toolbox)
    return Composition(monitor, toolbox, carried, state, files, http, programs, models, servers, post, rego)


def granted_roots(policy: Policy, workspace: str) -> tuple[list[str], list[str]]:
    """Return (readable, writable) folders for the file effector: the second line behind the policy's own rules."""
    readable: list[str] = []
    writable: list[str] = []
    for section, _layer, _unit in policy.sections("filesystem_policy"):
        if section.include_workdir:
            writable.append(workspace)
        readable.extend(_absolute(path, workspace) for path in section.read_only)
        writable.extend(_absolute(path, workspace) for path in section.read_write)
    return readable, writable


def _absolute(path: Any, workspace: str) -> str:
    return os.path.normpath(os.path.join(workspace, str(path)))


def _payload_days(policy: Policy) -> float:
    wanted = [section.keep / 86400 for section, _, _ in policy.sections("audit") if section.payloads == "encrypted"]
    return min(wanted, default=0.0)


def _retention_days(policy: Policy) -> float:
    return max((section.retention / 86400 for section, _, _ in policy.sections("audit")), default=400.0)


def reference_tools_of(policy: Policy, flow: Any) -> tuple[BuiltinTool, ...]:
    """Return the tools over values by reference, where the policy has them."""
    if getattr(flow, "handles", None) is None:
        return ()
    from agent_os.agents.builtin_refs import reference_tools  # noqa: PLC0415 - only where a policy asks for it

    readers = [section.reader for section, _, _ in policy.sections("flow") if section.reader]
    return reference_tools(flow, readers[0] if readers else "")


class _Callback:
    """An approver made of an SDK callback: approval -> bool, None, (bool, approver, note), or an Answer."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    async def ask(self, approval: Approval) -> Answer | tuple[bool, str, str] | None:
        """Ask the callback; what it raises denies."""
        answer = self._function(approval)
        if isinstance(answer, Awaitable):
            answer = await answer
        if answer is None or isinstance(answer, tuple | Answer):
            return answer
        return Answer(bool(answer), "application")


def _approver(given: Approver | Callable[..., Any] | None) -> Approver | None:
    if given is None or hasattr(given, "ask"):
        return given
    if not callable(given):
        raise AgentOSError("approver must be a callable or have an async method `ask`")
    return _Callback(given)


__all__ = ["Composition", "DeniedError", "compose", "granted_roots", "needs_of"]
