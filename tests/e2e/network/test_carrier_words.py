"""Words of any form and bytes of any kind, to the carrier as the sanitizers see it: it serves, or it ends itself; it never breaks."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agent_os.effects.proxy.carrier import LOANS_MAX, SLOTS

ROUNDS = int(os.environ.get("ROUNDS", "12"))
"""Carriers that are tried; each is told words until it ends itself."""
WORDS = 60
FINE, UNEXPECTED = 0, 3
LISTEN, UNLISTEN, OPEN, GIVE, CUT, LEND, RETURN = range(1, 8)
BEFORE, BEHIND = b"GET /", b" HTTP/1.1\r\nHost: a.test\r\n\r\n"
FIRST = [
    b"CONNECT a.test:443 HTTP/1.1\r\n\r\n",
    b"CONNECT a.test:443 HTTP/1.1\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    BEFORE + b"x" + BEHIND,
    BEFORE + b"x" * 2000 + BEHIND,
]


@contextmanager
def running(program: int) -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    """A carrier, and the guard's end of its channel."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    table = os.memfd_create("rows")
    os.ftruncate(table, (SLOTS + LOANS_MAX) * 32)
    numbers = (theirs.fileno(), table)
    argv = [f"/proc/self/fd/{program}", *map(str, numbers)]
    child = subprocess.Popen(argv, pass_fds=[program, *numbers], stderr=subprocess.PIPE)
    theirs.close()
    os.close(table)
    ours.setblocking(False)
    try:
        yield ours, child
    finally:
        ours.close()
        child.wait(20)
        assert child.stderr is not None
        child.stderr.close()


class Told:
    """One carrier's life: what it is told by chance, most of it of the right form."""

    def __init__(self, rng: random.Random, server: socket.socket) -> None:
        self.rng, self.server = rng, server
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)  # as the guard's sockets are
        self.peers: list[socket.socket] = []
        self.asked: list[tuple[int, int]] = []
        self.lent = 0

    def word(self) -> tuple[bytes, list[socket.socket]]:
        """The next word with what goes along."""
        rng = self.rng
        kind = rng.choice((LISTEN, UNLISTEN, OPEN, OPEN, OPEN, GIVE, CUT, LEND, LEND, LEND, RETURN, 0, 9))
        slot, generation = rng.choice(self.asked) if self.asked and rng.random() < 0.9 else (rng.randrange(SLOTS), 0)
        body, along = b"", list[socket.socket]()
        if kind in (LISTEN, UNLISTEN):
            slot, generation, along = rng.randrange(3), rng.randrange(2), [self.listener] if kind == LISTEN else []
        elif kind == OPEN:
            place = struct.pack("=HH16s", rng.choice((4, 4, 4, 6, 0)), self.server.getsockname()[1], b"\x7f\0\0\x01")
            body = (
                struct.pack("=I", rng.choice((0, 100, 100, 100, 1 << 31)))
                + place
                + rng.choice((b"", b"a.test", b"a" * 300))
            )
        elif kind == LEND:
            slot, generation, along = SLOTS + self.lent % LOANS_MAX, self.lent, self.pair()
            self.lent += 1
            shape = rng.choice((b"", BEFORE + BEHIND, BEFORE + BEHIND, rng.randbytes(40), b"x" * 1100))
            body = (
                struct.pack("=I", rng.choice((0 if not shape else len(BEFORE), len(BEFORE), rng.randrange(60)))) + shape
            )
        elif kind == RETURN:
            slot, generation = SLOTS + rng.randrange(max(1, self.lent)), rng.randrange(max(1, self.lent))
        if rng.random() < 0.03:
            body = rng.choice((body[:-1], body + b"x", rng.randbytes(30)))
        if rng.random() < 0.02:
            slot = rng.choice((SLOTS, SLOTS + LOANS_MAX, (1 << 32) - 1))
        size = len(body) if rng.random() < 0.98 else rng.randrange(1 << 16)
        return struct.pack("=IIII", kind, slot, generation, size) + body, along if rng.random() < 0.98 else []

    def pair(self) -> list[socket.socket]:
        """A source that says something, and a sink."""
        source, ours = socket.socketpair()
        sink, other = socket.socketpair()
        for each in (source, ours, sink, other):
            each.setblocking(False)
        self.peers += [ours, other]
        ours.send(self.rng.choice(FIRST))
        return [source, sink]

    def client(self) -> None:
        """Someone connects, says something, and perhaps goes."""
        with contextlib.suppress(OSError):
            sock = socket.create_connection(self.listener.getsockname(), timeout=1)
            sock.send(self.rng.choice([*FIRST, FIRST[0], FIRST[0], self.rng.randbytes(200)]))
            self.peers.append(sock)
        if self.peers and self.rng.random() < 0.5:
            with contextlib.suppress(OSError):
                self.rng.choice(self.peers).send(self.rng.choice(FIRST) * self.rng.choice((1, 1, 300)))
        if self.peers and self.rng.random() < 0.3:
            self.peers.pop(self.rng.randrange(len(self.peers))).close()

    def hear(self, channel: socket.socket) -> None:
        """Learn which slots wait for an answer; close what was given."""
        with contextlib.suppress(BlockingIOError):
            while True:
                data, given, _, _ = socket.recv_fds(channel, 1 << 16, 8)
                for descriptor in given:
                    os.close(descriptor)
                if not data:
                    return
                at = 0
                while at < len(data):
                    kind, slot, generation, size = struct.unpack_from("=IIII", data, at)
                    at += 16 + size
                    if kind == 65:
                        self.asked.append((slot, generation))

    def close(self) -> None:
        """Everyone goes."""
        for each in (self.listener, *self.peers):
            each.close()


def test_words_and_bytes_of_any_kind_never_break_the_carrier(sanitized: int) -> None:
    """Random words, clients, sources and ends: the carrier goes on, or ends itself as one that heard what it cannot."""
    if sanitized < 0:
        pytest.skip("no compiler with sanitizers")
    seed = random.randrange(1 << 32)
    ends, heard = [], 0
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:
        for number in range(ROUNDS):
            told = Told(random.Random(seed + number), server)
            with (
                running(sanitized) as (channel, child),
                contextlib.suppress(BrokenPipeError, ConnectionResetError, BlockingIOError),
            ):
                socket.send_fds(channel, [struct.pack("=IIII", LISTEN, 5, 1, 0)], [told.listener.fileno()])
                for _ in range(WORDS):
                    told.client()
                    word, along = told.word()
                    socket.send_fds(channel, [word], [each.fileno() for each in along])
                    for each in along:
                        if each is not told.listener:
                            each.close()
                    told.hear(channel)
                    heard += 1
            told.close()
            ends.append(child.returncode)
            assert child.returncode in (FINE, UNEXPECTED), f"seed {seed + number}: {child.returncode}"
    assert UNEXPECTED in ends
    assert heard > 2 * ROUNDS, heard
