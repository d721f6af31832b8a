"""One host judged and another one meant: SNI, Host, hidden names, other protocols in a tunnel; each with its benign twin."""

from __future__ import annotations

import asyncio
import json
import ssl

import pytest

from agent_os.effects.proxy import Treatment
from tests.e2e.network.shapes import BENIGN, OK, client_hello, inspected, tunnel
from tests.e2e.network.world import Client, Place, World


async def test_connect_to_one_host_and_host_field_of_another(world: World) -> None:
    """An inspected tunnel to a.test refuses a request for b.test, though both are allowed (421)."""
    upstream, address = await inspected(world)
    world.allow(Place("b.test", upstream.port, OK, Treatment()))
    client = await tunnel(address, upstream)
    assert (await client.send(b"GET /ok HTTP/1.1\r\nHost: b.test\r\n\r\n").answer())[0] == 421
    assert upstream.connections == 0
    twin = await tunnel(address, upstream)
    assert (await twin.send(b"GET /ok HTTP/1.1\r\nHost: a.test.\r\n\r\n").answer())[0] == 200
    twin.close()


@pytest.mark.parametrize("inspect", [True, False])
async def test_server_name_of_another_host_is_refused(world: World, inspect: bool) -> None:
    """A ClientHello for b.test in a tunnel to a.test ends it (domain fronting), passed through or inspected."""
    upstream = await world.upstream(tls=["a.test", "b.test"])
    for host in ("a.test", "b.test"):
        world.allow(Place(host, upstream.port, OK, Treatment(inspect=inspect)))
    await world.start()
    address = await world.listen()
    context = world.client_context()
    context.load_verify_locations(cafile=str(world.tls.root))
    client = await tunnel(address, upstream)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await client.tls(context, "b.test")
    assert upstream.text == b""
    assert world.guard is not None
    assert world.guard.snapshot()["recent"][-1]["rules"] == ["egress.sni-mismatch"]
    twin = await tunnel(address, upstream)
    await twin.tls(context, "a.test")
    assert (await twin.send(b"GET /ok HTTP/1.1\r\nHost: a.test\r\n\r\n").answer())[0] == 200
    twin.close()


@pytest.mark.parametrize("kind", [0xFE0D, 0xFFCE])
async def test_a_hidden_server_name_is_refused_where_nothing_is_opened(world: World, kind: int) -> None:
    """ECH and ESNI in a passed tunnel end it before a byte reaches the upstream; without them it flows."""

    async def sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read(10))

    got: list[bytes] = []
    upstream = await world.upstream(sink)
    world.allow(Place("a.test", upstream.port))
    await world.start()
    address = await world.listen()
    client = await tunnel(address, upstream)
    extra = kind.to_bytes(2, "big") + b"\x00\x04abcd"
    assert await client.send(client_hello("a.test", extra=extra)).rest() == b""
    await asyncio.sleep(0.02)
    assert b"".join(got) == b""
    twin = await tunnel(address, upstream)
    hello = client_hello("a.test")
    twin.send(hello[:7])  # cut in two: the guard waits for the whole of it
    await asyncio.sleep(0.02)
    twin.send(hello[7:])
    await twin.rest()
    assert b"".join(got).startswith(b"\x16\x03\x01")


async def test_plain_host_fronting_in_a_passed_tunnel(world: World) -> None:
    """The first plain request of a passed tunnel must name the judged host; the denial can be read."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port))
    await world.start()
    address = await world.listen()
    client = await tunnel(address, upstream)
    assert (await client.send(b"GET /ok HTTP/1.1\r\nHost: evil.test\r\n\r\n").answer())[0] == 403
    assert upstream.text == b""
    twin = await tunnel(address, upstream)
    assert (await twin.send(b"GET /ok HTTP/1.1\r\nHost: a.test\r\n\r\n").answer())[0] == 200
    twin.close()


LATER = {
    "another host": b"GET /ok HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "an absolute target": b"GET http://evil.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "after an empty line": b"\r\nGET /ok HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "bare line feeds": b"GET /ok HTTP/1.1\nHost: evil.test\n\n",
    "an upgrade": b"GET /ok HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: evil\r\n\r\n",
}


@pytest.mark.parametrize("name", LATER)
async def test_later_plain_requests_of_a_passed_tunnel_are_held_to_its_host(world: World, name: str) -> None:
    """Domain fronting on keep-alive: after a good request another host ends the tunnel; the twin keeps its own."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port))
    await world.start()
    address = await world.listen()
    good = b"GET /ok HTTP/1.1\r\nHost: a.test\r\n\r\n"
    client = await tunnel(address, upstream)
    assert (await client.send(good).answer())[0] == 200
    assert await client.send(LATER[name]).rest() == b""
    assert b"evil" not in upstream.text
    assert world.guard is not None
    assert world.guard.snapshot()["counts"]["alerts"] == 1
    twin = await tunnel(address, upstream)
    for request in (good, BENIGN, good, BENIGN):
        assert (await twin.send(request).answer())[0] == 200
    twin.close()


