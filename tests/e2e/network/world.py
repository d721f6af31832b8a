"""A small world for the guard: a door that really judges, upstreams that really answer, a resolver of the test's own.

The door decides by a table of places (host, port -> methods and paths) over real Actions and facts; nothing is
mocked: bytes go over loopback sockets, TLS is real, and what the door was asked and what the upstream received are
there to look at.
"""

from __future__ import annotations

import asyncio
import fnmatch
import itertools
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent_os.core.action import Action, NetConnect, NetRequest, SecretUse
from agent_os.core.decision import Decision, Verdict
from agent_os.core.errors import DeniedError, EffectError
from agent_os.core.ports import Admission, Outcome
from agent_os.core.ports import Permit as Leave
from agent_os.effects.clock import SystemClock
from agent_os.effects.proxy import EgressGuard, Limits, ListenerIdentity, Treatment
from agent_os.effects.proxy.credentials import Secret
from tests.e2e.network.authority import TestAuthority

PASS = Treatment(inspect=False)


@dataclass
class Place:
    """What may be asked of one host and port."""

    host: str
    port: int
    requests: Sequence[tuple[str, str]] = (("*", "*"),)
    treatment: Treatment = PASS
    ips: Sequence[str] = ("127.0.0.1",)
    binaries: Sequence[str] | None = None
    secrets: Mapping[str, frozenset[str]] = field(default_factory=dict)


class Rules:
    """`EgressRules` over a table of places."""

    def __init__(self, places: Sequence[Place]) -> None:
        self.places = list(places)
        self.digest = "sha256:test"

    def resolvable(self, host: str) -> bool:
        return any(fnmatch.fnmatch(host, place.host) for place in self.places)

    def _at(self, host: str, port: int) -> list[Place]:
        return [place for place in self.places if fnmatch.fnmatch(host, place.host) and place.port == port]

    def treatment(self, host: str, port: int) -> Treatment:
        found = self._at(host, port)
        return found[0].treatment if found else Treatment()

    def secret_places(self, name: str, host: str, port: int) -> frozenset[str]:
        return frozenset().union(*(place.secrets.get(name, frozenset()) for place in self._at(host, port)))

    def secret_names(self) -> frozenset[str]:
        return frozenset(name for place in self.places for name in place.secrets)

    def secrets_in_bodies(self, host: str, port: int) -> bool:
        return any("body" in where for place in self._at(host, port) for where in place.secrets.values())

    def reachable(self) -> Sequence[Mapping[str, Any]]:
        return [{"host": place.host, "port": place.port} for place in self.places]

    def judge(self, action: Action, stated: Mapping[str, Any]) -> Decision:
        if isinstance(action, SecretUse):
            bound = any(fnmatch.fnmatch(action.destination, p.host) and action.name in p.secrets for p in self.places)
            return Decision(Verdict.ALLOW if bound else Verdict.DENY, (f"secrets.{action.name}",), "not bound here")
        assert isinstance(action, NetConnect)
        executable, addresses = stated.get("executable"), stated.get("resolved_ips")
        for place in self._at(action.host, action.port):
            if addresses is not None and (not addresses or not set(addresses) <= set(place.ips)):
                return Decision(Verdict.DENY, ("net.address",), "resolves to an address that is not allowed")
            if place.binaries is not None and (executable is None or executable.path not in place.binaries):
                continue
            if not isinstance(action, NetRequest):
                return Decision(Verdict.ALLOW, (f"net.{place.host}",))
            for method, path in place.requests:
                if method in ("*", action.method) and fnmatch.fnmatch(action.path, path):
                    return Decision(Verdict.ALLOW, (f"net.{place.host}",))
        return Decision(Verdict.DENY, ("net.default",), "no rule allows this", advice="GET /ok is allowed")


