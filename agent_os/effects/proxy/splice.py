"""Bulk bytes of a relay through the kernel: socket -> pipe -> socket, without a copy into this process.

For what nobody looks into: passed tunnels, and plain bodies that no stage, mask or meter of content wants. The pipe
holds at most PIPE_BYTES; while it holds anything the source is not read, so that a slow reader slows the sender. Each
piece is charged (counters, byte budget) before it goes on, and no piece is larger than what the budget has left.
A guard with a carrier lends it answers without a meter (`loans.py`). Where the platform has no splice, or PIPES_MAX
directions use it already, relays go on copying. splice(2), pipe(7).
"""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable
from typing import Final

from agent_os.effects.proxy.stream import Lent, Stream

PIPE_BYTES: Final = 1024 * 1024
PIPES_MAX: Final = 56
"""Pipes at once: with PIPE_BYTES each they stay under what one user may have (64 MiB, pipe-user-pages-soft)."""
PIECES_PER_TURN_MAX: Final = 8
"""Pieces of one direction before other connections have their turn."""
AVAILABLE: Final = hasattr(os, "splice")
_SET_SIZE: Final = 1031  # F_SETPIPE_SZ, linux/fcntl.h
_FLAGS: Final = 0x01 | 0x02  # SPLICE_F_MOVE | SPLICE_F_NONBLOCK


Lend = Callable[..., Lent | None]
"""Lets another process move what one stream gets to another (of a client: heads of this shape); None where it cannot."""


class Pipes:
    """Counts the pipes of one guard and lends them."""

    def __init__(self) -> None:
        self.lent = 0

    def lend(self) -> tuple[int, int] | None:
        """Return the ends of an empty pipe, or None where there are enough or none is to be had."""
        if not AVAILABLE or self.lent >= PIPES_MAX:
            return None
        try:
            ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.fcntl(ends[0], _SET_SIZE, PIPE_BYTES)
        except OSError:
            pass  # a smaller pipe works too
        self.lent += 1
        return ends

    def take_back(self, ends: tuple[int, int]) -> None:
        """Close a pipe with whatever is in it."""
        self.lent -= 1
        for end in ends:
            os.close(end)


class Splice:
    """One direction of a relay in the kernel's hands, from `begin` until `close`."""

    def __init__(self, pipes: Pipes, source: Stream, sink: Stream, lend: Lend | None = None) -> None:
        """`lend`: who could do it in another process, for a direction without a meter."""
        self._pipes, self._source, self._sink, self._lend = pipes, source, sink, lend
        self._loan: Lent | None = None
        self._ends: tuple[int, int] | None = None
        self._closed = False
        self.held = 0
        """Bytes taken from the source that the sink has not taken yet."""

    def offer(self) -> None:
        """Take over as soon as the sink has been sent everything that was copied; called at a large piece."""
        source, sink = self._source, self._sink
        if self._closed or self._ends is not None or source.tls is not None or sink.tls is not None:
            return
        if source.lost or sink.lost or sink.transport.is_closing():
            return
        source.on_bulk = None
        if sink.transport.unsent:
            source.pause()
            sink.transport.on_flushed = self._begin
        else:
            self._begin()

    def lend_now(self) -> None:
        """Lend this direction if another process takes it and nothing of it waits here; else nothing changes."""
        source, sink = self._source, self._sink
        if self._closed or self._loan is not None or self._ends is not None or self._lend is None:
            return
        if source.lost or source.ended or sink.lost or sink.transport.is_closing() or sink.transport.unsent:
            return
        if source.tls is None and sink.tls is None and source.meter is None and sink.meter is None:
            self._loan = self._lend(source, sink)
            if self._loan is not None:
                source.on_bulk = None

    def _begin(self) -> None:
        source, sink = self._source, self._sink
        if self._closed or source.lost or sink.lost:
            return
        source.resume()
        if self._lend is not None and source.meter is None and sink.meter is None:
            self._loan = self._lend(source, sink)
            if self._loan is not None:
                return
        self._ends = self._pipes.lend()
        if self._ends is not None:
            self._source.transport.read_by(self._readable)

    def close(self) -> None:
        """Give the pipe back; what is in it is gone."""
        self._closed = True
        if self._loan is not None:
            self._loan.close()
        if self._ends is not None:
            ends, self._ends = self._ends, None
            self._source.transport.pause_reading()
            self._sink.transport.stop_write_by(self._writable)
            self._pipes.take_back(ends)

    def _readable(self) -> None:
        source, wire = self._source, self._source.transport
        meter = source.meter or self._sink.meter
        for _ in range(PIECES_PER_TURN_MAX):
            if self._ends is None or wire.is_closing():
                return
            most = PIPE_BYTES if meter is None else min(PIPE_BYTES, meter.left)
            try:
                if most:
                    count = os.splice(wire.fd, self._ends[1], most, flags=_FLAGS)
                else:
                    count = len(wire.sock.recv(1, socket.MSG_PEEK))
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                wire.failed(error)
                return
            if not count:
                wire.peer_ended()
                return
            if not most:
                (source if source.meter is not None else self._sink).metered(count)  # says that it is spent
                wire.pause_reading()
                return
            if meter is not None:
                meter.take(count)
            source.received += count
            source.active = True
            self.held = count
            if not self._push():
                wire.pause_reading()
                return

    def _push(self) -> bool:
        """Hand what is held to the sink; whether all of it went."""
        sink, wire = self._sink, self._sink.transport
        if self._ends is None or wire.is_closing():
            return False
        sink.active = True
        while self.held:
            try:
                count = os.splice(self._ends[0], wire.fd, self.held, flags=_FLAGS)
            except (BlockingIOError, InterruptedError):
                wire.write_by(self._writable)
                return False
            except OSError as error:
                wire.failed(error)
                return False
            self.held -= count
            sink.sent += count
        return True

    def _writable(self) -> None:
        if self._push():
            self._sink.transport.write_by(None)
            self._source.transport.resume_reading()
