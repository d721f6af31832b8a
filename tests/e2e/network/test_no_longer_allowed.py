"""What policy stops allowing ends: at a reload, whatever moment it comes in, and when a grant or a right ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import connect

from agent_os.core.action import Action, NetConnect, NetRequest
from agent_os.effects.proxy import Treatment, guard
from agent_os.effects.proxy.parts import GuardRevision
from tests.e2e.network.test_websocket import echo
from tests.e2e.network.world import Client, Place, Rules, World, response

INSPECT = Treatment()


async def reload(world: World, *places: Place) -> int:
    """Put other rules in force, the door first, as the runtime does; return how many connections were cut."""
    assert world.guard is not None
    rules = Rules(places)
    rules.digest = "sha256:other"
    world.rules = world.door.rules = rules
    return await world.guard.reload(GuardRevision(rules))


def once(world: World, kind: type, work: Callable[[], Any]) -> None:
    """Do something while the next intent of a kind is written."""

    async def during(action: Action) -> None:
        if type(action) is kind:
            world.door.during = None
            await work()

    world.door.during = during


@pytest.mark.parametrize("allowed", [False, True], ids=["denied", "twin"])
async def test_a_reload_between_the_judgement_of_a_tunnel_and_its_connect(world: World, allowed: bool) -> None:
    """What was judged by the old revision is judged again: no byte goes to a place that is not allowed any more."""
    upstream = await world.upstream()
    place = Place("a.test", upstream.port)
    world.allow(place)
    await world.start()
    once(world, NetConnect, lambda: reload(world, *([place] if allowed else [])))
    client = await Client.to(await world.listen())
    assert await client.connect(f"a.test:{upstream.port}") == (200 if allowed else 403)
    if allowed:
        assert (await client.send(b"GET /ok HTTP/1.1\r\nHost: a.test\r\n\r\n").answer())[0] == 200
    client.close()
    await world.quiet()
    assert upstream.connections == allowed


async def test_a_reload_that_wants_to_look_while_a_tunnel_connects(world: World) -> None:
    """A tunnel that was to be passed is not opened unread where the new revision inspects; a new one is inspected."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port))
    await world.start()
    if world.carry != "never":
        pytest.skip("the carrier connects by itself: what it has is cut by slot (test_carrier)")
    connecting = asyncio.Event()

    async def slowly(*_arguments: Any, **_options: Any) -> Any:
        connecting.set()
        await asyncio.sleep(30)

    address = await world.listen()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent_os.effects.proxy.route.connect", slowly)
        client = await Client.to(address)
        client.send(b"CONNECT a.test:%d HTTP/1.1\r\nHost: a.test:%d\r\n\r\n" % ((upstream.port,) * 2))
        await connecting.wait()
        assert await reload(world, Place("a.test", upstream.port, [("GET", "/ok")], INSPECT)) == 1
        assert await client.rest() == b""
    assert upstream.connections == 0
    again = await Client.to(address)
    assert await again.connect(f"a.test:{upstream.port}") == 200
    host = b"Host: a.test:%d\r\n\r\n" % upstream.port
    assert (await again.send(b"GET /secret HTTP/1.1\r\n" + host).answer())[0] == 403
    assert (await again.send(b"GET /ok HTTP/1.1\r\n" + host).answer())[0] == 200
    again.close()


@pytest.mark.parametrize("allowed", [False, True], ids=["denied", "twin"])
async def test_a_reload_between_the_judgement_of_a_request_and_its_first_byte(world: World, allowed: bool) -> None:
    """The request is judged by the revision that is in force when it goes out."""
    upstream = await world.upstream()
    place = Place("a.test", upstream.port, [("GET", "/x")], INSPECT)
    world.allow(place)
    await world.start()
    once(world, NetRequest, lambda: reload(world, place if allowed else replace(place, requests=[("GET", "/y")])))
    client = await Client.to(await world.listen())
    client.send(b"GET http://a.test:%d/x HTTP/1.1\r\nHost: a.test:%d\r\n\r\n" % ((upstream.port,) * 2))
    assert (await client.answer())[0] == (200 if allowed else 403)
    assert (b"/x" in upstream.text) is allowed
    client.close()


