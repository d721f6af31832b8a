"""What responses bring in: personal data and secrets masked or denied, archives opened within bounds, fail closed."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from agent_os.effects.proxy import Limits, Treatment
from agent_os.effects.proxy.content import Content
from tests.e2e.network.test_policy import Session, opened
from tests.e2e.network.world import Client, Place, World, response

POLICY = """
version: 1
network_policies:
  erp:
    endpoints:
      - host: erp.test
        port: {port}
        local: true
        protocol: rest
        enforcement: enforce
        access: full
        content:
          archives: check
          response_findings:
            - {{find: [EMAIL_ADDRESS, IBAN_CODE], do: mask}}
            - {{find: [SECRET], do: deny}}
      - {{host: git.test, port: {port}, local: true, protocol: rest, enforcement: enforce, access: full}}
"""
JSON = "Content-Type: application/json\r\n"
KEY = "AKIA" + "QYLPMN5HHHFPZAM2"


def said(value: Any, extra: str = JSON) -> bytes:
    """A JSON response."""
    return response(value if isinstance(value, bytes) else json.dumps(value).encode(), extra=extra)


async def ask(session: Session, *more: str, host: str = "erp.test") -> tuple[str, str]:
    """Fetch with curl; the body and the status."""
    return (await session.curl(*more, f"https://{host}:{session.upstream.port}/x"))[1:]


async def test_personal_data_in_a_response_is_masked_and_secrets_deny_it(tmp_path: Path) -> None:
    """Escapes and compression hide nothing; a clean response comes byte for byte; other hosts are not looked at."""
    async with opened(tmp_path, POLICY) as session:
        session.upstream.answer = said({"to": "jane.roe@corp.example", "n": 1})
        assert json.loads((await ask(session))[0]) == {"to": "[REDACTED_EMAIL_ADDRESS]", "n": 1}
        assert "jane.roe@corp.example" in (await ask(session, host="git.test"))[0]
        hidden = b'{"to": "jane\\u002eroe\\u0040corp\\u002eexample"}'
        session.upstream.answer = said(hidden)
        assert json.loads((await ask(session))[0]) == {"to": "[REDACTED_EMAIL_ADDRESS]"}
        session.upstream.answer = said(gzip.compress(hidden), JSON + "Content-Encoding: gzip\r\n")
        assert json.loads((await ask(session, "--compressed"))[0]) == {"to": "[REDACTED_EMAIL_ADDRESS]"}
        session.upstream.answer = response(b"mail jane.roe@corp.example\n", extra="Content-Type: text/plain\r\n")
        assert (await ask(session))[0] == "mail [REDACTED_EMAIL_ADDRESS]\n"
        for body in (
            said({"key": KEY}),
            said(gzip.compress(json.dumps({"key": KEY}).encode()), JSON + "Content-Encoding: gzip\r\n"),
        ):
            session.upstream.answer = body
            text, status = await ask(session)
            assert status == "403"
            assert json.loads(text)["rules"] == ["content.findings"]
            assert KEY not in text
        clean = b'{ "n" : 1.50,\n"s": "nothing here" }'
        session.upstream.answer = said(clean)
        assert await ask(session) == (clean.decode(), "200")


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        (response(b"\x89PNG\r\n\xff\xfe", extra="Content-Type: image/png\r\n"), "content.findings"),
        (said(b'{"a": 1, "a": 2}'), "content.findings"),
        (said(b"br", JSON + "Content-Encoding: br\r\n"), "content.coding"),
        (response(b"{}", status="206 Partial Content", extra=JSON + "Content-Range: bytes 0-1/9\r\n"), "content.partial"),
        (response(b"", extra=JSON).replace(b"Content-Length: 0", b"Content-Length: 9999999"), "content.size"),
    ],
)  # fmt: skip
async def test_a_response_that_cannot_be_looked_at_is_denied(tmp_path: Path, answer: bytes, rule: str) -> None:
    """No text, two readings, an unknown coding, a part, too long: nothing of it reaches the client."""
    async with opened(tmp_path, POLICY) as session:
        session.upstream.answer = answer
        text, status = await ask(session)
        assert status == "403", text
        assert json.loads(text)["rules"] == [rule]


async def test_a_range_is_asked_for_whole(tmp_path: Path) -> None:
    """A secret cut in two by ranges is not: the upstream sees no Range where responses are looked at, else it does."""
    async with opened(tmp_path, POLICY) as session:
        session.upstream.answer = said({})
        assert (await ask(session, "-H", "Range: bytes=0-3"))[1] == "200"
        assert b"range" not in session.upstream.text.lower()
        assert (await ask(session, "-H", "Range: bytes=0-3", host="git.test"))[1] == "200"
        assert b"range: bytes=0-3" in session.upstream.text.lower()


async def test_an_entity_that_nothing_here_finds_denies(tmp_path: Path) -> None:
    """A rule for something no detector knows is no rule that is silently met."""
    async with opened(tmp_path, POLICY.replace("[SECRET]", "[SHOE_SIZE]")) as session:
        session.upstream.answer = said({"n": 1})
        text, status = await ask(session)
        assert (status, json.loads(text)["rules"]) == ("403", ["content.findings"])
        assert "SHOE_SIZE" in json.loads(text)["detail"]


def zipped(**files: bytes) -> bytes:
    """A zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


