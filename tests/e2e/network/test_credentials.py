"""Placeholders become secrets only towards the destination they are bound to; echoes come back masked."""

from __future__ import annotations

import base64
import gzip
import json

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from agent_os.effects.proxy import Treatment, route
from agent_os.effects.proxy.credentials import Secret
from tests.e2e.network.world import Client, Place, Upstream, World, response

EVERYWHERE = frozenset({"header", "basic", "path", "query", "body", "websocket"})
VALUE = "s3cr3t-Value/+=42"
PLAIN = "sk_live_0123456789"


async def bound(world: World, places: frozenset[str] = EVERYWHERE, *, body: bool = False) -> tuple[Upstream, Client]:
    """A vault with two secrets bound to a.test; b.test is allowed, without any."""
    upstream = await world.upstream()
    world.vault.secrets["API_KEY"] = Secret("API_KEY", VALUE, ("a.test",))
    world.vault.secrets["TOKEN"] = Secret("TOKEN", PLAIN, ("a.test",))
    secrets = {"API_KEY": places, "TOKEN": places}
    world.allow(Place("a.test", upstream.port, treatment=Treatment(body=body), secrets=secrets))
    world.allow(Place("b.test", upstream.port, treatment=Treatment(body=body)))
    await world.start()
    return upstream, await Client.to(await world.listen())


def get(upstream: Upstream, target: str = "/ok", host: str = "a.test", fields: str = "") -> bytes:
    name = f"{host}:{upstream.port}"
    return f"GET http://{name}{target} HTTP/1.1\r\nHost: {name}\r\n{fields}\r\n".encode()


async def test_header_query_path_and_basic_are_filled(world: World) -> None:
    """Each place gets the value in the form that fits it; the judged action holds the placeholder only."""
    upstream, client = await bound(world)
    basic = base64.b64encode(b"user:agentos-secret:API_KEY").decode()
    client.send(get(upstream, "/bot/agentos-secret:TOKEN/x?key=agentos-secret%3AAPI_KEY",
                    fields=f"X-Api-Key: agentos-secret:API_KEY\r\nAuthorization: Basic {basic}\r\n"))  # fmt: skip
    assert (await client.answer())[0] == 200
    sent = upstream.text.decode()
    assert f"GET /bot/{PLAIN}/x?key=s3cr3t-Value%2F%2B%3D42 HTTP/1.1" in sent
    assert f"x-api-key: {VALUE}" in sent
    assert base64.b64encode(f"user:{VALUE}".encode()).decode() in sent
    assert VALUE not in repr(world.door.asked)
    assert PLAIN not in repr(world.door.asked)
    assert world.door.requests()[0].query == {"key": ["agentos-secret:API_KEY"]}


async def test_openshell_placeholders_are_read_too(world: World) -> None:
    """`openshell:resolve:env:NAME` and the provider-shaped alias resolve alike."""
    upstream, client = await bound(world)
    client.send(get(upstream, fields="A: Bearer openshell:resolve:env:TOKEN\r\nB: v1-OPENSHELL-RESOLVE-ENV-TOKEN\r\n"))
    assert (await client.answer())[0] == 200
    assert f"a: Bearer {PLAIN}".encode() in upstream.text
    assert f"b: {PLAIN}".encode() in upstream.text


@pytest.mark.parametrize("where", ["header", "query", "path", "basic", "body"])
async def test_a_placeholder_towards_another_host_is_denied_and_an_alert(world: World, where: str) -> None:
    """b.test is allowed, but not with this secret: 403, an alert, nothing upstream. Without it the request passes."""
    upstream, client = await bound(world, body=True)
    mark = "agentos-secret:API_KEY"
    name = f"b.test:{upstream.port}"
    if where == "body":
        client.send(
            f"POST http://{name}/ok HTTP/1.1\r\nHost: {name}\r\nContent-Length: {len(mark)}\r\n\r\n{mark}".encode()
        )
    else:
        basic = base64.b64encode(f"u:{mark}".encode()).decode()
        fields = {"header": f"X: {mark}\r\n", "basic": f"Authorization: Basic {basic}\r\n"}.get(where, "")
        target = {"query": f"/ok?a={mark}", "path": f"/{mark}"}.get(where, "/ok")
        client.send(get(upstream, target, "b.test", fields))
    status, _, body = await client.answer()
    assert status == 403
    assert json.loads(body)["rules"] == ["secrets.API_KEY"]
    assert upstream.connections == 0
    assert world.guard is not None
    assert world.guard.snapshot()["counts"]["alerts"] == 1
    assert (await client.send(get(upstream, host="b.test")).answer())[0] == 200


async def test_a_secret_stands_only_where_policy_lets_it(world: World) -> None:
    """A secret for headers may not go into the query, where servers log it."""
    upstream, client = await bound(world, frozenset({"header"}))
    assert (await client.send(get(upstream, "/ok?k=agentos-secret:TOKEN")).answer())[0] == 403
    assert (await client.send(get(upstream, fields="X: agentos-secret:TOKEN\r\n")).answer())[0] == 200
    assert upstream.text.count(PLAIN.encode()) == 1


