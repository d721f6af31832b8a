"""What tests of the carrier share: a guard with one passed destination, and a look at what its carrier holds."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

from agent_os.effects.proxy.flows import Flow
from tests.e2e.network.world import Client, Handler, Place, Upstream, World

BIG = hashlib.sha256(b"seed").digest() * (8_000_000 // 32)


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


def live(world: World) -> list[Flow]:
    """The flows of now."""
    assert world.guard is not None
    assert world.guard.parts is not None
    return list(world.guard.parts.flows.live.values())


def carried(world: World) -> int:
    """How many connections the carrier has."""
    return sum(flow.carried is not None for flow in live(world))


def pid(world: World) -> int:
    """The carrier's."""
    assert world.guard is not None
    return world.guard.carrier_pid


async def started(
    world: World, answer: bytes | Handler | None = None, **options: Any
) -> tuple[Upstream, tuple[str, int]]:
    """A guard with one passed destination `a.test`; return its server and the guard's address."""
    upstream = await world.upstream(answer)
    world.allow(Place("a.test", upstream.port))
    await world.start(**options)
    return upstream, await world.listen()


async def tunnel(address: tuple[str, int], upstream: Upstream, host: str = "a.test") -> Client:
    """A tunnel that stands."""
    client = await Client.to(address)
    assert await client.connect(f"{host}:{upstream.port}") == 200
    return client


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that sends back what it gets, and ends when that ends."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
