"""Attacks on framing and bounds over raw sockets; each test also sends the benign twin, so that denying everything would show."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from agent_os.effects.proxy import Limits, Treatment
from tests.e2e.network.shapes import BENIGN, OK, inspected, tunnel
from tests.e2e.network.world import Client, Place, World, response

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


async def test_a_server_that_answers_before_it_has_the_body_is_heard(world: World) -> None:
    """It answers 413 and closes while the body is on its way: the client gets the 413, not an error of ours."""

    async def full(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge")

    upstream, address = await inspected(world)
    upstream.answer = full
    for _ in range(3):
        client = await tunnel(address, upstream)
        client.send(b"POST /ok HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5000000\r\n\r\n" + b"x" * 2_000_000)
        status, _, body = await client.answer()
        assert (status, body) == (413, b"large")
        client.close()


async def test_nothing_of_ours_stands_in_the_middle_of_an_answer(world: World) -> None:
    """ATTACK: a body that turns malformed once its answer has begun: the connection is cut, no 400 is written into the answer."""

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\nabc")
        await reader.read()

    upstream, address = await inspected(world)
    upstream.answer = early
    client = await tunnel(address, upstream)
    client.send(b"POST /ok HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    assert (await client.head()).startswith(b"HTTP/1.1 200")
    assert await asyncio.wait_for(client.reader.readexactly(3), 5) == b"abc"
    said, reset = await client.send(b"5;x=1\r\n").all()
    assert (said, reset) == (b"", True)