@pytest.mark.parametrize("cut", range(1, 24))
async def test_a_placeholder_cut_in_two_by_chunks_is_filled(world: World, cut: int) -> None:
    """Wherever the chunk border falls, the upstream gets the secret and no piece of the placeholder."""
    upstream, client = await bound(world)
    body = b'{"token": "agentos-secret:TOKEN"}'
    at = body.index(b"agentos") + cut - 1
    pieces = (body[:at], body[at:])
    name = f"a.test:{upstream.port}"
    client.send(f"POST http://{name}/ok HTTP/1.1\r\nHost: {name}\r\nContent-Type: application/json\r\n"
                "Transfer-Encoding: chunked\r\n\r\n".encode())  # fmt: skip
    for piece in pieces:
        client.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        await client.writer.drain()
    client.send(b"0\r\n\r\n")
    assert (await client.answer())[0] == 200
    raw = upstream.text.split(b"\r\n\r\n", 1)[1]
    assert dechunk(raw) == b'{"token": "' + PLAIN.encode() + b'"}'


def dechunk(raw: bytes) -> bytes:
    body = b""
    while raw:
        size, _, raw = raw.partition(b"\r\n")
        body += raw[: int(size, 16)]
        raw = raw[int(size, 16) + 2 :]
    return body


async def test_a_cut_placeholder_in_a_streamed_body_to_another_host_is_denied(world: World) -> None:
    """Cutting the placeholder in two does not carry it to an unbound host either; a plain stream passes."""
    upstream, client = await bound(world)
    name = f"b.test:{upstream.port}"
    head = f"POST http://{name}/ok HTTP/1.1\r\nHost: {name}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    client.send(head + b"a\r\n..agentos-\r\n12\r\nsecret:API_KEY....\r\n0\r\n\r\n")
    assert (await client.answer())[0] == 403
    assert b"agentos" not in upstream.text
    twin = await Client.to(client.writer.get_extra_info("peername"))
    assert (await twin.send(head + b"5\r\nhello\r\n0\r\n\r\n").answer())[0] == 200


MARK = b"agentos-secret:API_KEY"
SPELT = {
    "escaped in json": (b'{"k": "\\u0061gentos-secret:API_KEY"}', "application/json", ""),
    "escaped in part": (b'{"k": "agentos-secret\\u003aAPI_KEY"}', "application/json", ""),
    "percent-encoded": (b"k=%61gentos%2dsecret%3AAPI_KEY", "application/x-www-form-urlencoded", ""),
    "percent-encoded twice": (b"k=agentos-secret%253AAPI_KEY", "application/x-www-form-urlencoded", ""),
    "in html": (b"agentos-secret&#58;API_KEY", "text/html", ""),
    "packed": (gzip.compress(b'{"k": "' + MARK + b'"}'), "application/json", "Content-Encoding: gzip\r\n"),
}


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "streamed"])
async def test_a_placeholder_that_nothing_fills_is_denied(world: World, whole: bool) -> None:
    """Spelt otherwise or packed: an alert towards another host, and denied with the reason where it belongs. Twin: other escapes."""
    upstream, client = await bound(world, body=whole)
    address = client.writer.get_extra_info("peername")

    async def post(host: str, body: bytes, kind: str, fields: str) -> tuple[int, bytes]:
        other = await Client.to(address)
        name = f"{host}:{upstream.port}"
        head = f"POST http://{name}/ok HTTP/1.1\r\nHost: {name}\r\nContent-Type: {kind}\r\n{fields}Content-Length: {len(body)}\r\n\r\n"
        status, _, said = await other.send(head.encode() + body).answer()
        other.close()
        return status, said

    assert world.guard is not None
    for name, (body, kind, fields) in SPELT.items():
        if fields and not whole:
            continue  # what streams is not unpacked
        alerts = world.guard.snapshot()["counts"]["alerts"]
        assert (await post("b.test", body, kind, fields))[0] == 403, name
        assert world.guard.snapshot()["counts"]["alerts"] == alerts + 1, name
        status, said = await post("a.test", body, kind, fields)
        assert (status, b"as it is" in said) == (403, True), name
        assert (await post("b.test", body.replace(b"API_KEY", b""), kind, ""))[0] == 200 or fields, name
    assert VALUE.encode() not in upstream.text


async def test_echoes_are_masked(world: World) -> None:
    """A server that echoes the secret, plain, quoted or in Base64, over any cut, shows asterisks of the same length."""
    upstream, client = await bound(world)
    encoded = base64.b64encode(f"user:{VALUE}".encode()).decode()
    said = f"you sent {VALUE} and {encoded}; also s3cr3t-Value%2F%2B%3D42."
    upstream.answer = response(said.encode(), extra=f"X-Echo: {VALUE}\r\n")
    status, head, body = await client.send(get(upstream, fields="X: agentos-secret:API_KEY\r\n")).answer()
    assert status == 200
    assert len(body) == len(said)
    assert VALUE.encode() not in body + head
    assert b"s3cr3t" not in body
    assert encoded[8:].encode() not in body
    assert b"accept-encoding: identity" in upstream.text


