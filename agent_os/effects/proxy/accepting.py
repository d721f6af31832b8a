"""A listening socket on an event loop: takes connections and makes each one a wire, or leaves the socket to another for a while.

May not: judge, or give up because the machine is short of descriptors or memory (it pauses). Threat: a flood of connections that
keeps the loop from its other work.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Final

from agent_os.effects.proxy.wire import Listens, Wire

ACCEPTS_PER_TURN_MAX: Final = 64
ACCEPT_PAUSE_SECONDS: Final = 0.2
"""After the machine ran out of descriptors or memory: no connection is taken for so long."""
_NO_ROOM: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Accepting:
    """Takes connections off a listening socket, which belongs to it, and makes each one a wire."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, listens: Callable[[], Listens]) -> None:
        self._loop, self.sock, self._listens = loop, sock, listens
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        sock.setblocking(False)
        sock.listen(1024)
        loop.add_reader(sock.fileno(), self._readable)

    def _readable(self) -> None:
        for _ in range(ACCEPTS_PER_TURN_MAX):
            try:
                sock, _ = self.sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    return
                self._loop.remove_reader(self.sock.fileno())
                self._timer = self._loop.call_later(ACCEPT_PAUSE_SECONDS, self._again)
                return
            sock.setblocking(False)
            try:
                Wire(self._loop, sock, self._listens()).read_now()
            except OSError:
                sock.close()  # gone before it was served

    def _again(self) -> None:
        self._timer = None
        if not self._paused:
            self._loop.add_reader(self.sock.fileno(), self._readable)

    def pause(self) -> None:
        """Leave the socket to another who accepts on it."""
        self._paused = True
        self._loop.remove_reader(self.sock.fileno())

    def resume(self) -> None:
        """Take connections again."""
        if self._paused and self.sock.fileno() >= 0:
            self._paused = False
            self._again()

    def close(self) -> None:
        """Take nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        if self.sock.fileno() >= 0:
            self._loop.remove_reader(self.sock.fileno())
            self.sock.close()
