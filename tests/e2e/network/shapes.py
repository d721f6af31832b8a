"""What tests of attacks share: a guard before one upstream, a tunnel through it, and a ClientHello of any shape."""

from __future__ import annotations

import ssl

import pytest

from agent_os.effects.proxy import Treatment
from tests.e2e.network.world import Client, Place, Upstream, World

BENIGN = b"POST /ok HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello"
OK = [("GET", "/ok*"), ("POST", "/ok*")]


async def inspected(
    world: World, *, requests: list[tuple[str, str]] = OK, **options: object
) -> tuple[Upstream, tuple[str, int]]:
    """A guard in front of one plain upstream `a.test`, inspected."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port, requests, Treatment()))
    await world.start(**options)
    return upstream, await world.listen()


async def tunnel(address: tuple[str, int], upstream: Upstream) -> Client:
    client = await Client.to(address)
    assert await client.connect(f"a.test:{upstream.port}") == 200
    return client


def client_hello(name: str, *, extra: bytes = b"") -> bytes:
    """A ClientHello off the ssl module, with an extension put in."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    session = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    raw = outgoing.read()
    body = raw[9:]
    at = 34
    at += 1 + body[at]
    at += 2 + int.from_bytes(body[at : at + 2], "big")
    at += 1 + body[at]
    extensions = body[at + 2 :] + extra
    body = body[:at] + len(extensions).to_bytes(2, "big") + extensions
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message
