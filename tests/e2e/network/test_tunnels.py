"""Tunnels: CONNECT, SOCKS5, transparent; passed through and inspected; denied in the language of the door."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from agent_os.effects.proxy import Treatment
from tests.e2e.network.shapes import client_hello
from tests.e2e.network.world import Client, Place, World, response

GET = b"GET /ok HTTP/1.1\r\nHost: a.test\r\n\r\n"


async def test_connect_passes_bytes_through_to_an_allowed_host(world: World) -> None:
    """A tunnel to an allowed host relays both ways and keep-alive requests go on in it."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port))
    await world.start()
    client = await Client.to(await world.listen())
    assert await client.connect(f"a.test:{upstream.port}") == 200
    for _ in range(3):
        client.send(GET.replace(b"a.test", f"a.test:{upstream.port}".encode()))
        assert (await client.answer())[2] == b"hello"
    assert upstream.connections == 1
    client.close()


async def test_connect_to_a_host_no_rule_allows_is_a_readable_403(world: World) -> None:
    """The denial of a CONNECT is a problem document, and the name was never looked up."""
    world.allow(Place("a.test", 443))
    await world.start()
    client = await Client.to(await world.listen())
    client.send(b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n")
    status, head, body = await client.answer()
    assert status == 403
    assert b"application/problem+json" in head
    said = json.loads(body)
    assert said["rules"] == ["net.default"]
    assert said["destination"] == "evil.test:443"
    assert "policy.local" in said["what_next"]
    assert world.resolver.asked == []


async def test_inspected_tls_is_judged_request_by_request(world: World) -> None:
    """In an inspected tunnel the first request passes, a forbidden path is a 403, and the connection goes on."""
    upstream = await world.upstream(tls="a.test")
    world.allow(Place("a.test", upstream.port, [("GET", "/ok")], Treatment()))
    await world.start()
    client = await Client.to(await world.listen())
    assert await client.connect(f"a.test:{upstream.port}") == 200
    await client.tls(world.client_context(), "a.test")
    client.send(GET)
    assert (await client.answer())[2] == b"hello"
    client.send(GET.replace(b"/ok", b"/secret"))
    status, _, body = await client.answer()
    assert status == 403
    assert json.loads(body)["allowed_instead"] == "GET /ok is allowed"
    client.send(GET)
    assert (await client.answer())[0] == 200
    assert b"/secret" not in upstream.text
    assert [request.path for request in world.door.requests()] == ["/ok", "/secret", "/ok"]
    client.close()


async def test_socks5_resolves_names_itself(world: World) -> None:
    """A SOCKS5 client that sends a name gets a tunnel; a forbidden one gets reply 2."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port))
    await world.start()
    address = await world.listen("socks")

    async def ask(name: bytes) -> tuple[int, Client]:
        client = await Client.to(address)
        client.send(b"\x05\x01\x00")
        assert await client.reader.readexactly(2) == b"\x05\x00"
        client.send(b"\x05\x01\x00\x03" + bytes((len(name),)) + name + upstream.port.to_bytes(2, "big"))
        return (await client.reader.readexactly(10))[1], client

    code, client = await ask(b"a.test")
    assert code == 0
    assert (await client.send(GET).answer())[0] == 200
    assert (await ask(b"evil.test"))[0] == 2
    assert (await ask(b"a.test\x00.evil.test"))[0] == 1
    client.close()


async def test_absolute_form_requests_are_judged_and_reused(world: World) -> None:
    """A forward-proxy request is judged per request; two to one host share the upstream connection."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port, [("GET", "/ok*")], Treatment()))
    await world.start()
    client = await Client.to(await world.listen())
    base = f"http://a.test:{upstream.port}"
    for path in ("/ok", "/ok2"):
        client.send(f"GET {base}{path} HTTP/1.1\r\nHost: a.test:{upstream.port}\r\n\r\n".encode())
        assert (await client.answer())[0] == 200
    client.send(f"DELETE {base}/ok HTTP/1.1\r\nHost: a.test:{upstream.port}\r\n\r\n".encode())
    assert (await client.answer())[0] == 403
    assert upstream.connections == 1
    assert b"GET /ok HTTP/1.1" in upstream.text
    assert b"http://" not in upstream.text
    client.close()


async def test_bodies_stream_both_ways(world: World) -> None:
    """A chunked upload arrives whole, a response without length comes back chunked, a large one comes back whole."""
    big = b"x" * 3_000_000

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        size = 0
        while chunk := int(await reader.readline(), 16):
            size += len(await reader.readexactly(chunk + 2)) - 2
        await reader.readexactly(2)
        writer.write(b"HTTP/1.1 200 OK\r\nX-Size: %d\r\n\r\n" % size + big)
        await writer.drain()

    upstream = await world.upstream(answer, tls="a.test")
    world.allow(Place("a.test", upstream.port, treatment=Treatment()))
    await world.start()
    client = await Client.to(await world.listen())
    assert await client.connect(f"a.test:{upstream.port}") == 200
    await client.tls(world.client_context(), "a.test")
    client.send(b"POST /ok HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(10):
        client.send(b"10000\r\n" + b"u" * 0x10000 + b"\r\n")
    client.send(b"0\r\n\r\n")
    status, head, body = await client.answer()
    assert (status, body) == (200, big)
    assert b"x-size: 655360" in head
    assert b"transfer-encoding: chunked" in head
    client.close()


async def test_policy_local_says_what_may_be_reached(world: World) -> None:
    """The guard answers policy.local itself: the list, a question, and the CA certificate."""
    world.allow(Place("a.test", 443))
    await world.start()
    client = await Client.to(await world.listen())
    client.send(b"GET http://policy.local/ HTTP/1.1\r\nHost: policy.local\r\n\r\n")
    assert json.loads((await client.answer())[2])["reachable"] == [{"host": "a.test", "port": 443}]
    client.send(b"GET http://policy.local/may?host=evil.test HTTP/1.1\r\nHost: policy.local\r\n\r\n")
    assert json.loads((await client.answer())[2])["verdict"] == "deny"
    client.send(b"GET http://policy.local/ca.pem HTTP/1.1\r\nHost: policy.local\r\n\r\n")
    assert b"BEGIN CERTIFICATE" in (await client.answer())[2]
    client.close()


async def test_a_server_may_speak_first_in_a_passed_tunnel(world: World) -> None:
    """Protocols whose server speaks first work through a pass-through tunnel."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        writer.write(b"got " + await reader.readline())
        await writer.drain()

    upstream = await world.upstream(greet)
    world.allow(Place("a.test", upstream.port))
    await world.start()
    client = await Client.to(await world.listen())
    assert await client.connect(f"a.test:{upstream.port}") == 200
    assert await client.reader.readline() == b"220 hello\r\n"
    assert await client.send(b"EHLO x\r\n").rest() == b"got EHLO x\r\n"


async def test_head_and_no_content_responses_keep_the_connection(world: World) -> None:
    """Responses without a body are framed right: HEAD keeps its Content-Length, 204 has none."""
    upstream = await world.upstream(response(b"", status="204 No Content").replace(b"Content-Length: 0\r\n", b""))
    world.allow(Place("a.test", upstream.port, treatment=Treatment()))
    await world.start()
    client = await Client.to(await world.listen())
    url = f"http://a.test:{upstream.port}/ok HTTP/1.1\r\nHost: a.test:{upstream.port}\r\n\r\n"
    for _ in range(2):
        assert (await client.send(f"GET {url}".encode()).answer())[0] == 204
    upstream.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"
    head = await client.send(f"HEAD {url}".encode()).head()
    assert b"content-length: 1234" in head
    client.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
async def test_curl_with_expect_continue_and_with_http_1_0(world: World, tmp_path: Path) -> None:
    """A large upload that waits for 100 Continue arrives whole, streamed or read first; HTTP/1.0 is answered and closed."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port, treatment=Treatment()))
    world.allow(Place("b.test", upstream.port, treatment=Treatment(body=True)))
    await world.start()
    host, port = await world.listen()
    upload = tmp_path / "upload"
    upload.write_bytes(b"u" * 3_000_000)

    async def curl(*arguments: str) -> str:
        argv = ["curl", "-sS", "-m", "10", "-x", f"http://{host}:{port}", "-w", " %{http_code}", *arguments]
        made = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
        return (await made.communicate())[0].decode()

    for name in ("a.test", "b.test"):
        url = f"http://{name}:{upstream.port}/ok"
        assert await curl("-H", "Expect: 100-continue", "--data-binary", f"@{upload}", url) == "hello 200"
    assert upstream.text.count(b"u" * 3_000_000) == 2
    assert b"expect" not in upstream.text[:300].lower()
    assert await curl("-0", f"http://a.test:{upstream.port}/ok") == "hello 200"
    upstream.answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    assert await curl("-0", f"http://a.test:{upstream.port}/ok") == "hello 200"


async def test_a_half_closed_client_is_answered_in_a_passed_tunnel(world: World) -> None:
    """A client that sends everything and ends its side at once (like `nc`) gets its answer."""

    async def reverse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read())[::-1])
        await writer.drain()

    upstream = await world.upstream(reverse)
    world.allow(Place("a.test", upstream.port))
    await world.start()
    client = await Client.to(await world.listen())
    client.send(f"CONNECT a.test:{upstream.port} HTTP/1.1\r\nHost: a.test\r\n\r\nabc".encode())
    client.writer.write_eof()
    assert b" 200 " in await client.head()
    assert await client.rest() == b"cba"


