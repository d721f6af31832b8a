"""Reads a TLS ClientHello. Pure: bytes in, values out.

Threat: a connection judged for one name that asks the server for another (domain fronting), or hides the name (ECH,
ESNI). RFC 8446 4.1.2, RFC 6066 3 (server_name), RFC 7301 (ALPN), RFC 9849 (encrypted_client_hello, 0xfe0d).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent_os.effects.proxy.limits import HELLO_BYTES_MAX

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME, _ALPN, _ECH, _ESNI = 0, 16, 0xFE0D, 0xFFCE
RECORD_BYTES_MAX: Final = 16384 + 256


class HelloError(ValueError):
    """The bytes are no well-formed ClientHello."""


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What a ClientHello says in clear. `server_name` is empty when the client sent none."""

    server_name: str = ""
    alpn: tuple[str, ...] = ()
    encrypted: bool = False
    """ECH or ESNI is offered (a browser's grease looks the same)."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.data):
            raise HelloError("client hello ends early")
        piece = self.data[self.at : self.at + count]
        self.at += count
        return piece

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> _Reader:
        return _Reader(self.take(self.number(size)))

    @property
    def done(self) -> bool:
        return self.at >= len(self.data)


def looks_like_tls(first: bytes | bytearray) -> bool:
    """Return whether the first bytes are of a TLS handshake record (the first byte decides)."""
    return bool(first) and first[0] == _HANDSHAKE


def parse_client_hello(data: bytes | bytearray) -> ClientHello | None:
    """Return the ClientHello at the start of a stream, or None while more bytes are needed.

    Raises HelloError for anything malformed, a duplicate extension, more than one name, or more than HELLO_BYTES_MAX.
    """
    message = bytearray()
    at, need = 0, 4
    while len(message) < need:
        if len(data) - at < 5:
            _bounded(data)
            return None
        kind, major, size = data[at], data[at + 1], int.from_bytes(data[at + 3 : at + 5], "big")
        if kind != _HANDSHAKE or major != 3 or not 0 < size <= RECORD_BYTES_MAX:
            raise HelloError("not a tls handshake record")
        if len(data) - at - 5 < size:
            _bounded(data)
            return None
        message += data[at + 5 : at + 5 + size]
        at += 5 + size
        if len(message) >= 4:
            if message[0] != _CLIENT_HELLO:
                raise HelloError("not a client hello")
            need = 4 + int.from_bytes(message[1:4], "big")
            if need > HELLO_BYTES_MAX:
                raise HelloError("client hello is too large")
    return _parse(bytes(message[4:need]))


def _bounded(data: bytes | bytearray) -> None:
    if len(data) > HELLO_BYTES_MAX:
        raise HelloError("client hello is too large")


def _parse(body: bytes) -> ClientHello:
    reader = _Reader(body)
    reader.take(2 + 32)
    reader.vector(1)
    reader.vector(2)
    reader.vector(1)
    if reader.done:
        return ClientHello()
    extensions = reader.vector(2)
    if not reader.done:
        raise HelloError("bytes after the extensions")
    seen: set[int] = set()
    name, alpn, encrypted = "", (), False
    while not extensions.done:
        kind = extensions.number(2)
        content = extensions.vector(2)
        if kind in seen:
            raise HelloError("duplicate extension")
        seen.add(kind)
        if kind == _SERVER_NAME:
            name = _server_name(content)
        elif kind == _ALPN:
            alpn = _alpn(content)
        elif kind in (_ECH, _ESNI):
            encrypted = True
    return ClientHello(name, alpn, encrypted)


def _server_name(content: _Reader) -> str:
    names = content.vector(2)
    if names.number(1) != 0:
        raise HelloError("unknown kind of server name")
    raw = names.vector(2).data
    if not names.done or not content.done or not raw:
        raise HelloError("more than one server name")
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError:
        raise HelloError("server name is not ascii") from None


def _alpn(content: _Reader) -> tuple[str, ...]:
    protocols, found = content.vector(2), []
    while not protocols.done:
        found.append(protocols.vector(1).data.decode("latin-1"))
    return tuple(found)
