"""Damaged input at every front door: connections end, the guard stays whole and goes on serving."""

from __future__ import annotations

import asyncio
import random

import pytest

from agent_os.effects.proxy import Limits, Treatment
from tests.e2e.network.shapes import client_hello
from tests.e2e.network.world import Client, Place, World


def damaged(chance: random.Random, whole: bytes) -> bytes:
    """Bytes with some replaced, cut, doubled or put in."""
    raw = bytearray(whole)
    for _ in range(chance.randrange(0, 5)):
        at = chance.randrange(len(raw) + 1)
        what = chance.randrange(4)
        if what == 0 and at < len(raw):
            raw[at] = chance.randrange(256)
        elif what == 1:
            del raw[at : at + chance.randrange(1, 9)]
        elif what == 2:
            raw[at:at] = raw[max(0, at - 8) : at]
        else:
            raw[at:at] = bytes(chance.randrange(256) for _ in range(chance.randrange(1, 5)))
    return bytes(raw)


@pytest.mark.parametrize("kind", ["proxy", "socks", "policy", "dns-tcp"])
async def test_damage_never_breaks_the_guard(world: World, kind: str) -> None:
    """Nothing a client sends is an exception of ours, and a good client is served afterwards."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    upstream = await world.upstream(tls="a.test")
    plain = await world.upstream()
    world.allow(Place("a.test", upstream.port, treatment=Treatment(body=True)), Place("b.test", plain.port))
    await world.start(limits=Limits(handshake_seconds=1.0, head_seconds=1.0, drain_seconds=0.2))
    address = await world.listen(kind)
    name = f"b.test:{plain.port}"
    request = f"POST http://{name}/ok?a=%41 HTTP/1.1\r\nHost: {name}\r\nContent-Length: 5\r\n\r\nhello".encode()
    socks = b"\x05\x01\x00" + b"\x05\x01\x00\x03\x06b.test" + plain.port.to_bytes(2, "big") + b"GET / HTTP/1.1\r\n\r\n"
    connect = f"CONNECT a.test:{upstream.port} HTTP/1.1\r\nHost: a.test\r\n\r\n".encode()
    dns = b"\x00\x1c\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01b\x04test\x00\x00\x01\x00\x01"
    websocket = request.replace(b"POST", b"GET").replace(
        b"Content-Length: 5", b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
    )  # fmt: skip
    local = b"GET /may?host=a.test&port=1 HTTP/1.1\r\nHost: policy.local\r\n\r\n"
    seeds = [request, socks, connect + client_hello("a.test"), connect + request, dns, websocket, local]

    async def once() -> None:
        try:
            client = await Client.to(address)
            client.send(damaged(chance, chance.choice(seeds)))
            client.writer.write_eof()
            await asyncio.wait_for(client.reader.read(), 4)
            client.close()
        except (OSError, TimeoutError):
            return

    for _ in range(8):
        await asyncio.gather(*(once() for _ in range(30)))
    assert world.guard is not None
    counts = world.guard.snapshot()
    failed = [row for row in counts["recent"] if row.get("rule") in ("runtime.failed", "runtime.integrity")]
    assert failed == [], f"seed {seed}"
    assert counts["counts"]["alerts"] == 0, f"seed {seed}"
    if kind == "proxy":
        good = await Client.to(address)
        assert (await good.send(request).answer())[0] == 200
        good.close()
