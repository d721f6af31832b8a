"""Logins as bytes: SCRAM proven by both sides, and readers that answer LoginError and nothing else."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent_os.guards.egress.logins import mail, postgres
from agent_os.guards.egress.logins.scram import LoginError, ScramClient

SALT = b"0123456789abcdef"


class Server:
    """The server's side of SCRAM-SHA-256, from RFC 5802's formulas."""

    def __init__(self, password: str) -> None:
        self.salted = hashlib.pbkdf2_hmac("sha256", password.encode(), SALT, 4096)

    def challenge(self, first: bytes) -> bytes:
        self.bare = first.decode().removeprefix("n,,")
        self.nonce = self.bare.rsplit("r=", 1)[1] + "server"
        return f"r={self.nonce},s={base64.b64encode(SALT).decode()},i=4096".encode()

    def verify(self, challenge: bytes, final: bytes) -> bytes:
        without, proof = final.decode().rsplit(",p=", 1)
        message = f"{self.bare},{challenge.decode()},{without}".encode()
        key = hmac.digest(self.salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(key).digest(), message, "sha256")
        expected = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        if base64.b64decode(proof) != expected:
            return b"e=invalid-proof"
        return b"v=" + base64.b64encode(
            hmac.digest(hmac.digest(self.salted, b"Server Key", "sha256"), message, "sha256")
        )


def exchange(password: str, stored: str) -> None:
    client, server = ScramClient(password, "nonce"), Server(stored)
    challenge = server.challenge(client.first())
    client.check(server.verify(challenge, client.final(challenge)))


def test_both_sides_prove_the_password() -> None:
    """The right password passes; a wrong one, or a server that does not know it, does not."""
    exchange("pencil", "pencil")
    with pytest.raises(LoginError):
        exchange("pencil", "pen")
    client = ScramClient("pencil", "nonce")
    client.final(Server("pencil").challenge(client.first()))
    with pytest.raises(LoginError):
        client.check(b"v=" + base64.b64encode(b"x" * 32))


@pytest.mark.parametrize(
    "challenge",
    [b"", b"r=other,s=AAAA,i=4096", b"r=nonce,s=AAAA,i=4096", b"r=nonceX,s=!,i=4096", b"r=nonceX,s=AAAA,i=0",
     b"r=nonceX,s=AAAA,i=99999999", b"m=x,r=nonceX,s=AAAA,i=4096", b"\xff"],
)  # fmt: skip
def test_challenges_that_are_refused(challenge: bytes) -> None:
    """A challenge for another login, without work, with endless work or malformed ends the login."""
    with pytest.raises(LoginError):
        ScramClient("pencil", "nonce").final(challenge)


READERS: list[Callable[[bytes], Any]] = [
    mail.imap_command, mail.imap_string, mail.read_plain, mail.read_base64, lambda data: mail.smtp_reply([data]),
    postgres.startup_parameters, postgres.authentication_asked, postgres.mechanisms, ScramClient("p", "n").final,
    ScramClient("p", "n").check,
]  # fmt: skip


@given(st.binary(max_size=200), st.sampled_from(READERS))
@example(b"", mail.read_plain)
def test_readers_answer_or_refuse(data: bytes, read: Callable[[bytes], Any]) -> None:
    """Whatever arrives, a reader returns or raises LoginError."""
    try:
        read(data)
    except LoginError:
        pass


@given(st.dictionaries(st.text("abc_", min_size=1, max_size=8), st.text("xyz /'", max_size=8), max_size=4))
def test_startup_messages_read_back(parameters: dict[str, str]) -> None:
    """What is written is what is read."""
    parameters = {"user": "u", **parameters}
    assert postgres.startup_parameters(postgres.startup(parameters)[8:]) == parameters


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40))
def test_imap_strings_read_back(text: str) -> None:
    """A quoted string reads back as it was, and nothing of it ends the line."""
    quoted = mail.imap_quoted(text)
    assert mail.imap_string(quoted) == (text.encode(), b"", False)
    assert b"\r" not in quoted


@pytest.mark.parametrize("text", ["a\r\nb", "a\0", "\u00e4", "a\nA1 LOGOUT"])
def test_what_cannot_stand_in_a_string(text: str) -> None:
    """A user name that would end the line is refused."""
    with pytest.raises(LoginError):
        mail.imap_quoted(text)


def test_plain_reads_back_and_takes_nobody_elses_rights() -> None:
    """SASL PLAIN: user and password; another authorisation identity is refused."""
    assert mail.read_plain(mail.plain("u", "p")) == ("u", "p")
    with pytest.raises(LoginError):
        mail.read_plain(base64.b64encode(b"admin\0u\0p"))