async def test_archives_are_opened_within_bounds_both_ways(tmp_path: Path) -> None:
    """A bomb, and one inside another archive, is refused as response and as request; an ordinary archive passes."""
    text = POLICY[: POLICY.index("          response_findings")] + POLICY[POLICY.index("      - {{host: git") :]
    bomb = zipped(a=zipped(b=b"\0" * 30_000_000))
    fine = zipped(a=b"hello" * 100, b=gzip.compress(b"x" * 1000))
    async with opened(tmp_path, text) as session:
        for body, status in ((bomb, "403"), (fine, "200"), (b"7z\xbc\xaf\x27\x1c....", "403"), (fine[:-30], "403")):
            session.upstream.answer = response(body, extra="Content-Type: application/octet-stream\r\n")
            code = (await ask(session, "-o", "/dev/null"))[1]
            assert code == status
        session.upstream.answer = response(b"ok")
        before = len(session.upstream.text)
        for body, status in ((bomb, "403"), (fine, "200")):
            path = tmp_path / "body"
            path.write_bytes(body)
            assert (await ask(session, "--data-binary", f"@{path}"))[1] == status
        assert len(session.upstream.text) - before < len(bomb) + 2000
        session.upstream.answer = response(b"ok")


async def test_messages_of_a_websocket_server_are_looked_at(tmp_path: Path) -> None:
    """A message with a secret ends the connection with 1008, one with an address is masked, another one passes."""

    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(handler, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        text = POLICY.replace("protocol: rest", "protocol: websocket", 1).replace("{port}", str(port), 1)
        async with (
            opened(tmp_path, text) as session,
            connect(f"ws://erp.test:{port}/ws", proxy=session.url) as client,
        ):
            await client.send("hello")
            assert await client.recv() == "hello"
            await client.send('{"to": "jane.roe@corp.example"}')
            assert json.loads(await client.recv()) == {"to": "[REDACTED_EMAIL_ADDRESS]"}
            await client.send(f"key {KEY}")
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1008


class Everything:
    """A stage that wants every response and lets it pass."""

    name = "everything"

    def wants(self, direction: str, host: str, treatment: Treatment) -> bool:
        return direction == "response"

    async def inspect(self, content: Content) -> bytes:
        return content.body


async def test_a_body_that_trickles_is_refused_in_time(world: World) -> None:
    """A response that must be read whole and never ends holds no memory for long; a quick one passes."""

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    upstream = await world.upstream(trickle)
    world.allow(Place("a.test", upstream.port, treatment=Treatment()))
    await world.start(stages=[Everything()], limits=Limits(whole_seconds=0.3, drain_seconds=0.2))
    address = await world.listen()
    request = f"GET http://a.test:{upstream.port}/ok HTTP/1.1\r\nHost: a.test:{upstream.port}\r\n\r\n".encode()
    client = await Client.to(address)
    status, _, body = await client.send(request).answer()
    assert (status, json.loads(body)["rules"]) == (403, ["content.slow"])
    client.close()
    upstream.answer = response(b"quick")
    twin = await Client.to(address)
    assert (await twin.send(request).answer())[2] == b"quick"
    twin.close()


async def test_an_empty_response_until_close_is_complete_for_the_client(world: World) -> None:
    """Read whole, a body without announced length has one; the connection stays usable."""

    async def until_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

    upstream = await world.upstream(until_close)
    world.allow(Place("a.test", upstream.port, treatment=Treatment()))
    await world.start(stages=[Everything()])
    client = await Client.to(await world.listen())
    request = f"GET http://a.test:{upstream.port}/ok HTTP/1.1\r\nHost: a.test:{upstream.port}\r\n\r\n".encode()
    for _ in range(2):
        status, head, body = await client.send(request).answer()
        assert (status, body) == (200, b"")
        assert b"content-length: 0" in head.lower()
    client.close()
