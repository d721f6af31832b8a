"""What waits for the audit's writer: tickets that callers wait on, and the hand-over from many threads to one.

Waking a thread costs more than writing a record does, so the writer is woken as seldom as can be: once for all that is here when
somebody waits for it. A record that nobody waits for (an outcome, a denial) wakes nobody: it goes with the next one that somebody
waits for, or after LINGER_SECONDS. Rules of this file: a ticket that was put is taken, at the latest when the writer's wait ends;
of a waiter and a writer that pass each other, one sees the other (the INVARIANTs).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Final

from agent_os.core.errors import EffectError

BATCH_RECORDS_MAX: Final = 4_096
LINGER_SECONDS: Final = 0.002
"""How long records that nobody waits for may wait for company."""


class Ticket:
    """What `append` returns: awaitable, and cheap when nobody waits for it."""

    __slots__ = ("done", "error", "future", "queue", "record")

    def __init__(self, queue: Tickets, record: Mapping[str, Any]) -> None:
        self.queue, self.record = queue, record
        self.done = False
        self.error: EffectError | None = None
        self.future: asyncio.Future[None] | None = None

    def __await__(self) -> Generator[Any, None, None]:
        if not self.done:
            loop = asyncio.get_running_loop()
            future = loop.create_future()
            self.queue.expire_later(loop, future)
            self.future = future
            self.queue.hurry()
            # INVARIANT: the writer sets `done` and then reads `future`, we set `future` and then read `done`, so one of
            # the two sees the other and the future ends.
            if not self.done:
                yield from future
        if self.error is not None:
            raise self.error


class Tickets:
    """The queue. `put` and `hurry` from any thread, `take` from the writer's alone."""

    def __init__(self, timeout: float, too_late: Callable[[], EffectError]) -> None:
        """A waiter gets `too_late()` after `timeout` seconds."""
        self._timeout, self._too_late = timeout, too_late
        self._waiting: deque[Ticket] = deque()
        self._deadlines: dict[asyncio.AbstractEventLoop, _Deadlines] = {}
        self._bell = threading.Lock()
        self._bell.acquire()
        self._idle = self._soon = self._lingering = self._wanted = self._alarmed = self._ended = False

    def __len__(self) -> int:
        return len(self._waiting)

    # ---- callers -----------------------------------------------------------------------------------------------------

    def put(self, ticket: Ticket) -> None:
        """Hand a ticket over."""
        self._waiting.append(ticket)
        # INVARIANT: the writer sets `_idle` and then looks for tickets, we put one and then read `_idle`.
        if self._idle and not self._alarmed:
            self._wake_soon()

    def hurry(self) -> None:
        """Somebody waits for what was put."""
        self._wanted = True
        # INVARIANT: the writer sets `_idle` or `_lingering` and then reads `_wanted`, we set `_wanted` and then read those.
        if self._idle or self._lingering:
            self._ring()

    def end(self) -> None:
        """Let the writer take what is here and then nothing more."""
        self._ended = True
        self._ring()

    def _wake_soon(self) -> None:
        """Wake an idle writer after LINGER_SECONDS, which is cheaper than now: an intent may come and wake it anyway.

        Only where the writer wakes by itself before long: a loop that stands still holds no record back.
        """
        if self._soon:
            try:
                asyncio.get_running_loop().call_later(LINGER_SECONDS, self._alarm)
            except RuntimeError:
                pass
            else:
                self._alarmed = True
                return
        self._ring()

    def _alarm(self) -> None:
        self._alarmed = False
        if self._idle and self._waiting:
            self._ring()

    def _ring(self) -> None:
        self._idle = self._lingering = False
        with contextlib.suppress(RuntimeError):  # another rang
            self._bell.release()

    # ---- the writer --------------------------------------------------------------------------------------------------

    def take(self, timeout: float | None) -> list[Ticket]:
        """Return what is to be written next; nothing after `timeout` seconds, or at the end."""
        if not self._waiting and not self._sleep(timeout):
            return []
        self._linger()
        waiting = self._waiting
        batch: list[Ticket] = []
        self._wanted = False  # before taking: who begins to wait from here on is seen again
        while waiting and len(batch) < BATCH_RECORDS_MAX:
            batch.append(waiting.popleft())
        if waiting:
            self._wanted = True
        return batch

    @property
    def over(self) -> bool:
        """Whether the end was asked for and everything was taken."""
        return self._ended and not self._waiting

    def _sleep(self, timeout: float | None) -> bool:
        """Wait for a ticket; false: there is none."""
        self._soon = timeout is not None
        self._idle = True
        if not self._waiting and not self._ended:
            self._bell.acquire(timeout=-1 if timeout is None else timeout)
        self._idle = self._alarmed = False
        return bool(self._waiting)

    def _linger(self) -> None:
        """Wait for company while nobody waits for any of it."""
        until = time.monotonic() + LINGER_SECONDS
        while not self._ended and len(self._waiting) < BATCH_RECORDS_MAX:
            self._lingering = True
            left = until - time.monotonic()
            if self._wanted or left <= 0:
                break
            self._bell.acquire(timeout=left)
        self._lingering = False

    # ---- deadlines ---------------------------------------------------------------------------------------------------

    def expire_later(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
        """End a waiter's future with an error when it is not resolved in time."""
        deadlines = self._deadlines.get(loop)
        if deadlines is None:
            for gone in [each for each in list(self._deadlines) if each.is_closed()]:
                self._deadlines.pop(gone, None)
            deadlines = self._deadlines[loop] = _Deadlines(loop, self._timeout, self._too_late)
        deadlines.add(future)

    def finish(self, batch: Sequence[Ticket], error: EffectError | None) -> None:
        """End tickets, and wake those who wait for them, each loop once."""
        by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        for ticket in batch:
            ticket.error = error
            ticket.done = True
            future = ticket.future
            if future is not None:
                by_loop.setdefault(future.get_loop(), []).append(future)
        for loop, futures in by_loop.items():
            try:
                loop.call_soon_threadsafe(self._deadlines[loop].resolve, futures)
            except (RuntimeError, KeyError):
                continue  # the loop is closed: nobody waits there any more


class _Deadlines:
    """The futures of one event loop in order of their deadlines, with one timer for all of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float, expired: Callable[[], EffectError]) -> None:
        self._loop, self._timeout, self._expired = loop, timeout, expired
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, future: asyncio.Future[None]) -> None:
        deadline = self._loop.time() + self._timeout
        self._waiting.append((deadline, future))
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._sweep)

    def resolve(self, ended: Sequence[asyncio.Future[None]]) -> None:
        """End futures whose tickets are done; runs on the loop."""
        for future in ended:
            if not future.done():
                future.set_result(None)
        waiting = self._waiting
        while waiting and waiting[0][1].done():
            waiting.popleft()

    def _sweep(self) -> None:
        self._timer = None
        now, waiting = self._loop.time(), self._waiting
        while waiting and (waiting[0][1].done() or waiting[0][0] <= now):
            future = waiting.popleft()[1]
            if not future.done():
                future.set_exception(self._expired())
                future.exception()  # seen, even when nobody waits any more
        if waiting:
            self._timer = self._loop.call_at(waiting[0][0], self._sweep)
