"""The carrier: what stays in it, what comes back, and that nothing the guard promises is less there."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from agent_os.effects.proxy import Limits, ListenerIdentity, Treatment
from tests.e2e.network.carriers import BIG, carried, echo, live, started, tunnel, until
from tests.e2e.network.shapes import client_hello
from tests.e2e.network.world import Client, Place, World, response

# ---- what stays ------------------------------------------------------------------------------------------------------


async def test_tls_for_the_judged_host_stays_and_is_counted(world: World) -> None:
    """A plain ClientHello goes on unseen: both bodies arrive whole, row and outcome have every byte, the row says tls."""
    upstream, address = await started(world, echo)
    client = await tunnel(address, upstream)
    first = client_hello("a.test")
    client.send(first + b"")
    assert await client.reader.readexactly(len(first)) == first
    assert carried(world) == 1
    assert world.guard is not None
    assert world.guard.snapshot()["live"][0]["mode"] == "pass tls"
    client.send(BIG)
    client.writer.write_eof()
    assert await client.all() == (BIG, False)
    (row,) = await world.quiet()
    size = len(first) + len(BIG)
    assert (row["mode"], row["bytes_up"], row["bytes_down"], row["verdict"]) == ("pass tls", size, size, "allow")
    (settled,) = world.door.settled
    assert (settled[1].error, settled[1].usage["bytes"]) == ("", 2 * size)
    client.close()


async def test_a_server_that_speaks_first_is_heard(world: World) -> None:
    """What a server says before the client does arrives; the client's first bytes then come back to the guard with it."""

    async def greets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        assert await reader.readexactly(6) == b"EHLO\r\n"
        writer.write(b"250 well")
        await writer.drain()

    upstream, address = await started(world, greets)
    client = await tunnel(address, upstream)
    assert await client.reader.readexactly(11) == b"220 ready\r\n"
    assert carried(world) == 1
    client.send(b"EHLO\r\n")
    assert await client.all() == (b"250 well", False)
    client.close()
    (row,) = await world.quiet()
    assert (row["bytes_up"], row["bytes_down"]) == (6, 19)


async def test_many_at_once_have_a_record_and_an_end_each(world: World) -> None:
    """Tunnels judged together are admitted, counted and settled one by one."""
    upstream, address = await started(world, echo)
    clients = await asyncio.gather(*(tunnel(address, upstream) for _ in range(200)))
    assert carried(world) == 200
    nonces = {id(flow.carried) for flow in live(world)}
    assert len(nonces) == len(world.door.asked) == 200
    for client in clients:
        client.close()
    assert len(await world.quiet()) >= 50  # the table shows the last ones
    assert len(world.door.settled) == 200


async def test_a_peer_that_breaks_off_breaks_off_the_other(world: World) -> None:
    """A reset is passed on as one, in both directions: nobody takes a part for the whole."""

    async def breaks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"part")
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    upstream, address = await started(world, breaks)
    client = await tunnel(address, upstream)
    assert await client.all() == (b"part", True)
    await world.quiet()


# ---- what does not ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "passes"),
    [
        (client_hello("a.test"), True),
        (client_hello("b.test"), False),
        (client_hello("A.TEST"), True),
        (client_hello("a.test", extra=b"\xfe\x0d\x00\x01x"), False),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: b.test\r\n\r\n", False),
        (b"\x16\x03\x01\xff\xff", False),
        (b"\x00raw", True),
    ],
)
async def test_first_bytes_are_held_to_the_judged_host(world: World, first: bytes, passes: bool) -> None:
    """Another name, a hidden one, another Host: nothing of it reaches the server; the benign twins do."""

    async def hears(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1 << 16))
        writer.write(response(b"heard"))
        await writer.drain()

    heard: list[bytes] = []
    upstream, address = await started(world, hears)
    client = await tunnel(address, upstream)
    client.send(first)
    await client.all()
    client.close()
    await world.quiet()
    assert [bytes(part) for part in heard if part] == ([first] if passes else [])