class RealDoor:
    """A door that decides with the rules in force, keeps an account, and refuses to settle twice."""

    def __init__(self, rules: Rules) -> None:
        self.rules, self.stopped = rules, False
        self.asked: list[Action] = []
        self.stated: list[Mapping[str, Any]] = []
        self.settled: list[tuple[Action, Outcome]] = []
        self._open: dict[str, tuple[Action, Mapping[str, Any]]] = {}
        self._numbers = itertools.count()
        self.during: Callable[[Action], Awaitable[None]] | None = None
        """What happens while an intent is written."""

    async def made_durable(self, action: Action) -> None:
        await (asyncio.sleep(0) if self.during is None else self.during(action))

    async def admit(self, action: Action, *, stated: Mapping[str, Any] | None = None) -> Admission:
        self.asked.append(action)
        self.stated.append(stated or {})
        decision = self.rules.judge(action, stated or {})
        if not decision.allowed:
            raise DeniedError(decision)
        await self.made_durable(action)
        return self._leave(action, decision, stated or {})

    async def admit_alike(
        self, action: Action, *, stated: Mapping[str, Any] | None = None, count: int
    ) -> list[Admission] | None:
        decision = self.rules.judge(action, stated or {})
        if not decision.allowed:
            return None
        self.asked += [action] * count
        self.stated += [stated or {}] * count
        await self.made_durable(action)
        return [self._leave(action, decision, stated or {}) for _ in range(count)]

    def _leave(self, action: Action, decision: Decision, stated: Mapping[str, Any]) -> Admission:
        nonce = f"act_{next(self._numbers)}"
        self._open[nonce] = action, stated
        return Admission(
            action, decision, Leave(nonce, action.digest, "", nonce, tuple(stated.get("resolved_ips") or ()))
        )

    async def consider(self, action: Action, *, stated: Mapping[str, Any] | None = None) -> Decision:
        return self.rules.judge(action, stated or {})

    async def holds(self, admission: Admission) -> bool:
        held = self._open.get(admission.permit.nonce)
        return held is not None and not self.stopped and self.rules.judge(*held).allowed

    def halted(self) -> Decision | None:
        return Decision(Verdict.DENY, ("runtime.halted",), "everything is halted by lea") if self.stopped else None

    async def settle(self, admission: Admission, outcome: Outcome) -> None:
        del self._open[admission.permit.nonce]
        self.settled.append((admission.action, outcome))

    @property
    def open(self) -> int:
        """Admissions nobody has settled yet."""
        return len(self._open)

    def requests(self) -> list[NetRequest]:
        """The requests that were asked for."""
        return [action for action in self.asked if isinstance(action, NetRequest)]


class TableResolver:
    """A resolver of the test's own: host -> addresses, or a function called each time."""

    def __init__(self, table: Mapping[str, Sequence[str] | Callable[[], Sequence[str]]] | None = None) -> None:
        self.table = dict(table or {})
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int) -> tuple[str, ...]:
        self.asked.append(host)
        found = self.table.get(host, ("127.0.0.1",) if host.endswith(".test") else None)
        if found is None:
            raise EffectError("the name does not resolve")
        return tuple(found() if callable(found) else found)


