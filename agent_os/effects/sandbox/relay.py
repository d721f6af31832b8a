"""Between the person's terminal or pipes and a sandbox: streams with back-pressure, or a real terminal. Descriptors only.

No descriptor of the host goes into a sandbox: a terminal could be written to or typed into, and a file could be opened
again for writing through `/proc/self/fd`. Bytes are copied here, counted, and filtered where a terminal reads.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import struct
import termios
import threading
import tty
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent_os.guards.confine.terminal import TerminalFilter


CHUNK_BYTES: Final = 65536
DRAIN_SECONDS: Final = 5.0
DEFAULT_SIZE: Final = (24, 80)


class OutputCount:
    """Bytes a run has written on all its streams; calls `exceeded` once when there are too many."""

    def __init__(self, limit: int, exceeded: Callable[[], object]) -> None:
        self._limit, self._exceeded, self._lock = limit, exceeded, threading.Lock()
        self.total = 0
        self.over = False

    def take(self, data: bytes) -> bytes:
        """Count bytes and return those that still fit."""
        with self._lock:
            room = self._limit - self.total if self._limit else len(data)
            self.total += len(data)
            first = bool(self._limit) and len(data) > room and not self.over
            self.over = self.over or first
        if first:
            self._exceeded()
        return data[: max(room, 0)] if self._limit else data


class Streams:
    """Three pipes copied from and to the host's stdin, stdout and stderr by threads."""

    def __init__(self, count: OutputCount, *, stdin: int = 0, stdout: int = 1, stderr: int = 2) -> None:
        in_read, self._in_write = os.pipe2(os.O_CLOEXEC)
        self._out_read, out_write = os.pipe2(os.O_CLOEXEC)
        self._err_read, err_write = os.pipe2(os.O_CLOEXEC)
        self.inside = (in_read, out_write, err_write)
        self._stdin = stdin
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC)
        self._threads = [
            threading.Thread(target=_copy_out, args=(self._out_read, stdout, count), daemon=True),
            threading.Thread(target=_copy_out, args=(self._err_read, stderr, count), daemon=True),
        ]
        self._feeder = threading.Thread(target=self._copy_in, daemon=True)

    def start(self) -> None:
        """Begin copying; the program's ends are closed here, so that its end is seen."""
        for descriptor in self.inside:
            os.close(descriptor)
        for thread in (*self._threads, self._feeder):
            thread.start()

    def abandon(self) -> None:
        """Close everything without having started."""
        for descriptor in (*self.inside, self._in_write, self._out_read, self._err_read):
            os.close(descriptor)

    def finish(self) -> None:
        """Wait until everything the program wrote has been passed on."""
        for thread in self._threads:
            thread.join(DRAIN_SECONDS)
        os.write(self._wake_write, b"x")
        self._feeder.join(DRAIN_SECONDS)

    def _copy_in(self) -> None:
        poller = select.poll()
        poller.register(self._wake_read, select.POLLIN)
        try:
            poller.register(self._stdin, select.POLLIN)
            while True:
                ready = dict(poller.poll())
                if self._wake_read in ready:
                    return
                data = os.read(self._stdin, CHUNK_BYTES)
                if not data:
                    return
                _write_all(self._in_write, data)
        except OSError:
            return  # the program closed its stdin, or ours is gone
        finally:
            with contextlib.suppress(OSError):
                os.close(self._in_write)


