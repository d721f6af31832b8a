"""SOCKS5 (RFC 1928, 1929): CONNECT only, names go to the guard's resolver. Pure parsing, and the handshake over a
Stream.

Threat: names with NUL bytes or control characters that two parsers read differently, BIND and UDP ASSOCIATE as ways
around the judge, unauthenticated use of another agent's listener.
"""

from __future__ import annotations

import hmac
import ipaddress
from typing import Final

from agent_os.core import canonical
from agent_os.core.errors import ActionError, EffectError
from agent_os.effects.proxy.stream import Stream

VERSION: Final = 5
SUCCEEDED, FAILED, NOT_ALLOWED, NETWORK, HOST, REFUSED_, TTL, COMMAND, ADDRESS_TYPE = range(9)
_NO_AUTH, _PASSWORD, _NONE = 0, 2, 0xFF


class SocksError(EffectError):
    """The client's SOCKS message is not one we serve; `code` is the reply to give, or None for none."""

    def __init__(self, message: str, code: int | None) -> None:
        self.code = code
        super().__init__(message)


async def negotiate(stream: Stream, token: str = "") -> tuple[str, int]:
    """Return the canonical host (or literal) and port a client asks for. Raises SocksError, StreamClosedError."""
    version, count = await stream.exactly(2)
    if version != VERSION:
        raise SocksError("not socks version 5", None)
    methods = await stream.exactly(count)
    wanted = _PASSWORD if token else _NO_AUTH
    if wanted not in methods:
        stream.write(bytes((VERSION, _NONE)))
        raise SocksError("no acceptable authentication", None)
    stream.write(bytes((VERSION, wanted)))
    if token:
        await _authenticate(stream, token)
    version, command, _, kind = await stream.exactly(4)
    if version != VERSION:
        raise SocksError("not socks version 5", FAILED)
    host = await _address(stream, kind)
    port = int.from_bytes(await stream.exactly(2), "big")
    if command != 1:
        raise SocksError("only CONNECT is served", COMMAND)
    try:
        return canonical.host(host), canonical.integer(port, field="port", minimum=1, maximum=65535)
    except ActionError as error:
        raise SocksError(str(error), FAILED) from None


async def _authenticate(stream: Stream, token: str) -> None:
    version, size = await stream.exactly(2)
    await stream.exactly(size)
    password = await stream.exactly((await stream.exactly(1))[0])
    if version != 1 or not hmac.compare_digest(password, token.encode()):
        stream.write(b"\x01\x01")
        raise SocksError("wrong token", None)
    stream.write(b"\x01\x00")


async def _address(stream: Stream, kind: int) -> str:
    if kind == 1:
        return str(ipaddress.IPv4Address(await stream.exactly(4)))
    if kind == 4:
        return str(ipaddress.IPv6Address(await stream.exactly(16)))
    if kind == 3:
        raw = await stream.exactly((await stream.exactly(1))[0])
        try:
            return raw.decode("ascii")
        except UnicodeDecodeError:
            raise SocksError("name is not ascii", FAILED) from None
    raise SocksError("unknown address type", ADDRESS_TYPE)


def reply(code: int) -> bytes:
    """Return a reply with an empty bound address."""
    return bytes((VERSION, code, 0, 1)) + bytes(6)
