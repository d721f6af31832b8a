"""Responses that stream through an endpoint with findings: looked at while they flow, and as strictly as whole ones."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from agent_os.effects.proxy import Limits
from agent_os.effects.proxy.limits import FOLLOW_QUIET_SECONDS
from tests.e2e.network.test_content import KEY, POLICY
from tests.e2e.network.test_policy import Session, opened

MAIL = "jane.roe@corp.example"
MARK = "[REDACTED_EMAIL_ADDRESS]"
EVENTS = "text/event-stream"
Say = Callable[[bytes], Awaitable[None]]


class Feed:
    """An upstream that streams chunks: each is sent when the test says so, or all at once."""

    def __init__(self, session: Session, kind: str, *, coding: str = "", length: int = 0) -> None:
        self.opened: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
        self._kind, self._coding, self._length = kind, coding, length
        self._packer = zlib.compressobj(wbits=31)
        self.gone = asyncio.Event()
        session.upstream.answer = self._serve

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        framing = f"Content-Length: {self._length}" if self._length else "Transfer-Encoding: chunked"
        coding = f"Content-Encoding: {self._coding}\r\n" if self._coding else ""
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {self._kind}\r\n{coding}{framing}\r\n\r\n".encode())
        self.opened.set_result(writer)
        await reader.read()
        self.gone.set()

    async def say(self, *pieces: str | bytes, end: bool = False) -> None:
        """Send pieces, each a chunk of its own."""
        writer = await asyncio.wait_for(asyncio.shield(self.opened), 10)
        for piece in pieces:
            if writer.is_closing():
                raise ConnectionError("the guard has left")
            data = piece.encode() if isinstance(piece, str) else piece
            if self._coding:
                data = self._packer.compress(data) + self._packer.flush(zlib.Z_SYNC_FLUSH)
            writer.write(data if self._length else b"%x\r\n%s\r\n" % (len(data), data))
        if end and self._coding:
            tail = self._packer.flush()
            writer.write(b"%x\r\n%s\r\n" % (len(tail), tail))
        if end and not self._length:
            writer.write(b"0\r\n\r\n")
        await writer.drain()


@asynccontextmanager
async def fetching(session: Session) -> AsyncIterator[httpx.Response]:
    """The response to one request through the guard, as a client sees it while it streams."""
    context = httpx.create_ssl_context(verify=str(session.guard.ca_bundle))
    async with (
        httpx.AsyncClient(proxy=session.url, verify=context, timeout=10) as client,
        client.stream("GET", f"https://erp.test:{session.upstream.port}/x") as answer,
    ):
        yield answer


def chat(*pieces: str) -> list[str]:
    """Events of a chat answer."""
    return [f"data: {json.dumps({'choices': [{'delta': {'content': piece}}]})}\n\n" for piece in pieces]


async def until(lines: AsyncIterator[str], wanted: str) -> list[str]:
    """Read lines until one holds a text."""
    found: list[str] = []
    async with asyncio.timeout(10):
        async for line in lines:
            found.append(line)
            if wanted in line:
                return found
    raise AssertionError(f"{wanted!r} never came: {found}")


async def _into(found: list[str], lines: AsyncIterator[str]) -> None:
    async for line in lines:
        found.append(line)


@pytest.mark.parametrize("coding", ["", "gzip"])
async def test_a_model_stream_flows_event_by_event(tmp_path: Path, coding: str) -> None:
    """Each event arrives before the next is made, packed or not; an address spelt over five of them is masked."""
    async with opened(tmp_path, POLICY) as session:
        feed = Feed(session, EVENTS, coding=coding)
        async with fetching(session) as answer:
            assert answer.headers["content-type"] == EVENTS
            lines = answer.aiter_lines()
            for word in ("alpha", "beta", "gamma"):
                await feed.say(*chat(f" {word} here "))
                assert f" {word} here " in (await until(lines, "data:"))[-1]
            await feed.say(
                *chat(" mail jane", ".roe", "@corp", ".exam", "ple", " please wait "), "data: [DONE]\n\n", end=True
            )
            rest = [line async for line in lines]
            said = [
                json.loads(line[6:])["choices"][0]["delta"]["content"] for line in rest if line.startswith("data: {")
            ]
            assert "".join(said) == f" mail {MARK} please wait "
            assert "data: [DONE]" in rest


async def test_the_last_word_arrives_when_the_stream_pauses(tmp_path: Path) -> None:
    """A word that could be the start of something waits for what follows, and no longer than a moment."""
    async with opened(tmp_path, POLICY) as session:
        feed = Feed(session, EVENTS)
        async with fetching(session) as answer:
            lines = answer.aiter_lines()
            begun = asyncio.get_running_loop().time()
            await feed.say(*chat("Jane"))
            assert "Jane" in (await until(lines, "Jane"))[-1]
            assert asyncio.get_running_loop().time() - begun >= FOLLOW_QUIET_SECONDS * 0.9


async def test_a_secret_in_a_stream_ends_it_and_says_why(tmp_path: Path) -> None:
    """The events before go on; then an error event, and an end that nobody takes for one. The server is let go."""
    async with opened(tmp_path, POLICY) as session:
        feed = Feed(session, EVENTS)
        async with fetching(session) as answer:
            lines = answer.aiter_lines()
            await feed.say(*chat(" fine so far "))
            await until(lines, "fine so far")
            await feed.say(*chat(f"the key is {KEY[:7]}", KEY[7:13], KEY[13:], " and more "))
            told: list[str] = []
            with pytest.raises(httpx.TransportError):
                await _into(told, lines)
            assert KEY not in "".join(told)
            error = next(line for line in told if line.startswith("data:") and "denied_by_policy" in line)
            assert json.loads(error[6:])["error"]["rule"] == "content.findings"
        await asyncio.wait_for(feed.gone.wait(), 10)
        assert session.guard.snapshot()["counts"]["denied"] == 1


@pytest.mark.parametrize(
    ("kind", "length", "status"),
    [("text/plain", True, 200), ("text/csv; charset=utf-8", False, 200), ("application/json", True, 403),
     ("text/plain; charset=latin-1", False, 403)],
)  # fmt: skip
async def test_a_large_text_is_looked_at_while_it_streams(tmp_path: Path, kind: str, length: bool, status: int) -> None:
    """More text than is held goes through with an address in it masked; JSON is kept whole, up to its limit."""
    line = b"the quick brown fox jumps over the lazy dog and goes on, 7 times;\n"
    text = line * 1500 + f"mail {MAIL} now\n".encode() + line * 1500
    async with opened(tmp_path, POLICY, Limits(drain_seconds=0.3, body_inspect_bytes=100_000)) as session:
        feed = Feed(session, kind, length=len(text) if length else 0)
        pieces = [text[at : at + 10_021] for at in range(0, len(text), 10_021)]
        sending = asyncio.ensure_future(feed.say(*pieces, end=True))
        async with fetching(session) as answer:
            body = await answer.aread()
        sending.cancel()
        assert answer.status_code == status, body[:300]
        if status == 200:
            assert body == text.replace(MAIL.encode(), MARK.encode())
        else:
            assert MAIL.encode() not in body


async def test_a_short_text_without_length_is_refused_as_a_whole(tmp_path: Path) -> None:
    """What is found in the first moment of a text is a 403 and no broken answer; so is a body that is no text."""
    async with opened(tmp_path, POLICY) as session:
        for body in (f"key {KEY}\n".encode(), b"\xff\xfe\x00binary"):
            feed = Feed(session, "text/plain")
            sending = asyncio.ensure_future(feed.say(b"some words before. ", body, end=True))
            async with fetching(session) as answer:
                told = json.loads(await answer.aread())
            await sending
            assert (answer.status_code, told["rules"]) == (403, ["content.findings"])


async def test_a_stream_that_ends_inside_its_coding_is_broken_off(tmp_path: Path) -> None:
    """A part of a packed stream is never taken for the whole of it."""
    packed = gzip.compress(b"data: one\n\ndata: two\n\n")
    async with opened(tmp_path, POLICY) as session:
        feed = Feed(session, EVENTS)
        feed._kind = f"{EVENTS}\r\nContent-Encoding: gzip"
        async with fetching(session) as answer:
            await feed.say(packed[:-9], end=True)
            with pytest.raises(httpx.TransportError):
                await answer.aread()


async def test_a_slow_reader_slows_the_stream(tmp_path: Path) -> None:
    """The guard holds no more of a followed body than its bounds while nobody reads."""
    line = b"plain words and nothing else at all in this line\n" * 2000
    async with opened(tmp_path, POLICY) as session:
        feed, sent = Feed(session, "text/plain"), 0

        async def send() -> None:
            nonlocal sent
            while True:
                await feed.say(line)
                sent += len(line)

        sending = asyncio.ensure_future(send())
        async with fetching(session) as answer:
            assert answer.status_code == 200
            before = -1
            async with asyncio.timeout(30):
                while sent != before:  # the sender has come to rest
                    before = sent
                    await asyncio.sleep(1.0)
            assert sent < 30_000_000
        sending.cancel()


@pytest.mark.parametrize(
    ("field", "status", "seen"),
    [
        (f"Location: https://erp.test/cb?mail={MAIL}", 200, f"https://erp.test/cb?mail={MARK}"),
        (f"X-Trace: key {KEY}", 403, ""),
        (f"Set-Cookie: last={KEY}; Path=/", 403, ""),
        ("Set-Cookie: sid=2f9a8c7d6e5b4a39281706f5e4d3c2b1; Path=/; HttpOnly", 200, "sid=2f9a8c7d6e5b4a39281706f5e4d3c2b1"),
        ('ETag: "33a64df551425fcc55e4d42a148795d9f25f89d4"', 200, "33a64df551425fcc55e4d42a148795d9f25f89d4"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("first", ["200 OK", "302 Found", "204 No Content"])
async def test_header_fields_are_looked_at(tmp_path: Path, field: str, status: int, seen: str, first: str) -> None:
    """Findings in the head of a response, one without a body too, are masked or deny it; a cookie's own token is none."""
    async with opened(tmp_path, POLICY) as session:
        length = "" if first.startswith("204") else "Content-Length: 0\r\n"
        session.upstream.answer = f"HTTP/1.1 {first}\r\n{field}\r\n{length}\r\n".encode()
        async with fetching(session) as answer:
            body = await answer.aread()
        if status == 403:
            assert answer.status_code == 403
            assert json.loads(body)["rules"] == ["content.findings"]
            assert KEY.encode() not in str(answer.headers).encode() + body
        else:
            assert answer.status_code == int(first[:3])
            assert seen in answer.headers[field.partition(":")[0]]


async def test_the_head_of_an_upgrade_is_looked_at(tmp_path: Path) -> None:
    """A WebSocket server says nothing in its headers that it may not say in a message."""
    fields = [("X-Owner", MAIL)]

    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    def more(_connection: ServerConnection, _request: object, response: Response) -> None:
        for name, value in fields:
            response.headers[name] = value

    async with serve(handler, "127.0.0.1", 0, process_response=more) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        text = POLICY.replace("protocol: rest", "protocol: websocket", 1).replace("{port}", str(port), 1)
        async with opened(tmp_path, text) as session:
            async with connect(f"ws://erp.test:{port}/ws", proxy=session.url) as client:
                assert client.response is not None
                assert client.response.headers["X-Owner"] == MARK
                await client.send("hello")
                assert await client.recv() == "hello"
            fields[:] = [("X-Key", KEY)]
            with pytest.raises(InvalidStatus) as caught:
                await connect(f"ws://erp.test:{port}/ws", proxy=session.url)
            assert caught.value.response.status_code == 403
