"""What a halt cuts at the wire: every open connection of the agent that is stopped, and nobody else's."""

from __future__ import annotations

import asyncio
import socket

import pytest

from agent_os.effects.proxy import ListenerIdentity, Treatment
from tests.e2e.network.world import Client, Place, RealDoor, World

GET = b"GET /ok HTTP/1.1\r\nHost: a.test\r\n\r\n"


async def over(client: Client) -> None:
    """Wait until the other side has ended a connection."""
    async with asyncio.timeout(10):
        try:
            assert await client.reader.read(1) == b""
        except ConnectionError:
            return


async def test_a_halt_cuts_an_open_tunnel(world: World) -> None:
    """A tunnel that works is ended within seconds of the halt; a new one is there again afterwards."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port))
    await world.start()
    address = await world.listen()
    client = await Client.to(address)
    assert await client.connect(f"a.test:{upstream.port}") == 200
    client.send(GET)
    assert (await client.answer())[2] == b"hello"
    world.door.stopped = True
    await over(client)
    (row,) = await world.quiet()
    assert row["ended"] == "no longer allowed by policy"
    world.door.stopped = False
    again = await Client.to(address)
    assert await again.connect(f"a.test:{upstream.port}") == 200
    again.close()


async def test_a_halt_of_one_agent_leaves_another_its_tunnels(world: World) -> None:
    """Two agents behind one guard: the one that is stopped is cut off, the other goes on in the same connection."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port))
    await world.start()
    other = RealDoor(world.rules)
    sock = socket.create_server(("127.0.0.1", 0), backlog=16)
    address = sock.getsockname()
    assert world.guard is not None
    await world.guard.serve_listener(sock, "proxy", ListenerIdentity(executables=False), door=other)
    stopped, kept = await Client.to(await world.listen()), await Client.to(address)
    for client in (stopped, kept):
        assert await client.connect(f"a.test:{upstream.port}") == 200
        client.send(GET)
        assert (await client.answer())[2] == b"hello"
    world.door.stopped = True
    await over(stopped)
    kept.send(GET)
    assert (await kept.answer())[2] == b"hello"
    kept.close()
    await world.quiet()
    assert other.open == 0


@pytest.mark.parametrize("tls", [False, True])
async def test_a_halt_cuts_an_answer_that_streams(world: World, tls: bool) -> None:
    """An inspected request whose answer does not end is cut too: nothing more reaches the agent."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"4\r\ndrip\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)

    upstream = await world.upstream(drip, tls="a.test" if tls else ())
    world.allow(Place("a.test", upstream.port, [("GET", "/ok")], Treatment()))
    await world.start()
    client = await Client.to(await world.listen())
    if tls:
        assert await client.connect(f"a.test:{upstream.port}") == 200
        await client.tls(world.client_context(), "a.test")
        client.send(GET)
    else:
        place = f"a.test:{upstream.port}".encode()
        client.send(b"GET http://" + place + b"/ok HTTP/1.1\r\nHost: " + place + b"\r\n\r\n")
    await client.reader.readuntil(b"drip")
    world.door.stopped = True
    async with asyncio.timeout(10):
        try:
            while await client.reader.read(1 << 16):
                pass
        except ConnectionError:
            pass
    (row,) = await world.quiet()
    assert row["ended"] == "no longer allowed by policy"
    assert world.door.open == 0, "the request was settled"