async def test_an_event_stream_ends_when_its_request_is_no_longer_allowed(world: World) -> None:
    """The stream of a path that the new revision denies is cut in mid-stream; the other one goes on."""
    going: list[asyncio.StreamWriter] = []

    async def events(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        going.append(writer)
        await reader.read()

    upstream = await world.upstream(events)
    both = Place("a.test", upstream.port, [("GET", "/cut"), ("GET", "/kept")], INSPECT)
    world.allow(both)
    await world.start()
    address = await world.listen()
    clients = [await Client.to(address) for _ in range(2)]
    for client, path in zip(clients, ("cut", "kept"), strict=True):
        client.send(
            b"GET http://a.test:%d/%s HTTP/1.1\r\nHost: a.test:%d\r\n\r\n"
            % (upstream.port, path.encode(), upstream.port)
        )
        await client.reader.readuntil(b"data: 1")
    assert await reload(world, replace(both, requests=[("GET", "/kept")])) == 1
    await clients[0].rest()
    going[1].write(b"data: 2\n\n")
    await clients[1].reader.readuntil(b"data: 2")
    clients[1].close()


async def test_a_websocket_ends_when_its_upgrade_is_no_longer_allowed(world: World) -> None:
    """An open WebSocket is held to the new revision: its messages are judged, and without its upgrade it is cut."""
    async with echo() as (port, got):
        place = Place("a.test", port, [("GET", "/ws")], replace(INSPECT, messages=False))
        world.allow(place)
        await world.start()
        host, own = await world.listen()
        async with connect(f"ws://a.test:{port}/ws", proxy=f"http://{host}:{own}") as client:
            await client.send("unread")
            assert await client.recv() == "unread"
            assert await reload(world, replace(place, treatment=INSPECT)) == 0
            await client.send("judged now")
            with pytest.raises(websockets.ConnectionClosed):
                await client.recv()
        async with connect(f"ws://a.test:{port}/ws", proxy=f"http://{host}:{own}") as client:
            assert await reload(world, replace(place, requests=[("GET", "/other")])) == 1
            with pytest.raises(websockets.ConnectionClosed):
                await client.recv()
    assert got == ["unread"]


@pytest.mark.parametrize("kind", ["tunnel", "request"])
async def test_what_a_grant_let_through_ends_with_it(world: World, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any reload: a connection that the door does not let go on is cut, the other one stays."""
    monkeypatch.setattr(guard, "RECHECK_SECONDS", 0.0)

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.read()

    upstream = await world.upstream(slow)
    treatment = Treatment(inspect=kind == "request")
    world.allow(*(Place(name, upstream.port, treatment=treatment) for name in ("a.test", "b.test")))
    await world.start()
    address = await world.listen()
    clients = []
    for name in ("a.test", "b.test"):
        client = await Client.to(address)
        assert await client.connect(f"{name}:{upstream.port}") == 200
        client.send(f"GET /x HTTP/1.1\r\nHost: {name}:{upstream.port}\r\n\r\n".encode())
        clients.append(client)
    async with asyncio.timeout(10):
        while upstream.connections < 2:
            await asyncio.sleep(0.01)
    world.door.rules = Rules([place for place in world.rules.places if place.host != "a.test"])
    assert await clients[0].rest() == b""
    await asyncio.sleep(1.2)
    assert not clients[1].reader.at_eof()
    assert [row["host"] for row in world.guard.snapshot()["live"]] == ["b.test"]  # type: ignore[union-attr]
    clients[1].close()


async def test_nothing_is_cut_for_what_it_does_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that come and go while all is judged again and again: none is lost."""
    monkeypatch.setattr(guard, "SWEEP_SECONDS", 0.001)
    monkeypatch.setattr(guard, "RECHECK_SECONDS", 0.0)
    upstream = await world.upstream(response(b"fine"))
    world.allow(Place("a.test", upstream.port, treatment=INSPECT))
    await world.start()
    client = await Client.to(await world.listen())
    assert await client.connect(f"a.test:{upstream.port}") == 200
    for _ in range(300):
        answer = await client.send(b"GET /x HTTP/1.1\r\nHost: a.test:%d\r\n\r\n" % upstream.port).answer()
        assert answer[0] == 200
    client.close()
