"""A client that asks the same again and again through a passed tunnel: its requests and their answers, offered to the carrier.

Every request was judged here first; the carrier only goes on with bytes that are equal to the last one of this very tunnel, and
gives back whatever is not (`loans.py`). The answers of a client that stays are lent in any case: nobody looks into them.
A client that changes its mind often is lent to ever less often, so that coming back costs it little. Judges nothing.
"""

from __future__ import annotations

from typing import Final

from agent_os.effects.proxy.carrier import LENT_HEAD_BYTES_MAX
from agent_os.effects.proxy.parts import Parts
from agent_os.effects.proxy.splice import Splice
from agent_os.effects.proxy.stream import Stream
from agent_os.guards.egress import HostWatch

ANSWERS_FROM: Final = 8
"""Requests of a tunnel after which its answers are lent."""
ALIKE_FROM: Final = 8
"""Equal heads in a row after which a client's direction is lent; twice as many each time that it came back."""
ALIKE_MAX: Final = 4096


class Repeated:
    """What one passed tunnel of plain requests has lent, from its first repetition until `close`."""

    def __init__(self, parts: Parts, watch: HostWatch, client: Stream, upstream: Stream, answers: Splice) -> None:
        self._parts, self._watch, self._client, self._upstream, self._answers = parts, watch, client, upstream, answers
        self._wanted, self._seen = ALIKE_FROM, 0
        self._asked = self._lent = self._answered = self._closed = False

    def look(self) -> None:
        """See after each piece of the client's whether there is something to lend; it is lent once the piece is on its way."""
        if self._asked or self._parts.lend is None:
            return
        watch = self._watch
        if self._lent:  # it came back with this piece
            self._lent, self._seen, self._wanted = False, watch.alike, min(self._wanted * 2, ALIKE_MAX)
        self._seen = min(self._seen, watch.alike)
        if watch.alike - self._seen >= self._wanted or (watch.requests >= ANSWERS_FROM and not self._answered):
            self._asked = True
            self._parts.loop.call_soon(self._offer)

    def _offer(self) -> None:
        self._asked = False
        source, sink, head, lend = self._client, self._upstream, self._watch.again, self._parts.lend
        if self._closed or lend is None or source.meter is not None or sink.meter is not None:
            return
        self._answered = True
        self._answers.lend_now()
        if self._watch.alike - self._seen < self._wanted or not 0 < len(head) <= LENT_HEAD_BYTES_MAX:
            return
        if source.lost or source.ended or source.buffer or source.transport.is_closing():
            return
        if not (sink.lost or sink.transport.is_closing() or sink.transport.unsent):
            self._lent = lend(source, sink, head) is not None

    def close(self) -> None:
        """Take the client's direction back."""
        self._closed = True
        if self._client.lent is not None:
            self._client.lent.close()
