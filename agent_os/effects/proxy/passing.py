"""A body on its way to the client that is looked at while it streams: opened, followed by stages, let go piece by piece.

Reading is by one task that no deadline cuts in the middle of a chunk; the client's pace holds it back. Rules of this file: no
byte goes on before every follower let it; a body whose coding has no end, a follower that fails or is late, ends it.
Threat: a stream that is never looked at because it has no end, and one that is held until it has one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from agent_os.effects.proxy.content import CODINGS, ContentError, Follower, Inflation, in_time
from agent_os.effects.proxy.http1 import Body
from agent_os.effects.proxy.limits import FOLLOW_BEGIN_SECONDS, FOLLOW_BYTES, FOLLOW_QUIET_SECONDS, Limits

_IDENTITY: Final = ("", "identity")


class Passing:
    """One body that streams through followers. `first` is what may go on before the head has gone."""

    def __init__(
        self, body: Body, coding: str, followers: Sequence[Follower], limits: Limits, *, most: int = 0
    ) -> None:
        """`coding` is the content coding as sent, `most` the largest body (as sent). Raises ContentError."""
        if coding not in _IDENTITY and coding not in CODINGS:
            raise ContentError("content.coding", "the content coding cannot be inspected", 415)
        self._body, self._followers, self._limits, self._most = body, followers, limits, most
        self._opener = Inflation(coding, limits, keep=True) if coding not in _IDENTITY else None
        self._reading: asyncio.Task[bytes] | None = None
        self.first = b""

    @property
    def done(self) -> bool:
        """Whether everything has gone on."""
        return self._read_all and not self.first

    @property
    def _read_all(self) -> bool:
        return self._body.done and self._reading is None

    async def begin(self) -> None:
        """Read the first bytes ahead, for a moment. Raises ContentError, HttpError, StreamClosedError."""
        loop = asyncio.get_running_loop()
        end = loop.time() + FOLLOW_BEGIN_SECONDS
        while not self._read_all and len(self.first) < FOLLOW_BYTES and (left := end - loop.time()) > 0:
            piece = await self._next(left)
            if piece is not None:
                self.first += piece

    async def next(self) -> bytes:
        """Return what may go on next; empty where something waits. Raises ContentError, HttpError, StreamClosedError."""
        if self.first:
            ahead, self.first = self.first, b""
            return ahead
        if self._read_all:
            return b""
        out = await self._next(FOLLOW_QUIET_SECONDS if any(each.holds for each in self._followers) else None)
        return await self._rest() if out is None else out

    async def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._reading
            self._reading = None

    async def _next(self, within: float | None) -> bytes | None:
        """Return what goes on after the next bytes, or None when none came in time."""
        piece = await self._read(within)
        if piece is None:
            return None
        while len(piece) < FOLLOW_BYTES and not self._read_all:
            more = await self._read(0)
            if more is None:
                break
            piece = piece + more
        if self._most and self._body.size > self._most:
            raise ContentError("content.size", "the response body is larger than allowed")
        last = self._read_all
        if self._opener is not None:
            self._opener.feed(piece)
            piece = self._opener.take()
            if last and not self._opener.complete:
                raise ContentError("content.coding", "the body ends before its content coding does", 502)
        return await self._through(self._followers, piece, last=last)

    async def _read(self, within: float | None) -> bytes | None:
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._body.read())
        await asyncio.wait({self._reading}, timeout=within)
        if not self._reading.done():
            return None
        reading, self._reading = self._reading, None
        return reading.result()

    async def _through(self, followers: Sequence[Follower], data: bytes, *, last: bool) -> bytes:
        for follower in followers:
            data = await in_time("follow", follower.feed(data, last=last), self._limits)
        return data

    async def _rest(self) -> bytes:
        out = b""
        for index, follower in enumerate(self._followers):
            waited = await in_time("follow", follower.rest(), self._limits)
            out += await self._through(self._followers[index + 1 :], waited, last=False)
        return out