async def test_a_request_for_another_host_later_in_the_tunnel_is_denied(world: World) -> None:
    """Plain requests are watched to the last: they are not in the carrier."""
    upstream, address = await started(world)
    client = await tunnel(address, upstream)
    assert (await client.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").answer())[0] == 200
    assert carried(world) == 0
    client.send(b"GET / HTTP/1.1\r\nHost: b.test\r\n\r\n")
    await client.all()
    await world.quiet()
    assert b"b.test" not in upstream.text


async def test_a_byte_budget_is_exact(world: World) -> None:
    """A destination with a budget is not the carrier's: over all connections not a byte more passes."""
    upstream = await world.upstream(echo)
    world.allow(Place("a.test", upstream.port, treatment=Treatment(inspect=False, total_bytes=1000)))
    await world.start()
    address = await world.listen()
    total = 0
    for _ in range(4):
        client = await tunnel(address, upstream)
        assert carried(world) == 0
        client.send(b"\x00" * 400)
        total += len((await client.all(400))[0])
        client.close()
    assert total <= 600


async def test_denials_are_as_readable_as_ever(world: World) -> None:
    """A host no rule allows is a 403 with its rule, an unreachable server a 502, and nothing is left open."""
    upstream, address = await started(world)
    client = await Client.to(address)
    assert await client.connect("evil.test:443") == 403
    await upstream.stop()
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    world.allow(Place("a.test", port))
    client = await Client.to(address)
    client.send(f"CONNECT a.test:{port} HTTP/1.1\r\nHost: a.test:{port}\r\n\r\n".encode())
    status, _, body = await client.answer()
    assert (status, b"unreachable" in body) == (502, True)
    await world.quiet()


async def test_the_next_judged_address_is_tried(world: World) -> None:
    """Where the first address refuses, the second is connected to; both were judged."""
    upstream = await world.upstream(echo)
    world.resolver.table["a.test"] = ["127.0.0.9", "127.0.0.1"]
    world.allow(Place("a.test", upstream.port, ips=("127.0.0.1", "127.0.0.9")))
    await world.start()
    client = await tunnel(await world.listen(), upstream)
    (flow,) = live(world)
    assert (flow.connected, carried(world)) == ("127.0.0.1", 1)
    client.close()


async def test_a_slow_head_and_a_silent_client_are_the_guards(world: World) -> None:
    """A head in pieces is put together as before, and a client that says nothing has its row in the table."""
    upstream, address = await started(world, echo)
    silent = await Client.to(address)
    await until(lambda: len(live(world)) == 1)
    client = await Client.to(address)
    client.send(f"CONNECT a.test:{upstream.port} ".encode())
    await asyncio.sleep(0.05)
    client.send(b"HTTP/1.1\r\nHost: a.test\r\n\r\n")
    assert b" 200 " in await client.head()
    client.close()
    silent.close()
    await world.quiet()


async def test_a_token_is_asked_for(world: World) -> None:
    """A listener with a token takes no tunnel without it; with it the tunnel is carried."""
    upstream = await world.upstream(echo)
    world.allow(Place("a.test", upstream.port))
    await world.start()
    address = await world.listen(identity=ListenerIdentity(executables=False, token="secret"))
    head = f"CONNECT a.test:{upstream.port} HTTP/1.1\r\nHost: a.test\r\n"
    client = await Client.to(address)
    client.send(f"{head}\r\n".encode())
    assert b" 407 " in await client.head()
    client = await Client.to(address)
    client.send(f"{head}Proxy-Authorization: Basic YTpzZWNyZXQ=\r\n\r\n".encode())
    assert b" 200 " in await client.head()
    assert carried(world) == 1
    client.close()


async def test_more_connections_than_an_agent_may_have_are_told_so(world: World) -> None:
    """The limit of an agent counts carried connections; past it the answer is a 503."""
    upstream, address = await started(world, echo, limits=Limits(connections_per_agent=3, drain_seconds=0.3))
    clients = [await tunnel(address, upstream) for _ in range(3)]
    over = await Client.to(address)
    assert await over.connect(f"a.test:{upstream.port}") == 503
    for client in clients:
        client.close()
    await world.quiet()
    (await tunnel(address, upstream)).close()
