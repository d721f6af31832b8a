"""Where stops are kept: a file of the state directory, or a table that several machines share.

The file is replaced whole and synced, so that a crash leaves the old or the new one; every look at it is one `stat`, so each
effect of every process on this state sees a halt from the moment it is stored. The table is read again and again by a thread;
effects look at what was read last, and when that is too old nobody can say that there is no halt. Fails closed: stops that
cannot be read stop everything. Threat: a halt that a restart, a crash or an unreachable database lifts.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from agent_os.core.errors import ActionError, AgentOSError, EffectError
from agent_os.core.stop import NONE, STOPS_MAX, Stop, Stops
from agent_os.effects.stores.database import Storage

FILE: Final = "stops.json"
VERSION: Final = 1
FILE_BYTES_MAX: Final = 4 << 20
LOOK_SECONDS: Final = 0.5
"""Between two readings of the shared table."""
STALE_SECONDS: Final = 10.0
"""What was read of the shared table longer ago is not relied on: everything is stopped until it can be read."""
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS stop(id TEXT PRIMARY KEY, spec TEXT NOT NULL)
"""


class FileStops:
    """The stops of one state directory. Implements `core.ports.StopStore`."""

    def __init__(self, directory: Path) -> None:
        self._path, self._lock = directory / FILE, directory / (FILE + ".lock")
        self._mark: tuple[int, int, int] | None = None
        self._known = NONE

    def open(self) -> FileStops:
        """Create the file if it is missing. Raises EffectError."""
        if not self._path.exists():
            with self._alone():
                if not self._path.exists():
                    self._write(())
        self.current()
        return self

    def current(self) -> Stops:
        """Return every stop that holds now. Raises EffectError when that cannot be known."""
        try:
            found = os.stat(self._path)
        except OSError as error:
            raise EffectError(f"the stops cannot be read, so everything is stopped: {error.strerror}") from None
        mark = (found.st_ino, found.st_mtime_ns, found.st_size)
        if mark != self._mark:
            self._known = self._read()
            self._mark = mark
        return self._known

    async def add(self, stop: Stop) -> None:
        """Store a stop; it holds, everywhere on this state, when this returns. Raises ActionError, EffectError."""
        stop = stop.checked()
        with self._alone():
            self._write(_with(self._read().all, stop))

    async def lift(self, stop_id: str) -> bool:
        """Take a stop away; False when there is none of that id. Raises EffectError."""
        with self._alone():
            held = self._read().all
            left = [stop for stop in held if stop.id != stop_id]
            if len(left) == len(held):
                return False
            self._write(left)
            return True

    def close(self) -> None:
        """Nothing is open between two looks."""

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            held = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EffectError(f"the stops cannot be changed: {error.strerror}: {self._lock}") from None
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield
        finally:
            os.close(held)

    def _read(self) -> Stops:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with open(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                    raise EffectError(
                        f"the stops may be written by others: {self._path} (fix: chmod 600, owned by you)"
                    )
                content = file.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            raise EffectError(f"the stops cannot be read, so everything is stopped: {error.strerror}") from None
        try:
            data = json.loads(content)
            if len(content) > FILE_BYTES_MAX or data["version"] != VERSION:
                raise ValueError
            return Stops.of(Stop.parse(each) for each in data["stops"])
        except (ValueError, TypeError, KeyError, RecursionError, AgentOSError):
            raise EffectError(f"the stops cannot be read, so everything is stopped: {self._path} is damaged") from None

    def _write(self, stops: Sequence[Stop]) -> None:
        content = json.dumps({"version": VERSION, "stops": [each.to_json() for each in stops]}, indent=1).encode()
        beside = self._path.with_name(f".{FILE}.{secrets.token_hex(6)}")
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            os.replace(beside, self._path)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise EffectError(f"the stops cannot be written: {error.strerror}: {self._path}") from None


class SharedStops:
    """The stops of every machine on one PostgreSQL. Implements `core.ports.StopStore`; `open` it, `close` it."""

    def __init__(self, database: Storage, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database, self._monotonic = database, monotonic
        self._known, self._at = NONE, -STALE_SECONDS
        self._ending, self._taking = threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None

    def open(self) -> SharedStops:
        """Read them once and go on reading. Raises EffectError."""
        self._look()
        self._thread = threading.Thread(target=self._watch, name="stops", daemon=True)
        self._thread.start()
        return self

    def current(self) -> Stops:
        """Return every stop as it was read last. Raises EffectError when that is too long ago."""
        if self._monotonic() - self._at > STALE_SECONDS:
            raise EffectError("the stops cannot be read, so everything is stopped: the shared database does not answer")
        return self._known

    async def add(self, stop: Stop) -> None:
        """Store a stop; within LOOK_SECONDS it holds on every machine. Raises ActionError, EffectError."""
        stop = stop.checked()

        def work(session: Any) -> None:
            if session.execute("SELECT count(*) FROM stop").fetchone()[0] >= STOPS_MAX:
                raise ActionError(f"{STOPS_MAX} stops hold already", field="stop")
            session.execute("INSERT INTO stop VALUES(?,?)", (stop.id, json.dumps(stop.to_json())))
            session.notify()

        await self._database.run(work)
        await self._learn()

    async def lift(self, stop_id: str) -> bool:
        """Take a stop away; False when there is none of that id. Raises EffectError."""

        def work(session: Any) -> bool:
            session.notify()
            return bool(session.execute("DELETE FROM stop WHERE id=?", (stop_id,)).rowcount == 1)

        lifted = await self._database.run(work)
        await self._learn()
        return lifted

    def close(self) -> None:
        """Read no more."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(STALE_SECONDS)

    def _look(self) -> None:
        began = self._monotonic()
        self._take(self._database.read(_rows), began)

    async def _learn(self) -> None:
        began = self._monotonic()
        self._take(await self._database.run(_rows), began)

    def _take(self, rows: Sequence[Any], at: float) -> None:
        try:
            known = Stops.of(Stop.parse(json.loads(row[0])) for row in rows)
        except (ValueError, TypeError, KeyError, AgentOSError):
            raise EffectError("the stops cannot be read, so everything is stopped: a row is damaged") from None
        with self._taking:
            if at >= self._at:  # a reading that began earlier may lack a stop that is known already
                self._known, self._at = known, at

    def _watch(self) -> None:
        while not self._ending.wait(LOOK_SECONDS):
            with contextlib.suppress(AgentOSError):  # what cannot be read grows stale, and then stops everything
                self._look()


def _rows(session: Any) -> list[Any]:
    found: list[Any] = session.execute("SELECT spec FROM stop").fetchall()
    return found


def _with(held: Sequence[Stop], stop: Stop) -> list[Stop]:
    if len(held) >= STOPS_MAX:
        raise ActionError(f"{STOPS_MAX} stops hold already", field="stop")
    return [*held, stop]
