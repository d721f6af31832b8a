"""Logins by the guard: a program holds a placeholder; PostgreSQL, IMAP and SMTP servers get the secret.

The servers are real: PostgreSQL with SCRAM and TLS, aiosmtpd with STARTTLS and AUTH, and an IMAP server that speaks the login's
part over real TLS. The clients are the standard library's and psycopg (libpq).
"""

from __future__ import annotations

import asyncio
import base64
import imaplib
import smtplib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from typing import Any

import pytest

from agent_os.effects.proxy import Treatment
from agent_os.effects.proxy.credentials import Secret
from tests.e2e.network.authority import TestAuthority
from tests.e2e.network.world import Place, World
from tests.e2e.postgres_server import PASSWORD, binaries, postgres_server

PLACEHOLDER = "agentos-secret:MAIL_PASSWORD"


@asynccontextmanager
async def way(world: World, host: str, port: int) -> AsyncIterator[int]:
    """A local port whose connections go to (host, port) through the guard, for clients that know of no proxy."""
    proxy = await world.listen()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_connection(*proxy)
        upstream.write(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        head = await upstream_reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head:
            writer.close()
            return
        await asyncio.gather(pump(reader, upstream), pump(upstream_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def allow(
    world: World, port: int, login: str, *, plain: bool = False, value: str = PASSWORD, host: str = "mail.test"
) -> None:
    """Let the guard log in at one server, with the secret bound there."""
    world.vault.secrets["MAIL_PASSWORD"] = Secret("MAIL_PASSWORD", value, (host,))
    treatment = Treatment(inspect=False, login=login, login_plain=plain)
    world.allow(Place(host, port, treatment=treatment, secrets={"MAIL_PASSWORD": frozenset({"login"})}))


async def done(function: Callable[[], Any]) -> Any:
    """Run a blocking client."""
    return await asyncio.wait_for(asyncio.to_thread(function), 30)


# ---- PostgreSQL -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    made = TestAuthority(tmp_path_factory.mktemp("authority"))
    made.context("mail.test")
    return made


@pytest.fixture(scope="module")
def postgres(authority: TestAuthority) -> Iterator[int]:
    if binaries(tls=True) is None:
        pytest.skip("no PostgreSQL with TLS here (Debian's package postgresql)")
    with postgres_server(authority.folder / "mail.test.pem") as port:
        yield port


@pytest.fixture(scope="module")
def postgres_without_tls() -> Iterator[int]:
    if binaries() is None:
        pytest.skip("no PostgreSQL for the tests")
    with postgres_server(None) as port:
        yield port


def query(port: int, password: str = PLACEHOLDER, **options: Any) -> Any:
    psycopg = pytest.importorskip("psycopg")
    parameters = {
        "host": "127.0.0.1",
        "port": port,
        "user": "desk",
        "dbname": "postgres",
        "connect_timeout": 15,
        **options,
    }
    with psycopg.connect(password=password, **parameters) as connection:
        return connection.execute("SELECT supplier, current_user FROM invoices ORDER BY id").fetchall()


@pytest.mark.parametrize("mode", ["disable", "prefer", "require"])
async def test_postgres_by_scram_over_tls(world: World, authority: TestAuthority, postgres: int, mode: str) -> None:
    """libpq logs in with a placeholder, in the clear or over TLS to the guard; the server sees SCRAM over verified TLS."""
    world.tls = authority
    allow(world, postgres, "postgres")
    await world.start()
    async with way(world, "mail.test", postgres) as port:
        rows = await done(lambda: query(port, sslmode=mode))
    assert rows == [("Acme", "desk"), ("Birch", "desk")]
    assert PASSWORD not in repr(world.door.asked)
    await world.quiet()
    assert world.door.open == 0


async def test_postgres_on_a_network_of_ones_own(world: World, postgres_without_tls: int) -> None:
    """A server without TLS is logged in at where the policy says so, and nowhere else."""
    allow(world, postgres_without_tls, "postgres", plain=True)
    await world.start()
    async with way(world, "mail.test", postgres_without_tls) as port:
        assert len(await done(lambda: query(port))) == 2


async def test_postgres_without_tls_is_refused(world: World, postgres_without_tls: int) -> None:
    """A server that offers no TLS gets no password."""
    allow(world, postgres_without_tls, "postgres")
    await world.start()
    async with way(world, "mail.test", postgres_without_tls) as port:
        with pytest.raises(Exception, match="offers no TLS"):
            await done(lambda: query(port))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (PASSWORD, "no placeholder"),
        ("agentos-secret:OTHER", "may not stand"),
        ("x agentos-secret:MAIL_PASSWORD", "no placeholder"),
    ],
)
async def test_only_the_placeholder_bound_here(
    world: World, authority: TestAuthority, postgres: int, given: str, said: str
) -> None:
    """A password in the clear, even the right one, and a secret bound elsewhere are denied before the server is called."""
    world.tls = authority
    allow(world, postgres, "postgres")
    world.vault.secrets["OTHER"] = Secret("OTHER", PASSWORD, ("elsewhere.test",))
    await world.start()
    async with way(world, "mail.test", postgres) as port:
        with pytest.raises(Exception, match=said):
            await done(lambda: query(port, given))


async def test_a_wrong_stored_password_is_the_servers_answer(
    world: World, authority: TestAuthority, postgres: int
) -> None:
    """The server's own refusal reaches the client; the guard's placeholder is all it ever said."""
    world.tls = authority
    allow(world, postgres, "postgres", value="wrong-password")
    await world.start()
    async with way(world, "mail.test", postgres) as port:
        with pytest.raises(Exception, match="password authentication failed"):
            await done(lambda: query(port))


async def test_a_server_that_does_not_know_the_password(world: World) -> None:
    """A server that lets everybody in without proving that it knows the password is refused (SCRAM, server signature)."""

    async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = struct.unpack("!i", await reader.readexactly(4))[0]
        await reader.readexactly(size - 4)
        body = struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0"
        writer.write(b"R" + struct.pack("!i", len(body) + 4) + body)
        kind = await reader.readexactly(5)
        first = await reader.readexactly(struct.unpack("!i", kind[1:])[0] - 4)
        nonce = first.rsplit(b"r=", 1)[1].decode()
        challenge = f"r={nonce}evil,s={base64.b64encode(b'salt').decode()},i=4096".encode()
        for code, text in ((11, challenge), (12, b"v=" + base64.b64encode(b"x" * 32)), (0, b"")):
            body = struct.pack("!i", code) + text
            writer.write(b"R" + struct.pack("!i", len(body) + 4) + body)
        await asyncio.sleep(5)

    server = await world.upstream(impostor)
    allow(world, server.port, "postgres", plain=True)
    await world.start()
    async with way(world, "mail.test", server.port) as port:
        with pytest.raises(Exception, match="does not know the password"):
            await done(lambda: query(port))


# ---- mail -----------------------------------------------------------------------------------------------------------


class Mailbox:
    """What an aiosmtpd server took, and the passwords it was shown."""

    def __init__(self) -> None:
        self.mails: list[Any] = []
        self.shown: list[tuple[bytes, bytes]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(envelope)
        return "250 taken"

    def check(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> Any:
        from aiosmtpd.smtp import AuthResult

        self.shown.append((data.login, data.password))
        return AuthResult(success=data.password == PASSWORD.encode(), handled=False)


@pytest.fixture
def smtp_server(authority: TestAuthority) -> Iterator[tuple[Mailbox, int]]:
    controller = pytest.importorskip("aiosmtpd.controller")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(authority.folder / "mail.test.pem"))
    box = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    running = controller.Controller(
        box, hostname="127.0.0.1", port=port, tls_context=context, require_starttls=True, authenticator=box.check,
        auth_required=True,
    )  # fmt: skip
    running.start()
    yield box, port
    running.stop()


def send(port: int, password: str = PLACEHOLDER, *, mechanism: str = "") -> None:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "agent@corp.example", "ana@corp.example", "Hi"
    mail.set_content("Body text")
    with smtplib.SMTP("127.0.0.1", port, timeout=15) as client:
        client.ehlo()
        if mechanism:
            client.user, client.password = "agent", password
            client.auth(mechanism, getattr(client, f"auth_{mechanism.lower()}"), initial_response_ok=False)
        else:
            client.login("agent", password)
        client.send_message(mail)


@pytest.mark.parametrize("mechanism", ["", "LOGIN", "PLAIN"])
async def test_smtp(world: World, authority: TestAuthority, smtp_server: tuple[Mailbox, int], mechanism: str) -> None:
    """smtplib sends a mail with a placeholder as its password; the server is logged in at over STARTTLS."""
    box, server = smtp_server
    world.tls = authority
    allow(world, server, "smtp")
    await world.start()
    async with way(world, "mail.test", server) as port:
        await done(lambda: send(port, mechanism=mechanism))
    assert box.shown == [(b"agent", PASSWORD.encode())]
    assert b"Body text" in box.mails[0].content


@pytest.mark.parametrize("given", [PASSWORD, "agentos-secret:OTHER"])
async def test_smtp_without_the_right_placeholder(
    world: World, authority: TestAuthority, smtp_server: tuple[Mailbox, int], given: str
) -> None:
    """A password in the clear and another secret's placeholder reach no server."""
    box, server = smtp_server
    world.tls = authority
    allow(world, server, "smtp")
    await world.start()
    async with way(world, "mail.test", server) as port:
        with pytest.raises(smtplib.SMTPAuthenticationError):
            await done(lambda: send(port, given))
    assert box.shown == []


async def imap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An IMAP server without STARTTLS: one user, one empty folder."""
    writer.write(b"* OK ready\r\n")
    while line := await reader.readline():
        tag, _, rest = line.strip().partition(b" ")
        word = rest.split(b" ")[0].upper()
        if word == b"LOGIN":
            right = rest == b'LOGIN "agent" "' + PASSWORD.encode() + b'"'
            writer.write(tag + (b" OK in\r\n" if right else b" NO wrong\r\n"))
        elif word == b"SELECT" or word == b"EXAMINE":
            writer.write(b"* 3 EXISTS\r\n" + tag + b" OK [READ-ONLY] done\r\n")
        elif word == b"LOGOUT":
            writer.write(b"* BYE\r\n" + tag + b" OK done\r\n")
        else:
            writer.write(tag + b" OK done\r\n")
        await writer.drain()


def open_box(port: int, password: str = PLACEHOLDER, *, plain: bool = False) -> Any:
    box = imaplib.IMAP4("127.0.0.1", port, timeout=15)
    try:
        if plain:
            box.authenticate("PLAIN", lambda _: b"\0agent\0" + password.encode())
        else:
            box.login("agent", password)
        return box.select("INBOX", readonly=True)
    finally:
        box.shutdown()  # a LOGOUT on a connection that has ended would hide what went wrong before it


@pytest.mark.parametrize("plain", [False, True])
async def test_imap(world: World, plain: bool) -> None:
    """imaplib opens a folder with a placeholder as its password, by LOGIN and by AUTHENTICATE PLAIN."""
    server = await world.upstream(imap)
    allow(world, server.port, "imap", plain=True)
    await world.start()
    async with way(world, "mail.test", server.port) as port:
        assert await done(lambda: open_box(port, plain=plain)) == ("OK", [b"3"])


@pytest.mark.parametrize("given", [PASSWORD, "agentos-secret:OTHER", "wrong"])
async def test_imap_without_the_right_placeholder(world: World, given: str) -> None:
    """A password in the clear and another secret's placeholder reach no server."""
    server = await world.upstream(imap)
    allow(world, server.port, "imap", plain=True)
    await world.start()
    async with way(world, "mail.test", server.port) as port:
        with pytest.raises(imaplib.IMAP4.error):
            await done(lambda: open_box(port, given))
    assert server.connections == 0


async def test_imap_without_tls_is_refused(world: World) -> None:
    """A server that does not begin TLS gets no password."""

    async def bare(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* OK ready\r\n")
        line = await reader.readline()
        assert b"STARTTLS" in line
        writer.write(line.split(b" ")[0] + b" NO none\r\n")
        assert await reader.read() == b""

    server = await world.upstream(bare)
    allow(world, server.port, "imap")
    await world.start()
    async with way(world, "mail.test", server.port) as port:
        with pytest.raises(imaplib.IMAP4.error, match="offers no TLS"):
            await done(lambda: open_box(port))


@pytest.mark.parametrize(
    ("login", "bytes_"),
    [
        ("postgres", b"GET / HTTP/1.1\r\n\r\n"),
        ("postgres", struct.pack("!ii", 8, 80877103) + b"early"),
        ("postgres", struct.pack("!ii", 20, 196608) + b"x" * 12),
        ("imap", b"a LOGIN {9999}\r\n"),
        ("imap", b'a LOGIN "x" "' + b"y" * 9000),
        ("imap", b"\0\0\0\r\n"),
        ("imap", b"a NOOP\r\n" * 40),
        ("smtp", b"AUTH CRAM-MD5\r\n"),
        ("smtp", b"AUTH PLAIN ====\r\n"),
        ("smtp", b"MAIL FROM:<a@b>\r\n" * 40),
        ("smtp", b"x" * 9000),
    ],
)
async def test_what_is_no_login_reaches_no_server(world: World, login: str, bytes_: bytes) -> None:
    """Garbage, early bytes, endless lines and commands without a login end the connection; nobody is connected to."""
    server = await world.upstream(imap)
    allow(world, server.port, login, plain=True)
    await world.start()
    async with way(world, "mail.test", server.port) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(bytes_)
        await asyncio.wait_for(reader.read(), 10)
        writer.close()
    await world.quiet()
    assert server.connections == 0
