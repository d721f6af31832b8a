"""A request that says two things, a secret read back later, data beside the messages: raw sockets, each with its twin."""

from __future__ import annotations

import asyncio
import gzip
import json
import re

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import CloseCode

from agent_os.core.principal import Principal
from agent_os.effects.proxy import ListenerIdentity, Treatment
from tests.e2e.network.test_credentials import EVERYWHERE, PLAIN, VALUE, bound, get
from tests.e2e.network.world import Client, Place, World, response

HOST = "a.test:{port}"
ATTACKS = {
    "method override": ("GET", "/public/x", "X-HTTP-Method-Override: DELETE", "X-HTTP-Method-Override: GET", 400),
    "method override, other name": ("GET", "/public/x", "X-Method-Override: PUT", "X-Method-Override: GET", 400),
    "method override, spelt for cgi": ("GET", "/public/x", "X_HTTP_Method-Override: PUT", "X_Method: PUT", 400),
    "framing, spelt for cgi": ("GET", "/public/x", "Transfer_Encoding: chunked", "Transfer_Id: chunked", 400),
    "path override": ("GET", "/public/x", "X-Original-URL: /secret", "X-Original-URL: /public/x", 400),
    "path override, by dots": ("GET", "/public/x", "X-Rewrite-URL: /public/../secret", "X-Rewrite-URL: /public/./x", 400),
    "host override": ("GET", "/public/x", "X-Forwarded-Host: evil.test", f"X-Forwarded-Host: {HOST}", 421),
    "host override, spelt for cgi": ("GET", "/public/x", "X_Forwarded_Host: evil.test", f"X_Forwarded_Host: {HOST}", 421),
    "host override, standard": ("GET", "/public/x", "Forwarded: for=1;host=evil.test", f'Forwarded: host="{HOST}"', 421),
    "judged field taken off": ("GET", "/public/x", "Content-Type: a/b\r\nConnection: content-type", "Connection: x-own", 400),
    "credential taken off": ("GET", "/public/x", "Cookie: a=b\r\nConnection: close, Cookie", "Connection: close", 400),
    "dots encoded twice": ("GET", "/public/%252e%252e/secret", "", "", 400),
    "slash encoded twice": ("GET", "/public/..%252fsecret", "", "", 400),
    "message as a method": ("WEBSOCKET_TEXT", "/public/x", "", "", 400),
    "tunnel as a method": ("CONNECT", "/public/x", "", "", 400),
    "path parameters": ("GET", "/public/..;/secret", "", "", 403),
    "dots, encoded": ("GET", "/public/.%2e/secret", "", "", 403),
    "backslash": ("GET", "/public/..%5csecret", "", "", 400),
    "userinfo": ("GET", "http://user@a.test:{port}/public/x", "", "", 400),
    "userinfo that looks like the host": ("GET", "http://a.test:{port}@evil.test/public/x", "", "", 400),
    "host percent-encoded": ("GET", "http://%61.test:{port}/public/x", "", "", 400),
    "vertical tab in a coding": ("GET", "/public/x", "Transfer-Encoding:\x0bchunked", "", 400),
    "two codings": ("GET", "/public/x", "Transfer-Encoding: chunked, identity", "", 501),
    "signed length": ("GET", "/public/x", "Content-Length: +0", "Content-Length: 0", 400),
}  # fmt: skip
"""Name: method, target, fields of the attack, fields of the twin (which asks for /public/x), the status of the attack."""


async def asked(address: tuple[str, int], port: int, method: str, target: str, fields: str) -> int:
    """Send one raw request to the forward proxy; return the status of the answer."""
    target, fields = target.format(port=port), fields.format(port=port)
    target = target if target.startswith("http") else f"http://a.test:{port}{target}"
    client = await Client.to(address)
    lines = f"{method} {target} HTTP/1.1\r\nHost: a.test:{port}\r\n{fields}{chr(13) + chr(10) if fields else ''}\r\n"
    try:
        return (await client.send(lines.encode()).answer())[0]
    finally:
        client.close()


@pytest.mark.parametrize("name", ATTACKS)
async def test_a_request_that_says_two_things_is_refused(world: World, name: str) -> None:
    """What servers read beside the request line agrees with it, or nothing goes out; the twin passes."""
    method, target, fields, twin, status = ATTACKS[name]
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port, [("*", "/public/*")], Treatment()))
    await world.start()
    address = await world.listen()
    assert await asked(address, upstream.port, method, target, fields) == status
    assert upstream.connections == 0
    assert await asked(address, upstream.port, "GET", "/public/x", twin) == 200


@pytest.mark.parametrize(
    "authority",
    ["a.test:0", "a.test:65536", "a.test:+{port}", "a.test", "a.test:", "%61.test:{port}", "u@a.test:{port}",
     "a.test:{port}@evil.test:{port}", "[fe80::1%25eth0]:{port}", "[::ffff:127.0.0.1]:{port}", "2130706433:{port}",
     "0x7f.1:{port}", "a.test\\.evil:{port}", "a..test:{port}", "http://a.test:{port}", "a.test:{port}/x",
     "xn--pple-43d.test:{port}", "xn--a-test-4ve.test:{port}"],
)  # fmt: skip
async def test_spellings_of_a_tunnels_place(world: World, authority: str) -> None:
    """Ports out of range, userinfo, zones, numbers for names, look-alikes: no tunnel; the name in its own and in other cases."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port))
    await world.start()
    address = await world.listen()
    client = await Client.to(address)
    assert await client.connect(authority.format(port=upstream.port)) in (400, 403)
    client.close()
    assert upstream.connections == 0
    for fine in (f"a.test:{upstream.port}", f"A.Test:{upstream.port}", f"a.test.:{upstream.port}"):
        twin = await Client.to(address)
        assert await twin.connect(fine) == 200, fine
        twin.close()


async def test_an_upgrade_to_http2_is_not_passed_on(world: World) -> None:
    """`Upgrade: h2c` and what goes with it stay here, and an unasked switch of protocols is no answer."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port, treatment=Treatment()))
    await world.start()
    address = await world.listen()
    fields = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ"
    assert await asked(address, upstream.port, "GET", "/ok", fields) == 200
    assert b"h2c" not in upstream.text
    assert b"http2-settings" not in upstream.text.lower()
    upstream.answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nPRI"
    assert await asked(address, upstream.port, "GET", "/ok", fields) == 502


