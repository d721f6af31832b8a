"""Attacks on the guard over raw sockets; each test also sends the benign twin, so that denying everything would show."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import ssl

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_der_x509_certificate

from agent_os.effects.proxy import Limits, Treatment
from agent_os.effects.proxy.upstream import CorporateProxy
from tests.e2e.network.world import Client, Place, Upstream, World, response

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


BENIGN = b"POST /ok HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello"
SMUGGLING = {
    "content-length beside transfer-encoding": b"POST /ok HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two content-lengths": b"POST /ok HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a list of content-lengths": b"POST /ok HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5, 5\r\n\r\nhello",
    "a signed content-length": b"POST /ok HTTP/1.1\r\nHost: a.test\r\nContent-Length: +5\r\n\r\nhello",
    "chunked twice": b"POST /ok HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "an obfuscated coding": b"POST /ok HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a vertical tab before chunked": b"POST /ok HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "space before the colon": b"POST /ok HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a folded field": b"POST /ok HTTP/1.1\r\nHost: a.test\r\nX: a\r\n Transfer-Encoding: chunked\r\n\r\n",
    "a bare LF in a field": b"GET /ok HTTP/1.1\r\nHost: a.test\r\nX: a\nEvil: b\r\n\r\n",
    "bare LF ends the head": b"GET /ok HTTP/1.1\nHost: a.test\n\n",
    "a bare CR in a value": b"GET /ok HTTP/1.1\r\nHost: a.test\r\nX: a\rEvil: b\r\n\r\n",
    "a NUL in a value": b"GET /ok HTTP/1.1\r\nHost: a.test\r\nX: a\0b\r\n\r\n",
    "two hosts": b"GET /ok HTTP/1.1\r\nHost: a.test\r\nHost: evil.test\r\n\r\n",
    "no host": b"GET /ok HTTP/1.1\r\n\r\n",
    "another http version": b"GET /ok HTTP/1.2\r\nHost: a.test\r\n\r\n",
    "a tab in the request line": b"GET\t/ok HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "two spaces in the request line": b"GET  /ok HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "an encoded slash": b"GET /ok%2f..%2fsecret HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "a backslash": b"GET /ok\\..\\secret HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "climbing above the root": b"GET /../../secret HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "overlong utf-8": b"GET /ok%c0%ae%c0%ae/secret HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "a fragment": b"GET /ok#/secret HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "an http/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an empty line first": b"\r\nGET /ok HTTP/1.1\r\nHost: a.test\r\n\r\n",
}  # fmt: skip


NOT_HTTP1 = {
    "an http/2 preface", "an empty line first", "a tab in the request line", "bare LF ends the head",
    "another http version", "two spaces in the request line",
}  # fmt: skip


@pytest.mark.parametrize("name", SMUGGLING)
async def test_ambiguous_requests_never_reach_the_upstream(world: World, name: str) -> None:
    """A head that two parsers could read differently is refused with a 4xx, and nothing of it goes upstream."""
    upstream, address = await inspected(world)
    client = await tunnel(address, upstream)
    client.send(SMUGGLING[name])
    if name in NOT_HTTP1:
        said = await client.rest()  # not http/1 by its first line: the tunnel is closed, or told so
        assert said == b"" or said.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))
    else:
        status, _, _ = await client.answer()
        assert 400 <= status < 502
    assert upstream.connections == 0
    twin = await tunnel(address, upstream)
    assert (await twin.send(BENIGN).answer())[0] == 200
    twin.close()


CHUNKS = {
    "an extension": b"5;evil=1\r\nhello\r\n0\r\n\r\n",
    "a negative size": b"-5\r\nhello\r\n0\r\n\r\n",
    "a hex prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
    "bare LF after the size": b"5\nhello\r\n0\r\n\r\n",
    "bare LF after the data": b"5\r\nhello\n0\r\n\r\n",
    "more data than said": b"5\r\nhelloGET /secret HTTP/1.1\r\n\r\n",
    "an overflowing size": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "a space before the size": b" 5\r\nhello\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", CHUNKS)
async def test_chunk_games_are_refused(world: World, name: str) -> None:
    """Malformed chunk framing is refused; the request upstream stays without an end. A plain chunked body passes."""
    upstream, address = await inspected(world)
    head = b"POST /ok HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n"
    client = await tunnel(address, upstream)
    client.send(head + CHUNKS[name])
    assert (await client.answer())[0] == 400
    assert not upstream.text.endswith(b"0\r\n\r\n")
    assert b"secret" not in upstream.text
    twin = await tunnel(address, upstream)
    assert (await twin.send(head + b"5\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n").answer())[0] == 200
    assert b"X-Trailer" not in upstream.text
    twin.close()


RESPONSES = {
    "content-length beside transfer-encoding": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "two content-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 50\r\n\r\nhello",
    "a bare LF": b"HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: evil\r\nContent-Length: 5\r\n\r\nhello",
    "an unasked switch of protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: evil\r\nConnection: upgrade\r\n\r\n",
    "endless informational responses": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50,
    "a head without end": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 6000,
    "not http": b"SSH-2.0-evil\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", RESPONSES)
async def test_poisoned_responses_are_refused(world: World, name: str) -> None:
    """A response that two parsers could read differently becomes a 502; a plain one passes."""
    upstream, address = await inspected(world)
    good = upstream.answer
    upstream.answer = RESPONSES[name]
    client = await tunnel(address, upstream)
    status, _, body = await client.send(BENIGN).answer()
    assert status == 502
    assert b"evil" not in body
    upstream.answer = good
    twin = await tunnel(address, upstream)
    assert (await twin.send(BENIGN).answer())[2] == b"hello"
    twin.close()


async def test_a_second_response_is_never_given_to_the_next_request(world: World) -> None:
    """Bytes after a complete response (a response to a request nobody sent) end the upstream connection."""
    upstream, address = await inspected(world)
    upstream.answer = response(b"one") + response(b"poison")
    client = await tunnel(address, upstream)
    assert (await client.send(BENIGN).answer())[2] == b"one"
    upstream.answer = response(b"two")
    await asyncio.sleep(0.05)
    assert (await client.send(BENIGN).answer())[2] == b"two"
    assert upstream.connections == 2
    client.close()


async def test_pipelined_requests_are_judged_one_by_one(world: World) -> None:
    """Two requests in one write: the allowed one passes, the other is denied, in order."""
    upstream, address = await inspected(world)
    client = await tunnel(address, upstream)
    client.send(b"GET /ok HTTP/1.1\r\nHost: a.test\r\n\r\nGET /secret HTTP/1.1\r\nHost: a.test\r\n\r\n" + BENIGN)
    assert [(await client.answer())[0] for _ in range(3)] == [200, 403, 200]
    assert b"secret" not in upstream.text
    client.close()


async def test_connect_to_one_host_and_host_field_of_another(world: World) -> None:
    """An inspected tunnel to a.test refuses a request for b.test, though both are allowed (421)."""
    upstream, address = await inspected(world)
    world.allow(Place("b.test", upstream.port, OK, Treatment()))
    client = await tunnel(address, upstream)
    assert (await client.send(b"GET /ok HTTP/1.1\r\nHost: b.test\r\n\r\n").answer())[0] == 421
    assert upstream.connections == 0
    twin = await tunnel(address, upstream)
    assert (await twin.send(b"GET /ok HTTP/1.1\r\nHost: a.test.\r\n\r\n").answer())[0] == 200
    twin.close()


@pytest.mark.parametrize("inspect", [True, False])
async def test_server_name_of_another_host_is_refused(world: World, inspect: bool) -> None:
    """A ClientHello for b.test in a tunnel to a.test ends it (domain fronting), passed through or inspected."""
    upstream = await world.upstream(tls=["a.test", "b.test"])
    for host in ("a.test", "b.test"):
        world.allow(Place(host, upstream.port, OK, Treatment(inspect=inspect)))
    await world.start()
    address = await world.listen()
    context = world.client_context()
    context.load_verify_locations(cafile=str(world.tls.root))
    client = await tunnel(address, upstream)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await client.tls(context, "b.test")
    assert upstream.text == b""
    assert world.guard is not None
    assert world.guard.snapshot()["recent"][-1]["rules"] == ["egress.sni-mismatch"]
    twin = await tunnel(address, upstream)
    await twin.tls(context, "a.test")
    assert (await twin.send(b"GET /ok HTTP/1.1\r\nHost: a.test\r\n\r\n").answer())[0] == 200
    twin.close()


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


@pytest.mark.parametrize("kind", [0xFE0D, 0xFFCE])
async def test_a_hidden_server_name_is_refused_where_nothing_is_opened(world: World, kind: int) -> None:
    """ECH and ESNI in a passed tunnel end it before a byte reaches the upstream; without them it flows."""

    async def sink(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.read(10))

    got: list[bytes] = []
    upstream = await world.upstream(sink)
    world.allow(Place("a.test", upstream.port))
    await world.start()
    address = await world.listen()
    client = await tunnel(address, upstream)
    extra = kind.to_bytes(2, "big") + b"\x00\x04abcd"
    assert await client.send(client_hello("a.test", extra=extra)).rest() == b""
    await asyncio.sleep(0.02)
    assert b"".join(got) == b""
    twin = await tunnel(address, upstream)
    hello = client_hello("a.test")
    twin.send(hello[:7])  # cut in two: the guard waits for the whole of it
    await asyncio.sleep(0.02)
    twin.send(hello[7:])
    await twin.rest()
    assert b"".join(got).startswith(b"\x16\x03\x01")


async def test_plain_host_fronting_in_a_passed_tunnel(world: World) -> None:
    """The first plain request of a passed tunnel must name the judged host; the denial can be read."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port))
    await world.start()
    address = await world.listen()
    client = await tunnel(address, upstream)
    assert (await client.send(b"GET /ok HTTP/1.1\r\nHost: evil.test\r\n\r\n").answer())[0] == 403
    assert upstream.text == b""
    twin = await tunnel(address, upstream)
    assert (await twin.send(b"GET /ok HTTP/1.1\r\nHost: a.test\r\n\r\n").answer())[0] == 200
    twin.close()


