"""The pipes to a tool server in its sandbox: bytes out in order, bytes in as they come, its stderr kept by its end.

Knows no protocol. Threat: a server that reads nothing (what waits to be written has a bound), that writes to stderr without
end (only the last part is kept), or that goes away in the middle of a line.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from typing import Final

STDERR_BYTES_KEPT: Final = 20_000
PIECE_BYTES: Final = 1 << 16
PENDING_BYTES_MAX: Final = 64 * 1024 * 1024


class ServerPipes:
    """Three pipes whose far ends go into a sandbox as its stdin, stdout and stderr."""

    def __init__(self) -> None:
        self._in_far, self._writer = os.pipe2(os.O_CLOEXEC)
        self._reader, self._out_far = os.pipe2(os.O_CLOEXEC)
        self._errors, self._err_far = os.pipe2(os.O_CLOEXEC)
        self._pending = bytearray()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_data: Callable[[bytes], None] = lambda _data: None
        self._on_end: Callable[[str], None] = lambda _why: None
        self.stderr = bytearray()

    @property
    def far(self) -> tuple[int, int, int]:
        """The descriptors for the sandbox: stdin, stdout, stderr."""
        return self._in_far, self._out_far, self._err_far

    def close_far(self) -> None:
        """Close what was handed to the sandbox."""
        _close(self.far)

    def start(self, on_data: Callable[[bytes], None], on_end: Callable[[str], None]) -> None:
        """Begin to read; `on_end` is called with the reason once nothing more can be said either way."""
        self._loop = asyncio.get_running_loop()
        self._on_data, self._on_end = on_data, on_end
        for descriptor in (self._reader, self._writer, self._errors):
            os.set_blocking(descriptor, False)
        self._loop.add_reader(self._reader, self._readable)
        self._loop.add_reader(self._errors, self._said)

    def write(self, data: bytes) -> None:
        """Send bytes after those that wait; a server that does not take them is ended."""
        if len(self._pending) + len(data) > PENDING_BYTES_MAX:
            self._on_end("the tool server does not read what it is sent")
            return
        self._pending += data
        self._flush()

    def stop(self) -> None:
        """Read and write nothing more; stderr is still taken."""
        if self._loop is not None:
            self._loop.remove_reader(self._reader)
            self._loop.remove_writer(self._writer)
        self._pending.clear()

    def close(self) -> None:
        """Close our ends."""
        self.stop()
        if self._loop is not None:
            self._loop.remove_reader(self._errors)
        _close((self._reader, self._writer, self._errors))

    def _readable(self) -> None:
        data = _piece(self._reader)
        if data is None:
            return
        if data:
            self._on_data(data)
        else:
            self._on_end("the tool server ended")

    def _said(self) -> None:
        data = _piece(self._errors)
        if data is None:
            return
        if data:
            self.stderr = (self.stderr + data)[-STDERR_BYTES_KEPT:]
        elif self._loop is not None:
            self._loop.remove_reader(self._errors)

    def _flush(self) -> None:
        while self._pending:
            try:
                done = os.write(self._writer, self._pending)
            except BlockingIOError:
                if self._loop is not None:
                    self._loop.add_writer(self._writer, self._flush)
                return
            except OSError:
                self._on_end("the tool server ended")
                return
            del self._pending[:done]
        if self._loop is not None:
            self._loop.remove_writer(self._writer)


def _piece(descriptor: int) -> bytes | None:
    """Return what can be read now; None for nothing yet, empty at the end."""
    try:
        return os.read(descriptor, PIECE_BYTES)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _close(descriptors: tuple[int, ...]) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
