"""The same judge behind every front door: one corpus of attacks, one identity, one byte budget, whichever way a program takes."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from agent_os.effects.proxy import ListenerIdentity, Treatment
from agent_os.effects.proxy.credentials import Secret
from tests.e2e.network.test_attacks import CHUNKS, NOT_HTTP1, SMUGGLING
from tests.e2e.network.world import Client, Place, Upstream, World

DOORS = ("connect", "socks", "unix", "transparent")
OK = b"GET /ok HTTP/1.1\r\nHost: a.test\r\n\r\n"
DENIED = {
    "another path": OK.replace(b"/ok", b"/secret"),
    "a method by override": OK.replace(b"\r\n\r\n", b"\r\nX-HTTP-Method-Override: DELETE\r\n\r\n"),
    "another host": OK.replace(b"a.test", b"evil.test"),
    "a secret that is bound elsewhere": OK.replace(b"\r\n\r\n", b"\r\nX-Key: agentos-secret:KEY\r\n\r\n"),
    "a tunnel in the tunnel": b"CONNECT evil.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "a second request behind a denied one": OK.replace(b"/ok", b"/secret") + OK.replace(b"/ok", b"/secret2"),
}
ELSEWHERE = "127.0.0.2"
"""An address of this machine that stands for one a sandbox's program connected to."""


async def opened(world: World, doors: dict[str, tuple[str, int] | str], door: str, upstream: Upstream) -> Client:
    """A connection to a.test through a door, as far as the first byte of the request."""
    client = await Client.to(doors[door])
    if door in ("connect", "unix"):
        assert await client.connect(f"a.test:{upstream.port}") == 200
    elif door == "socks":
        client.send(b"\x05\x01\x00\x05\x01\x00\x03\x06a.test" + upstream.port.to_bytes(2, "big"))
        assert (await client.reader.readexactly(12))[:4] == b"\x05\x00\x05\x00"
    return client


async def built(world: World, tmp_path: Path, upstream: Upstream) -> dict[str, tuple[str, int] | str]:
    """A guard with each kind of door, all of one identity."""
    await world.start()
    assert world.guard is not None
    who = ListenerIdentity(uid=os.geteuid())
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    unix.bind(str(tmp_path / "guard.sock"))
    unix.listen()
    await world.guard.serve_listener(unix, "proxy", who)
    await world.guard.serve_listener(socket.create_server((ELSEWHERE, upstream.port)), "transparent", who)
    world.guard._names[who]._by_address[ELSEWHERE] = "a.test"  # as the DNS door would have answered
    shared = await world.listen(identity=who)
    return {
        "connect": shared,
        "socks": await world.listen("socks", who),
        "unix": str(tmp_path / "guard.sock"),
        "transparent": (ELSEWHERE, upstream.port),
    }


@pytest.mark.parametrize("door", DOORS)
async def test_every_door_denies_the_same(world: World, tmp_path: Path, door: str) -> None:
    """ATTACK: the corpus of framing and of denied requests, through each door; nothing reaches the server. The twin does."""
    upstream = await world.upstream()
    world.vault.secrets["KEY"] = Secret("KEY", "the-real-secret", ("b.test",))
    me = os.path.realpath(sys.executable)
    world.allow(Place("a.test", upstream.port, [("GET", "/ok"), ("POST", "/ok")], Treatment(), binaries=[me]))
    world.allow(Place("b.test", upstream.port, secrets={"KEY": frozenset({"header"})}))
    doors = await built(world, tmp_path, upstream)
    head = b"POST /ok HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"
    attacks = SMUGGLING | DENIED | {f"chunks: {name}": head + body for name, body in CHUNKS.items()}
    for name, attack in attacks.items():
        client = await opened(world, doors, door, upstream)
        said = await client.send(attack).reader.read(15)
        assert said[:10] in (b"HTTP/1.1 4", b"HTTP/1.1 5") or (name in NOT_HTTP1 and not said), name
        client.close()
    assert b"secret" not in upstream.text
    assert b"GET" not in upstream.text
    assert not upstream.text.endswith(b"0\r\n\r\n")
    twin = await opened(world, doors, door, upstream)
    assert (await twin.send(OK).answer())[0] == 200
    twin.close()
    told = {stated["executable"].path for stated in world.door.stated if stated.get("executable") is not None}
    assert told == {me}, "each door knows the program"


async def test_all_doors_spend_one_byte_budget(world: World, tmp_path: Path) -> None:
    """Bytes that went through one door are spent at every other; a destination without a budget goes on."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port, treatment=Treatment(total_bytes=250)))
    doors = await built(world, tmp_path, upstream)
    answers = []
    for door in DOORS * 2:
        client = await opened(world, doors, door, upstream)
        last = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        answers.append(b"hello" in (await client.send(last).all())[0])
        client.close()
        await world.quiet()
    spent = answers.index(False)
    assert 0 < spent < len(DOORS)
    assert not any(answers[spent:])
    world.rules.places[0].treatment = Treatment()
    free = await opened(world, doors, "socks", upstream)
    assert (await free.send(OK).answer())[0] == 200
    free.close()
