"""The life of the carrier: reload, death, stop, and that it reads heads and words one way only."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import struct
from pathlib import Path
from typing import Any

import pytest

from agent_os.effects.native import NotBuiltError, Program
from agent_os.effects.proxy import GuardRevision, Limits, carriage
from agent_os.effects.proxy.carrier import LOANS_MAX, PROGRAM, SLOTS, Carrier
from tests.e2e.network.carriers import BIG, carried, echo, live, pid, started, tunnel, until
from tests.e2e.network.shapes import client_hello
from tests.e2e.network.world import Client, Place, World

# ---- the life of it --------------------------------------------------------------------------------------------------


async def test_a_reload_cuts_what_is_no_longer_allowed(world: World) -> None:
    """After another revision a carried tunnel to what it denies is reset; the others stay."""
    stays = await world.upstream(echo)
    goes, address = await started(world, echo)
    world.allow(Place("b.test", stays.port))
    one, other = await tunnel(address, goes), await tunnel(address, stays, "b.test")
    world.rules.places = [place for place in world.rules.places if place.host == "b.test"]
    assert world.guard is not None
    assert await world.guard.reload(GuardRevision(world.rules)) == 1
    assert await one.all() == (b"", True)
    await until(lambda: len(live(world)) == 1)
    hello = client_hello("b.test")
    assert await other.send(hello).reader.readexactly(len(hello)) == hello
    other.close()
    rows = await world.quiet()
    assert [row["ended"] for row in rows] == ["no longer allowed by policy", ""]


async def test_an_idle_tunnel_is_closed(world: World) -> None:
    """Without a byte in either direction for the idle time a carried tunnel ends."""
    upstream, address = await started(world, echo, limits=Limits(idle_seconds=0.2, drain_seconds=0.3))
    client = await tunnel(address, upstream)
    assert (await client.all())[0] == b""
    (row,) = await world.quiet()
    assert row["ended"] == "idle"


async def test_when_the_carrier_dies_its_tunnels_end_and_the_guard_serves_on(world: World) -> None:
    """Killed, it takes its connections along, each is settled, an alert says so, and new ones are served without it."""
    upstream, address = await started(world, echo)
    clients = [await tunnel(address, upstream) for _ in range(3)]
    os.kill(pid(world), signal.SIGKILL)
    for client in clients:
        assert (await client.all())[0] == b""
    await until(lambda: pid(world) == 0)
    rows = await world.quiet()
    assert {row["ended"] for row in rows} == {"the carrier ended"}
    assert len(world.door.settled) == 3
    assert world.guard is not None
    assert any(row.get("rule") == "runtime.carrier" for row in world.guard.snapshot()["recent"])
    client = await tunnel(address, upstream)
    hello = client_hello("a.test")
    assert await client.send(hello).reader.readexactly(len(hello)) == hello
    assert carried(world) == 0
    client.close()


async def test_stopping_waits_for_carried_tunnels_and_then_cuts_them(world: World) -> None:
    """A stop gives them the drain time; what is still there then is reset, and nothing listens any more."""
    upstream, address = await started(world, echo)
    client = await tunnel(address, upstream)
    assert world.guard is not None
    await world.guard.stop()
    assert await client.all() == (b"", True)
    assert world.door.open == 0
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await Client.to(address)


async def test_it_can_open_no_file_and_start_no_program(world: World, request: pytest.FixtureRequest) -> None:
    """A filter of system calls is on, no new privileges can be had, no core is written, and no variable is there."""
    if request.node.callspec.params["carry"] == "sanitized":
        pytest.skip("built without its filter")
    await started(world)
    path = Path(f"/proc/{pid(world)}/status")
    await until(lambda: "Seccomp:\t2" in path.read_text())
    status = path.read_text()
    assert "Name:\tagentos-carrier" in status
    assert "NoNewPrivs:\t1" in status
    assert Path(f"/proc/{pid(world)}/environ").read_bytes() == b""


async def test_it_is_started_when_there_are_many(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard that is not told otherwise serves its first connections alone, then starts a carrier beside them."""
    monkeypatch.setattr(carriage, "CARRY_FROM", 3)
    upstream, address = await started(world, echo, carry="")
    first = await tunnel(address, upstream)
    assert (pid(world), carried(world)) == (0, 0)
    rest = [await tunnel(address, upstream) for _ in range(2)]
    await until(lambda: pid(world) > 0)
    last = await tunnel(address, upstream)
    assert carried(world) == 1
    for client in (first, *rest, last):
        client.close()


