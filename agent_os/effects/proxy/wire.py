"""A non-blocking stream socket on an event loop, owned by the guard: what `Stream` writes to and reads from.

Beside asyncio's own transports for three reasons: the guard holds the descriptor, so that a relay can hand it to the
kernel (`splice.py`); it half-closes on every loop (uvloop's aborts there); and a new tunnel costs half of what it
costs through `create_server` and `create_connection`. May not: judge, buffer without bound (who writes is told to
stop at the high-water mark), or close a socket before it is off the loop. Methods are those of asyncio's Transport,
as far as `Stream` uses them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Any, Final, Protocol

READ_BYTES: Final = 256 * 1024
"""Most bytes of one read."""
LAST_READS_MAX: Final = 4
"""Reads of what a peer had said that then broke the connection off."""
LINGER_SECONDS: Final = 30.0
"""How long a closed connection waits for its peer to take what is left."""
_RESET: Final = struct.pack("ii", 1, 0)


class Listens(Protocol):
    """What a wire tells: as `asyncio.Protocol`."""

    def connection_made(self, transport: Any) -> None:
        """The wire stands."""

    def data_received(self, data: bytes) -> None:
        """Bytes came."""

    def eof_received(self) -> bool:
        """The peer sends no more; return whether the wire stays open."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The wire is over; nothing is told after this."""

    def pause_writing(self) -> None:
        """The high-water mark is passed."""

    def resume_writing(self) -> None:
        """The low-water mark is reached again."""


class _Nobody:
    """Whom a wire that is over tells."""

    def connection_made(self, transport: Any) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...

    def eof_received(self) -> bool:
        return False


_NOBODY: Final = _Nobody()


def _nothing() -> None: ...


