"""The accepted servers of a session: registered from their records, started with their first call, checked then.

A sub-agent has a branch of its own (`branch`): the same tools, but instances that hold no more than it does, ended with it.
All instances of a session and its sub-agents share one bound; past it the one unused for longest is ended.
A server that differs from what was accepted is quarantined: its calls fail until a person accepts the shown difference. Those
of an agent that a person halts or quarantines are ended with the calls under way.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent_os.adapters.mcp.pins import differences
from agent_os.adapters.mcp.protocol import ServerTool
from agent_os.agents.toolbox import Toolbox
from agent_os.core.errors import EffectError
from agent_os.core.manifest import ToolSpec
from agent_os.policy import Policy
from agent_os.runtime.tool_servers.connection import ToolServer
from agent_os.runtime.tool_servers.host import Caller, ServerHost
from agent_os.runtime.tool_servers.packs import code_digest
from agent_os.runtime.tool_servers.records import ServerRecord, ServerStore

LOOK_SECONDS: Final = 0.2
"""Between two looks, while servers run, whether a person has stopped their agent."""
SERVERS_MAX: Final = 32
"""Servers of one session and its sub-agents at work at once."""
_CHANGES: Final = (
    ("code changed", "its code changed"),
    ("two tools", "two tools share a name"),
    ("-", "a tool is gone"),
    ("+", "a tool is new"),
    ("~", "a tool's description or schema changed"),
)
"""How a line of `differences` begins, and what is said of it."""


@dataclass(slots=True)
class _Pool:
    """Every running server of a session and its sub-agents, the one used last at the end."""

    running: OrderedDict[int, ToolServer] = field(default_factory=OrderedDict)
    starting: int = 0

    async def make_room(self) -> None:
        """Count one more start, ending what is unused for longest. Raises EffectError when every server has a call."""
        self._forget_ended()
        while len(self.running) + self.starting >= SERVERS_MAX:
            idle = next((server for server in self.running.values() if not server.calls), None)
            if idle is None:
                raise EffectError(f"{SERVERS_MAX} tool servers are at work: wait until one is done")
            self.drop(idle)
            await idle.aclose()
        self.starting += 1

    def used(self, server: ToolServer) -> None:
        self.running[id(server)] = server
        self.running.move_to_end(id(server))

    def drop(self, server: ToolServer) -> None:
        self.running.pop(id(server), None)

    def _forget_ended(self) -> None:
        for server in [server for server in self.running.values() if not server.alive]:
            self.drop(server)


class SessionServers:
    """The servers of one agent: the session itself, or a sub-agent (see `branch`)."""

    def __init__(
        self, host: ServerHost, store: ServerStore, caller: Caller, *, parent: SessionServers | None = None
    ) -> None:
        self._host, self._store, self._caller_, self._parent = host, store, caller, parent
        self._pool: _Pool = parent._pool if parent is not None else _Pool()
        self._tools: list[tuple[str, ToolSpec, bytes]] = [] if parent is None else list(parent._tools)
        self._running: dict[str, ToolServer] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._revisions: dict[str, int] = {}
        self._retired: list[ToolServer] = []
        """Ended ones, and those of an earlier policy that still have a call under way; they get no other."""
        self._closed = False
        self._watching: asyncio.Task[None] | None = None

    def register(self, toolbox: Toolbox) -> list[str]:
        """Make the tools of accepted servers known as `server/tool`; return the names of those left out."""
        left = []
        for name in self._store.names():
            record = self._store.load(name)
            if record.state != "approved":
                left.append(name)
                toolbox.leave_out(name, *absence(record))
                continue
            for entry, spec in zip(record.tools, record.specs(), strict=True):
                self._tools.append((name, spec, f"{record.code}:{entry['pin']}".encode()))
        self._put_into(toolbox)
        return left

    def branch(self, caller: Caller, toolbox: Toolbox) -> SessionServers:
        """Return the servers of a sub-agent; the tools in its toolbox lead to them from here on. Close it with the agent."""
        child = SessionServers(self._host, self._store, caller, parent=self)
        child._put_into(toolbox)
        return child

    def prepared(self, policy: Policy) -> Callable[[], None]:
        """Return what puts another policy in force: a server is started anew under it with its next call."""
        return self._host.prepared(policy)

    def _put_into(self, toolbox: Toolbox) -> None:
        for server, spec, code in self._tools:
            toolbox.register(spec, self._runner(server, spec.name), code=code, server=server)

    def _runner(self, server: str, tool: str) -> Any:
        async def run(args: Mapping[str, Any]) -> Any:
            connection = await self._connected(server)
            return await connection.call(tool, args)

        return run

    async def _connected(self, name: str) -> ToolServer:
        async with self._locks.setdefault(name, asyncio.Lock()):
            if self._closed:
                raise EffectError("the agent that called this tool server is over")
            held = self._running.get(name)
            stale = self._revisions.get(name) != self._host.revision
            if held is not None and held.alive and held.changed and not stale:
                await self._listed_again(self._store.load(name), held)
            if held is not None and held.alive and not stale:
                self._pool.used(held)
                return held
            if held is not None:
                self._retired.append(self._running.pop(name))
            await self._end_retired()
            record = self._store.load(name)
            if record.state != "approved":
                raise EffectError("; ".join(absence(record)))
            self._revisions[name] = self._host.revision
            server = self._running[name] = await self._started(record)
            self._pool.used(server)
            if self._watching is None or self._watching.done():
                self._watching = asyncio.create_task(self._cut_if_halted(), name="tool-servers")
            return server

    async def _cut_if_halted(self) -> None:
        """Cut off this agent's servers once a person has stopped it; ends with the last of them."""
        door = self._caller_.door
        while door is not None and (alive := [one for one in self._mine() if one.alive]):
            stop = door.halted()
            if stop is not None:
                for server in alive:
                    self._pool.drop(server)
                await asyncio.gather(*(server.cut(f"ended: {stop.reason}") for server in alive), return_exceptions=True)
            await asyncio.sleep(LOOK_SECONDS)

    def _mine(self) -> list[ToolServer]:
        return [*self._running.values(), *self._retired]

    async def _started(self, record: ServerRecord) -> ToolServer:
        """Return the server, started and found to be what was accepted."""
        code = code_digest(record)
        if code != record.code:
            self._quarantine(record, differences(record.tools, _shown(record), (record.code, code)))
        await self._pool.make_room()
        try:
            server = await self._host.start(record, self._caller_)
        finally:
            self._pool.starting -= 1
        try:
            found = differences(record.tools, await server.hello(), (record.code, code))
        except BaseException:
            await server.aclose()
            raise
        if found:
            await server.aclose()
            self._quarantine(record, found)
        return server

    async def _listed_again(self, record: ServerRecord, server: ToolServer) -> None:
        """Check a server that announced other tools; a difference ends and quarantines it."""
        found = differences(record.tools, await server.tools())
        if found:
            await server.aclose()
            self._quarantine(record, found)

    def _quarantine(self, record: ServerRecord, why: list[str]) -> None:
        record.state, record.why = "quarantined", why
        self._store.save(record)
        raise EffectError("; ".join(absence(record)))

    async def _end_retired(self, *, all_of_them: bool = False) -> None:
        for server in [one for one in self._retired if all_of_them or not one.calls]:
            self._retired.remove(server)
            self._pool.drop(server)
            await server.aclose()

    async def aclose(self) -> None:
        """End this agent's servers; the session's end closes what they share too."""
        self._closed = True
        if self._watching is not None:
            self._watching.cancel()
        self._retired += self._running.values()
        self._running.clear()
        await self._end_retired(all_of_them=True)
        if self._parent is None:
            await self._host.aclose()


def absence(record: ServerRecord) -> tuple[str, str]:
    """Return why the tools of a server are not there, and what a person can do; nothing that the server wrote is repeated."""
    name = record.name
    if record.state == "quarantined":
        found = dict.fromkeys(words for line in record.why for sign, words in _CHANGES if line.startswith(sign))
        changed = f" ({', '.join(found)})" if found else ""
        why = f"the tool server {name} is quarantined: it is not what was accepted{changed}"
    else:
        why = f"the tool server {name} is {record.state}: nobody has accepted it yet"
    return (
        why,
        f"its tools again once a person has seen `agentos tools inspect {name}` and done `agentos tools approve {name}`",
    )


def _shown(record: ServerRecord) -> list[ServerTool]:
    return [ServerTool(**entry["shown"]) for entry in record.tools]