async def test_a_secret_that_a_server_kept_is_masked_when_it_is_read_later(world: World) -> None:
    """Without a placeholder in the request, in pieces, or packed: a value that may go there comes back to nobody."""
    upstream, client = await bound(world, EVERYWHERE)
    assert (await client.send(get(upstream, fields="X: agentos-secret:API_KEY\r\n")).answer())[0] == 200
    later = await Client.to(client.writer.get_extra_info("peername"))
    upstream.answer = response(f"it was {VALUE}".encode())
    status, _, body = await later.send(get(upstream, "/ok", fields="Range: bytes=7-12\r\n")).answer()
    assert (status, body) == (200, b"it was " + b"*" * len(VALUE))
    assert b"range:" not in upstream.text.lower()
    packed = gzip.compress(f"it was {VALUE}".encode())
    upstream.answer = response(packed, extra="Content-Encoding: gzip\r\n")
    assert (await later.send(get(upstream)).answer())[2] == b"it was " + b"*" * len(VALUE)
    upstream.answer = response(f"another: {PLAIN}".encode())
    assert (await later.send(get(upstream)).answer())[2] == b"another: " + b"*" * len(PLAIN)  # never sent by this guard
    stranger = ListenerIdentity(Principal(session="another"), executables=False)
    other = await Client.to(await world.listen(identity=stranger))
    assert (await other.send(get(upstream)).answer())[2] == b"another: " + b"*" * len(PLAIN)
    assert (await other.send(get(upstream, host="b.test")).answer())[
        2
    ] == f"another: {PLAIN}".encode()  # bound elsewhere
    upstream.answer = response(f"it was {VALUE}".encode())
    elsewhere = await later.send(get(upstream, host="b.test", fields="Range: bytes=0-1\r\n")).answer()
    assert elsewhere[2].endswith(VALUE.encode())  # a place that never had it from us
    assert b"range: bytes=0-1" in upstream.text.lower()


async def test_pings_and_closes_carry_no_data_past_the_judge(world: World) -> None:
    """A ping is answered here and goes on empty; a close goes on with its code and without the client's words."""
    seen: list[bytes] = []
    ended: asyncio.Future[tuple[int | None, str]] = asyncio.get_running_loop().create_future()

    async def handler(connection: ServerConnection) -> None:
        real = connection.protocol.recv_frame if hasattr(connection.protocol, "recv_frame") else None
        assert real is not None

        def noting(frame: object) -> None:
            seen.append(bytes(frame.data))  # type: ignore[attr-defined]
            real(frame)  # type: ignore[arg-type]

        connection.protocol.recv_frame = noting  # type: ignore[method-assign]
        async for message in connection:
            await connection.send(message)
        ended.set_result((connection.close_code, connection.close_reason or ""))

    async with serve(handler, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        world.allow(Place("a.test", port, [("GET", "/ws"), ("WEBSOCKET_TEXT", "/ws")], Treatment()))
        await world.start()
        url = "http://{}:{}".format(*await world.listen())
        async with connect(f"ws://a.test:{port}/ws", proxy=url) as client:
            await (await client.ping(b"the secret plans"))
            await client.send("hello")
            assert await client.recv() == "hello"
            await client.close(CloseCode.NORMAL_CLOSURE, "the secret plans")
        assert await asyncio.wait_for(ended, 10) == (1000, "")
    assert b"hello" in seen
    assert not any(re.search(rb"plans", data) for data in seen)


async def test_repeated_json_keys_and_numbers_that_are_none(world: World) -> None:
    """Two readings of one body are refused where bodies are judged; the body with one reading goes out."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port, [("POST", "/public/*")], Treatment(body=True)))
    await world.start()
    address = await world.listen()
    for body, status in (('{"a": 1, "a": 2}', 400), ('{"a": NaN}', 400), ('{"a": 1}', 200)):
        client = await Client.to(address)
        name = f"a.test:{upstream.port}"
        head = f"POST http://{name}/public/x HTTP/1.1\r\nHost: {name}\r\nContent-Type: application/json\r\n"
        answer = await client.send(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()).answer()
        assert answer[0] == status, json.dumps(body)
        client.close()


async def test_names_as_a_channel_out_are_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels under a wildcard reach its owner by being looked up: past the bound none is, known ones still are."""
    monkeypatch.setattr("agent_os.effects.proxy.route.NAMES_LOOKED_UP_MAX", 3)
    upstream = await world.upstream()
    world.allow(Place("*.a.test", upstream.port))
    await world.start()
    address = await world.listen()

    async def status(name: str) -> int:
        client = await Client.to(address)
        try:
            return await client.connect(f"{name}.a.test:{upstream.port}")
        finally:
            client.close()

    assert [await status(f"data-{number}") for number in range(5)] == [200, 200, 200, 403, 403]
    assert await status("data-1") == 200
    assert len(set(world.resolver.asked)) == 3
    assert world.guard is not None
    assert world.guard.snapshot()["counts"]["alerts"] == 2
