"""The same guard on asyncio's loop and on uvloop: relays, interception, half-closed peers, churn."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent_os.effects.proxy import Treatment
from tests.e2e.network.world import Client, Place, World


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> Any:
    """Both loops; uvloop where it is installed."""
    if request.param == "asyncio":
        return asyncio.DefaultEventLoopPolicy()
    return pytest.importorskip("uvloop").EventLoopPolicy()


async def test_the_loop_is_the_one_asked_for(request: pytest.FixtureRequest) -> None:
    """The parameter reaches the running loop."""
    wanted = request.node.callspec.params["event_loop_policy"]
    assert type(asyncio.get_running_loop()).__module__.startswith("uvloop") == (wanted == "uvloop")


async def test_a_large_body_through_a_relay_and_through_interception(world: World) -> None:
    """Ten megabytes arrive whole either way, read slowly (back-pressure) or not."""
    big = b"z" * 10_000_000

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(big) + big)
        await writer.drain()

    plain, secure = await world.upstream(answer), await world.upstream(answer, tls="b.test")
    world.allow(Place("a.test", plain.port), Place("b.test", secure.port, treatment=Treatment()))
    await world.start()
    address = await world.listen()
    for host, port, tls in (("a.test", plain.port, False), ("b.test", secure.port, True)):
        client = await Client.to(address)
        assert await client.connect(f"{host}:{port}") == 200
        if tls:
            await client.tls(world.client_context(), host)
        client.send(f"GET /ok HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        await asyncio.sleep(0.1)
        assert (await client.answer())[2] == big
        client.close()


async def test_half_closed_clients_get_their_answer(world: World) -> None:
    """A client that sends its request and ends its side is answered all the same (a forward request)."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port, treatment=Treatment()))
    await world.start()
    client = await Client.to(await world.listen())
    name = f"a.test:{upstream.port}"
    client.send(f"GET http://{name}/ok HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
    client.writer.write_eof()
    assert (await client.answer())[2] == b"hello"


async def test_churn_leaves_nothing_behind(world: World) -> None:
    """Hundreds of tunnels opened and dropped at every stage: all are settled, none stays in the table."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port))
    await world.start()
    address = await world.listen()

    async def once(number: int) -> None:
        client = await Client.to(address)
        if number % 4:
            await client.connect(f"a.test:{upstream.port}")
        if number % 4 > 1:
            client.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        if number % 4 > 2:
            await client.answer()
        client.writer.transport.abort()

    for start in range(0, 200, 20):
        await asyncio.gather(*(once(number) for number in range(start, start + 20)))
    await asyncio.sleep(0.2)
    assert world.guard is not None
    assert world.guard.snapshot()["live"] == []
    assert world.door.open == 0
