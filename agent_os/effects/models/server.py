"""A small HTTP/1.1 server on loopback for the model gateway, over asyncio and h11.

It parses and frames; what a request means is its handler's. Threats: a web page that reaches the port of a developer's
machine (Host and Origin are checked, DNS rebinding with them); a body without end; large bodies of callers nobody knows, or
more of them than memory; a client that sends one byte a minute or does not read its answer; more connections than memory.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final

import h11

from agent_os.core.errors import EffectError

BODY_BYTES_MAX: Final = 50 * 1024 * 1024
STRANGER_BYTES_MAX: Final = 64 * 1024
"""What is read of a body before its head is looked at: whoever is not let in sends no more."""
BODIES_BYTES_MAX: Final = 512 * 1024 * 1024
"""All bodies of requests under way."""
HEAD_BYTES_MAX: Final = 64 * 1024
CONNECTIONS_MAX: Final = 1024
HEAD_SECONDS_MAX: Final = 15.0
BODY_SECONDS_MAX: Final = 60.0
KEEPALIVE_SECONDS: Final = 30.0
WRITE_SECONDS_MAX: Final = 60.0
READ_BYTES: Final = 65_536
STREAM_BYTES_HELD_MAX: Final = 65_536
"""What a stream may hold for a peer that does not read; then the provider waits too."""
_ONCE: Final = ("authorization", "x-api-key", "webhook-id", "webhook-timestamp", "webhook-signature")
"""Fields that say who calls: of two, a proxy in front and this server could each believe another."""
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request; header names are lower-case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    query: str = ""


@dataclass(slots=True)
class HttpResponse:
    """One response; `stream` instead of `body` is sent chunk by chunk as it comes."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    stream: AsyncIterator[bytes] | None = None
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[HttpRequest], Awaitable[HttpResponse]]
Admits = Callable[[HttpRequest], Awaitable[HttpResponse | int]]
"""Takes a request without its body; returns how many bytes it may have, or the refusal of one that may have none."""


class _RefusedError(Exception):
    """A request that is answered without being read to its end."""

    def __init__(self, response: HttpResponse) -> None:
        self.response = response
        super().__init__()


