"""Bulk through the kernel: whole, counted to the byte, cut where it must be, and never more held than a pipe."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from agent_os.effects.proxy import GuardRevision, Treatment, splice
from agent_os.effects.proxy.limits import READ_HIGH_BYTES, WRITE_HIGH_BYTES
from agent_os.effects.proxy.splice import PIPE_BYTES, PIPES_MAX, Pipes
from agent_os.effects.proxy.wire import READ_BYTES
from tests.e2e.network.world import Client, Handler, Place, Upstream, World

pytestmark = pytest.mark.skipif(not splice.AVAILABLE, reason="this platform has no splice")

BIG = hashlib.sha256(b"seed").digest() * (20_000_000 // 32)
HELLO = b"\x00raw"
"""First bytes that are neither TLS nor HTTP: the tunnel is passed as it is."""


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> Any:
    """Both loops; uvloop where it is installed."""
    if request.param == "asyncio":
        return asyncio.DefaultEventLoopPolicy()
    return pytest.importorskip("uvloop").EventLoopPolicy()


def sends(body: bytes, then: Callable[[asyncio.StreamWriter], None] | None = None) -> Handler:
    """A server that answers the hello with a body and then ends, or does `then`."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(HELLO))
        writer.write(body)
        await writer.drain()
        if then is not None:
            then(writer)

    return answer


async def tunnel(world: World, answer: Handler, **treatment: Any) -> tuple[Client, Upstream]:
    """A passed tunnel to a server, its hello sent."""
    upstream = await world.upstream(answer)
    world.allow(Place("a.test", upstream.port, treatment=Treatment(inspect=False, **treatment)))
    await world.start()
    client = await Client.to(await world.listen())
    assert await client.connect(f"a.test:{upstream.port}") == 200
    return client.send(HELLO), upstream


def pipes(world: World) -> Pipes:
    """The guard's pipes."""
    assert world.guard is not None
    assert world.guard.parts is not None
    return world.guard.parts.pipes


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


async def test_a_large_body_goes_through_the_kernel_whole_and_is_counted(world: World) -> None:
    """Every byte arrives in order, in a pipe for the length of it; the account has exactly those bytes."""
    client, _ = await tunnel(world, sends(BIG))
    first, _ = await client.all(3_000_000)
    assert pipes(world).lent == 1
    rest, broken = await client.all()
    client.close()
    assert (first + rest, broken) == (BIG, False)
    (row,) = await world.quiet()
    assert (row["bytes_up"], row["bytes_down"]) == (len(HELLO), len(BIG))
    assert world.door.settled[-1][1].usage["bytes"] == len(HELLO) + len(BIG)
    assert pipes(world).lent == 0


async def test_both_directions_at_once(world: World) -> None:
    """A body up and another down, each through a pipe of its own; a half-close passes each side's end on."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(BIG)
        got = hashlib.sha256()
        while piece := await reader.read(1 << 20):
            got.update(piece)
        await writer.drain()
        writer.write(got.digest())

    client, _ = await tunnel(world, answer)
    up = b"up" * 6_000_000

    async def send() -> None:
        for start in range(0, len(up), 1 << 20):
            client.send(up[start : start + (1 << 20)])
            await client.writer.drain()
        client.writer.write_eof()

    sending = asyncio.ensure_future(send())
    got, broken = await client.all()
    await sending
    assert not broken
    assert got == BIG + hashlib.sha256(HELLO + up).digest()
    client.close()
    (row,) = await world.quiet()
    assert (row["bytes_up"], row["bytes_down"]) == (len(HELLO) + len(up), len(got))
    assert pipes(world).lent == 0


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a reset."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def test_a_server_that_breaks_off_is_not_taken_for_one_that_ended(world: World) -> None:
    """A reset in mid-body reaches the client as a reset; the twin that ends in order as an end."""
    client, _ = await tunnel(world, sends(BIG, reset))
    got, broken = await client.all()
    assert broken
    assert BIG.startswith(got)
    await world.quiet()
    assert pipes(world).lent == 0


async def test_a_client_that_goes_away_ends_the_server(world: World) -> None:
    """A client's reset in mid-body reaches the server, the pipe comes back, and what went through is settled."""
    over = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(BIG[: 1 << 20])
                await writer.drain()
        except ConnectionError:
            over.set()

    client, _ = await tunnel(world, answer)
    await client.all(5_000_000)
    assert pipes(world).lent == 1
    client.writer.transport.abort()
    await asyncio.wait_for(over.wait(), 10)
    (row,) = await world.quiet()
    assert row["bytes_down"] >= 5_000_000
    assert world.door.settled[-1][1].usage["bytes"] == row["bytes_up"] + row["bytes_down"]
    assert pipes(world).lent == 0


