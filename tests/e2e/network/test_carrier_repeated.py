"""Plain requests that repeat, in the carrier: equal bytes go on there, and every other one is judged as ever."""

from __future__ import annotations

import asyncio

import pytest

from agent_os.effects.proxy import Treatment
from tests.e2e.network.carriers import live, started, tunnel, until
from tests.e2e.network.world import Client, Handler, Place, Upstream, World, response


async def ask(client: Client, head: bytes) -> tuple[int, bytes]:
    """One request as these bytes, and its answer."""
    client.send(head)
    status, _, body = await client.answer()
    return status, body


def repeating(world: World) -> bool:
    """Whether the carrier has the client's direction of the one tunnel there is."""
    return [flow.client.lent is not None for flow in live(world)] == [True]


async def repeated(world: World, head: bytes, answer: Handler | None = None) -> tuple[Upstream, Client]:
    """A tunnel whose requests the carrier has: its server and its client."""
    upstream, address = await started(world, answer)
    client = await tunnel(address, upstream)
    async with asyncio.timeout(10):
        while not repeating(world):
            assert (await ask(client, head))[0] == 200
    return upstream, client


HEAD = b"GET /ok HTTP/1.1\r\nHost: a.test\r\n\r\n"


async def test_requests_that_repeat_are_lent_and_every_other_one_is_judged(world: World) -> None:
    """Heads that are equal but for their target go on in the carrier and are counted; one with other fields is read by the
    guard, and passes or is denied."""
    upstream, client = await repeated(world, HEAD)
    for number in range(3):
        assert (await ask(client, HEAD.replace(b"/ok", b"/ok/%d?a=b" % number)))[0] == 200
    assert repeating(world)
    assert live(world)[0].up == len(upstream.text)
    assert live(world)[0].down > 0
    other = HEAD.replace(b"\r\n\r\n", b"\r\nX: y\r\n\r\n")
    assert (await ask(client, other))[0] == 200
    assert not repeating(world)
    assert live(world)[0].up == len(upstream.text)
    client.send(HEAD.replace(b"a.test", b"evil.test"))
    assert await client.rest() == b""
    await world.quiet()
    assert upstream.text.endswith(HEAD.replace(b"/ok", b"/ok/2?a=b") + other)
    assert world.guard is not None
    alerts = [row["rule"] for row in world.guard.snapshot()["recent"] if row["type"] == "alert"]
    assert alerts == ["egress.host-mismatch"]


async def test_a_lent_request_in_pieces_or_with_another_behind_it_comes_back(world: World) -> None:
    """A piece that is not exactly one head is the guard's: halves are put together, what stands behind a head is read."""
    upstream, client = await repeated(world, HEAD)
    client.send(HEAD[:9])
    await until(lambda: not repeating(world))
    assert (await ask(client, HEAD[9:]))[0] == 200
    assert upstream.text == HEAD * (len(upstream.text) // len(HEAD))
    client.close()
    await world.stop()
    upstream, client = await repeated(world, HEAD)
    client.send(HEAD + HEAD.replace(b"a.test", b"evil.test"))
    await client.rest()
    await world.quiet()
    assert b"evil" not in upstream.text


async def test_nothing_foreign_goes_on_in_a_lent_direction(world: World) -> None:
    """A request for another host that is as long as the judged one, to the byte, ends the tunnel and reaches nobody."""
    upstream, client = await repeated(world, HEAD)
    client.send(HEAD.replace(b"a.test", b"b.test"))
    assert await client.rest() == b""
    await world.quiet()
    assert b"b.test" not in upstream.text


async def test_repeated_requests_with_bodies_and_budgets_stay_with_the_guard(world: World) -> None:
    """A body can be anything: its request is never lent; nor is anything of a destination whose bytes are counted."""
    upstream, address = await started(world)
    client = await tunnel(address, upstream)
    for _ in range(20):
        assert (await ask(client, b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi"))[0] == 200
    assert not repeating(world)
    client.close()
    await world.quiet()
    world.rules.places.clear()
    world.allow(Place("a.test", upstream.port, treatment=Treatment(inspect=False, total_bytes=1_000_000)))
    client = await tunnel(address, upstream)
    for _ in range(20):
        assert (await ask(client, HEAD))[0] == 200
    assert not repeating(world)


async def test_a_client_that_changes_its_mind_is_lent_to_less_often(world: World) -> None:
    """Each time it comes back it must repeat itself twice as often: what it costs to go to and fro stays small."""
    _, client = await repeated(world, HEAD)
    assert (await ask(client, HEAD.replace(b"GET", b"HEAD")))[0] == 200
    for _ in range(12):
        assert (await ask(client, HEAD))[0] == 200
    assert not repeating(world)
    for _ in range(12):
        assert (await ask(client, HEAD))[0] == 200
    await until(lambda: repeating(world))


@pytest.mark.parametrize("who", ["client", "server"])
async def test_the_end_of_a_lent_direction_is_passed_on(world: World, who: str) -> None:
    """Either side that ends while the carrier has both directions ends the tunnel in order."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n") == HEAD:
            writer.write(response(b"hello"))

    _, client = await repeated(world, HEAD, answer=answer)
    if who == "server":
        client.send(HEAD.replace(b"GET", b"END"))
        assert await client.rest() == b""
    client.close()
    rows = await world.quiet()
    assert [row["ended"] for row in rows] == [""]
    assert rows[0]["bytes_up"] % len(HEAD) in (0, 1)
