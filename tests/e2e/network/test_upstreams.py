"""Where a connection really goes, and to whom: rebinding, addresses, redirects, certificates, a corporate proxy; each with its twin."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_der_x509_certificate

from agent_os.effects.proxy import Treatment
from agent_os.effects.proxy.upstream import CorporateProxy
from tests.e2e.network.shapes import BENIGN, OK, inspected, tunnel
from tests.e2e.network.world import Client, Place, Upstream, World, response


async def test_a_name_that_rebinds_is_connected_to_the_judged_address(world: World) -> None:
    """The resolver answers once allowed, then private: each connection uses the address of its own judgement."""
    upstream = await world.upstream()
    evil = await world.upstream(response(b"evil"), host="127.0.0.2")
    answers = iter([["127.0.0.1"], ["127.0.0.2"], ["127.0.0.1", "127.0.0.2"], ["127.0.0.1"]])
    world.resolver.table["a.test"] = lambda: next(answers)
    world.allow(Place("a.test", upstream.port), Place("a.test", evil.port))
    await world.start()
    address = await world.listen()
    client = await tunnel(address, upstream)
    assert (await client.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").answer())[2] == b"hello"
    for _ in range(2):  # now private; then mixed
        client = await Client.to(address)
        assert await client.connect(f"a.test:{upstream.port}") == 403
    twin = await tunnel(address, upstream)
    assert (await twin.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").answer())[0] == 200
    assert evil.connections == 0
    assert world.resolver.asked == ["a.test"] * 4
    twin.close()


@pytest.mark.parametrize(
    "literal",
    ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
     "169.254.169.254", "[fe80::1]", "0.0.0.0", "198.18.0.20"],
)  # fmt: skip
async def test_addresses_in_every_spelling_are_denied_unless_listed(world: World, literal: str) -> None:
    """An address literal is judged in its canonical form; none is reachable because a name is."""
    upstream, address = await inspected(world)
    client = await Client.to(address)
    assert await client.connect(f"{literal}:{upstream.port}") in (400, 403)
    assert upstream.connections == 0
    twin = await tunnel(address, upstream)
    assert (await twin.send(BENIGN).answer())[0] == 200
    twin.close()


async def test_a_redirect_to_the_metadata_address_is_judged_anew(world: World) -> None:
    """The redirect itself is passed to the client; following it is a request of its own and denied."""
    upstream, address = await inspected(world)
    upstream.answer = response(b"", status="302 Found", extra="Location: http://169.254.169.254/latest/meta-data/\r\n")
    client = await tunnel(address, upstream)
    status, head, _ = await client.send(BENIGN).answer()
    assert status == 302
    assert b"location: http://169.254.169.254" in head
    follow = await Client.to(address)
    follow.send(b"GET http://169.254.169.254/latest/meta-data/ HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n")
    assert (await follow.answer())[0] == 403
    client.close()


async def test_a_certificate_of_another_name_is_not_accepted(world: World) -> None:
    """Upstream verification stays on: a wrong name is a 502 that says so, and the request is never sent."""
    wrong = await world.upstream(tls="other.test")
    right = await world.upstream(tls="a.test")
    world.allow(*(Place("a.test", server.port, OK, Treatment()) for server in (wrong, right)))
    await world.start()
    address = await world.listen()
    client = await (await tunnel(address, wrong)).tls(world.client_context(), "a.test")
    status, _, body = await client.send(BENIGN).answer()
    assert status == 502
    assert "certificate" in json.loads(body)["detail"]
    assert wrong.text == b""
    twin = await (await tunnel(address, right)).tls(world.client_context(), "a.test")
    assert (await twin.send(BENIGN).answer())[0] == 200
    twin.close()


async def test_a_pin_that_does_not_match_is_not_accepted(world: World) -> None:
    """A pinned endpoint with another key is a 502, though its certificate verifies."""
    upstream = await world.upstream(tls="a.test")
    world.allow(Place("a.test", upstream.port, OK, Treatment(pins=("sha256:" + "0" * 64,))))
    await world.start()
    address = await world.listen()
    client = await (await tunnel(address, upstream)).tls(world.client_context(), "a.test")
    status, _, body = await client.send(BENIGN).answer()
    assert (status, json.loads(body)["reason"]) == (502, "tls-pin")
    assert upstream.text == b""


async def _told(world: World, address: tuple[str, int], upstream: Upstream) -> tuple[int, dict[str, object]]:
    """Send one request over inspected TLS; the status and, of a refusal, what is told."""
    client = await (await tunnel(address, upstream)).tls(world.client_context(), "a.test")
    status, _, body = await client.send(BENIGN).answer()
    client.close()
    return status, json.loads(body) if status != 200 else {}


async def test_upstream_tls_options_hold_and_their_twins_pass(world: World) -> None:
    """A least version, a pinned key and a client's certificate: what the server lacks ends it before the request."""
    old, modern, closed = [await world.upstream(tls="a.test") for _ in range(3)]
    for server, version in ((old, ssl.TLSVersion.TLSv1_2), (modern, ssl.TLSVersion.TLSv1_3)):
        assert server.context is not None
        server.context.maximum_version = version
    assert closed.context is not None
    closed.context.verify_mode = ssl.CERT_REQUIRED
    closed.context.load_verify_locations(str(world.tls.root))
    world.tls.context("client")  # writes its chain and key
    mine = str(world.folder / "upstream" / "client.pem")
    pem = (world.folder / "upstream" / "a.test.pem").read_text()
    der = ssl.PEM_cert_to_DER_cert(pem[: pem.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n")
    spki = load_der_x509_certificate(der).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    right = "sha256:" + hashlib.sha256(spki).hexdigest()
    cases = [
        (old, Treatment(tls_minimum="1.3"), 502),
        (modern, Treatment(tls_minimum="1.3"), 200),
        (closed, Treatment(), 502),
        (closed, Treatment(client_certificate=(mine, mine)), 200),
        (closed, Treatment(client_certificate=(mine + ".absent", mine)), 502),
        (closed, Treatment(client_certificate=(mine, mine), pins=("sha256:" + "0" * 64,)), 502),
        (closed, Treatment(client_certificate=(mine, mine), pins=("sha256:" + "0" * 64, right)), 200),
    ]
    await world.start()
    address = await world.listen()
    for server, treatment, expected in cases:
        world.rules.places[:] = [Place("a.test", server.port, OK, treatment)]
        before = len(server.text)
        status, told = await _told(world, address, server)
        assert status == expected, (treatment, told)
        assert (len(server.text) > before) == (expected == 200)


@pytest.mark.parametrize(
    "poison",
    [
        b"HTTP/1.1 200 OK\r\n\r\n\x16\x03\x01 injected",
        b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 4\r\n\r\nevil",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40_000 + b"\r\n\r\n",
        b"\x00\x00garbage\r\n\r\n",
    ],
)
async def test_a_poisoned_connect_answer_of_a_corporate_proxy(world: World, poison: bytes) -> None:
    """What a corporate proxy answers to CONNECT never reaches the client; a plain 200 opens the tunnel."""
    origin = await world.upstream()

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"CONNECT a.test:")
        writer.write(says[0])
        await writer.drain()
        inner = await asyncio.open_connection("127.0.0.1", origin.port)
        inner[1].write(await reader.readuntil(b"\r\n\r\n"))
        writer.write(await inner[0].read(1000))
        await writer.drain()

    says = [poison]
    corporate = await world.upstream(proxy)
    world.allow(Place("a.test", origin.port))
    await world.start(corporate=CorporateProxy("127.0.0.1", corporate.port))
    address = await world.listen()
    client = await Client.to(address)
    client.send(f"CONNECT a.test:{origin.port} HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())
    status, _, body = await client.answer()
    assert status == 502
    assert b"evil" not in body
    assert b"injected" not in body
    says[0] = b"HTTP/1.1 200 OK\r\n\r\n"
    twin = await Client.to(address)
    assert await twin.connect(f"a.test:{origin.port}") == 200
    assert (await twin.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").answer())[2] == b"hello"
    twin.close()
