"""WebSocket through the guard, with a real client and server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from agent_os.effects.proxy import Limits, Treatment
from tests.e2e.network.world import Place, World


@asynccontextmanager
async def echo() -> AsyncIterator[tuple[int, list[str | bytes]]]:
    """A WebSocket echo server; what it received."""
    got: list[str | bytes] = []

    async def handler(connection: ServerConnection) -> None:
        async for message in connection:
            got.append(message)
            await connection.send(message)

    async with serve(handler, "127.0.0.1", 0) as server:
        yield next(iter(server.sockets)).getsockname()[1], got


async def test_each_text_message_is_judged(world: World) -> None:
    """The upgrade and allowed messages pass; binary ones, which no rule allows, end the connection with 1008."""
    async with echo() as (port, got):
        world.allow(Place("a.test", port, [("GET", "/ws"), ("WEBSOCKET_TEXT", "/ws")], Treatment()))
        await world.start()
        host, own = await world.listen()
        async with connect(f"ws://a.test:{port}/ws", proxy=f"http://{host}:{own}") as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            await client.send(["frag", "mented"])
            assert await client.recv() == "fragmented"
            await client.send(b"binary")
            with pytest.raises(websockets.ConnectionClosed) as caught:
                await client.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1008
        assert got == ["hello", "fragmented"]
        assert [request.method for request in world.door.requests()] == [
            "GET", "WEBSOCKET_TEXT", "WEBSOCKET_TEXT", "WEBSOCKET_BINARY",
        ]  # fmt: skip


async def test_a_websocket_after_an_allowed_get_carries_nothing(world: World) -> None:
    """Where only GET is allowed, the upgrade may pass but no message of the client's does."""
    async with echo() as (port, got):
        world.allow(Place("a.test", port, [("GET", "/ws")], Treatment()))
        await world.start()
        host, own = await world.listen()
        async with connect(f"ws://a.test:{port}/ws", proxy=f"http://{host}:{own}") as client:
            await client.send("exfiltrate")
            with pytest.raises(websockets.ConnectionClosed):
                await client.recv()
        assert got == []


async def test_a_message_over_the_limit_closes_with_1009(world: World) -> None:
    """A message larger than can be judged ends the connection; one below the limit passes."""
    async with echo() as (port, got):
        world.allow(Place("a.test", port, [("*", "/ws")], Treatment()))
        await world.start(limits=Limits(message_bytes=1000, drain_seconds=0.2))
        host, own = await world.listen()
        async with connect(f"ws://a.test:{port}/ws", proxy=f"http://{host}:{own}") as client:
            await client.send("x" * 900)
            assert len(await client.recv()) == 900
            await client.send("x" * 1100)
            with pytest.raises(websockets.ConnectionClosed) as caught:
                await client.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1009
        assert len(got) == 1


async def test_an_upstream_that_does_not_upgrade(world: World) -> None:
    """A plain answer to an upgrade is told to the client as a problem."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port, treatment=Treatment()))
    await world.start()
    host, own = await world.listen()
    with pytest.raises(websockets.InvalidStatus):
        await asyncio.wait_for(connect(f"ws://a.test:{upstream.port}/ws", proxy=f"http://{host}:{own}").__aenter__(), 5)
    assert b"sec-websocket-extensions" not in upstream.text.lower()


async def test_a_websocket_through_a_passed_tunnel(world: World) -> None:
    """An upgrade as the first request of a passed tunnel is served as inspected ones are: judged, then frames."""
    async with echo() as (port, got):
        world.allow(Place("a.test", port))
        await world.start()
        host, own = await world.listen()
        async with connect(f"ws://a.test:{port}/ws", proxy=f"http://{host}:{own}") as client:
            await client.send("hello")
            assert await client.recv() == "hello"
        assert got == ["hello"]
        assert [request.method for request in world.door.requests()] == ["GET", "WEBSOCKET_TEXT"]