@pytest.mark.parametrize("most", [1_000_003, 7_654_321])
async def test_a_byte_budget_cuts_in_mid_body_to_the_byte(world: World, most: int) -> None:
    """Exactly the budget passes, both ways together; another tunnel of this agent gets nothing more."""
    client, upstream = await tunnel(world, sends(BIG), total_bytes=most)
    got, broken = await client.all()
    assert broken
    assert len(got) <= most - len(HELLO)
    (row,) = await world.quiet()
    assert row["bytes_up"] + row["bytes_down"] == most
    assert "byte budget" in row["ended"]
    assert pipes(world).lent == 0
    again = await Client.to(client.writer.get_extra_info("peername"))
    assert await again.connect(f"a.test:{upstream.port}") == 200
    assert await again.send(HELLO).all() == (b"", True)


async def test_a_budget_that_is_just_enough_ends_in_order(world: World) -> None:
    """A body of exactly what is left is no excess."""
    client, _ = await tunnel(world, sends(BIG), total_bytes=len(HELLO) + len(BIG))
    assert await client.all() == (BIG, False)
    client.close()
    (row,) = await world.quiet()
    assert row["ended"] == ""


async def test_tunnels_side_by_side_share_one_budget(world: World) -> None:
    """Four spliced tunnels at once carry together what one may."""
    client, upstream = await tunnel(world, sends(BIG), total_bytes=9_000_000)
    address = client.writer.get_extra_info("peername")
    clients = [client]
    for _ in range(3):
        clients.append(await Client.to(address))
        assert await clients[-1].connect(f"a.test:{upstream.port}") == 200
        clients[-1].send(HELLO)
    await asyncio.gather(*(each.all() for each in clients))
    rows = await world.quiet()
    assert sum(row["bytes_up"] + row["bytes_down"] for row in rows) == 9_000_000


async def test_a_reload_cuts_a_spliced_tunnel_that_is_no_longer_allowed(world: World) -> None:
    """The connection ends at once and its pipe comes back; one that is still allowed goes on."""
    client, upstream = await tunnel(world, sends(BIG))
    kept = await Client.to(client.writer.get_extra_info("peername"))
    world.allow(Place("b.test", upstream.port))
    assert await kept.connect(f"b.test:{upstream.port}") == 200
    kept.send(HELLO)
    first, _ = await kept.all(1_000_000)
    await client.all(1_000_000)
    await until(lambda: pipes(world).lent == 2)
    world.rules.places = [place for place in world.rules.places if place.host != "a.test"]
    assert world.guard is not None
    assert await world.guard.reload(GuardRevision(world.rules)) == 1
    _, broken = await client.all()
    assert broken
    assert pipes(world).lent == 1
    rest, broken = await kept.all()
    assert (first + rest, broken) == (BIG, False)
    kept.close()


async def test_a_reload_to_a_smaller_budget_holds_a_tunnel_under_way(world: World) -> None:
    """What a new revision leaves of a destination's bytes binds the connection that is open."""
    client, upstream = await tunnel(world, sends(BIG), total_bytes=100_000_000)
    await client.all(1_000_000)
    world.rules.places = [Place("a.test", upstream.port, treatment=Treatment(inspect=False, total_bytes=1_500_000))]
    assert world.guard is not None
    await world.guard.reload(GuardRevision(world.rules))
    _, broken = await client.all()
    assert broken
    (row,) = await world.quiet()
    assert "byte budget" in row["ended"]
    assert row["bytes_down"] < len(BIG)


async def test_a_slow_reader_slows_the_sender(world: World) -> None:
    """While nobody reads, the guard holds no more than a pipe and its named buffers; afterwards everything arrives."""
    sent = 0
    total = 96

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readexactly(len(HELLO))
        for _ in range(total):
            writer.write(BIG[: 1 << 20])
            await writer.drain()
            sent += 1

    client, _ = await tunnel(world, answer)
    client.writer.transport.pause_reading()
    stalled = -1
    async with asyncio.timeout(20):
        while stalled != sent:
            stalled = sent
            await asyncio.sleep(0.3)
    assert sent < total
    assert world.guard is not None
    assert world.guard.parts is not None
    (flow,) = world.guard.parts.flows.live.values()
    assert flow.upstream is not None
    assert flow.upstream.received - flow.client.sent <= PIPE_BYTES + READ_BYTES
    for stream in (flow.client, flow.upstream):
        assert stream.transport.unsent <= WRITE_HIGH_BYTES + READ_BYTES
        assert len(stream.buffer) <= READ_HIGH_BYTES
    client.writer.transport.resume_reading()
    got, broken = await client.all()
    assert (len(got), broken) == (total << 20, False)
    assert hashlib.sha256(got).digest() == hashlib.sha256(BIG[: 1 << 20] * total).digest()
    client.close()


@pytest.mark.parametrize("why", ["no pipe left", "no splice here"])
async def test_without_a_pipe_relays_go_on_copying(world: World, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    """A body arrives whole where all pipes are lent, and where the platform has no splice."""
    if why == "no splice here":
        monkeypatch.setattr(splice, "AVAILABLE", False)
    client, _ = await tunnel(world, sends(BIG))
    if why == "no pipe left":
        pipes(world).lent = PIPES_MAX
    assert await client.all() == (BIG, False)
    client.close()
    (row,) = await world.quiet()
    assert row["bytes_down"] == len(BIG)