LATER = {
    "another host": b"GET /ok HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "an absolute target": b"GET http://evil.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "after an empty line": b"\r\nGET /ok HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    "bare line feeds": b"GET /ok HTTP/1.1\nHost: evil.test\n\n",
    "an upgrade": b"GET /ok HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: evil\r\n\r\n",
}


@pytest.mark.parametrize("name", LATER)
async def test_later_plain_requests_of_a_passed_tunnel_are_held_to_its_host(world: World, name: str) -> None:
    """Domain fronting on keep-alive: after a good request another host ends the tunnel; the twin keeps its own."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port))
    await world.start()
    address = await world.listen()
    good = b"GET /ok HTTP/1.1\r\nHost: a.test\r\n\r\n"
    client = await tunnel(address, upstream)
    assert (await client.send(good).answer())[0] == 200
    assert await client.send(LATER[name]).rest() == b""
    assert b"evil" not in upstream.text
    assert world.guard is not None
    assert world.guard.snapshot()["counts"]["alerts"] == 1
    twin = await tunnel(address, upstream)
    for request in (good, BENIGN, good, BENIGN):
        assert (await twin.send(request).answer())[0] == 200
    twin.close()


@pytest.mark.parametrize(
    "start", [b"\r\nGET /ok HTTP/1.1\r\nHost: evil.test\r\n\r\n", b"get /ok http/1.1\r\nhost: evil.test\r\n\r\n"]
)
async def test_a_request_that_only_a_lenient_server_reads_does_not_pass_as_opaque(world: World, start: bytes) -> None:
    """An empty line first, or a lower-case method, is still HTTP; another protocol's first words pass."""
    upstream = await world.upstream()
    raw = await world.upstream(_parrot)
    world.allow(Place("a.test", upstream.port), Place("a.test", raw.port))
    await world.start()
    address = await world.listen()
    client = await tunnel(address, upstream)
    status = (await client.send(start).answer())[0]
    assert status in (400, 403)
    assert upstream.text == b""
    twin = await tunnel(address, raw)
    assert await asyncio.wait_for(twin.send(b"EHLO me\r\n").reader.readline(), 5) == b"EHLO me\r\n"
    twin.close()


