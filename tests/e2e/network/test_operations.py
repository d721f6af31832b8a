"""Operations: content stages, byte limits, drain, observe mode, the flow log, the CA, retries of resolution."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import os
import stat

import pytest

from agent_os.audit.har import archive
from agent_os.core.action import Action
from agent_os.core.errors import IntegrityError
from agent_os.effects.proxy import Limits, Treatment
from agent_os.effects.proxy.authority import CertificateAuthority
from agent_os.effects.proxy.carriage import NO_STREAM
from agent_os.effects.proxy.content import Content, ContentError
from agent_os.effects.proxy.flows import Flow
from agent_os.effects.proxy.stream import Stream
from agent_os.effects.proxy.wire import Wire
from tests.e2e.network.world import Client, Place, World, response


class Words:
    """A content stage that refuses bodies with a word in them; it can be made to fail or to hang."""

    name = "words"

    def __init__(self, direction: str = "request") -> None:
        self.direction, self.mood = direction, ""
        self.seen: list[bytes] = []

    def wants(self, direction: str, host: str, treatment: Treatment) -> bool:
        return direction == self.direction

    async def inspect(self, content: Content) -> bytes:
        self.seen.append(content.body)
        if self.mood == "fail":
            raise RuntimeError("broken")
        if self.mood == "hang":
            await asyncio.sleep(60)
        if b"forbidden" in content.body:
            raise ContentError("content.words", "a forbidden word")
        return content.body


def post(port: int, body: bytes, extra: str = "") -> bytes:
    name = f"a.test:{port}"
    head = f"POST http://{name}/ok HTTP/1.1\r\nHost: {name}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


async def test_request_bodies_pass_the_stages_and_fail_closed(world: World) -> None:
    """A stage sees the whole, opened body; it denies, and its failure or delay denies too. Clean bodies pass."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port, treatment=Treatment()))
    stage = Words()
    await world.start(stages=[stage], limits=Limits(stage_seconds=0.2, drain_seconds=0.2))
    client = await Client.to(await world.listen())
    assert (await client.send(post(upstream.port, b"clean")).answer())[0] == 200
    packed = gzip.compress(b"a forbidden thing")
    status, _, body = await client.send(post(upstream.port, packed, "Content-Encoding: gzip\r\n")).answer()
    assert (status, json.loads(body)["rules"]) == (403, ["content.words"])
    assert stage.seen[1] == b"a forbidden thing"
    for mood in ("fail", "hang"):
        stage.mood = mood
        assert (await client.send(post(upstream.port, b"clean")).answer())[0] == 403
    bomb = gzip.compress(b"\0" * 40_000_000)
    stage.mood = ""
    assert (await client.send(post(upstream.port, bomb, "Content-Encoding: gzip\r\n")).answer())[0] == 403
    assert (await client.send(post(upstream.port, b"br", "Content-Encoding: br\r\n")).answer())[0] == 403
    assert upstream.text.count(b"POST") == 1
    client.close()


async def test_response_bodies_pass_the_stages(world: World) -> None:
    """A response is held back until its stage has seen it; a refused one is a 403 with nothing of the body."""
    upstream = await world.upstream(response(b"this is forbidden"))
    world.allow(Place("a.test", upstream.port, treatment=Treatment()))
    await world.start(stages=[Words("response")])
    client = await Client.to(await world.listen())
    status, _, body = await client.send(post(upstream.port, b"x")).answer()
    assert status == 403
    assert b"this is" not in body
    upstream.answer = response(b"this is fine")
    assert (await client.send(post(upstream.port, b"x")).answer())[2] == b"this is fine"
    client.close()


