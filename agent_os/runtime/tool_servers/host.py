"""Starts tool servers: what the manifest asks for, the policy grants and the caller holds becomes one sandbox.

A server started for a sub-agent serves that agent alone: its files are narrowed to what the agent holds, its network goes
through the agent's own door, and it ends with the agent. Threat: a sub-agent that reaches through a server what it may not
reach itself (law 11), or through a server's memory what a sibling told it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent_os.adapters.mcp.protocol import Client
from agent_os.core.errors import EffectError, EnforcementError
from agent_os.core.ports import Door
from agent_os.core.principal import Capability, Principal
from agent_os.effects.mcp_http import HttpChannel
from agent_os.effects.mcp_pipes import ServerPipes
from agent_os.effects.sandbox.launch import Launcher, launch
from agent_os.effects.secret_store import SecretVault
from agent_os.guards.confine import Confinement
from agent_os.guards.confine.server import ServerConfinement, held_rights, server_confinement
from agent_os.policy import Policy
from agent_os.runtime.policy_files import policy_files
from agent_os.runtime.sandbox.prepare import (
    SandboxSettings,
    guard_listeners,
    guard_settings,
    policy_confinement,
    prepare,
)
from agent_os.runtime.tool_servers.connection import ToolServer
from agent_os.runtime.tool_servers.door import ManifestDoor
from agent_os.runtime.tool_servers.http import HttpTransport
from agent_os.runtime.tool_servers.packages import shown_packages
from agent_os.runtime.tool_servers.packs import argv_of, code_paths
from agent_os.runtime.tool_servers.records import ServerRecord
from agent_os.runtime.tool_servers.stdio import SandboxedTransport

if TYPE_CHECKING:
    from agent_os.effects.proxy import EgressGuard

PLACEHOLDER: Final = "agentos-secret:"


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf servers run. `capabilities` None: the session itself. `door` None: no network at all."""

    principal: Principal
    capabilities: tuple[Capability, ...] | None = None
    door: Door | None = None


