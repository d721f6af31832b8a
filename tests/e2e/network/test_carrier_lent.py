"""Large answers of passed plain tunnels are lent to the carrier: whole, counted, cut and slowed like any other."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct

import pytest

from agent_os.effects.proxy import GuardRevision, Treatment
from tests.e2e.network.carriers import BIG, live, pid, started, tunnel, until
from tests.e2e.network.world import Place, World, response

GET = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"


def lent(world: World) -> int:
    """How many directions the carrier moves for the guard."""
    return sum(flow.upstream is not None and flow.upstream.lent is not None for flow in live(world))


async def test_large_answers_to_plain_requests_are_lent_and_requests_stay_watched(world: World) -> None:
    """Answer after answer arrives whole through the carrier, the count is exact, and a request for another host is denied."""
    answer = response(BIG)
    upstream, address = await started(world, answer)
    client = await tunnel(address, upstream)
    for _ in range(3):
        client.send(GET)
        assert await client.reader.readexactly(len(answer)) == answer
    assert lent(world) == 1
    assert live(world)[0].down == 3 * len(answer)
    client.send(GET.replace(b"a.test", b"b.test"))
    await client.all()
    (row,) = await world.quiet()
    assert (row["bytes_up"], row["bytes_down"], row["verdict"]) == (3 * len(GET), 3 * len(answer), "deny")
    assert b"b.test" not in upstream.text


async def test_a_budgeted_destination_is_not_lent(world: World) -> None:
    """Where bytes are counted against a budget they stay here, and stop at it exactly."""
    upstream = await world.upstream(response(BIG))
    world.allow(Place("a.test", upstream.port, treatment=Treatment(inspect=False, total_bytes=3_000_000)))
    await world.start()
    client = await tunnel(await world.listen(), upstream)
    client.send(GET)
    await client.all()
    (row,) = await world.quiet()
    assert (row["bytes_up"] + row["bytes_down"], "budget" in row["ended"]) == (3_000_000, True)


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server whose answer does not end."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 1_000_000)
        await writer.drain()


@pytest.mark.parametrize("how", ["client goes", "reload", "carrier dies", "server breaks", "server ends"])
async def test_a_lent_answer_that_is_cut_ends_on_both_sides(world: World, how: str) -> None:
    """However it ends, both ends learn of it, a part is never taken for the whole, and nothing stays behind."""
    wanted = asyncio.Event()

    async def serves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not how.startswith("server"):
            await endless(reader, writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(BIG)
        await writer.drain()
        await wanted.wait()
        if how == "server breaks":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    upstream, address = await started(world, serves)
    client = await tunnel(address, upstream)
    client.send(GET)
    await client.all(4_000_000)
    await until(lambda: lent(world) == 1)
    assert world.guard is not None
    if how == "client goes":
        client.writer.transport.abort()
    elif how == "reload":
        world.rules.places.clear()
        assert await world.guard.reload(GuardRevision(world.rules)) == 1
    elif how == "carrier dies":
        os.kill(pid(world), signal.SIGKILL)
    wanted.set()
    if how != "client goes":
        got, broken = await client.all()
        assert broken == (how != "server ends")
        assert how != "server ends" or len(got) == len(BIG) - 4_000_000
    client.close()
    await world.quiet()
    assert world.door.open == 0


async def test_a_slow_reader_slows_a_lent_sender(world: World) -> None:
    """A client that takes nothing stops the server: what lies between them is bounded."""
    sent = 0

    async def counts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        while True:
            writer.write(b"x" * 1_000_000)
            await writer.drain()
            sent += 1

    upstream, address = await started(world, counts)
    client = await tunnel(address, upstream)
    client.send(GET)
    await client.all(2_000_000)
    before = -1
    while before != sent:
        before = sent
        await asyncio.sleep(0.3)
    assert lent(world) == 1
    assert sent < 60
    client.writer.transport.abort()
    await world.quiet()
