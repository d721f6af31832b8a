"""An SMTP login carried out by the guard: AUTH with a placeholder from the program, with the secret to the server."""

from __future__ import annotations

from typing import Final

from agent_os.effects.proxy.hello import looks_like_tls
from agent_os.effects.proxy.login_parts import LoginSide, one_line, read_line
from agent_os.effects.proxy.stream import Stream
from agent_os.guards.egress.logins import mail
from agent_os.guards.egress.logins.scram import LoginError

IMPLICIT_TLS_PORT: Final = 465
COMMANDS_MAX: Final = 32
REPLY_LINES_MAX: Final = 64


async def smtp_login(side: LoginSide) -> Stream | None:
    """Return the logged-in server, None for a client that quit before. Raises LoginError, DeniedError."""

    async def tell(why: str) -> None:
        side.client.write(b"535 5.7.8 " + one_line(why) + b"\r\n")

    if side.port == IMPLICIT_TLS_PORT:
        if not side.client.buffer:
            await side.client.more()
        if not looks_like_tls(side.client.buffer):
            raise LoginError("TLS from the first byte is expected on this port")
        await side.accept_tls()
    side.client.write(b"220 the guard logs in ESMTP\r\n")
    for _ in range(COMMANDS_MAX):
        line = await read_line(side.client)
        word, _, rest = line.partition(b" ")
        word = word.upper()
        if word == b"AUTH":
            side.tell = tell
            user, password = await _given(side, rest)
            secret = await side.secret(password)
            upstream = await _log_in(side, user, secret)
            side.client.write(b"235 2.7.0 logged in\r\n")
            return upstream
        if word == b"QUIT":
            side.client.write(b"221 2.0.0 bye\r\n")
            return None
        side.client.write(_before_login(word))
    raise LoginError("too many commands before a login")


def _before_login(word: bytes) -> bytes:
    if word == b"EHLO":
        return b"250-the guard\r\n250 AUTH PLAIN\r\n"
    if word in (b"HELO", b"NOOP", b"RSET"):
        return b"250 2.0.0 ok\r\n"
    return b"530 5.7.0 log in first\r\n"


async def _given(side: LoginSide, rest: bytes) -> tuple[str, str]:
    mechanism, _, initial = rest.partition(b" ")
    if mechanism.upper() == b"PLAIN":
        return mail.read_plain(initial.strip() or await _asked(side, b""))
    if mechanism.upper() == b"LOGIN":
        user = initial.strip() or await _asked(side, b"VXNlcm5hbWU6")
        password = await _asked(side, b"UGFzc3dvcmQ6")
        return mail.read_base64(user).decode(), mail.read_base64(password).decode()
    raise LoginError("AUTH PLAIN or LOGIN is expected")


async def _asked(side: LoginSide, prompt: bytes) -> bytes:
    side.client.write(b"334 " + prompt + b"\r\n")
    return await read_line(side.client)


async def _log_in(side: LoginSide, user: str, secret: str) -> Stream:
    implicit = side.port == IMPLICIT_TLS_PORT and not side.plain
    upstream = await side.connect(implicit)
    if (await _reply(upstream))[0] != 220:
        raise LoginError("the server does not greet as an SMTP server")
    offered = await _hello(upstream)
    if not implicit and not side.plain:
        if b"STARTTLS" not in offered:
            raise LoginError("the server offers no TLS: `login_plain: true` at the endpoint lets it do without")
        upstream.write(b"STARTTLS\r\n")
        if (await _reply(upstream))[0] != 220:
            raise LoginError("the server does not begin TLS")
        await side.secure(upstream)
        await _hello(upstream)
    upstream.write(b"AUTH PLAIN " + mail.plain(user, secret) + b"\r\n")
    if (await _reply(upstream))[0] != 235:
        raise LoginError("the server refuses the login")
    return upstream


async def _hello(upstream: Stream) -> list[bytes]:
    upstream.write(b"EHLO agent-os.invalid\r\n")
    code, texts = await _reply(upstream)
    if code != 250:
        raise LoginError("the server does not take EHLO")
    return [text.split(b" ")[0].upper() for text in texts]


async def _reply(upstream: Stream) -> tuple[int, list[bytes]]:
    lines: list[bytes] = []
    for _ in range(REPLY_LINES_MAX):
        lines.append(await read_line(upstream))
        found = mail.smtp_reply(lines)
        if found is not None:
            return found
    raise LoginError("the server's reply has no end")