async def test_a_failed_handshake_ends_the_connection(world: World) -> None:
    """A client whose TLS cannot be spoken (too old), or that ends inside its handshake, is let go at once."""
    upstream = await world.upstream(tls="a.test")
    world.allow(Place("a.test", upstream.port, treatment=Treatment()))
    await world.start()
    address = await world.listen()
    old = client_hello("a.test").replace(b"\x03\x03", b"\x03\x01", 1)
    for hello in (old[:-30] + b"\0" * 30, client_hello("a.test")):
        client = await Client.to(address)
        assert await client.connect(f"a.test:{upstream.port}") == 200
        client.send(hello)
        client.writer.write_eof()
        await asyncio.wait_for(client.rest(), 3)
    assert upstream.connections == 0
    twin = await Client.to(address)
    assert await twin.connect(f"a.test:{upstream.port}") == 200
    await twin.tls(world.client_context(), "a.test")
    assert (await twin.send(GET).answer())[0] == 200
    twin.close()


async def test_policy_local_answers_in_tls_too(world: World) -> None:
    """Programs that know https only ask the same question; another name inside is still refused."""
    world.allow(Place("a.test", 443))
    await world.start()
    address = await world.listen()
    for host, status in (("policy.local", 200), ("evil.test", 421)):
        client = await Client.to(address)
        assert await client.connect("policy.local:443") == 200
        await client.tls(world.client_context(), "policy.local")
        answer = await client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).answer()
        assert answer[0] == status
        assert (b"a.test" in answer[2]) == (status == 200)
        client.close()
