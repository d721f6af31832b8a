"""A wire between clients and a PostgreSQL that can be cut and slowed: a Unix socket of its own in front of the server's.

Cutting at a COMMIT is what a lost network does at the worst moment: `answer` lets the server commit and loses what it
says, `question` loses the COMMIT itself. `hold` keeps back whatever the server answers.
"""

from __future__ import annotations

import contextlib
import random
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

SOCKET = ".s.PGSQL.5432"
COMMIT = b"Q\0\0\0\x0bCOMMIT\0"


class Wire:
    """One proxy. `url` is how clients reach the server through it."""

    def __init__(self, url: str, folder: Path) -> None:
        parts = urlsplit(url)
        self._server = str(Path(parse_qs(parts.query)["host"][0]) / SOCKET)
        self.url = f"postgresql://postgres:@/{parts.path.lstrip('/')}?host={folder}"
        self.cuts: list[str] = []
        """What to do at the COMMITs to come: `answer`, `question`, or an empty string."""
        self.chance: random.Random | None = None
        """Cut one in five COMMITs at random."""
        self.cut = 0
        self.open = threading.Event()
        self.open.set()
        self._ended = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(folder / SOCKET))
        self._listener.listen(64)
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Cut everything for good."""
        self._ended.set()
        self.open.set()
        self._listener.close()
        for pair in self._pairs:
            _drop(*pair)

    def hold(self, held: bool) -> None:
        """Keep back the server's answers, or let them through again."""
        if held:
            self.open.clear()
        else:
            self.open.set()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                server.connect(self._server)
            except OSError:
                client.close()
                continue
            self._pairs.append((client, server))
            lost = threading.Event()
            threading.Thread(target=self._ask, args=(client, server, lost), daemon=True).start()
            threading.Thread(target=self._answer, args=(client, server, lost), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                if data.endswith(COMMIT):
                    how = self._how()
                    if how == "question":
                        self.cut += 1
                        break
                    if how == "answer":
                        self.cut += 1
                        lost.set()
                server.sendall(data)
        _drop(client, server)

    def _answer(self, client: socket.socket, server: socket.socket, lost: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1 << 16):
                self.open.wait()
                if lost.is_set() and b"COMMIT\0" in data:
                    break
                client.sendall(data)
        _drop(client, server)

    def _how(self) -> str:
        if self.chance is not None:
            return self.chance.choice(("answer", "question", "", "", "", "", "", "", "", ""))
        return self.cuts.pop(0) if self.cuts else ""


def _drop(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@contextlib.contextmanager
def wire_to(url: str) -> Iterator[Wire]:
    """Put a wire in front of a server."""
    with tempfile.TemporaryDirectory(prefix="pgw-", dir="/tmp") as folder:
        wire = Wire(url, Path(folder))
        yield wire
        wire.close()