async def test_http2_without_tls_passes_only_where_the_policy_says_raw(world: World) -> None:
    """Its requests name hosts that nobody here reads: denied in an opaque tunnel, passed where any protocol may."""
    raw = await world.upstream(_parrot)
    twin_raw = await world.upstream(_parrot)
    world.allow(Place("a.test", raw.port), Place("a.test", twin_raw.port, treatment=Treatment(inspect=False, raw=True)))
    await world.start()
    address = await world.listen()
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    client = await tunnel(address, raw)
    status, _, body = await client.send(preface).answer()
    assert status == 400
    assert json.loads(body)["title"] == "refused by the egress guard"
    twin = await tunnel(address, twin_raw)
    assert await asyncio.wait_for(twin.send(preface).reader.readexactly(len(preface)), 5) == preface
    twin.close()


async def _parrot(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server of no protocol: sends back what it gets."""
    while data := await reader.read(4096):
        writer.write(data)
        await writer.drain()


async def test_connect_target_and_host_field_must_agree(world: World) -> None:
    """A CONNECT whose Host names another host is refused, and so are user information and a missing port."""
    upstream, address = await inspected(world)
    port = upstream.port
    for raw in (
        f"CONNECT a.test:{port} HTTP/1.1\r\nHost: evil.test:{port}\r\n\r\n",
        f"CONNECT a.test:{port}@evil.test:{port} HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "CONNECT a.test HTTP/1.1\r\nHost: a.test\r\n\r\n",
        f"CONNECT a.test%00.evil.test:{port} HTTP/1.1\r\nHost: a.test\r\n\r\n",
        f"GET http://user@a.test:{port}/ok HTTP/1.1\r\nHost: a.test:{port}\r\n\r\n",
        f"GET http://a.test:{port}\\@evil.test/ok HTTP/1.1\r\nHost: a.test:{port}\r\n\r\n",
        f"GET http://a.test:{port}/ok HTTP/1.1\r\nHost: b.test:{port}\r\n\r\n",
        f"GET https://a.test:{port}/ok HTTP/1.1\r\nHost: a.test:{port}\r\n\r\n",
    ):
        client = await Client.to(address)
        assert (await client.send(raw.encode()).answer())[0] == 400, raw
    assert upstream.connections == 0
    twin = await Client.to(address)
    assert await twin.connect(f"A.TEST.:{port}") == 200
    twin.close()


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


async def test_slow_loris_ends_at_the_deadline(world: World) -> None:
    """A head that trickles is cut off after head_seconds; a prompt one on another connection is served meanwhile."""
    upstream, address = await inspected(
        world, limits=Limits(head_seconds=0.6, handshake_seconds=0.6, drain_seconds=0.2)
    )
    slow = await tunnel(address, upstream)
    slow.send(b"GET /ok HTTP/1.1\r\n")
    twin = await tunnel(address, upstream)
    assert (await twin.send(BENIGN).answer())[0] == 200
    assert await slow.rest() == b""
    twin.close()
    silent = await Client.to(address)
    assert await silent.rest() == b""


async def test_a_head_over_16_kib_is_431(world: World) -> None:
    """An over-long head is refused; one just below the limit passes."""
    upstream, address = await inspected(world)
    client = await tunnel(address, upstream)
    pad = b"X-%d: " + b"y" * 1000 + b"\r\n"
    client.send(b"GET /ok HTTP/1.1\r\nHost: a.test\r\n" + b"".join(pad % n for n in range(17)) + b"\r\n")
    assert (await client.answer())[0] == 431
    twin = await tunnel(address, upstream)
    twin.send(b"GET /ok HTTP/1.1\r\nHost: a.test\r\n" + b"".join(pad % n for n in range(15)) + b"\r\n")
    assert (await twin.answer())[0] == 200
    twin.close()


async def test_an_archive_bomb_in_a_response_is_cut(world: World) -> None:
    """A compressed response that grows a thousandfold is cut off; an ordinary one passes untouched."""
    bomb = gzip.compress(b"\0" * 50_000_000)
    upstream, address = await inspected(world)
    upstream.answer = response(bomb, extra="Content-Encoding: gzip\r\n")
    client = await tunnel(address, upstream)
    client.send(BENIGN)
    head = await client.head()
    got = await client.rest()
    assert head.startswith(b"HTTP/1.1 200")
    assert len(got) < len(bomb)
    upstream.answer = response(gzip.compress(b"hello"), extra="Content-Encoding: gzip\r\n")
    twin = await tunnel(address, upstream)
    assert gzip.decompress((await twin.send(BENIGN).answer())[2]) == b"hello"
    twin.close()


async def test_an_early_response_ends_the_upload(world: World) -> None:
    """An upstream that answers before the body is complete: the answer is passed on, the upload stops, nothing hangs."""

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(b"too big", status="413 Content Too Large"))
        await writer.drain()

    upstream, address = await inspected(world)
    upstream.answer = early
    client = await tunnel(address, upstream)
    client.send(b"POST /ok HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000\r\n\r\n" + b"x" * 10)
    assert (await client.answer())[2] == b"too big"
    assert await client.rest() == b""


async def test_a_body_cut_short_is_not_passed_on_as_whole(world: World) -> None:
    """An upstream that ends inside its body: the client sees a broken connection, never a short success."""

    async def short(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()

    upstream, address = await inspected(world)
    upstream.answer = short
    client = await tunnel(address, upstream)
    client.send(b"GET /ok HTTP/1.1\r\nHost: a.test\r\n\r\n")
    await client.head()
    assert len(await client.rest()) < 100


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


async def test_what_is_neither_tls_nor_http_cannot_be_inspected(world: World) -> None:
    """Where policy must look, another protocol is refused; where it need not, it passes."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()

    upstream = await world.upstream(echo)
    world.allow(Place("a.test", upstream.port, OK, Treatment()), Place("b.test", upstream.port))
    await world.start()
    address = await world.listen()
    client = await Client.to(address)
    assert await client.connect(f"a.test:{upstream.port}") == 200
    assert await client.send(b"SSH-2.0-x\r\n").rest() == b""
    assert upstream.connections == 0
    twin = await Client.to(address)
    assert await twin.connect(f"b.test:{upstream.port}") == 200
    assert await twin.send(b"SSH-2.0-x\r\n").rest() == b"SSH-2.0-x\r\n"


async def test_json_with_repeated_keys_is_refused_where_bodies_are_judged(world: World) -> None:
    """A JSON body whose keys repeat (parsers differ in which counts) is a 400; a plain one is judged and sent as it is."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port, OK, Treatment(body=True)))
    await world.start()
    address = await world.listen()
    head = "POST /ok HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/json\r\nContent-Length: "
    client = await tunnel(address, upstream)
    double = b'{"amount": 1, "amount": 1000}'
    assert (await client.send(f"{head}{len(double)}\r\n\r\n".encode() + double).answer())[0] == 400
    assert upstream.connections == 0
    twin = await tunnel(address, upstream)
    single = b'{ "amount":1 }'
    assert (await twin.send(f"{head}{len(single)}\r\n\r\n".encode() + single).answer())[0] == 200
    assert world.door.requests()[-1].body == {"amount": 1}
    assert upstream.text.endswith(single)
    twin.close()


async def test_hop_by_hop_fields_do_not_pass(world: World) -> None:
    """Fields named in Connection, proxy credentials and alternative services stay at the guard, in both directions."""
    upstream, address = await inspected(world)
    upstream.answer = response(b"hello", extra='Alt-Svc: h3=":443"\r\nConnection: X-Drop\r\nX-Drop: 1\r\nX-Keep: 1\r\n')
    client = await tunnel(address, upstream)
    client.send(
        b"GET /ok HTTP/1.1\r\nHost: a.test\r\nConnection: X-Hop\r\nX-Hop: 1\r\nProxy-Authorization: Basic eA==\r\n"
        b"TE: trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nX-End: 1\r\n\r\n"
    )
    _, head, _ = await client.answer()
    assert b"x-keep: 1" in head
    for field in (b"alt-svc", b"x-drop"):
        assert field not in head.lower()
    assert b"x-end: 1" in upstream.text
    for field in (b"x-hop", b"proxy-authorization", b"te:", b"upgrade", b"http2-settings"):
        assert field not in upstream.text.lower()
    client.close()


async def test_more_connections_than_allowed_are_turned_away(world: World) -> None:
    """The connection over the agent's limit gets a 503; once one is closed there is room again."""
    upstream, address = await inspected(world, limits=Limits(connections_per_agent=3, drain_seconds=0.2))
    held = [await tunnel(address, upstream) for _ in range(3)]
    client = await Client.to(address)
    assert (await client.answer())[0] == 503
    held[0].close()
    await asyncio.sleep(0.05)
    twin = await tunnel(address, upstream)
    assert (await twin.send(BENIGN).answer())[0] == 200
    for other in (*held, twin):
        other.close()