class CapturePipes:
    """Three pipes whose output is kept up to a bound; what is beyond is read, counted and dropped."""

    def __init__(self, stdin: bytes, capture_bytes: int, output_limit: int) -> None:
        in_read, self._in_write = os.pipe2(os.O_CLOEXEC)
        self._out_read, out_write = os.pipe2(os.O_CLOEXEC)
        self._err_read, err_write = os.pipe2(os.O_CLOEXEC)
        self.inside = (in_read, out_write, err_write)
        self._stdin, self._limit, self._output_limit = stdin, capture_bytes, output_limit
        self._kept: dict[int, bytearray] = {self._out_read: bytearray(), self._err_read: bytearray()}
        self._dropped = 0
        self._threads: list[threading.Thread] = []

    def start(self, exceeded: Callable[[], object]) -> None:
        """Begin; `exceeded` is called from a thread when the output limit is passed."""
        for descriptor in self.inside:
            os.close(descriptor)
        count = OutputCount(self._output_limit, exceeded)
        self._threads = [
            threading.Thread(target=self._read, args=(source, count), daemon=True) for source in self._kept
        ]
        self._threads.append(threading.Thread(target=self._feed, daemon=True))
        for thread in self._threads:
            thread.start()

    def abandon(self) -> None:
        """Close everything without having started."""
        for descriptor in (*self.inside, self._in_write, self._out_read, self._err_read):
            os.close(descriptor)

    def finish(self) -> tuple[bytes, bytes, int]:
        """Return (stdout, stderr, bytes dropped) when both streams have ended."""
        for thread in self._threads:
            thread.join(DRAIN_SECONDS)
        out, err = self._kept.values()
        return bytes(out), bytes(err), self._dropped

    def _read(self, source: int, count: OutputCount) -> None:
        kept = self._kept[source]
        while True:
            try:
                data = os.read(source, CHUNK_BYTES)
            except OSError:
                break
            if not data:
                break
            data = count.take(data)
            room = self._limit - len(kept)
            kept += data[:room]
            self._dropped += max(len(data) - room, 0)
        os.close(source)

    def _feed(self) -> None:
        with contextlib.suppress(OSError):
            _write_all(self._in_write, self._stdin)
        os.close(self._in_write)


def _filter(*, interactive: bool) -> TerminalFilter:
    from agent_os.guards.confine.terminal import TerminalFilter  # noqa: PLC0415 - large expressions, for terminals alone

    return TerminalFilter(interactive=interactive)


def _copy_out(source: int, target: int, count: OutputCount) -> None:
    shown = _filter(interactive=False) if os.isatty(target) else None
    while True:
        try:
            data = os.read(source, CHUNK_BYTES)
        except OSError:
            break
        if not data:
            break
        data = count.take(data)
        if shown is not None:
            data = shown.feed(data)
        try:
            _write_all(target, data)
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.EIO):
                break  # nobody reads any more: closing our end tells the program
            raise
    os.close(source)


def _write_all(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(target, view) :]
        except BlockingIOError:
            select.select([], [target], [])


class Terminal:
    """The person's terminal in raw mode, copied from and to the sandbox's own terminal."""

    def __init__(self, master: int, count: OutputCount, *, stdin: int = 0, stdout: int = 1) -> None:
        self._master, self._stdin, self._stdout, self._count = master, stdin, stdout, count
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC)
        self._saved = termios.tcgetattr(stdin)
        self._reader = threading.Thread(target=self._copy_out, daemon=True)
        self._writer = threading.Thread(target=self._copy_in, daemon=True)

    def start(self) -> None:
        """Switch to raw mode and begin copying."""
        tty.setraw(self._stdin)
        self.resized()
        self._reader.start()
        self._writer.start()

    def resized(self) -> None:
        """Pass the terminal's size on; the kernel tells the programs inside."""
        rows, columns = size_of(self._stdin)
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def finish(self) -> None:
        """Pass on what is left and restore the terminal."""
        self._reader.join(DRAIN_SECONDS)
        os.write(self._wake_write, b"x")
        self._writer.join(DRAIN_SECONDS)
        self.restore()
        os.close(self._master)

    def restore(self) -> None:
        """Give the person's terminal back as it was; harmless to repeat."""
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self._stdin, termios.TCSADRAIN, self._saved)

    def _copy_out(self) -> None:
        shown = _filter(interactive=True)
        while True:
            try:
                data = os.read(self._master, CHUNK_BYTES)
            except OSError:
                return  # EIO: the last program closed the terminal
            if not data:
                return
            _write_all(self._stdout, shown.feed(self._count.take(data)))

    def _copy_in(self) -> None:
        poller = select.poll()
        poller.register(self._wake_read, select.POLLIN)
        poller.register(self._stdin, select.POLLIN)
        while True:
            ready = dict(poller.poll())
            if self._wake_read in ready:
                return
            try:
                data = os.read(self._stdin, CHUNK_BYTES)
                if not data:
                    return
                _write_all(self._master, data)
            except OSError:
                return


def size_of(descriptor: int) -> tuple[int, int]:
    """Return (rows, columns) of a terminal, a usual size for what is none."""
    try:
        size = os.get_terminal_size(descriptor)
    except OSError:
        return DEFAULT_SIZE
    return (size.lines or DEFAULT_SIZE[0], size.columns or DEFAULT_SIZE[1])
