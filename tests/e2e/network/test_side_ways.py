"""Ways beside the judged request: trailers, tunnels in tunnels, HTTP/2, lists of hosts, frames that are packed; each with its twin."""

from __future__ import annotations

import asyncio
import os
import ssl
import zlib

import pytest
from websockets.asyncio.server import ServerConnection, serve

from agent_os.effects.proxy import Treatment
from agent_os.effects.proxy.websocket import PIECES_MAX, _together
from tests.e2e.network.shapes import inspected, tunnel
from tests.e2e.network.world import Client, Place, World, response

SECRET = b"what-nobody-judged"
HOSTS = {
    "two in a list": b"a.test, evil.test",
    "two with a space": b"a.test evil.test",
    "two ports": b"a.test:80:80",
    "another one in brackets": b"[a.test]",
    "a path": b"a.test/evil.test",
    "a question": b"a.test?evil.test",
    "a fragment": b"a.test#evil.test",
    "userinfo": b"evil.test@a.test",
    "a port that is no number": b"a.test:http",
    "a port with a sign": b"a.test:+80",
    "empty": b"",
    "of four thousand letters": b"a" * 4000,
    "a zone": b"[fe80::1%25a.test]",
    "letters that look alike": "а.test".encode(),
}


@pytest.mark.parametrize("name", HOSTS)
async def test_a_host_field_is_one_host(world: World, name: str) -> None:
    """ATTACK: what two servers could read as two hosts is refused; the twin names the one host, in any case, with a dot."""
    upstream, address = await inspected(world)
    client = await tunnel(address, upstream)
    status = (await client.send(b"GET /ok HTTP/1.1\r\nHost: " + HOSTS[name] + b"\r\n\r\n").answer())[0]
    assert status in (400, 421)
    assert upstream.text == b""
    for fine in (b"a.test", b"A.TEST", b"a.test.", b"a.test:%d" % upstream.port):
        twin = await tunnel(address, upstream)
        assert (await twin.send(b"GET /ok HTTP/1.1\r\nHost: " + fine + b"\r\n\r\n").answer())[0] == 200
        twin.close()


INSIDE = {
    "a tunnel in the tunnel": b"CONNECT evil.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "another place in the target": b"GET http://evil.test/ok HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "another place in the target alone": b"GET http://evil.test/ok HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http/0.9": b"GET /ok\r\n\r\n",
    "no method": b" /ok HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "a lower-case version": b"GET /ok http/1.1\r\nHost: a.test\r\n\r\n",
    "all of the server": b"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n",
}


@pytest.mark.parametrize("name", INSIDE)
async def test_what_is_said_in_an_opened_tunnel_is_a_request_of_its_host(world: World, name: str) -> None:
    """ATTACK: proxies, protocols and places inside TLS that was opened; the twin is a plain request."""
    upstream = await world.upstream(tls="a.test")
    world.allow(Place("a.test", upstream.port, [("*", "/ok")], Treatment()))
    await world.start()
    address = await world.listen()
    client = await (await tunnel(address, upstream)).tls(world.client_context(), "a.test")
    assert (await client.send(INSIDE[name]).answer())[0] in (400, 403, 421)
    assert upstream.text == b""
    twin = await (await tunnel(address, upstream)).tls(world.client_context(), "a.test")
    assert (await twin.send(b"GET /ok HTTP/1.1\r\nHost: a.test\r\n\r\n").answer())[0] == 200
    twin.close()


async def test_a_client_that_knows_http2_only_gets_none(world: World) -> None:
    """ALPN is http/1.1 or nothing: what such a client says then is no request here."""
    upstream = await world.upstream(tls="a.test")
    world.allow(Place("a.test", upstream.port, treatment=Treatment()))
    await world.start()
    context = world.client_context()
    context.set_alpn_protocols(["h2"])
    client = await (await tunnel(await world.listen(), upstream)).tls(context, "a.test")
    spoken: ssl.SSLObject = client.writer.get_extra_info("ssl_object")
    assert spoken.selected_alpn_protocol() is None
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
    assert (await client.answer())[0] == 400
    assert upstream.connections == 0