class Wire:
    """One connected socket. `sock` is non-blocking and belongs to the wire from here on."""

    __slots__ = (
        *("_closing", "_eof_wanted", "_full", "_high", "_linger", "_listens", "_loop", "_lost", "_low", "_out"),
        *("_read_by", "_reading", "_reset", "_seen_eof", "_write_by", "fd", "on_flushed", "sock"),
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, listens: Listens) -> None:
        self._loop, self.sock, self._listens = loop, sock, listens
        self.fd = sock.fileno()
        self._out = bytearray()
        self._high, self._low = 64 * 1024, 16 * 1024
        self._read_by: Callable[[], None] = self._readable
        self._write_by: Callable[[], None] | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._reading = self._full = self._closing = self._lost = self._eof_wanted = self._seen_eof = False
        self._reset = False
        self.on_flushed: Callable[[], None] | None = None
        """Called once, when nothing waits for the peer any more."""
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listens.connection_made(self)
        if not self._closing:
            self.resume_reading()

    # ---- asked by whoever holds it ---------------------------------------------------------------------------------

    def get_extra_info(self, name: str) -> Any:
        """Return `socket`, `sockname` or `peername`; None for anything else and where it is gone."""
        try:
            return {"socket": lambda: self.sock, "sockname": self.sock.getsockname, "peername": self.sock.getpeername}[
                name
            ]()
        except (KeyError, OSError):
            return None

    def set_write_buffer_limits(self, *, high: int, low: int) -> None:
        """Set the marks at which a writer is told to stop and to go on, in bytes."""
        self._high, self._low = high, low

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self._closing

    @property
    def unsent(self) -> int:
        """Bytes that wait for the peer."""
        return len(self._out)

    # ---- reading ---------------------------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        """Take nothing from the socket."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self.fd)

    def resume_reading(self) -> None:
        """Take from the socket again."""
        if not self._reading and not self._closing and not self._seen_eof:
            self._reading = True
            self._loop.add_reader(self.fd, self._read_by)

    def read_by(self, readable: Callable[[], None]) -> None:
        """Let another take the bytes from the socket, from now on and for good; reading goes on, or begins again."""
        self.pause_reading()
        self._read_by = readable
        self.resume_reading()

    def read_now(self) -> None:
        """Look at once for what is here already, without waiting for the loop's next turn."""
        if self._reading:
            self._read_by()

    def _readable(self) -> None:
        try:
            data = self.sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error)
            return
        if data:
            self._listens.data_received(data)
            return
        self.peer_ended()

    def peer_ended(self) -> None:
        """Say that the peer sends no more (also called by who read in our place)."""
        self.pause_reading()
        self._seen_eof = True
        if not self._closing and not self._listens.eof_received():
            self.close()

    # ---- writing ---------------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send now what the socket takes and keep the rest."""
        if self._closing or self._eof_wanted:
            return
        if not self._out:
            try:
                sent = self.sock.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._lose(error)
                return
            if sent == len(data):
                return
            data = memoryview(data)[sent:]
            self.write_by(self._writable)
        self._out += data
        if len(self._out) > self._high and not self._full:
            self._full = True
            self._listens.pause_writing()

    def write_by(self, writable: Callable[[], None] | None) -> None:
        """Call this whenever the socket takes bytes; None ends that. One writer at a time."""
        if writable == self._write_by or self._lost:
            return
        self._write_by = writable
        if writable is None:
            self._loop.remove_writer(self.fd)
        else:
            self._loop.add_writer(self.fd, writable)

    def _writable(self) -> None:
        try:
            sent = self.sock.send(self._out)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error)
            return
        del self._out[:sent]
        if self._full and len(self._out) <= self._low:
            self._full = False
            self._listens.resume_writing()
        if not self._out and not self._lost:
            self.write_by(None)
            if self._closing:
                self._end(None)
            elif self._eof_wanted:
                self._shut()
            elif self.on_flushed is not None:
                on_flushed, self.on_flushed = self.on_flushed, None
                on_flushed()

    def stop_write_by(self, writable: Callable[[], None]) -> None:
        """End what `write_by` began, if it is still this one's."""
        if self._write_by == writable:
            self.write_by(None)

    def write_eof(self) -> None:
        """Half-close once everything is sent."""
        if not self._closing and not self._eof_wanted:
            self._eof_wanted = True
            if not self._out:
                self._shut()

    def _shut(self) -> None:
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._lose(error)

    # ---- the end ---------------------------------------------------------------------------------------------------

    def close(self, *, reset: bool = False) -> None:
        """Read nothing more, send what is kept, then close; a peer that takes nothing is reset after a while.

        `reset`: the end is no orderly one, and the peer is to see that.
        """
        if not self._closing:
            self._reset = reset
            self.pause_reading()
            self._closing = True
            if not self._out:
                self._end(None)
            else:
                self._linger = self._loop.call_later(LINGER_SECONDS, self.abort)

    def abort(self) -> None:
        """Close at once with a reset, so that no peer takes a part for the whole."""
        self._reset = True
        self._lose(None)

    def failed(self, error: OSError) -> None:
        """End because of an error that another reader or writer of this socket met."""
        self._lose(error)

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self.pause_reading()
        self._closing = True
        self._out.clear()
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        """Tell once, on a later turn: whoever caused it is still at work. The descriptor is closed after that."""
        if not self._lost:
            self.write_by(None)
            self._lost = True
            self._loop.call_soon(self._tell, error)

    def _tell(self, error: Exception | None) -> None:
        if self._linger is not None:
            self._linger.cancel()
        self.on_flushed = None
        try:
            if error is not None and self._read_by == self._readable and not self._seen_eof:
                self._last_words()
            self._listens.connection_lost(error)
        finally:
            self.fd = -1
            self._listens, self._read_by = _NOBODY, _nothing  # no cycle is left for the collector
            if self._reset:
                with contextlib.suppress(OSError):
                    self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.sock.close()

    def _last_words(self) -> None:
        """Tell what a peer that takes no more has said before: a server may answer and close while a body is on its way."""
        with contextlib.suppress(OSError):
            for _ in range(LAST_READS_MAX):
                data = self.sock.recv(READ_BYTES)
                if not data:
                    return
                self._listens.data_received(data)


async def connect_wire(
    loop: asyncio.AbstractEventLoop, address: str, port: int, listens: Listens, seconds: float
) -> Wire:
    """Return a wire to a literal address. Raises OSError, TimeoutError after `seconds`."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    socket.inet_pton(family, address)  # a name would be looked up, and by nobody who was asked
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        problem = sock.connect_ex((address, port))
        if problem == errno.EINPROGRESS:
            if not _stands(sock):
                await _connected(loop, sock, seconds)
        elif problem:
            raise OSError(problem, os.strerror(problem))
    except BaseException:
        sock.close()
        raise
    return Wire(loop, sock, listens)


def _stands(sock: socket.socket) -> bool:
    """Whether a connection that was just begun is there already, as on one machine: then no turn of the loop is lost."""
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


async def _connected(loop: asyncio.AbstractEventLoop, sock: socket.socket, seconds: float) -> None:
    done: asyncio.Future[None] = loop.create_future()
    fd = sock.fileno()

    def settle(error: Exception | None = None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    timer = loop.call_later(seconds, settle, TimeoutError())
    loop.add_writer(fd, settle)
    try:
        await done
    finally:
        timer.cancel()
        loop.remove_writer(fd)
    problem = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if problem:
        raise OSError(problem, os.strerror(problem))
