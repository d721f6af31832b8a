"""Learning that somebody else wrote to the ledger, without asking it again and again.

SQLite counts the commits of other connections in `data_version`: reading it is one look into shared memory. PostgreSQL
sends what was notified. Both only wake the engine, which then looks; a signal that is lost costs the time until its next look.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from agent_os.core.errors import EffectError

LOOK_SECONDS: Final = 0.05
"""Between two looks at a file's counter of commits."""
LISTEN_SECONDS: Final = 1.0
"""Between two looks whether the listener is to end; after a lost connection, until the next try."""
_log = logging.getLogger("agent_os.durable")


class Counted(Protocol):
    """`stores.database.Database`: a file whose commits are counted."""

    def read(self, work: Callable[[Any], Any]) -> Any: ...


async def watch_files(files: Sequence[Counted], wake: Callable[[], None]) -> None:
    """Call `wake` whenever one of the SQLite files was committed to; for ever."""
    known: list[int] = [-1] * len(files)
    while True:
        try:
            found = [file.read(_version) for file in files]
        except EffectError as error:
            _log.error("watching the ledger: %s", error)
        else:
            if found != known:
                known = found
                wake()
        await asyncio.sleep(LOOK_SECONDS)


def _version(connection: Any) -> int:
    version: int = connection.execute("PRAGMA data_version").fetchone()[0]
    return version


class Listener:
    """A thread that hears what PostgreSQL notifies. `wake` is called on it."""

    def __init__(self, connect: Callable[[], Any], wake: Callable[[], None]) -> None:
        self._connect, self._wake = connect, wake
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="ledger-listen", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """End; waits for the thread."""
        self._ending.set()
        self._thread.join(LISTEN_SECONDS * 3)

    def _listen(self) -> None:
        while not self._ending.is_set():
            try:
                connection = self._connect()
            except Exception as error:
                _log.error("listening: %s: %s", type(error).__name__, str(error).strip().partition("\n")[0][:200])
                self._ending.wait(LISTEN_SECONDS)
                continue
            try:
                connection.execute("LISTEN agentos")
                self._wake()  # what was notified before
                while not self._ending.is_set():
                    for _ in connection.notifies(timeout=LISTEN_SECONDS, stop_after=1):
                        self._wake()
            except Exception as error:  # the server went away: the next round connects again
                _log.error("listening: %s", type(error).__name__)
                self._ending.wait(LISTEN_SECONDS)
            finally:
                connection.close()