async def test_without_a_compiler_the_guard_serves_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where no carrier can be had every tunnel is served as before; asked for by name, its absence is an error."""

    def missing(self: Program, state: Path | None = None) -> int:
        raise NotBuiltError("no C compiler")

    monkeypatch.setattr(Program, "sealed", missing)
    monkeypatch.setattr(carriage, "CARRY_FROM", 1)
    upstream, address = await started(world, echo, carry="")
    for _ in range(3):
        client = await tunnel(address, upstream)
        client.close()
    assert pid(world) == 0
    with pytest.raises(Exception, match="no C compiler"):
        await World(tmp_path / "other", "always").start()


# ---- heads -----------------------------------------------------------------------------------------------------------


def head(chance: random.Random, port: int) -> bytes:
    """A CONNECT head, plain or with something odd in it."""
    whole = bytearray(f"CONNECT a.test:{port} HTTP/1.1\r\nHost: a.test:{port}\r\nUser-Agent: x\r\n\r\n".encode())
    odd = (
        b"\r",
        b"\n",
        b"\0",
        b" ",
        b"\t",
        b"\r\n",
        b"\n\n",
        b":",
        b"\xff",
        b"\r\n\r\n",
        b"Content-Length: 3\r\n",
        b"b.test",
    )
    for _ in range(chance.choice((0, 1, 1, 2))):
        place, how = chance.randrange(len(whole)), chance.randrange(4)
        if how == 0:
            whole[place:place] = chance.choice(odd)
        elif how == 1:
            del whole[place : place + chance.randrange(1, 4)]
        elif how == 2:
            whole[place] = chance.randrange(256)
        else:
            whole[place:place] = b"X-Pad: " + b"p" * chance.choice((10, 900, 2000)) + b"\r\n"
    return bytes(whole)


async def test_heads_are_read_one_way(world: World, tmp_path: Path) -> None:
    """Over random heads the guard with a carrier answers what the guard without one answers, and connects as often."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    upstream, address = await started(world, echo)
    alone = World(tmp_path / "alone")
    alone.rules = alone.door.rules = world.rules
    await alone.start()
    plain = await alone.listen()

    async def status(place: tuple[str, int], raw: bytes) -> str:
        client = await Client.to(place)
        client.send(raw)
        client.writer.write_eof()
        got, _ = await client.all()
        client.close()
        return got.split(b"\r\n")[0].decode("latin-1")

    try:
        for _ in range(150):
            raw = head(chance, upstream.port)
            before = upstream.connections
            here = await status(plain, raw)
            between = upstream.connections
            assert await status(address, raw) == here, (seed, raw)
            assert upstream.connections - between == between - before, (seed, raw)
    finally:
        await alone.stop()


async def test_a_reader_that_takes_nothing_does_not_end_the_carrier(world: World) -> None:
    """What a slow peer leaves is kept in the carrier's memory: its first allocation must be one that its filter lets be."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(BIG)
        await writer.drain()
        writer.write_eof()

    upstream, address = await started(world, speak)
    client = await tunnel(address, upstream)
    first = pid(world)
    client.reader._transport.pause_reading()  # type: ignore[attr-defined]
    seen = 0
    async with asyncio.timeout(10):
        while (now := live(world)[0].down) != seen or not seen:
            seen = now
            await asyncio.sleep(0.2)
    assert 0 < seen < len(BIG)
    client.reader._transport.resume_reading()  # type: ignore[attr-defined]
    whole, _ = await client.all()
    assert whole == BIG
    assert pid(world) == first


# ---- words ------------------------------------------------------------------------------------------------------------


class Told:
    """What a carrier said."""

    def __init__(self) -> None:
        self.why = ""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None

    def gone(self, why: str) -> None:
        self.why = why


@pytest.mark.parametrize(
    "said",
    [
        b"x",
        struct.pack("=IIII", 9, 0, 0, 0),
        struct.pack("=IIII", 3, SLOTS, 0, 0),
        struct.pack("=IIII", 1, 0, 0, 0),
        struct.pack("=IIII", 2, 5, 0, 0),
        struct.pack("=IIII", 2, 70, 0, 0),
        struct.pack("=IIII", 3, 0, 0, 4096),
        struct.pack("=IIII", 6, SLOTS, 0, 0),
        struct.pack("=IIII", 7, 0, 0, 0),
        struct.pack("=IIII", 7, SLOTS + LOANS_MAX, 0, 0),
    ],
)
async def test_an_unexpected_word_ends_the_carrier(said: bytes) -> None:
    """A word of the wrong form, for no slot, without its descriptor or longer than the message: the process ends."""
    told = Told()
    program = PROGRAM.sealed(None)
    carrier = Carrier(asyncio.get_running_loop(), program, told)  # type: ignore[arg-type]
    os.close(program)
    carrier._send(said, ())
    await until(lambda: told.why != "")
    await carrier.close()
