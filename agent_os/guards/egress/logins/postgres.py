"""PostgreSQL's frontend and backend messages, as far as a login needs them. Pure.

Source: PostgreSQL 17 documentation, chapter 53 (message flow and formats), protocol 3.0.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from typing import Final

from agent_os.guards.egress.logins.scram import LoginError

SSL_REQUEST: Final = 80877103
GSS_REQUEST: Final = 80877104
CANCEL_REQUEST: Final = 80877102
PROTOCOL_3: Final = 196608
MESSAGE_BYTES_MAX: Final = 64 * 1024
OK, CLEAR, MD5, SASL, SASL_CONTINUE, SASL_FINAL = 0, 3, 5, 10, 11, 12


def startup_parameters(body: bytes) -> dict[str, str]:
    """Return the parameters of a startup message (after length and version). Raises LoginError."""
    words = body.split(b"\0")
    if len(words) < 3 or words[-1] or words[-2] or len(words) % 2:
        raise LoginError("the startup message is malformed")
    try:
        texts = [word.decode() for word in words[:-2]]
    except UnicodeDecodeError:
        raise LoginError("the startup message is not UTF-8") from None
    names = texts[::2]
    if len(set(names)) != len(names) or not dict(zip(names, texts[1::2], strict=True)).get("user"):
        raise LoginError("the startup message names no user, or one parameter twice")
    return dict(zip(names, texts[1::2], strict=True))


def startup(parameters: Mapping[str, str]) -> bytes:
    """Return the startup message with these parameters."""
    body = b"".join(f"{name}\0{value}\0".encode() for name, value in parameters.items()) + b"\0"
    return struct.pack("!ii", len(body) + 8, PROTOCOL_3) + body


def request(code: int) -> bytes:
    """Return a request that is only a code (SSL_REQUEST)."""
    return struct.pack("!ii", 8, code)


def message(kind: bytes, body: bytes) -> bytes:
    """Return a typed message."""
    return kind + struct.pack("!i", len(body) + 4) + body


def authentication(code: int) -> bytes:
    """Return an authentication request of the server's side."""
    return message(b"R", struct.pack("!i", code))


def password(value: bytes) -> bytes:
    """Return a password message."""
    return message(b"p", value + b"\0")


def md5_password(user: str, secret: str, salt: bytes) -> bytes:
    """Return the answer to an MD5 request."""
    inner = hashlib.md5(f"{secret}{user}".encode(), usedforsecurity=False).hexdigest()
    return password(b"md5" + hashlib.md5(inner.encode() + salt, usedforsecurity=False).hexdigest().encode())


def sasl_first(mechanism: str, data: bytes) -> bytes:
    """Return the message that begins a SASL exchange."""
    return message(b"p", mechanism.encode() + b"\0" + struct.pack("!i", len(data)) + data)


def sasl_next(data: bytes) -> bytes:
    """Return a further message of a SASL exchange."""
    return message(b"p", data)


def authentication_asked(body: bytes) -> tuple[int, bytes]:
    """Return (code, rest) of an authentication request. Raises LoginError."""
    if len(body) < 4:
        raise LoginError("the server's authentication request is malformed")
    return struct.unpack("!i", body[:4])[0], body[4:]


def mechanisms(rest: bytes) -> list[str]:
    """Return the SASL mechanisms a server offers."""
    return [name.decode("ascii", errors="replace") for name in rest.split(b"\0") if name]


def error(code: str, text: str) -> bytes:
    """Return a fatal error of the server's side: SQLSTATE `code` and what happened."""
    fields = {"S": "FATAL", "V": "FATAL", "C": code, "M": text}
    return message(b"E", b"".join(f"{key}{value}\0".encode() for key, value in fields.items()) + b"\0")
