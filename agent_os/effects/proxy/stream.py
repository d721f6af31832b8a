"""A byte stream over a wire that can be read by pull or by push, and wrapped in TLS in mid-course.

May not: judge anything, or hold more than the named bounds. Pull (`more`, `take`) serves handshakes and requests,
push (`pour_into`) serves relays with no task and no copy in between. TLS is `tls.py`'s. Rules of this file: reading stops
when READ_HIGH_BYTES lie unread or when the other side of a relay cannot write; where a meter is set, no byte passes
that it was not charged for.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Final, Protocol

from agent_os.core.errors import EffectError
from agent_os.effects.proxy.limits import READ_HIGH_BYTES, SPLICE_FROM_BYTES, WRITE_HIGH_BYTES, WRITE_LOW_BYTES
from agent_os.effects.proxy.meter import Meter
from agent_os.effects.proxy.tls import Tls

_SOME_BYTES: Final = 64 * 1024


class StreamClosedError(EffectError):
    """The peer is gone, or its TLS failed."""


class Lent(Protocol):
    """What a stream knows of the other process that takes its bytes."""

    @property
    def count(self) -> int:
        """Bytes taken so far."""
        ...

    def moved(self) -> bool:
        """Return whether a byte was taken since this was asked last."""
        ...

    def close(self) -> None:
        """Take the bytes here again."""
        ...


class Stream(asyncio.Protocol):
    """One side of a flow."""

    __slots__ = (
        *("_buffer", "_drain", "_eof", "_loop", "_opened", "_paused"),
        *("_poured_into", "_sink", "_source", "_tls", "_waiter", "_write_paused", "active", "broken", "lost"),
        *("lent", "meter", "on_bulk", "on_eof", "on_lost", "on_spent", "received", "sent", "transport"),
        "truncated",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, opened: Callable[[Stream], None] | None = None) -> None:
        self._loop = loop
        self._opened = opened
        self.transport: Any = None
        self._buffer = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self._drain: asyncio.Future[None] | None = None
        self._sink: Callable[[bytes], None] | None = None
        self._source: Stream | None = None
        self._poured_into: Stream | None = None
        self._tls: Tls | None = None
        self._eof = self._paused = self._write_paused = False
        self.lost = self.broken = self.active = self.truncated = False
        self.on_eof: Callable[[], None] | None = None
        self.on_lost: Callable[[], None] | None = None
        self.on_bulk: Callable[[], None] | None = None
        """Told of each large piece that was pushed: the relay may hand over to the kernel."""
        self.meter: Meter | None = None
        self.on_spent: Callable[[], None] | None = None
        """Told when the meter has nothing left for bytes that wanted to pass."""
        self.received = self.sent = 0
        self.lent: Lent | None = None
        """Set while another process takes the bytes from the socket; they are not in `received` yet."""

    # ---- asyncio calls these -------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES, low=WRITE_LOW_BYTES)
        if self._opened is not None:
            opened, self._opened = self._opened, None
            opened(self)

    def data_received(self, data: bytes) -> None:
        self.active = True
        if self.meter is not None:
            data = data[: self.metered(len(data))]
        self.received += len(data)
        if self._tls is not None:
            data = self._decrypted(self._tls, data)
            if not data:
                return
        if self._sink is not None:
            self._sink(data)
            if self.on_bulk is not None and len(data) >= SPLICE_FROM_BYTES:
                self.on_bulk()
            return
        self._buffer += data
        self._wake()
        if len(self._buffer) >= READ_HIGH_BYTES:
            self.pause()

    def eof_received(self) -> bool:
        if self._tls is not None and not self._eof:
            self.truncated = True
        self._not_shaken()
        self._ended()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.broken = exc is not None
        if self._drain is not None and not self._drain.done():
            self._drain.set_result(None)
        self._not_shaken()
        if self.broken:
            self.on_eof = None  # a break is no end: passed on as one, the other side would take a part for the whole
        self._ended()
        if self._source is not None:
            self._source.resume()
        on_lost = self.on_lost
        self.on_lost = self.on_eof = self.on_bulk = self.on_spent = None  # no cycle is left for the collector
        self._sink = self._source = self._poured_into = None
        if on_lost is not None:
            on_lost()

    def _not_shaken(self) -> None:
        if self._tls is not None:
            self._tls.fail(StreamClosedError("peer closed during the tls handshake"))

    def pause_writing(self) -> None:
        self._write_paused = True
        if self._source is not None:
            self._source.pause()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._source is not None:
            self._source.resume()
        if self._drain is not None and not self._drain.done():
            self._drain.set_result(None)

    # ---- reading -------------------------------------------------------------------------------------------------

    @property
    def at_eof(self) -> bool:
        """Whether the peer has sent its last byte and all of it was taken."""
        return self._eof and not self._buffer

    @property
    def ended(self) -> bool:
        """Whether the peer has sent its last byte; some of it may not be taken yet."""
        return self._eof

    @property
    def buffer(self) -> bytearray:
        """What was received and not taken yet; for looking at only."""
        return self._buffer

    async def more(self) -> bool:
        """Wait until more bytes are in `buffer` than now; False when the peer has ended."""
        if self._eof:
            return False
        if self._paused:
            self.resume()
        self._waiter = self._loop.create_future()
        held = len(self._buffer)
        try:
            await self._waiter
        finally:
            self._waiter = None
        return len(self._buffer) > held

    def take(self, count: int | None = None) -> bytes:
        """Remove and return the first `count` bytes of the buffer (all of them by default)."""
        buffer = self._buffer
        if count is None or count >= len(buffer):
            data = bytes(buffer)
            buffer.clear()
        else:
            data = bytes(memoryview(buffer)[:count])
            del buffer[:count]
        return data

    async def some(self, most: int = _SOME_BYTES) -> bytes:
        """Return the next bytes, at most `most`; empty at the end."""
        if not self._buffer:
            await self.more()
        return self.take(most)

    async def exactly(self, count: int) -> bytes:
        """Return exactly `count` bytes. Raises StreamClosedError when the peer ends before."""
        while len(self._buffer) < count:
            if not await self.more():
                raise StreamClosedError("peer closed early")
        return self.take(count)

    def pause(self) -> None:
        """Stop reading from the socket."""
        if not self._paused and not self.lost and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read from the socket again."""
        if self._paused and not self.lost and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    def wake(self) -> None:
        """Let whoever waits in `more` look again."""
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _ended(self) -> None:
        if not self._eof:
            self._eof = True
            self._wake()
            if self.on_eof is not None:
                on_eof, self.on_eof = self.on_eof, None
                on_eof()

    # ---- writing -------------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queue bytes; the caller awaits `drain` between pieces, or is paused as the source of a relay."""
        if self.lost or self.transport.is_closing():
            return
        self.active = True
        if self.meter is not None:
            data = data[: self.metered(len(data))]
        self.sent += len(data)
        if self._tls is None:
            self.transport.write(data)
            return
        self._tls.write(data)
        if self._tls.failure:
            self._tls_broke(self._tls)
        else:
            self._flush(self._tls)

    async def drain(self) -> None:
        """Wait until the peer takes bytes again. Raises StreamClosedError when it is gone."""
        if self.lost:
            raise StreamClosedError("peer closed")
        if self._write_paused:
            self._drain = self._loop.create_future()
            await self._drain
            self._drain = None
            if self.lost:
                raise StreamClosedError("peer closed")

    def write_eof(self) -> None:
        """Say that nothing more follows, where TLS allows it; else close after what is queued."""
        if self.lost or self.transport.is_closing():
            return
        if self._tls is None:
            self.transport.write_eof()
        else:
            self.close()

    def close(self) -> None:
        """Close after queued bytes have been sent."""
        if self.transport is not None and not self.lost and not self.transport.is_closing():
            if self._tls is not None:
                self._tls.end()
                self._flush(self._tls)
            self.transport.close()

    def break_off(self) -> None:
        """Close after queued bytes have been sent, with a reset: the peer must not take a part for the whole."""
        if self.transport is not None and not self.lost:
            self.transport.close(reset=True)

    def abort(self) -> None:
        """Close at once (a reset)."""
        if self.transport is not None and not self.lost:
            self.transport.abort()

    def metered(self, count: int) -> int:
        """Charge up to `count` bytes to the meter; return how many may pass, and say so when that is not all."""
        if self.meter is None:
            return count
        taken = self.meter.take(count)
        if taken < count and self.on_spent is not None:
            on_spent, self.on_spent = self.on_spent, None
            on_spent()
        return taken

    # ---- relay ---------------------------------------------------------------------------------------------------

    def pour_into(self, other: Stream, through: Callable[[bytes], bytes] | None = None) -> None:
        """Hand every byte from here on to `other`, with back-pressure; what is buffered goes first.

        `through` sees each piece and returns what goes on instead; it may not raise.
        """
        self._poured_into = other
        other._source = self
        sink: Callable[[bytes], None] = other.write
        if through is not None:
            filtered = through

            def sink(data: bytes) -> None:
                if ready := filtered(data):
                    other.write(ready)

        if self._buffer:
            sink(self.take())
        self._sink = sink
        if other._write_paused:
            self.pause()
        else:
            self.resume()

    def pour(self, sink: Callable[[bytes], None]) -> None:
        """Hand every byte from here on to a function."""
        if self._buffer:
            sink(self.take())
        self._sink = sink
        self.resume()

    def stop_pouring(self) -> None:
        """Go back to pull mode."""
        if self._poured_into is not None:
            self._poured_into._source = None
            self._poured_into = None
        self._sink = None

    # ---- TLS -----------------------------------------------------------------------------------------------------

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS session, once started."""
        return self._tls.session if self._tls is not None else None

    @property
    def tls_failure(self) -> str:
        """What broke TLS, in words."""
        return self._tls.failure if self._tls is not None else ""

    async def start_tls(
        self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None
    ) -> None:
        """Wrap the stream from here on; buffered bytes are taken as the peer's first. Raises StreamClosedError."""
        shaken: asyncio.Future[None] = self._loop.create_future()
        tls = self._tls = Tls(context, shaken, server_side=server_side, server_hostname=server_hostname)
        early = self.take()
        if self._paused:
            self.resume()
        self._buffer += self._decrypted(tls, early)
        if self._eof:
            tls.fail(StreamClosedError("peer closed before the tls handshake"))
        await shaken

    def _decrypted(self, tls: Tls, data: bytes) -> bytes:
        """Return what bytes of the wire say; an end or a break that stands in them is told."""
        shaking = tls.shaking
        data = tls.feed(data)
        self._flush(tls)  # an alert too
        if tls.failure:
            if shaking:
                tls.fail(StreamClosedError(tls.failure))
            else:
                self._tls_broke(tls)
        elif tls.over:
            if self._sink is None:
                self._buffer += data
            elif data:
                self._sink(data)
            self._ended()
            return b""
        return data

    def _flush(self, tls: Tls) -> None:
        if (data := tls.outgoing()) and not self.lost and not self.transport.is_closing():
            self.transport.write(data)

    def _tls_broke(self, tls: Tls) -> None:
        self.truncated = True
        self._flush(tls)
        self.abort()
