"""SCRAM-SHA-256, the client's side, without channel binding. Pure: the nonce is handed in.

The server proves that it knows the password too: a server that does not is refused before anything is relayed.
Sources: RFC 5802, RFC 7677; PostgreSQL 17 documentation, 53.3 (the user name is the startup message's, empty here).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

MECHANISM: Final = "SCRAM-SHA-256"
ITERATIONS_MAX: Final = 1_000_000
_HEADER: Final = "n,,"


class LoginError(ValueError):
    """A login cannot go on; the message says why, never with a value."""


class ScramClient:
    """One exchange: `first`, then `final` with the server's first message, then `check` with its last."""

    def __init__(self, password: str, nonce: str) -> None:
        if not password.isascii() or not password.isprintable():
            raise LoginError("the stored password is not printable ASCII")
        self._password, self._nonce = password.encode(), nonce
        self._bare = f"n=,r={nonce}"
        self._signature = b""

    def first(self) -> bytes:
        """Return the first message."""
        return (_HEADER + self._bare).encode()

    def final(self, challenge: bytes) -> bytes:
        """Return the proof for the server's first message. Raises LoginError."""
        parts = _parts(challenge)
        try:
            nonce, salt, iterations = parts["r"], base64.b64decode(parts["s"], validate=True), int(parts["i"])
        except (KeyError, ValueError, binascii.Error):
            raise LoginError("the server's challenge is malformed") from None
        if not nonce.startswith(self._nonce) or nonce == self._nonce or "m" in parts:
            raise LoginError("the server's challenge answers another login")
        if not 1 <= iterations <= ITERATIONS_MAX:
            raise LoginError("the server's challenge asks for too much work")
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, iterations)
        key = hmac.digest(salted, b"Client Key", "sha256")
        without = f"c={base64.b64encode(_HEADER.encode()).decode()},r={nonce}"
        message = f"{self._bare},{challenge.decode()},{without}".encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), message, "sha256")
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        self._signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
        return f"{without},p={base64.b64encode(proof).decode()}".encode()

    def check(self, last: bytes) -> None:
        """Raise LoginError unless the server's last message proves that it knows the password."""
        try:
            given = base64.b64decode(_parts(last).get("v", ""), validate=True)
        except binascii.Error:
            given = b""
        if not self._signature or not hmac.compare_digest(given, self._signature):
            raise LoginError("the server does not know the password it asks for")


def _parts(message: bytes) -> dict[str, str]:
    try:
        fields = message.decode("ascii").split(",")
    except UnicodeDecodeError:
        raise LoginError("the server's message is malformed") from None
    return {field[0]: field[2:] for field in fields if field[1:2] == "="}
