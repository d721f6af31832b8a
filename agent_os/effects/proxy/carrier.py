"""The carrier process, seen from the guard: its start, words to it and from it. The program is `compiled/*.c`.

What is said stands in `compiled/carrier.h`; both ends are of one build. Words of one turn go in one message, so that under
load a tunnel costs a part of a system call here. Nothing here judges; nothing waits for the carrier: a word that its socket
does not take at once is kept until it does. Threat: the carrier reads hostile bytes, so it is a process of its own without
secrets or files; what it says is checked for form, and a carrier that says anything else is ended with all it holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import socket
import struct
import subprocess
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from agent_os.core.errors import EffectError
from agent_os.effects.native import Program
from agent_os.effects.proxy.identity import Ends

PROGRAM: Final = Program("carrier", Path(__file__).with_name("compiled"))
SLOTS: Final = 8192
"""Connections that the carrier holds at once; a further one is served here."""
LOANS_MAX: Final = 2048
"""Directions of the guard's own tunnels lent to the carrier at once."""
LENT_HEAD_BYTES_MAX: Final = 1024
"""A head that goes on in a client's direction that is lent."""
Shape = tuple[bytes, bytes]
"""A judged head in two parts: what stands before and behind the open part of its target."""
LISTENERS_MAX: Final = 64
TALK_BYTES_MAX: Final = 64 * 1024
"""One message, either way."""
MESSAGES_PER_TURN_MAX: Final = 8
UNSAID_WORDS_MAX: Final = 4 * SLOTS
"""Messages that wait for the carrier; it is ended when there are more."""
CLOSE_SECONDS: Final = 2.0
HEAD, WAITING, CONNECTING, FIRST, RELAY, SECURE = range(1, 7)
SOURCE_ENDED, SOURCE_BROKE, SINK_BROKE = 1, 2, 4
_LISTEN, _UNLISTEN, _OPEN, _GIVE, _CUT, _LEND, _RETURN = range(1, 8)
_ASKED, _UNREACHED, _ENDED, _GIVEN, _RETURNED = range(65, 70)
_WORD: Final = struct.Struct("=IIII")
_OPEN_BODY: Final = struct.Struct("=IIIIIHH16s")
_LEND_BODY: Final = struct.Struct("=IIIII")
_RETURNED_BODY: Final = struct.Struct("=QQ")
_NUMBER: Final = struct.Struct("=Q")
_ENDED_BODY: Final = struct.Struct("=QQQ")
_GIVEN_BODY: Final = struct.Struct("=QQII")
_ROW: Final = 4
_FAMILIES: Final = {4: (socket.AF_INET, 4), 6: (socket.AF_INET6, 16)}


class Hears(Protocol):
    """Who is told what the carrier says. A slot and its generation name one connection."""

    def asked(self, slot: int, generation: int, listener: int, ends: bytes, head: bytes) -> None:
        """A client asks by this CONNECT; `ends` is for `ends_of`."""

    def unreached(self, slot: int, generation: int, number: int) -> None:
        """The address could not be connected to (errno)."""

    def ended(self, slot: int, generation: int, up: int, down: int, secure: bool, broken: bool) -> None:
        """A connection is over, with its bytes; `secure`: a ClientHello was looked at."""

    def given(
        self, slot: int, generation: int, listener: int, counts: tuple[int, int], first: bytes, kept: bytes,
        sockets: Sequence[socket.socket],
    ) -> None:  # fmt: skip
        """A connection is ours now: client and perhaps upstream, with bytes for the upstream and for the client."""

    def returned(self, slot: int, moved: int, how: int, unlike: bytes) -> None:
        """A loan is over: bytes it moved, and SOURCE_ENDED, SOURCE_BROKE or SINK_BROKE.

        0 where it was asked for, or where `unlike` bytes came instead of a head like the one it was lent with.
        """

    def heard(self) -> None:
        """That was all of one message."""

    def gone(self, why: str) -> None:
        """The carrier is over, and every connection in it."""


