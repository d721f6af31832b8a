"""`agentos tools`: add, list, inspect, approve and remove tool servers. What a person sees is what is pinned."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from agent_os.adapters.mcp.pins import differences
from agent_os.adapters.mcp.protocol import ServerTool
from agent_os.core.errors import EffectError
from agent_os.core.manifest import Needs
from agent_os.core.principal import Principal
from agent_os.effects.stores.identity import current_identity
from agent_os.guards.flow.derive import from_schema
from agent_os.runtime.policies import load_policy
from agent_os.runtime.state import state_directory
from agent_os.runtime.tool_servers.acceptance import accept, as_it_is, as_shown, examine
from agent_os.runtime.tool_servers.host import Caller, ServerHost
from agent_os.runtime.tool_servers.packs import is_shipped, new_record, remote_record, shipped_packs
from agent_os.runtime.tool_servers.records import ServerRecord, ServerStore

DEFAULT_POLICY: Final = "pack:baseline"
LOOKING: Final = Caller(Principal(agent="tools"))
"""Looking at a server needs no way out: it has no network while a person decides."""


class ToolsDesk:
    """What the verbs do, for one workspace and policy."""

    def __init__(self, workspace: str, policies: Sequence[str] = ()) -> None:
        self._workspace = os.path.realpath(workspace)
        self._state: Path = state_directory(workspace=self._workspace)
        self._store = ServerStore(self._state)
        self._policies = list(policies) or [DEFAULT_POLICY]

    def list(self) -> dict[str, Any]:
        """Return every kept server and the shipped packs that were not added."""
        rows = []
        for name in self._store.names():
            record = self._store.load(name)
            tools = [entry["shown"]["name"] for entry in record.tools]
            rows.append(
                {
                    "name": name,
                    "state": record.state,
                    "tools": tools,
                    "command": record.command,
                    "folder": record.folder,
                    "url": record.url,
                    "why": record.why,
                }
            )
        known = {row["name"] for row in rows}
        return {"servers": rows, "shipped": [name for name in shipped_packs() if name not in known]}

    def add(
        self, name: str, command: Sequence[str], needs: Needs, *, url: str = "", headers: Sequence[str] = ()
    ) -> dict[str, Any]:
        """Start a server once in its sandbox, without network, and keep what it says; it is not accepted by that.

        With `url` it is a server elsewhere: it is asked through the egress guard, under the policy.
        """
        record = remote_record(name, url, headers, needs) if url else new_record(name, command, needs)[0]
        if record.name in self._store.names():
            raise EffectError(f"{record.name!r} is there already: agentos tools inspect {record.name}")
        return asyncio.run(self._seen(record))

    def inspect(self, name: str) -> dict[str, Any]:
        """Start a server again and return what it is now and how that differs from what was accepted."""
        return asyncio.run(self._seen(self._store.load(name)))

    def approve(self, name: str) -> dict[str, Any]:
        """Accept a server as it was shown last: code, descriptions, schemas and semantics are pinned.

        Raises EffectError if it shows itself otherwise now.
        """
        return asyncio.run(self._approve(self._store.load(name)))

    def remove(self, name: str) -> None:
        """Forget a server; its tools are denied from now on."""
        self._store.remove(name)

    async def _approve(self, record: ServerRecord) -> dict[str, Any]:
        now, manifest = as_it_is(record)
        async with self._looking(now) as (host, caller):
            tools, code = await examine(host, now, caller)
        accept(now, tools, code, manifest)
        self._store.save(now)
        return {"name": now.name, "state": now.state, "tools": [entry["spec"] for entry in now.tools]}

    async def _seen(self, record: ServerRecord) -> dict[str, Any]:
        now, manifest = as_it_is(record)
        async with self._looking(now) as (host, caller):
            tools, code = await examine(host, now, caller)
            refused = host.refused(now)
        changed = differences(record.tools, tools, (record.code, code)) if record.tools else []
        named = {spec.name for spec in manifest.tools} if manifest is not None else set()
        record.shown = as_shown(now, tools, code)
        self._store.save(record)
        return {
            "name": record.name,
            "state": record.state,
            "command": now.command,
            "folder": record.folder,
            "url": record.url,
            "code": code,
            "needs": now.needs.model_dump(mode="json"),
            "shipped": is_shipped(record),
            "not_granted": list(refused),
            "changed": changed,
            "tools": [
                {
                    **tool.to_json(),
                    "semantics": "manifest" if tool.name in named else _drafted(tool),
                }
                for tool in tools
            ],
        }

    @asynccontextmanager
    async def _looking(self, record: ServerRecord) -> AsyncIterator[tuple[ServerHost, Caller]]:
        """Open what a look needs: a server elsewhere is met through a session's door, a program here without any network."""
        policy = load_policy(self._policies)
        if not record.url:
            host = ServerHost(policy, self._workspace, self._state)
            try:
                yield host, LOOKING
            finally:
                await host.aclose()
            return
        from agent_os.runtime.compose import compose  # noqa: PLC0415 - only a server elsewhere needs a whole session

        session = await compose(policy, Principal(user=current_identity().user, agent="tools"), self._workspace)
        host = ServerHost(policy, self._workspace, self._state, vault=session.state.stores.vault)
        try:
            yield host, Caller(session.monitor.principal, door=session.monitor)
        finally:
            await host.aclose()
            await session.aclose()


def _drafted(tool: ServerTool) -> str:
    """Return how a tool without a manifest is judged, and what its server says of it: for the person who accepts it."""
    effect = from_schema(tool.name, tool.input_schema, tool.description, tool.hints).effect.value
    said = ", ".join(f"{name.removesuffix('Hint')}: {str(value).lower()}" for name, value in tool.hints.items())
    claim = f"; its server says {said}, which counts only where it is graver" if said else ""
    return f"drafted as {effect}, worst case where unclear{claim}"
