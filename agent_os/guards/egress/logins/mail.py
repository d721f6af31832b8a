"""Lines of IMAP and SMTP, as far as a login needs them. Pure.

Sources: RFC 9051 (IMAP), RFC 3501 (LOGIN, literals), RFC 5321 and RFC 4954 (SMTP, AUTH), RFC 4616 (PLAIN).
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from agent_os.guards.egress.logins.scram import LoginError

LINE_BYTES_MAX: Final = 8192
_COMMAND: Final = re.compile(
    rb"([\x21\x23\x24\x26\x27\x2c-\x5b\x5d\x5f-\x7a\x7c\x7e]{1,64}) ([A-Za-z]{1,32})(?: (.*))?", re.DOTALL
)
_QUOTED: Final = re.compile(rb'"((?:[^"\\\r\n]|\\["\\])*)"')
_LITERAL: Final = re.compile(rb"\{([0-9]{1,3})(\+?)\}")
_ATOM: Final = re.compile(rb"[\x21\x23\x24\x26\x27\x2b-\x5b\x5d-\x7a\x7c\x7e]+")


def imap_command(line: bytes) -> tuple[bytes, bytes, bytes]:
    """Return (tag, command in upper case, rest) of a client's line. Raises LoginError."""
    parts = _COMMAND.fullmatch(line)
    if parts is None:
        raise LoginError("no IMAP command")
    return parts[1], parts[2].upper(), parts[3] or b""


def imap_string(rest: bytes) -> tuple[bytes | int, bytes, bool]:
    """Return (value, what follows, whether a literal waits for us to go ahead).

    A value that is a number of bytes is a literal, which stands at the end of its line. Raises LoginError.
    """
    rest = rest.lstrip(b" ")
    if (quoted := _QUOTED.match(rest)) is not None:
        return re.sub(rb'\\(["\\])', rb"\1", quoted[1]), rest[quoted.end() :], False
    if (literal := _LITERAL.fullmatch(rest)) is not None:
        return int(literal[1]), b"", not literal[2]
    if (atom := _ATOM.match(rest)) is not None:
        return atom[0], rest[atom.end() :], False
    raise LoginError("a user name or password is malformed")


def imap_quoted(value: str) -> bytes:
    """Return a text as a quoted string. Raises LoginError for what cannot stand in one."""
    if not value.isascii() or not value.isprintable():
        raise LoginError("a user name or password is not printable ASCII")
    return b'"' + value.replace("\\", "\\\\").replace('"', '\\"').encode() + b'"'


def plain(user: str, secret: str) -> bytes:
    """Return the SASL PLAIN response, in Base64."""
    return base64.b64encode(f"\0{user}\0{secret}".encode())


def read_plain(data: bytes) -> tuple[str, str]:
    """Return (user, password) of a SASL PLAIN response in Base64. Raises LoginError."""
    parts = read_base64(data).decode().split("\0")
    if len(parts) != 3 or not parts[1] or parts[0] not in ("", parts[1]):
        raise LoginError("the PLAIN response is malformed or asks for another's rights")
    return parts[1], parts[2]


def read_base64(data: bytes) -> bytes:
    """Return decoded text. Raises LoginError for what is neither Base64 nor UTF-8."""
    try:
        value = base64.b64decode(data, validate=True)
        value.decode()
    except (binascii.Error, UnicodeDecodeError):
        raise LoginError("the response is not Base64 of UTF-8") from None
    return value


def smtp_reply(lines: list[bytes]) -> tuple[int, list[bytes]] | None:
    """Return (code, texts) of a whole reply, None while more lines follow. Raises LoginError."""
    last = lines[-1]
    if len(last) < 3 or not last[:3].isdigit() or last[3:4] not in (b"", b" ", b"-"):
        raise LoginError("the server's reply is malformed")
    if last[3:4] == b"-":
        return None
    return int(last[:3]), [line[4:] for line in lines]
