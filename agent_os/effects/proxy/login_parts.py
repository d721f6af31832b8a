"""What a login of any protocol works with: both sides, the secret, and lines and bytes within bounds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from agent_os.effects.proxy.stream import Stream, StreamClosedError
from agent_os.guards.egress.logins.mail import LINE_BYTES_MAX
from agent_os.guards.egress.logins.scram import LoginError


async def _silent(_why: str) -> None:
    return


@dataclass(slots=True)
class LoginSide:
    """One login. `secret` resolves a placeholder, `connect` reaches the judged server (with TLS from the start or not),
    `secure` begins TLS with it in mid-course, `start_tls` and `accept_tls` begin it with the client.

    `plain`: the policy says that the server has no TLS. `tell` lets the client know why it ends.
    """

    client: Stream
    host: str
    port: int
    plain: bool
    secret: Callable[[str], Awaitable[str]]
    connect: Callable[[bool], Awaitable[Stream]]
    secure: Callable[[Stream], Awaitable[None]]
    start_tls: Callable[[], Awaitable[None]]
    accept_tls: Callable[[], Awaitable[None]]
    tell: Callable[[str], Awaitable[None]] = field(default=_silent)


async def read_line(stream: Stream) -> bytes:
    """Return the next line without its end. Raises LoginError past the bound, StreamClosedError at the end."""
    while (end := stream.buffer.find(b"\n")) < 0:
        if len(stream.buffer) > LINE_BYTES_MAX:
            raise LoginError("a line is too long")
        if not await stream.more():
            raise StreamClosedError("peer closed inside a line")
    if end > LINE_BYTES_MAX:
        raise LoginError("a line is too long")
    return stream.take(end + 1).rstrip(b"\r\n")


def one_line(text: str) -> bytes:
    """Return a text that may stand in a reply line."""
    return " ".join(text.split()).encode("ascii", errors="replace")[:400]