async def test_server_sent_events_are_streamed(world: World) -> None:
    """Each event reaches the client when it was sent, not at the end of the response."""
    go = asyncio.Event()

    async def events(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: one\n\n")
        await writer.drain()
        await asyncio.wait_for(go.wait(), 5)
        writer.write(b"data: two\n\n")
        await writer.drain()

    upstream = await world.upstream(events)
    world.allow(Place("a.test", upstream.port, treatment=Treatment()))
    await world.start()
    client = await Client.to(await world.listen())
    name = f"a.test:{upstream.port}"
    client.send(f"GET http://{name}/ok HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
    await client.head()
    assert await asyncio.wait_for(client.reader.readuntil(b"one\n\n\r\n"), 5)
    go.set()
    assert b"two" in await asyncio.wait_for(client.reader.readuntil(b"0\r\n\r\n"), 5)
    client.close()


async def test_a_destination_has_a_byte_budget(world: World) -> None:
    """An answer that does not fit into what is left of the destination's bytes is denied; another destination is free."""
    upstream = await world.upstream(response(b"x" * 5_000_000))
    limited = Treatment(total_bytes=6_000_000)
    world.allow(
        Place("a.test", upstream.port, treatment=limited), Place("b.test", upstream.port, treatment=Treatment())
    )
    await world.start()
    address = await world.listen()
    statuses = []
    for host in ("a.test", "a.test", "a.test", "b.test"):
        client = await Client.to(address)
        client.send(post(upstream.port, b"hello").replace(b"a.test", host.encode()))
        statuses.append((await client.answer())[0])
        client.close()
    assert statuses == [200, 403, 403, 200]


async def test_a_passed_tunnel_over_its_bytes_is_cut(world: World) -> None:
    """A relay carries exactly what its destination may, counted both ways, and is then cut."""

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"x" * 10000)
            await writer.drain()
            await asyncio.sleep(0.01)

    upstream = await world.upstream(flood)
    world.allow(Place("a.test", upstream.port, treatment=Treatment(inspect=False, total_bytes=50_000)))
    await world.start()
    address = await world.listen()
    client = await Client.to(address)
    assert await client.connect(f"a.test:{upstream.port}") == 200
    assert await client.all() == (b"x" * 50_000, True)
    (row,) = await world.quiet()
    assert "byte budget" in row["ended"]
    assert row["bytes_up"] + row["bytes_down"] == 50_000
    again = await Client.to(address)
    assert await again.connect(f"a.test:{upstream.port}") == 200
    assert await again.all() == (b"", True), "another tunnel of this agent carries nothing more"


async def test_a_connection_leaves_nothing_to_the_collector(world: World) -> None:
    """Tunnels and requests that are over free what they held at once: no cycles, so no pauses that grow with traffic."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port), Place("b.test", upstream.port, treatment=Treatment()))
    await world.start()
    address = await world.listen()

    async def once() -> None:
        tunnel, request = await Client.to(address), await Client.to(address)
        assert await tunnel.connect(f"a.test:{upstream.port}") == 200
        tunnel.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        name = f"b.test:{upstream.port}"
        request.send(f"GET http://{name}/ok HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
        for client in (tunnel, request):
            assert (await client.answer())[0] == 200
            client.close()

    await once()
    await world.quiet()
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            await once()
        await world.quiet()
        for _ in range(100):
            left = [
                item for item in gc.get_objects() if isinstance(item, Stream | Wire | Flow) and item is not NO_STREAM
            ]
            if not left:
                break
            await asyncio.sleep(0.05)
    finally:
        gc.enable()
    assert left == []


async def test_stop_does_not_wait_for_connections_at_rest(world: World) -> None:
    """A kept connection between two requests ends at once when the guard stops, however long it may drain."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port, treatment=Treatment()))
    await world.start(limits=Limits(drain_seconds=60))
    client = await Client.to(await world.listen())
    name = f"a.test:{upstream.port}"
    client.send(f"GET http://{name}/ok HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
    assert (await client.answer())[0] == 200
    async with asyncio.timeout(30):
        await world.stop()
    assert await client.all() == (b"", False)


async def test_stop_drains_running_exchanges(world: World) -> None:
    """A request under way when the guard stops is answered; new connections are not taken."""
    begun = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        begun.set()
        await asyncio.sleep(0.3)
        writer.write(response(b"finished"))
        await writer.drain()

    upstream = await world.upstream(slow)
    world.allow(Place("a.test", upstream.port, treatment=Treatment()))
    await world.start(limits=Limits(drain_seconds=3))
    address = await world.listen()
    client = await Client.to(address)
    client.send(post(upstream.port, b""))
    await begun.wait()
    assert world.guard is not None
    stopping = asyncio.create_task(world.guard.stop())
    assert (await client.answer())[2] == b"finished"
    await stopping
    with pytest.raises(OSError):
        await Client.to(address)


async def test_observe_mode_passes_and_records_what_would_be_denied(world: World) -> None:
    """In observe mode a denial is noted and passes, but never to a private address; learn can read both."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port, [("GET", "/nothing")], Treatment()))
    await world.start(observe=True)
    client = await Client.to(await world.listen())
    assert (await client.send(post(upstream.port, b"x")).answer())[0] == 200
    private = await Client.to(client.writer.get_extra_info("peername"))
    assert await private.connect(f"b.test:{upstream.port}") == 403
    assert world.guard is not None
    assert world.guard.snapshot()["counts"]["denied"] == 2
    lines = (world.folder / "state" / "flows" / "observed.jsonl").read_text().splitlines()
    kept = [json.loads(line) for line in lines]
    assert [(line["kind"], line["host"], line.get("path", "")) for line in kept] == [
        ("net.request", "a.test", "/ok"), ("net.connect", "b.test", ""),
    ]  # fmt: skip
    assert kept[1]["resolved_ips"] == ["127.0.0.1"]
    assert [Action.parse(line).kind for line in kept] == ["net.request", "net.connect"]
    client.close()


async def test_the_flow_log_has_names_and_no_payload(world: World) -> None:
    """One line a connection and a request, private to the user, without headers, bodies or queries; a HAR of it opens."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port, treatment=Treatment()))
    await world.start()
    client = await Client.to(await world.listen())
    request = post(upstream.port, b"the-body").replace(b"/ok", b"/ok?q=the-query", 1)
    assert (await client.send(request.replace(b"Content", b"X-A: the-header\r\nContent", 1)).answer())[0] == 200
    client.close()
    await asyncio.sleep(0.05)
    assert world.guard is not None
    assert world.guard.parts is not None
    world.guard.parts.flows.flush()
    path = next((world.folder / "state" / "flows").iterdir())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {row["type"] for row in rows} == {"request", "flow"}
    assert rows[-1]["host"] == "a.test"
    assert rows[-1]["bytes_down"] > 0
    request_row = next(row for row in rows if row["type"] == "request")
    assert min(request_row["bytes_up"], request_row["bytes_down"]) > 40
    assert request_row["url"] == f"http://a.test:{upstream.port}/ok"
    intents = {request_row["audit"]: {"action": {"path": "hmac:of-the-path"}, "rules": ["net.a"]}}
    read = json.loads("".join(archive(rows, intents, "1")))["log"]
    assert (read["version"], len(read["entries"])) == ("1.2", 1)
    entry = read["entries"][0]
    assert (entry["request"]["method"], entry["request"]["url"]) == ("POST", request_row["url"])
    assert entry["request"].keys() >= {"httpVersion", "cookies", "headers", "queryString", "headersSize", "bodySize"}
    assert (entry["response"]["status"], entry["response"]["content"]["size"]) == (200, request_row["bytes_down"])
    assert entry.keys() >= {"startedDateTime", "time", "cache", "timings"}
    assert (entry["_audit"], entry["_digest"], entry["_rules"]) == (request_row["audit"], "hmac:of-the-path", ["net.a"])
    for hidden in ("the-body", "the-query", "the-header"):
        assert hidden not in path.read_text()


def test_a_ca_key_that_others_can_read_is_refused(world: World) -> None:
    """The key is made 0600 and taken again at the next start; opened to others, the guard does not start."""
    folder = world.folder / "ca"
    first = CertificateAuthority(folder)
    assert stat.S_IMODE((folder / "ca.key").stat().st_mode) == 0o600
    assert CertificateAuthority(folder).certificate == first.certificate
    os.chmod(folder / "ca.key", 0o644)
    with pytest.raises(IntegrityError):
        CertificateAuthority(folder)


async def test_idle_connections_are_closed(world: World) -> None:
    """A keep-alive connection without a further request ends; one that is used in time goes on."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port, treatment=Treatment()))
    await world.start(limits=Limits(keep_alive_seconds=0.8, drain_seconds=0.2))
    client = await Client.to(await world.listen())
    for _ in range(2):
        assert (await client.send(post(upstream.port, b"x")).answer())[0] == 200
        await asyncio.sleep(0.3)
    assert await client.rest() == b""


async def test_bodies_held_at_one_time_are_bounded(world: World) -> None:
    """A body that would exceed what all connections together may hold is a 503; once there is room it passes."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port, treatment=Treatment(body=True)))
    await world.start(limits=Limits(inspect_bytes_total=1500, drain_seconds=0.2))
    address = await world.listen()
    first = await Client.to(address)
    first.send(post(upstream.port, b"x" * 1000)[:-500])
    await asyncio.sleep(0.05)
    second = await Client.to(address)
    assert (await second.send(post(upstream.port, b"x" * 1000)).answer())[0] == 503
    assert (await first.send(b"x" * 500).answer())[0] == 200
    twin = await Client.to(address)
    assert (await twin.send(post(upstream.port, b"x" * 1000)).answer())[0] == 200
    for client in (first, twin):
        client.close()