async def test_an_unknown_secret_is_denied(world: World) -> None:
    """A bound name that the store does not hold is a denial that says so."""
    upstream, client = await bound(world)
    del world.vault.secrets["TOKEN"]
    status, _, body = await client.send(get(upstream, fields="X: agentos-secret:TOKEN\r\n")).answer()
    assert status == 403
    assert "stored" in json.loads(body)["detail"]


async def test_a_secret_that_would_break_the_request_is_denied(world: World) -> None:
    """A value with control characters, or with slashes in a path, is not put in."""
    upstream, client = await bound(world)
    world.vault.secrets["TOKEN"] = Secret("TOKEN", "abcdef\r\nX-Evil: 1", ("a.test",))
    assert (await client.send(get(upstream, fields="X: agentos-secret:TOKEN\r\n")).answer())[0] == 403
    assert (await client.send(get(upstream, "/agentos-secret:API_KEY")).answer())[0] == 403
    assert upstream.connections == 0


async def test_members_of_bodies_are_filled_as_their_type_needs(world: World) -> None:
    """In JSON escaped, in a form percent-encoded, read whole or streamed; what was judged holds the placeholder."""
    upstream, client = await bound(world, body=True)
    world.vault.secrets["API_KEY"] = Secret("API_KEY", 'quo"te&plus+', ("a.test",))
    name = f"a.test:{upstream.port}"

    def post(body: str, kind: str, host: str = name) -> bytes:
        head = f"POST http://{host}/ok HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        return (head + body).encode()

    assert (await client.send(post('{"key": "agentos-secret:API_KEY"}', "application/json")).answer())[0] == 200
    assert b'{"key": "quo\\"te&plus+"}' in upstream.text
    assert (await client.send(post("a=1&key=agentos-secret:API_KEY", "application/x-www-form-urlencoded")).answer())[
        0
    ] == 200
    assert b"a=1&key=quo%22te%26plus%2B" in upstream.text
    assert "quo" not in repr(world.door.asked)
    elsewhere = post('{"key": "agentos-secret:API_KEY"}', "application/json", f"b.test:{upstream.port}")
    assert (await client.send(elsewhere).answer())[0] == 403


async def test_a_secret_in_a_websocket_message(world: World) -> None:
    """Filled in text messages where policy says so, JSON ones escaped; echoes come back masked; elsewhere it ends the connection."""
    got: list[str] = []

    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            got.append(str(message))
            await connection.send(message)

    world.vault.secrets["TOKEN"] = Secret("TOKEN", 'quo"ted-token', ("a.test",))
    async with serve(handler, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        allowed = [("GET", "/ws"), ("WEBSOCKET_TEXT", "/ws")]
        world.allow(
            Place("a.test", port, allowed, Treatment(), secrets={"TOKEN": frozenset({"websocket"})}),
            Place("b.test", port, allowed, Treatment()),
        )
        await world.start()
        url = "http://{}:{}".format(*await world.listen())
        async with connect(f"ws://a.test:{port}/ws", proxy=url) as client:
            await client.send('{"auth": "agentos-secret:TOKEN"}')
            assert await client.recv() == '{"auth": "*************"}'.replace("*" * 13, "*" * len('quo\\"ted-token'))
            await client.send("login agentos-secret:TOKEN please")
            assert await client.recv() == "login " + "*" * len('quo"ted-token') + " please"
        assert got == ['{"auth": "quo\\"ted-token"}', 'login quo"ted-token please']
        async with connect(f"ws://b.test:{port}/ws", proxy=url) as other:
            await other.send("agentos-secret:TOKEN")
            with pytest.raises(ConnectionClosed):
                await other.recv()
        assert len(got) == 2
    assert "quo" not in repr(world.door.asked)


async def test_a_secret_does_not_go_through_the_open_network_in_clear(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ATTACK: asking with http what is there with https too. Twins: without a secret, and over TLS."""
    real = route.connect
    monkeypatch.setattr(route, "connect", lambda loop, _, port, limits: real(loop, ("127.0.0.1",), port, limits))
    upstream, client = await bound(world)
    secure = await world.upstream(tls="a.test")
    public = ("93.184.215.14",)
    world.resolver.table["a.test"] = public
    for place in world.rules.places:
        place.ips = public
    world.allow(Place("a.test", secure.port, treatment=Treatment(), ips=public, secrets={"API_KEY": EVERYWHERE}))
    mark = "X-Key: agentos-secret:API_KEY\r\n"
    status, _, said = await client.send(get(upstream, fields=mark)).answer()
    assert status == 403
    assert b"without TLS" in said
    assert b"https" in said
    assert upstream.connections == 0
    assert (await client.send(get(upstream)).answer())[0] == 200
    client.close()
    assert world.guard is not None
    opened = await Client.to(await world.listen())
    assert await opened.connect(f"a.test:{secure.port}") == 200
    await opened.tls(world.client_context(), "a.test")
    opened.send(f"GET /ok HTTP/1.1\r\nHost: a.test\r\n{mark}\r\n".encode())
    assert (await opened.answer())[0] == 200
    assert VALUE.encode() in secure.text
    opened.close()