@pytest.mark.parametrize(
    "start", [b"\r\nGET /ok HTTP/1.1\r\nHost: evil.test\r\n\r\n", b"get /ok http/1.1\r\nhost: evil.test\r\n\r\n"]
)
async def test_a_request_that_only_a_lenient_server_reads_does_not_pass_as_opaque(world: World, start: bytes) -> None:
    """An empty line first, or a lower-case method, is still HTTP; another protocol's first words pass."""
    upstream = await world.upstream()
    raw = await world.upstream(_parrot)
    world.allow(Place("a.test", upstream.port), Place("a.test", raw.port))
    await world.start()
    address = await world.listen()
    client = await tunnel(address, upstream)
    status = (await client.send(start).answer())[0]
    assert status in (400, 403)
    assert upstream.text == b""
    twin = await tunnel(address, raw)
    assert await asyncio.wait_for(twin.send(b"EHLO me\r\n").reader.readline(), 5) == b"EHLO me\r\n"
    twin.close()


async def test_http2_without_tls_passes_only_where_the_policy_says_raw(world: World) -> None:
    """Its requests name hosts that nobody here reads: denied in an opaque tunnel, passed where any protocol may."""
    raw = await world.upstream(_parrot)
    twin_raw = await world.upstream(_parrot)
    world.allow(Place("a.test", raw.port), Place("a.test", twin_raw.port, treatment=Treatment(inspect=False, raw=True)))
    await world.start()
    address = await world.listen()
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    client = await tunnel(address, raw)
    status, _, body = await client.send(preface).answer()
    assert status == 400
    assert json.loads(body)["title"] == "refused by the egress guard"
    twin = await tunnel(address, twin_raw)
    assert await asyncio.wait_for(twin.send(preface).reader.readexactly(len(preface)), 5) == preface
    twin.close()


async def _parrot(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server of no protocol: sends back what it gets."""
    while data := await reader.read(4096):
        writer.write(data)
        await writer.drain()


async def test_connect_target_and_host_field_must_agree(world: World) -> None:
    """A CONNECT whose Host names another host is refused, and so are user information and a missing port."""
    upstream, address = await inspected(world)
    port = upstream.port
    for raw in (
        f"CONNECT a.test:{port} HTTP/1.1\r\nHost: evil.test:{port}\r\n\r\n",
        f"CONNECT a.test:{port}@evil.test:{port} HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "CONNECT a.test HTTP/1.1\r\nHost: a.test\r\n\r\n",
        f"CONNECT a.test%00.evil.test:{port} HTTP/1.1\r\nHost: a.test\r\n\r\n",
        f"GET http://user@a.test:{port}/ok HTTP/1.1\r\nHost: a.test:{port}\r\n\r\n",
        f"GET http://a.test:{port}\\@evil.test/ok HTTP/1.1\r\nHost: a.test:{port}\r\n\r\n",
        f"GET http://a.test:{port}/ok HTTP/1.1\r\nHost: b.test:{port}\r\n\r\n",
        f"GET https://a.test:{port}/ok HTTP/1.1\r\nHost: a.test:{port}\r\n\r\n",
    ):
        client = await Client.to(address)
        assert (await client.send(raw.encode()).answer())[0] == 400, raw
    assert upstream.connections == 0
    twin = await Client.to(address)
    assert await twin.connect(f"A.TEST.:{port}") == 200
    twin.close()


async def test_what_is_neither_tls_nor_http_cannot_be_inspected(world: World) -> None:
    """Where policy must look, another protocol is refused; where it need not, it passes."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()

    upstream = await world.upstream(echo)
    world.allow(Place("a.test", upstream.port, OK, Treatment()), Place("b.test", upstream.port))
    await world.start()
    address = await world.listen()
    client = await Client.to(address)
    assert await client.connect(f"a.test:{upstream.port}") == 200
    assert await client.send(b"SSH-2.0-x\r\n").rest() == b""
    assert upstream.connections == 0
    twin = await Client.to(address)
    assert await twin.connect(f"b.test:{upstream.port}") == 200
    assert await twin.send(b"SSH-2.0-x\r\n").rest() == b"SSH-2.0-x\r\n"
