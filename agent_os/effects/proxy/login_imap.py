"""An IMAP login carried out by the guard: the program logs in with a placeholder, the guard with the secret."""

from __future__ import annotations

from typing import Final

from agent_os.effects.proxy.hello import looks_like_tls
from agent_os.effects.proxy.login_parts import LoginSide, one_line, read_line
from agent_os.effects.proxy.stream import Stream
from agent_os.guards.egress.logins import mail
from agent_os.guards.egress.logins.scram import LoginError

IMPLICIT_TLS_PORT: Final = 993
COMMANDS_MAX: Final = 32
"""Commands of a client before it logs in; lines of a server before it answers."""
_CAPABILITIES: Final = b"IMAP4rev1 LITERAL+ SASL-IR AUTH=PLAIN"


async def imap_login(side: LoginSide) -> Stream | None:
    """Return the logged-in server, None for a client that logged out before. Raises LoginError, DeniedError."""
    if side.port == IMPLICIT_TLS_PORT:
        await _implicit(side)
    side.client.write(b"* OK [CAPABILITY " + _CAPABILITIES + b"] the guard logs in\r\n")
    for _ in range(COMMANDS_MAX):
        tag, command, rest = mail.imap_command(await read_line(side.client))
        if command == b"LOGIN":
            user, password = await _two_strings(side, rest)
        elif command == b"AUTHENTICATE" and rest[:5].upper() == b"PLAIN":
            user, password = mail.read_plain(await _response(side, rest[5:].strip()))
        else:
            side.client.write(_before_login(tag, command))
            if command == b"LOGOUT":
                return None
            continue

        async def tell(why: str, tag: bytes = tag) -> None:
            side.client.write(tag + b" NO [AUTHENTICATIONFAILED] " + one_line(why) + b"\r\n")

        side.tell = tell
        secret = await side.secret(password)
        upstream = await _log_in(side, user, secret)
        side.client.write(tag + b" OK logged in\r\n")
        return upstream
    raise LoginError("too many commands before a login")


def _before_login(tag: bytes, command: bytes) -> bytes:
    if command == b"CAPABILITY":
        return b"* CAPABILITY " + _CAPABILITIES + b"\r\n" + tag + b" OK done\r\n"
    if command == b"NOOP":
        return tag + b" OK done\r\n"
    if command == b"LOGOUT":
        return b"* BYE\r\n" + tag + b" OK done\r\n"
    if command == b"ID":
        return b"* ID NIL\r\n" + tag + b" OK done\r\n"
    return tag + b" BAD log in first\r\n"


async def _implicit(side: LoginSide) -> None:
    if not side.client.buffer:
        await side.client.more()
    if not looks_like_tls(side.client.buffer):
        raise LoginError("TLS from the first byte is expected on this port")
    await side.accept_tls()


async def _two_strings(side: LoginSide, rest: bytes) -> tuple[str, str]:
    values: list[str] = []
    for _ in range(2):
        value, rest, waits = mail.imap_string(rest)
        if isinstance(value, int):
            if waits:
                side.client.write(b"+ go ahead\r\n")
            value, rest = await side.client.exactly(value), await read_line(side.client)
        values.append(value.decode(errors="replace"))
    if rest.strip():
        raise LoginError("something follows the password")
    return values[0], values[1]


async def _response(side: LoginSide, initial: bytes) -> bytes:
    if initial:
        return initial
    side.client.write(b"+ \r\n")
    return await read_line(side.client)


async def _log_in(side: LoginSide, user: str, secret: str) -> Stream:
    implicit = side.port == IMPLICIT_TLS_PORT and not side.plain
    upstream = await side.connect(implicit)
    greeting = await read_line(upstream)
    if not greeting.upper().startswith(b"* OK"):
        raise LoginError("the server does not greet as an IMAP server that wants a login")
    if not implicit and not side.plain:
        if not await _answered(upstream, b"g0", b"STARTTLS"):
            raise LoginError("the server offers no TLS: `login_plain: true` at the endpoint lets it do without")
        await side.secure(upstream)
    login = b"LOGIN " + mail.imap_quoted(user) + b" " + mail.imap_quoted(secret)
    if not await _answered(upstream, b"g1", login):
        raise LoginError("the server refuses the login")
    return upstream


async def _answered(upstream: Stream, tag: bytes, command: bytes) -> bool:
    """Send a command and return whether it was answered with OK; untagged lines in between are dropped."""
    upstream.write(tag + b" " + command + b"\r\n")
    for _ in range(COMMANDS_MAX):
        line = await read_line(upstream)
        if line.startswith(tag + b" "):
            return line[len(tag) + 1 :].upper().startswith(b"OK")
    raise LoginError("the server does not answer")
