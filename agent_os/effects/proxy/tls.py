"""TLS of one stream over memory buffers: bytes of the wire in, plain bytes out, and back. No socket, no judging.

Over memory, so that bytes which were read already (a peeked ClientHello) are fed in like any others, on every event loop alike.
Who holds it sends what `outgoing` returns after each call. Threat: a peer that breaks off within TLS, and whose part would be
taken for the whole: only its close_notify is an end.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Final

_PLAIN_BYTES: Final = 64 * 1024


class Tls:
    """One session, from its handshake on. `shaken` ends with the handshake; who awaits it gets None, or what `fail` is given."""

    __slots__ = ("_incoming", "_outgoing", "failure", "over", "session", "shaken", "shaking")

    def __init__(
        self, context: ssl.SSLContext, shaken: asyncio.Future[None], *, server_side: bool, server_hostname: str | None
    ) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self._incoming, self._outgoing, server_side, server_hostname)
        self.shaken = shaken
        self.shaking = True
        """Whether the handshake is still to end, well or not."""
        self.failure = ""
        """What broke it, in words."""
        self.over = False
        """Whether the peer said that nothing more follows."""

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the wire; return the plain ones they hold. Look at `failure` and `over` after it."""
        self._incoming.write(data)
        if self.shaking:
            self.shake()
            if self.shaking or self.failure:
                return b""
        pieces = []
        try:
            while piece := self.session.read(_PLAIN_BYTES):
                pieces.append(piece)
            self.over = True  # an empty read: close_notify
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.over = True
        except ssl.SSLError as error:
            self.failure = _why(error)
            return b""
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take plain bytes for the peer. Look at `failure` after it."""
        try:
            self.session.write(data)
        except ssl.SSLError as error:
            self.failure = _why(error)

    def shake(self) -> None:
        """Go on with the handshake as far as what was fed allows."""
        try:
            self.session.do_handshake()
        except ssl.SSLWantReadError:
            return
        except (ssl.SSLError, ssl.CertificateError, OSError) as error:
            self.failure = _why(error)
            return
        self.shaking = False
        if not self.shaken.done():
            self.shaken.set_result(None)

    def fail(self, error: Exception) -> None:
        """End a handshake that is not over with this."""
        if self.shaking:
            self.shaking = False
            if not self.shaken.done():
                self.shaken.set_exception(error)
                self.shaken.exception()  # seen, even when nobody waits any more

    def end(self) -> None:
        """Say that nothing more follows from here."""
        if not self.shaking:
            with contextlib.suppress(ssl.SSLError, ValueError):
                self.session.unwrap()

    def outgoing(self) -> bytes:
        """Return what is to be sent now."""
        return self._outgoing.read() if self._outgoing.pending else b""


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate does not verify: {error.verify_message}"
    reason = getattr(error, "reason", None)
    return f"tls failed: {str(reason).lower().replace('_', ' ')}" if reason else "tls failed"
