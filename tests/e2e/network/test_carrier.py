"""The carrier: what stays in it, what comes back, and that nothing the guard promises is less there."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_os.effects.native import NotBuiltError, Program
from agent_os.effects.proxy import GuardRevision, Limits, ListenerIdentity, Treatment, carriage
from agent_os.effects.proxy.carrier import LOANS_MAX, PROGRAM, SLOTS, Carrier
from agent_os.effects.proxy.flows import Flow
from tests.e2e.network.shapes import client_hello
from tests.e2e.network.world import Client, Handler, Place, Upstream, World, response

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


# ---- lent ------------------------------------------------------------------------------------------------------------

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