class Vault:
    """A secret store in memory."""

    def __init__(self, *secrets: Secret) -> None:
        self.secrets = {secret.name: secret for secret in secrets}

    async def get(self, name: str) -> Secret | None:
        return self.secrets.get(name)


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Upstream:
    """A server that records the raw bytes of each connection; answers every request head with `answer`."""

    def __init__(self, answer: bytes | Handler | None = None, context: ssl.SSLContext | None = None) -> None:
        self.answer = answer or response(b"hello")
        self.context = context
        self.received: list[bytearray] = []
        self.port = 0
        self.connections = 0
        self._server: asyncio.Server | None = None

    async def start(self, host: str = "127.0.0.1") -> Upstream:
        self._server = await asyncio.start_server(self._serve, host, 0, ssl=self.context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    @property
    def text(self) -> bytes:
        """Everything received, over all connections."""
        return b"".join(bytes(part) for part in self.received)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if callable(self.answer):
                await self.answer(reader, writer)
            else:
                await self._plain(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def _plain(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        record = bytearray()
        self.received.append(record)
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as error:
                record += error.partial
                return
            record += head
            lower = head.lower()
            if b"content-length:" in lower:
                size = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
                record += await reader.readexactly(size)
            elif b"transfer-encoding: chunked" in lower:
                while True:
                    line = await reader.readline()
                    record += line
                    data = await reader.readexactly(int(line, 16) + 2)
                    record += data
                    if int(line, 16) == 0:
                        break
            writer.write(self.answer)  # type: ignore[arg-type]
            await writer.drain()


def response(body: bytes, *, status: str = "200 OK", extra: str = "") -> bytes:
    """A plain response."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


class World:
    """A guard with its door, listeners and upstreams."""

    def __init__(self, folder: Path, carry: str = "never") -> None:
        self.folder, self.carry = folder, carry
        self.rules = Rules([])
        self.door = RealDoor(self.rules)
        self.resolver = TableResolver()
        self.vault = Vault()
        self.upstreams: list[Upstream] = []
        self.tls = TestAuthority(folder / "upstream")
        self.guard: EgressGuard | None = None
        self.identity = ListenerIdentity(executables=False)

    async def start(self, **options: Any) -> World:
        options.setdefault("limits", Limits(drain_seconds=0.3))
        options.setdefault("carry", self.carry)
        self.guard = EgressGuard(
            door=self.door, resolver=self.resolver, rules=self.rules, state=self.folder / "state", clock=SystemClock(),
            secrets=self.vault, roots=self.tls.root, **options,
        )  # fmt: skip
        await self.guard.start()
        return self

    def allow(self, *places: Place) -> None:
        self.rules.places.extend(places)

    async def upstream(
        self, answer: bytes | Handler | None = None, *, tls: str | Sequence[str] = (), host: str = "127.0.0.1"
    ) -> Upstream:
        names = (tls,) if isinstance(tls, str) else tuple(tls)
        server = await Upstream(answer, self.tls.context(*names) if names else None).start(host)
        self.upstreams.append(server)
        return server

    async def listen(self, kind: str = "proxy", identity: ListenerIdentity | None = None) -> tuple[str, int]:
        """Serve a loopback listener; return its address."""
        sock = socket.create_server(("127.0.0.1", 0), backlog=128)
        address: tuple[str, int] = sock.getsockname()
        assert self.guard is not None
        await self.guard.serve_listener(sock, kind, identity or self.identity)
        return address

    async def stop(self) -> None:
        assert self.guard is not None
        await self.guard.stop()
        for server in self.upstreams:
            await server.stop()

    async def quiet(self) -> list[dict[str, Any]]:
        """Wait until no connection is left; return the rows of the recent ones."""
        assert self.guard is not None
        async with asyncio.timeout(10):
            while self.guard.snapshot()["live"]:
                await asyncio.sleep(0.01)
        return [row for row in self.guard.snapshot()["recent"] if row["type"] == "flow"]

    def client_context(self) -> ssl.SSLContext:
        """What a client in a sandbox would use: it trusts the guard's CA only."""
        assert self.guard is not None
        assert self.guard.parts is not None
        return ssl.create_default_context(cafile=str(self.guard.parts.authority.certificate_path))


class Client:
    """A raw client: writes bytes, reads bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @staticmethod
    async def to(address: tuple[str, int] | str) -> Client:
        if isinstance(address, str):
            return Client(*await asyncio.open_unix_connection(address))
        return Client(*await asyncio.open_connection(*address))

    def send(self, data: bytes) -> Client:
        self.writer.write(data)
        return self

    async def head(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 5)

    async def answer(self) -> tuple[int, bytes, bytes]:
        """Read one response: status, head, body (by length, chunks, or to the end)."""
        head = await self.head()
        status, lower = int(head.split(b" ")[1]), head.lower()
        if b"content-length:" in lower:
            size = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
            return status, head, await asyncio.wait_for(self.reader.readexactly(size), 5)
        if b"transfer-encoding: chunked" in lower:
            body = b""
            while size := int(await asyncio.wait_for(self.reader.readline(), 5), 16):
                body += await self.reader.readexactly(size)
                await self.reader.readexactly(2)
            await self.reader.readexactly(2)
            return status, head, body
        return status, head, b""

    async def rest(self) -> bytes:
        """Read to the end (a reset counts as one)."""
        try:
            return await asyncio.wait_for(self.reader.read(), 5)
        except ConnectionError:
            return b""

    async def all(self, most: int = -1) -> tuple[bytes, bool]:
        """Read to the end, or `most` bytes; return them and whether the end was a reset."""
        pieces, size = [], 0
        try:
            async with asyncio.timeout(20):
                while size != most and (piece := await self.reader.read(1 << 20 if most < 0 else most - size)):
                    pieces.append(piece)
                    size += len(piece)
        except ConnectionError:
            return b"".join(pieces), True
        return b"".join(pieces), False

    async def connect(self, authority: str) -> int:
        """Ask for a tunnel; return the status."""
        self.send(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
        head = await self.head()
        return int(head.split(b" ")[1])

    async def tls(self, context: ssl.SSLContext, name: str) -> Client:
        await asyncio.wait_for(self.writer.start_tls(context, server_hostname=name), 5)
        return self

    def close(self) -> None:
        self.writer.close()
