"""Through a corporate proxy that asks for a password of its own: environment to wire, passed and inspected."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import pytest

from agent_os.effects.proxy import Treatment
from agent_os.runtime.network import corporate_proxy
from tests.e2e.network.world import Client, Place, World

USER = "Basic " + base64.b64encode(b"gate user:p@ss:word").decode()
SETTINGS = {
    "AGENTOS_UPSTREAM_PROXY": "http://gate%20user:p%40ss%3Aword@127.0.0.1:{port}",
    "AGENTOS_UPSTREAM_NO_PROXY": "direct.test",
}


class Corporate:
    """A CONNECT proxy that wants a user and a password, and keeps what it was asked."""

    def __init__(self, origin: int) -> None:
        self.heads: list[str] = []
        self._origin = origin

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        if f"proxy-authorization: {USER}" not in head:
            writer.write(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 6\r\n\r\nsecret"
            )
            await writer.drain()
            return
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        inner = await asyncio.open_connection("127.0.0.1", self._origin)
        await asyncio.gather(pump(reader, inner[1]), pump(inner[0], writer))


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@pytest.mark.parametrize("inspected", [True, False])
async def test_the_guard_logs_in_to_the_corporate_proxy(world: World, inspected: bool) -> None:
    """Its password is the operator's and goes to it alone; hosts named beside it go direct; the client sees neither."""
    origin = await world.upstream(tls=["a.test", "direct.test"])
    corporate = Corporate(origin.port)
    gate = await world.upstream(corporate.serve)
    treatment = Treatment() if inspected else Treatment(inspect=False)
    for host in ("a.test", "direct.test"):
        world.allow(Place(host, origin.port, treatment=treatment))
    settings = {name: value.format(port=gate.port) for name, value in SETTINGS.items()}
    await world.start(corporate=corporate_proxy(settings))
    address = await world.listen()
    context = world.client_context()
    if not inspected:
        context.load_verify_locations(str(world.tls.root))
    for host, through in (("a.test", 1), ("direct.test", 1)):
        client = await Client.to(address)
        assert await client.connect(f"{host}:{origin.port}") == 200
        await client.tls(context, host)
        client.send(f"GET /ok HTTP/1.1\r\nHost: {host}:{origin.port}\r\nConnection: close\r\n\r\n".encode())
        assert (await client.answer())[2] == b"hello"
        client.close()
        assert len(corporate.heads) == through
    assert corporate.heads[0].startswith(f"CONNECT a.test:{origin.port} HTTP/1.1")
    assert b"proxy-authorization" not in origin.text.lower()


async def test_a_wrong_password_is_said_without_the_password(world: World, tmp_path: Path) -> None:
    """The client reads that the proxy answered 407; nothing of its answer and nothing of the password."""
    origin = await world.upstream()
    gate = await world.upstream(Corporate(origin.port).serve)
    world.allow(Place("a.test", origin.port, treatment=Treatment()))
    await world.start(corporate=corporate_proxy({"AGENTOS_UPSTREAM_PROXY": f"http://gate:wr0ng@127.0.0.1:{gate.port}"}))
    client = await Client.to(await world.listen())
    name = f"a.test:{origin.port}"
    status, head, body = await client.send(f"GET http://{name}/ok HTTP/1.1\r\nHost: {name}\r\n\r\n".encode()).answer()
    assert status == 502
    assert "the corporate proxy answered 407" in json.loads(body)["detail"]
    assert b"wr0ng" not in head + body
    assert b"secret" not in body
    client.close()
    logged = "".join(path.read_text() for path in (tmp_path / "state").rglob("*.jsonl"))
    assert "wr0ng" not in logged
