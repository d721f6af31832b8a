"""A PostgreSQL login carried out by the guard: clear-text password asked of the program, SCRAM given to the server."""

from __future__ import annotations

import secrets
import struct
from typing import Final

from agent_os.effects.proxy.login_parts import LoginSide
from agent_os.effects.proxy.stream import Stream
from agent_os.guards.egress.logins import postgres
from agent_os.guards.egress.logins.scram import MECHANISM, LoginError, ScramClient

REFUSED: Final = "28000"
"""SQLSTATE invalid_authorization_specification."""
STEPS_MAX: Final = 16
"""Messages of a server before it lets us in or does not."""


async def postgres_login(side: LoginSide) -> Stream | None:
    """Return the logged-in server, None for a client that only wanted to cancel. Raises LoginError, DeniedError."""

    async def tell(why: str) -> None:
        side.client.write(postgres.error(REFUSED, why))

    parameters = await _startup(side)
    if parameters is None:
        return None
    side.tell = tell
    side.client.write(postgres.authentication(postgres.CLEAR))
    kind, body = await _message(side.client)
    if kind != b"p" or not body.endswith(b"\0"):
        raise LoginError("a password was expected")
    secret = await side.secret(body[:-1].decode(errors="replace"))
    upstream = await _connect(side)
    upstream.write(postgres.startup(parameters))
    if not await _authenticated(side, upstream, parameters["user"], secret):
        return None
    side.client.write(postgres.authentication(postgres.OK))
    return upstream


async def _startup(side: LoginSide) -> dict[str, str] | None:
    """Return the startup parameters; TLS is begun where the client asks for it, a cancel is passed on."""
    for _ in range(3):
        size, code = struct.unpack("!ii", await side.client.exactly(8))
        if code == postgres.SSL_REQUEST and size == 8:
            if side.client.buffer:
                raise LoginError("bytes were sent before TLS began")
            side.client.write(b"S")
            await side.start_tls()
        elif code == postgres.GSS_REQUEST and size == 8:
            side.client.write(b"N")
        elif code == postgres.CANCEL_REQUEST and size == 16:
            key = await side.client.exactly(8)
            upstream = await _connect(side)
            upstream.write(struct.pack("!ii", 16, code) + key)
            upstream.close()
            return None
        elif code == postgres.PROTOCOL_3 and 8 < size <= postgres.MESSAGE_BYTES_MAX:
            return postgres.startup_parameters(await side.client.exactly(size - 8))
        else:
            raise LoginError("this is no PostgreSQL client of protocol 3.0")
    raise LoginError("too many requests before the startup message")


async def _connect(side: LoginSide) -> Stream:
    upstream = await side.connect(False)
    if side.plain:
        return upstream
    upstream.write(postgres.request(postgres.SSL_REQUEST))
    if await upstream.exactly(1) != b"S":
        raise LoginError("the server offers no TLS: `login_plain: true` at the endpoint lets it do without")
    await side.secure(upstream)
    return upstream


async def _authenticated(side: LoginSide, upstream: Stream, user: str, secret: str) -> bool:
    """Carry the login through; an error of the server's is passed on whole."""
    scram: ScramClient | None = None
    proven = False
    for _ in range(STEPS_MAX):
        kind, body = await _message(upstream)
        if kind == b"E":
            side.client.write(postgres.message(kind, body))
            upstream.close()
            return False
        if kind != b"R":
            continue  # notices and what the server could not negotiate
        code, rest = postgres.authentication_asked(body)
        if code == postgres.OK:
            if scram is not None and not proven:
                raise LoginError("the server ended the login without a proof")
            return True
        if code == postgres.CLEAR:
            upstream.write(postgres.password(secret.encode()))
        elif code == postgres.MD5 and len(rest) == 4:
            upstream.write(postgres.md5_password(user, secret, rest))
        elif code == postgres.SASL and MECHANISM in postgres.mechanisms(rest):
            scram = ScramClient(secret, secrets.token_urlsafe(18))
            upstream.write(postgres.sasl_first(MECHANISM, scram.first()))
        elif code == postgres.SASL_CONTINUE and scram is not None:
            upstream.write(postgres.sasl_next(scram.final(rest)))
        elif code == postgres.SASL_FINAL and scram is not None:
            scram.check(rest)
            proven = True
        else:
            raise LoginError("the server asks for a login that is not known here")
    raise LoginError("the server does not come to an end with the login")


async def _message(stream: Stream) -> tuple[bytes, bytes]:
    head = await stream.exactly(5)
    size = struct.unpack("!i", head[1:])[0]
    if not 4 <= size <= postgres.MESSAGE_BYTES_MAX:
        raise LoginError("a message is too large")
    return head[:1], await stream.exactly(size - 4)
