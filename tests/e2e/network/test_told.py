"""A denied CONNECT is told inside the tunnel to programs that show nothing else of it; nothing of that goes anywhere."""

from __future__ import annotations

import json
import os
import ssl

import pytest

from agent_os.effects.proxy import ListenerIdentity, front
from tests.e2e.network.world import Client, Place, World

SANDBOX = ListenerIdentity(executables=False, sandbox_pid=os.getpid())
SECRET = b"what-the-client-says-into-the-tunnel"


async def asked(world: World, authority: str, agent: str, identity: ListenerIdentity = SANDBOX) -> tuple[Client, int]:
    """A CONNECT by a program of this User-Agent; the client and the status."""
    client = await Client.to(await world.listen(identity=identity))
    client.send(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {agent}\r\n\r\n".encode())
    return client, int((await client.head()).split(b" ")[1])


@pytest.mark.parametrize("agent", ["curl/8.5.0", "git/2.39.5", "uv/0.9 {}", "PycURL/7.45 libcurl/7.88"])
async def test_the_reason_stands_in_the_answer_to_the_first_request(world: World, agent: str) -> None:
    """The tunnel is taken, the first request is a 403 with the reason in TLS for that very host, and no byte goes upstream."""
    upstream = await world.upstream()
    world.allow(Place("a.test", upstream.port))
    await world.start()
    client, status = await asked(world, f"denied.test:{upstream.port}", agent)
    assert status == 200
    await client.tls(world.client_context(), "denied.test")
    line = f"GET /x HTTP/1.1\r\nHost: denied.test\r\nUser-Agent: {agent}\r\nAuthorization: ".encode()
    status, head, body = await client.send(line + SECRET + b"\r\n\r\n").answer()
    assert status == 403
    assert b"connection: close" in head
    said = body.decode() if agent.startswith("git/") else json.loads(body)["detail"]
    assert "no rule allows this" in said
    assert await client.rest() == b""
    await world.quiet()
    assert upstream.connections == 0
    assert SECRET not in b"".join(path.read_bytes() for path in world.folder.rglob("*") if path.is_file())
    assert [row["verdict"] for row in world.guard.snapshot()["recent"] if row["type"] == "flow"] == ["deny"]  # type: ignore[union-attr]


async def test_an_allowed_tunnel_of_the_same_program_is_its_own(world: World) -> None:
    """The twin: where policy allows the host the same program talks to the server itself, with the server's certificate."""
    upstream = await world.upstream(tls="a.test")
    world.allow(Place("a.test", upstream.port))
    await world.start()
    client, status = await asked(world, f"a.test:{upstream.port}", "curl/8.5.0")
    assert status == 200
    await client.tls(ssl.create_default_context(cafile=str(world.tls.root)), "a.test")
    assert (await client.send(b"GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n").answer())[2] == b"hello"
    client.close()


@pytest.mark.parametrize(
    ("agent", "identity"),
    [("python-requests/2.32", SANDBOX), ("", SANDBOX), ("curl/8.5.0", ListenerIdentity(executables=False))],
    ids=["shows the phrase", "says nothing", "outside a sandbox"],
)
async def test_others_are_told_at_connect(world: World, agent: str, identity: ListenerIdentity) -> None:
    """Programs that show the reason phrase, and those that may not trust the guard's certificates, get the 403 at once."""
    await world.start()
    client, status = await asked(world, "denied.test:443", agent, identity)
    assert status == 403
    assert b"no rule allows this" in await client.rest()


@pytest.mark.parametrize(
    "first", [b"\x16\x03\x01\x00\x05hello", b"SSH-2.0-x\r\n", b"GET / HTTP/1.1\r\nbad\r\n\r\n", b""]
)
async def test_what_is_no_request_is_just_closed(world: World, first: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken TLS, another protocol, a malformed head, silence: the tunnel closes within its time, and nothing goes out."""
    monkeypatch.setattr(front, "TELL_SECONDS", 0.2)
    upstream = await world.upstream()
    await world.start()
    client, status = await asked(world, f"denied.test:{upstream.port}", "curl/8.5.0")
    assert status == 200
    client.send(first)
    assert b"hello" not in await client.rest()
    await world.quiet()
    assert upstream.connections == 0


async def test_a_program_with_certificates_of_its_own_is_told_at_connect_next(world: World) -> None:
    """It cannot be told in TLS and sees a certificate error: the person is told, and its next CONNECT is answered 403.

    The twin, a host it was not denied yet, is still told inside.
    """
    await world.start()
    client, status = await asked(world, "denied.test:443", "curl/8.5.0")
    assert status == 200
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    own = ssl.create_default_context(cafile=str(world.tls.root))
    session = own.wrap_bio(incoming, outgoing, server_hostname="denied.test")
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    incoming.write(await client.send(outgoing.read()).reader.read(65536))
    with pytest.raises(ssl.SSLCertVerificationError):
        session.do_handshake()
    client.send(outgoing.read()).close()  # the alert
    await world.quiet()
    assert world.guard is not None
    assert world.guard.parts is not None
    assert any("CA certificates of its own" in what for what in world.guard.parts.unreached)
    client, status = await asked(world, "denied.test:443", "curl/8.5.0")
    assert status == 403
    assert b"no rule allows this" in await client.rest()
    assert (await asked(world, "other.test:443", "curl/8.5.0"))[1] == 200