async def test_trailers_go_neither_way(world: World) -> None:
    """Nobody judges trailers, so nobody gets them; the body before them arrives whole."""

    async def trailing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"0\r\n\r\n"))
        writer.write(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n2\r\nok\r\n0\r\nX-T: "
            + SECRET
            + b"\r\n\r\n"
        )
        await reader.read()

    seen: list[bytes] = []
    upstream = await world.upstream(trailing)
    world.allow(Place("a.test", upstream.port, treatment=Treatment()))
    await world.start()
    client = await tunnel(await world.listen(), upstream)
    head = b"POST /ok HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"
    client.send(head + b"2\r\nhi\r\n0\r\nX-T: " + SECRET + b"\r\n\r\n")
    status, got, body = await client.answer()
    assert (status, body) == (200, b"ok")
    assert b"trailer" not in got.lower()
    assert seen[0].endswith(b"\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
    assert SECRET not in seen[0]
    assert b"trailer" not in seen[0].lower()
    client.close()


@pytest.mark.parametrize(("count", "status"), [(50, 502), (3, 200)], ids=["flood", "twin"])
async def test_informational_responses_are_bounded(world: World, count: int, status: int) -> None:
    """ATTACK: a server that says 103 for ever is cut; a few are read past, and none goes on."""
    upstream, address = await inspected(world)
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: <" + SECRET + b">\r\n\r\n"
    upstream.answer = hint * count + response(b"hello")
    client = await tunnel(address, upstream)
    got = await client.send(b"GET /ok HTTP/1.1\r\nHost: a.test\r\n\r\n").answer()
    assert got[0] == status
    assert SECRET not in got[1] + got[2]
    client.close()


def frame(payload: bytes, *, first: int) -> bytes:
    """A client's frame with a first byte of choice."""
    mask = os.urandom(4)
    return bytes((first, 0x80 | len(payload))) + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


PACKED = zlib.compressobj(9, zlib.DEFLATED, -15)
DEFLATED = PACKED.compress(SECRET) + PACKED.flush(zlib.Z_SYNC_FLUSH)[:-4]
FRAMES = {
    "a packed frame nobody agreed on": frame(DEFLATED, first=0xC1),
    "a reserved bit": frame(SECRET, first=0xA1),
    "a kind of frame that is none": frame(SECRET, first=0x83),
    "a fragment without a beginning": frame(SECRET, first=0x80),
    "a message within a message": frame(b"a", first=0x01) + frame(SECRET, first=0x81),
    "a ping in pieces": frame(SECRET, first=0x09),
    "no mask": bytes((0x81, len(SECRET))) + SECRET,
    "bytes that are no text": frame(b"\xff\xfe" + SECRET, first=0x81),
}


@pytest.mark.parametrize("name", FRAMES)
async def test_frames_that_are_none_end_the_websocket(world: World, name: str) -> None:
    """ATTACK: sent together with the upgrade, before it is answered; nothing of it reaches the server. The twin's message does."""
    got: list[str | bytes] = []

    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            got.append(message)

    async with serve(handler, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        world.allow(Place("a.test", port, [("GET", "/ws"), ("WEBSOCKET_TEXT", "/ws")], Treatment()))
        await world.start()
        address = await world.listen()
        upgrade = (
            f"GET http://a.test:{port}/ws HTTP/1.1\r\nHost: a.test:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        ).encode()
        client = await Client.to(address)
        client.send(upgrade + FRAMES[name])
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 101")
        assert b"extensions" not in head.lower()
        await client.rest()
        assert got == []
        twin = await Client.to(address)
        twin.send(upgrade + frame(b"hello", first=0x81))
        assert (await twin.head()).startswith(b"HTTP/1.1 101")
        async with asyncio.timeout(5):
            while not got:
                await asyncio.sleep(0.01)
        twin.close()
    assert got == ["hello"]


async def test_a_session_of_one_host_does_not_open_another(world: World) -> None:
    """TLS resumed with a ticket of the allowed host, under the name of another: refused by its name, like any other."""
    upstream = await world.upstream(tls=("a.test", "evil.test"))
    world.allow(Place("a.test", upstream.port, treatment=Treatment()))
    await world.start()
    address = await world.listen()
    context = world.client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    first = await (await tunnel(address, upstream)).tls(context, "a.test")
    assert (await first.send(b"GET /ok HTTP/1.1\r\nHost: a.test\r\n\r\n").answer())[0] == 200
    session = first.writer.get_extra_info("ssl_object").session
    first.close()
    before = upstream.connections
    for name, fine in (("evil.test", False), ("a.test", True)):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        resumed = context.wrap_bio(incoming, outgoing, server_hostname=name, session=session)
        with pytest.raises(ssl.SSLWantReadError):
            resumed.do_handshake()
        client = await tunnel(address, upstream)
        client.send(outgoing.read())
        answer = await asyncio.wait_for(client.reader.read(4096), 5)
        assert (answer[:1] == b"\x16") is fine
        client.close()
    assert upstream.connections == before


async def test_a_message_in_empty_pieces_holds_no_memory(world: World) -> None:
    """ATTACK: a fragmented message with many frames that hold nothing; it arrives as what it says, and nothing is kept of them."""
    got: list[str | bytes] = []

    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            got.append(message)

    async with serve(handler, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        world.allow(Place("a.test", port, [("GET", "/ws"), ("WEBSOCKET_TEXT", "/ws")], Treatment()))
        await world.start()
        client = await Client.to(await world.listen())
        client.send(
            f"GET http://a.test:{port}/ws HTTP/1.1\r\nHost: a.test:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        assert (await client.head()).startswith(b"HTTP/1.1 101")
        held: list[str | bytes] = []
        for piece in ["", *"ab" * PIECES_MAX, ""]:
            held = _together(held, piece)
        assert len(held) < PIECES_MAX
        assert "".join(map(str, held)) == "ab" * PIECES_MAX
        client.send(frame(b"he", first=0x01) + frame(b"", first=0x00) * 50 + frame(b"llo", first=0x80))
        async with asyncio.timeout(5):
            while not got:
                await asyncio.sleep(0.01)
        client.close()
    assert got == ["hello"]