class ServerHost:
    """Starts tool servers under one policy, in sandboxes of their own, behind one guard."""

    def __init__(self, policy: Policy, workspace: str, state: Path, *, vault: SecretVault | None = None) -> None:
        self._policy, self._workspace, self._state, self._vault = policy, workspace, state, vault
        self._confinement: Confinement | None = None
        self._launcher: Launcher | None = None
        self._guard: EgressGuard | None = None
        self._opening = asyncio.Lock()
        self.revision = 0
        """How often the policy was replaced: a server started under an earlier one is started anew."""

    def prepared(self, policy: Policy) -> Callable[[], None]:
        """Return what lets servers started from now on, and the guard at once, be confined as another policy says.

        Raises PolicyError, EnforcementError, EffectError: nothing has changed then.
        """
        confinement = policy_confinement(policy, self._workspace)
        swap: Callable[[], None] | None = None
        if self._guard is not None:
            from agent_os.runtime.network import prepare_guard_soon  # noqa: PLC0415 - the guard's code only where there is a network

            swap = prepare_guard_soon(self._guard, policy, self._vault)

        def take() -> None:
            self._policy, self._confinement = policy, confinement
            self.revision += 1
            if swap is not None:
                swap()

        return take

    def refused(self, record: ServerRecord) -> tuple[str, ...]:
        """Return which of a server's wishes the policy does not grant."""
        return self._confined(record, Caller(Principal())).refused

    async def start(self, record: ServerRecord, caller: Caller, *, strict: bool = True) -> ToolServer:
        """Start a server. `strict`: refuse if the policy does not grant all it asks for. Raises EffectError.

        What the policy grants and the caller does not hold is left out without an error: the server finds it missing.
        """
        found = self._confined(record, caller)
        if strict and found.refused:
            raise EffectError(f"the policy does not grant {record.name}: {'; '.join(found.refused)}")
        if record.url:
            return await self._connect(record, caller, found)
        confinement = found.confinement if caller.door is not None else replace(found.confinement, network=False)
        settings = SandboxSettings(
            workspace=self._workspace,
            environment=tuple(name for name in record.needs.environment if name in os.environ),
            hide=policy_files(self._policy),
            read_only=tuple(code_paths(record)),
            shown=shown_packages(record.needs.packages),
        )
        listeners: Any = None
        if confinement.network and caller.door is not None:
            guard = await self._open_guard(caller.door)
            settings = _placeholders(guard_settings(settings, guard), found.secrets)
            door = ManifestDoor(caller.door, record.name, found.hosts, found.secrets)
            listeners = guard_listeners(guard, door, _principal(caller, record))
        prepared = await asyncio.to_thread(prepare, confinement, settings, state=self._state)
        pipes = ServerPipes()
        try:
            self._launcher = self._launcher or Launcher(state=self._state, warm=True)
            prepared.hold(self._launcher)
            running = await launch(
                self._launcher, prepared.plan, argv_of(record), stdio=pipes.far, on_listeners=listeners
            )
        except BaseException:
            prepared.close()
            pipes.close()
            raise
        finally:
            pipes.close_far()
        client = Client()
        return ToolServer(client, SandboxedTransport(client, running, prepared, pipes))

    async def _connect(self, record: ServerRecord, caller: Caller, found: ServerConfinement) -> ToolServer:
        """Return the connection to a server elsewhere, which goes through a loopback listener of the guard."""
        if caller.door is None:
            raise EnforcementError(["network"], "a server elsewhere needs the session's door")
        if not found.confinement.network:
            raise EffectError(
                f"{record.name}: the policy names no endpoint that {record.url} could be, or the agent holds no right to it: "
                "network_policies, an endpoint with protocol: mcp"
            )
        from agent_os.runtime.network import serve_loopback  # noqa: PLC0415 - the guard's code only where there is a network

        guard = await self._open_guard(caller.door)
        door = ManifestDoor(caller.door, record.name, found.hosts, found.secrets)
        listener, proxy = await serve_loopback(
            guard, _principal(caller, record), door=door, token=secrets.token_urlsafe(24)
        )
        client = Client()
        channel = HttpChannel(record.url, record.headers, proxy=proxy, bundle=guard.ca_bundle)
        return ToolServer(client, HttpTransport(client, channel, listener, door))

    def _confined(self, record: ServerRecord, caller: Caller) -> ServerConfinement:
        held = None if caller.capabilities is None else held_rights(caller.capabilities, is_folder=os.path.isdir)
        needs = record.needs.with_hosts_of(os.environ)
        if self._confinement is None:  # most sessions start no server
            self._confinement = policy_confinement(self._policy, self._workspace)
        return server_confinement(self._confinement, needs, code_paths(record), self._workspace, held)

    async def _open_guard(self, door: Door) -> EgressGuard:
        async with self._opening:
            if self._guard is None:
                from agent_os.runtime.network import open_guard  # noqa: PLC0415 - the guard's code only where there is a network

                self._guard = await open_guard(self._policy, door, state=self._state, vault=self._vault)
            return self._guard

    async def aclose(self) -> None:
        """End the guard and the launcher; servers are closed by who started them."""
        if self._guard is not None:
            await self._guard.stop()
        if self._launcher is not None:
            await asyncio.to_thread(self._launcher.close)
        self._guard = self._launcher = None


def _placeholders(settings: SandboxSettings, secrets: tuple[str, ...]) -> SandboxSettings:
    """Return settings with placeholders for these secrets only; the guard names every secret of the policy."""
    kept = {name: value for name, value in settings.values.items() if not value.startswith(PLACEHOLDER)}
    return replace(settings, values={**kept, **{name: PLACEHOLDER + name for name in secrets}})


def _principal(caller: Caller, record: ServerRecord) -> Principal:
    """Return as whom a server's connections are shown and counted; who acts is the caller's door's to say."""
    prefix = f"{caller.principal.agent}." if caller.principal.parents else ""
    return replace(caller.principal, agent=f"{prefix}tool-{record.name}")