class Carrier:
    """One carrier process. Raises NotBuiltError or EffectError where there is none to be had."""

    def __init__(self, loop: asyncio.AbstractEventLoop, program: int, hears: Hears) -> None:
        """`program` is a descriptor from `PROGRAM.sealed()`; it stays the caller's."""
        self._loop, self._hears = loop, hears
        self._unsaid: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._saying: list[bytes] = []
        self._buffer = bytearray(TALK_BYTES_MAX)
        table = os.memfd_create("agentos-carrier-rows", os.MFD_CLOEXEC)
        os.ftruncate(table, (SLOTS + LOANS_MAX) * _ROW * 8)
        self._map = mmap.mmap(table, (SLOTS + LOANS_MAX) * _ROW * 8, access=mmap.ACCESS_READ)
        self._rows = memoryview(self._map).cast("Q")
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._process = subprocess.Popen(
                [f"/proc/self/fd/{program}", str(theirs.fileno()), str(table)],
                pass_fds=[program, theirs.fileno(), table],
                env={},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            self._channel.close()
            raise EffectError(f"the carrier cannot be started: {error.strerror}") from error
        finally:
            theirs.close()
            os.close(table)
        self._channel.setblocking(False)
        self._open = True
        loop.add_reader(self._channel.fileno(), self._readable)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    # ---- said --------------------------------------------------------------------------------------------------------

    def listen(self, number: int, sock: socket.socket, *, who: bool) -> None:
        """Let it accept on a listening socket, which stays open here too; `who`: tell the addresses of who connects."""
        self.flush()
        self._send(_WORD.pack(_LISTEN, number, who, 0), (os.dup(sock.fileno()),))

    def unlisten(self, number: int) -> None:
        """Take no new connections from there."""
        self._saying.append(_WORD.pack(_UNLISTEN, number, 0, 0))
        self.flush()

    def open(self, slot: int, generation: int, address: str, port: int, host: bytes, seconds: float) -> None:
        """Connect to exactly this address, then tell the client; `host` is the name that a ClientHello must state."""
        kind = 6 if ":" in address else 4
        raw = socket.inet_pton(_FAMILIES[kind][0], address)
        milliseconds = min(max(1, int(seconds * 1000)), 600_000)
        size = 24 + len(host)
        self._saying.append(_OPEN_BODY.pack(_OPEN, slot, generation, size, milliseconds, kind, port, raw) + host)

    def give(self, slot: int, generation: int) -> None:
        """Ask for the connection: `given` follows."""
        self._saying.append(_WORD.pack(_GIVE, slot, generation, 0))

    def cut(self, slot: int, generation: int) -> None:
        """End a connection with a reset: `ended` follows."""
        self._saying.append(_WORD.pack(_CUT, slot, generation, 0))

    def lend(
        self, slot: int, generation: int, source: socket.socket, sink: socket.socket, shape: Shape | None = None
    ) -> None:
        """Let it move what a socket gets to another, which both stay open here; `slot` is free and past SLOTS.

        With a `shape` only pieces that are one whole head of it.
        """
        self.flush()
        before, behind = shape or (b"", b"")
        word = _LEND_BODY.pack(_LEND, slot, generation, 4 + len(before) + len(behind), len(before))
        self._send(word + before + behind, (os.dup(source.fileno()), os.dup(sink.fileno())))

    def take_back(self, slot: int, generation: int) -> None:
        """Ask for a loan: `returned` follows."""
        self._saying.append(_WORD.pack(_RETURN, slot, generation, 0))
        self.flush()

    def flush(self) -> None:
        """Say what was to be said in this turn."""
        words, self._saying = self._saying, []
        size = 0
        message: list[bytes] = []
        for word in words:
            if size + len(word) > TALK_BYTES_MAX:
                self._send(b"".join(message), ())
                size, message = 0, []
            message.append(word)
            size += len(word)
        if message:
            self._send(b"".join(message), ())

    def _send(self, data: bytes, descriptors: tuple[int, ...]) -> None:
        """Send a message, or keep it until there is room; the descriptors are ours to close."""
        if not self._open:
            _close(descriptors)
            return
        self._unsaid.append((data, descriptors))
        if len(self._unsaid) == 1:
            self._writable()
        elif len(self._unsaid) > UNSAID_WORDS_MAX:
            self._over("the carrier does not listen")

    def _writable(self) -> None:
        while self._unsaid:
            data, descriptors = self._unsaid[0]
            try:
                if descriptors:
                    socket.send_fds(self._channel, [data], list(descriptors))
                else:
                    self._channel.send(data)
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._channel.fileno(), self._writable)
                return
            except OSError:
                self._over("the carrier ended")
                return
            self._unsaid.popleft()
            _close(descriptors)
        self._loop.remove_writer(self._channel.fileno())

    # ---- looked at ---------------------------------------------------------------------------------------------------

    def counts(self, slot: int) -> tuple[int, int]:
        """Return the bytes (up, down) of the connection in a slot so far."""
        return self._rows[slot * _ROW], self._rows[slot * _ROW + 1]

    def state(self, slot: int) -> int:
        """Return what the connection in a slot is about, RELAY for one."""
        return self._rows[slot * _ROW + 2] & 0xFF

    # ---- heard -------------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        for _ in range(MESSAGES_PER_TURN_MAX):
            if not self._read_one():
                break
        if self._open:
            self._hears.heard()

    def _read_one(self) -> bool:
        """Take one message; False: there is none now, or no more at all."""
        try:
            size, ancillary, _, _ = self._channel.recvmsg_into([self._buffer], socket.CMSG_SPACE(8))
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            self._over("the carrier ended")
            return False
        sockets = [
            socket.socket(fileno=number)
            for level, kind, data in ancillary
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS
            for number in memoryview(data[: len(data) - len(data) % 4]).cast("i")
        ]
        if not size:
            self._over("the carrier ended")
            return False
        try:
            self._hear(size, sockets)
        except (struct.error, ValueError, LookupError):
            for sock in sockets:
                sock.close()
            self._over("the carrier said what it cannot")
            return False
        return True

    def _hear(self, size: int, sockets: list[socket.socket]) -> None:
        buffer, at, hears = self._buffer, 0, self._hears
        while at < size:
            kind, slot, generation, length = _WORD.unpack_from(buffer, at)
            at += 16
            end = at + length
            if end > size or slot > SLOTS + LOANS_MAX:
                raise ValueError("a word does not fit")
            if kind == _ASKED:
                hears.asked(
                    slot, generation, int.from_bytes(buffer[at : at + 4], "little"), bytes(buffer[at + 4 : at + 44]),
                    bytes(buffer[at + 44 : end]),
                )  # fmt: skip
            elif kind == _ENDED:
                up, down, how = _ENDED_BODY.unpack_from(buffer, at)
                hears.ended(slot, generation, up, down, bool(how & 2), bool(how & 1))
            elif kind == _UNREACHED:
                hears.unreached(slot, generation, _NUMBER.unpack_from(buffer, at)[0])
            elif kind == _RETURNED:
                moved, how = _RETURNED_BODY.unpack_from(buffer, at)
                hears.returned(slot, moved, how, bytes(buffer[at + 16 : end]))
            elif kind == _GIVEN:
                up, down, listener, first = _GIVEN_BODY.unpack_from(buffer, at)
                split = at + 24 + first
                if not sockets or split > end:
                    raise ValueError("nothing was given")
                hears.given(
                    slot, generation, listener, (up, down), bytes(buffer[at + 24 : split]), bytes(buffer[split:end]),
                    sockets,
                )  # fmt: skip
                sockets = []
            else:
                raise ValueError("an unknown word")
            at = end

    def _over(self, why: str) -> None:
        if not self._open:
            return
        self._shut()
        self._hears.gone(why)

    def _shut(self) -> None:
        self._open = False
        self._loop.remove_reader(self._channel.fileno())
        self._loop.remove_writer(self._channel.fileno())
        self._channel.close()
        for _, descriptors in self._unsaid:
            _close(descriptors)
        self._unsaid.clear()
        self._process.kill()

    async def close(self) -> None:
        """End it, with whatever it holds."""
        if self._open:
            self._shut()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, CLOSE_SECONDS)


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def ends_of(told: bytes) -> Ends | None:
    """Return the addresses of a connection as `asked` told them; None for what is no TCP connection."""
    family, port, address, _, local_port, local = struct.unpack("=HH16sHH16s", told)
    if family not in _FAMILIES:
        return None
    number, size = _FAMILIES[family]
    return Ends(
        number,
        (socket.inet_ntop(number, address[:size]), port),
        (socket.inet_ntop(number, local[:size]), local_port),
    )