class Server:
    """Serves a handler on a loopback address. `admits` is asked before a body of more than STRANGER_BYTES_MAX is read."""

    def __init__(self, handler: Handler, *, hosts: frozenset[str] = LOOPBACK, admits: Admits | None = None) -> None:
        self._handler, self._hosts, self._admits = handler, hosts, admits
        self._bodies = 0
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen. Raises EffectError for an address that is not loopback, or a port in use."""
        if host not in ("127.0.0.1", "::1", "localhost"):
            raise EffectError("the gateway listens on loopback only: put a proxy with TLS and logins in front")
        try:
            self._server = await asyncio.start_server(
                self._accept, host, port, limit=READ_BYTES, backlog=CONNECTIONS_MAX
            )
        except OSError as error:
            raise EffectError(f"cannot listen on {host}:{port}: {error.strerror}") from None
        self.port = self._server.sockets[0].getsockname()[1]

    async def aclose(self) -> None:
        """Stop listening and end every connection."""
        if self._server is not None:
            self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def forever(self) -> None:
        """Serve until cancelled."""
        if self._server is None:
            raise EffectError("the server is not started")
        await self._server.serve_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= CONNECTIONS_MAX:
            writer.close()
            return
        self._connections.add(task)
        try:
            await self._converse(reader, writer)
        except (ConnectionError, TimeoutError, asyncio.CancelledError, h11.ProtocolError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(Exception):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        first = True
        while True:
            try:
                seconds = HEAD_SECONDS_MAX if first else KEEPALIVE_SECONDS
                request = await self._request(connection, reader, writer, seconds)
            except h11.RemoteProtocolError as error:
                if connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                    await self._send(connection, writer, _problem(error.error_status_hint, "malformed request"))
                return
            except _RefusedError as refusal:
                sends_on = not connection.they_are_waiting_for_100_continue
                await self._send(connection, writer, refusal.response)
                if sends_on:
                    await _drained(reader)
                return
            if request is None:
                return
            first = False
            try:
                refused = self._refused(request)
                response = refused if refused is not None else await self._handler(request)
            except Exception:  # ours to repair: the caller is told that it was answered, and nothing of what failed
                await self._send(
                    connection, writer, _problem(500, "this request failed here; the server's log says where")
                )
                raise
            finally:
                self._bodies -= len(request.body)
            await self._send(connection, writer, response)
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()

    async def _request(
        self,
        connection: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        head_seconds: float,
    ) -> HttpRequest | None:
        async with asyncio.timeout(head_seconds):
            head = await self._event(connection, reader)
        if not isinstance(head, h11.Request):
            return None
        names = [name.decode("latin-1").lower() for name, _ in head.headers]
        if any(names.count(name) > 1 for name in _ONCE):
            raise h11.RemoteProtocolError("a credential is shown twice", error_status_hint=400)
        if {"transfer-encoding", "content-length"} <= set(
            names
        ):  # a proxy in front may believe the other (RFC 9112, 6.1)
            raise h11.RemoteProtocolError("its length is said twice", error_status_hint=400)
        headers = {name: value.decode("latin-1") for name, (_, value) in zip(names, head.headers, strict=True)}
        path, _, query = head.target.decode("latin-1").partition("?")
        request = HttpRequest(head.method.decode("latin-1"), path, headers, b"", query)
        async with asyncio.timeout(BODY_SECONDS_MAX):
            body = await self._body(connection, reader, writer, request)
        return None if body is None else replace(request, body=body)

    async def _body(
        self,
        connection: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        request: HttpRequest,
    ) -> bytes | None:
        """Return a request's body; it counts as under way until its answer is there. None for a broken one.

        Who asks first whether to send it (`Expect: 100-continue`) is told so or refused before a byte of it (RFC 9110, 10.1.1).
        """
        body, counted = bytearray(), 0
        asked, most = self._admits is None, BODY_BYTES_MAX if self._admits is None else STRANGER_BYTES_MAX
        if connection.they_are_waiting_for_100_continue:
            asked, most = True, await self._let_in(request)
            if (length := request.headers.get("content-length", "")).isdecimal() and int(length) > most:
                raise _RefusedError(_problem(413, f"more than {most} bytes"))
            await self._write(writer, connection.send(h11.InformationalResponse(status_code=100, headers=[])))
        try:
            while not isinstance(event := await self._event(connection, reader), h11.EndOfMessage):
                if not isinstance(event, h11.Data):
                    return None
                body += event.data
                self._bodies, counted = self._bodies + len(body) - counted, len(body)
                if self._bodies > BODIES_BYTES_MAX:
                    raise _RefusedError(_problem(503, "too much is under way: try again"))
                if len(body) > most and not asked:
                    asked, most = True, await self._let_in(request)
                if len(body) > most:
                    raise _RefusedError(_problem(413, f"more than {most} bytes"))
        except BaseException:
            self._bodies -= counted
            raise
        return bytes(body)

    async def _let_in(self, request: HttpRequest) -> int:
        allowed: HttpResponse | int | None = self._refused(request)
        if allowed is None:
            allowed = BODY_BYTES_MAX if self._admits is None else await self._admits(request)
        if isinstance(allowed, HttpResponse):
            raise _RefusedError(allowed)
        return allowed

    async def _event(self, connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Event | type:
        while True:
            event = connection.next_event()
            if event is not h11.NEED_DATA:
                return event
            connection.receive_data(await reader.read(READ_BYTES))

    def _refused(self, request: HttpRequest) -> HttpResponse | None:
        """Return the refusal of a request that a web page may have caused, or None."""
        host = request.headers.get("host", "").lower()
        if host not in {f"{name}:{self.port}" for name in self._hosts} | self._hosts:
            return _problem(421, "this server answers to loopback names only")
        if "origin" in request.headers:
            return _problem(403, "web pages may not use this server")
        return None

    async def _send(self, connection: h11.Connection, writer: asyncio.StreamWriter, response: HttpResponse) -> None:
        headers = [("content-type", response.content_type), ("cache-control", "no-store"), *response.headers.items()]
        if response.stream is None:
            headers.append(("content-length", str(len(response.body))))
        else:
            headers.append(("transfer-encoding", "chunked"))
        await self._write(writer, connection.send(h11.Response(status_code=response.status, headers=headers)))
        if response.stream is None:
            await self._write(writer, connection.send(h11.Data(data=response.body)))
        else:
            stream = response.stream
            outgoing = _Outgoing(connection, writer)
            try:
                async for part in stream:
                    outgoing.add(part)
                    if outgoing.full:
                        await self._write(writer, outgoing.take())
                await self._write(writer, outgoing.take())
            finally:
                outgoing.close()
                close = getattr(stream, "aclose", None)
                if close is not None:
                    await close()
        await self._write(writer, connection.send(h11.EndOfMessage()))

    @staticmethod
    async def _write(writer: asyncio.StreamWriter, data: bytes | None) -> None:
        if data:
            writer.write(data)
            async with asyncio.timeout(WRITE_SECONDS_MAX):
                await writer.drain()


async def _drained(reader: asyncio.StreamReader) -> None:
    """Read on for a while, so that a peer that is still sending gets to see its answer."""
    seen = 0
    async with asyncio.timeout(HEAD_SECONDS_MAX):
        while seen < BODY_BYTES_MAX and (data := await reader.read(READ_BYTES)):
            seen += len(data)


class _Outgoing:
    """Pieces of a streamed body on their way: what is made within one turn of the loop is one chunk and one write.

    Nothing waits longer than that turn, so the first piece goes out at once, and a provider that sends twenty events in a
    packet costs one system call, not twenty.
    """

    def __init__(self, connection: h11.Connection, writer: asyncio.StreamWriter) -> None:
        self._connection, self._writer = connection, writer
        self._loop = asyncio.get_running_loop()
        self._pending = bytearray()
        self._turn: asyncio.Handle | None = None

    @property
    def full(self) -> bool:
        """Whether the peer reads more slowly than the pieces come: wait for it."""
        held = self._writer.transport.get_write_buffer_size()
        return held + len(self._pending) > STREAM_BYTES_HELD_MAX

    def add(self, part: bytes) -> None:
        """Send a piece at the end of this turn."""
        self._pending += part
        if self._turn is None and self._pending:
            self._turn = self._loop.call_soon(self._flush)

    def take(self) -> bytes | None:
        """Return what is pending, framed; it is the caller's to write."""
        self.close()
        if not self._pending:
            return None
        data, self._pending = bytes(self._pending), bytearray()
        return self._connection.send(h11.Data(data=data))

    def close(self) -> None:
        """Send nothing more."""
        if self._turn is not None:
            self._turn.cancel()
        self._turn = None

    def _flush(self) -> None:
        self._turn = None
        data = self.take()
        if data and not self._writer.transport.is_closing():
            self._writer.write(data)


def _problem(status: int, message: str) -> HttpResponse:
    return HttpResponse(status, f'{{"error": {{"message": "{message}", "type": "agent_os"}}}}'.encode())
