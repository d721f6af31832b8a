"""A client that asks again and again through a passed tunnel: its requests and their answers, offered to the carrier.

The request was judged here first; the carrier only goes on with whole heads that are equal to the last one of this very tunnel
but for their target, on which nothing depends that is judged, and gives back whatever is not (`loans.py`, `HostWatch.shape`).
Answers are lent with the requests, for nobody looks into them; without them that does not pay.
A client that changes its mind often is lent to ever less often, so that coming back costs it little. Judges nothing.
"""

from __future__ import annotations

from typing import Final

from agent_os.effects.proxy.carrier import LENT_HEAD_BYTES_MAX
from agent_os.effects.proxy.parts import Parts
from agent_os.effects.proxy.splice import Splice
from agent_os.effects.proxy.stream import Stream
from agent_os.guards.egress import HostWatch

ALIKE_FROM: Final = 8
"""Requests alike in a row after which both directions are lent; twice as many each time that the client's came back."""
ALIKE_MAX: Final = 4096


class Repeated:
    """What one passed tunnel of plain requests has lent, from its first repetition until `close`."""

    def __init__(self, parts: Parts, watch: HostWatch, client: Stream, upstream: Stream, answers: Splice) -> None:
        self._parts, self._watch, self._client, self._upstream, self._answers = parts, watch, client, upstream, answers
        self._wanted, self._seen = ALIKE_FROM, 0
        self._asked = self._lent = self._closed = False

    def look(self) -> None:
        """See after each piece of the client's whether there is something to lend; it is lent once the piece is on its way."""
        if self._asked or self._parts.lend is None:
            return
        alike = self._watch.alike
        if self._lent:  # it came back with this piece
            self._lent, self._seen, self._wanted = False, alike, min(self._wanted * 2, ALIKE_MAX)
        self._seen = min(self._seen, alike)
        if alike - self._seen >= self._wanted:
            self._asked = True
            self._parts.loop.call_soon(self._offer)

    def _offer(self) -> None:
        self._asked = False
        source, sink, shape, lend = self._client, self._upstream, self._watch.shape, self._parts.lend
        if self._closed or lend is None or source.meter is not None or sink.meter is not None:
            return
        if shape is None or len(shape[0]) + len(shape[1]) > LENT_HEAD_BYTES_MAX:
            self._seen = self._watch.alike  # not now; and not at every further one
            return
        if source.lost or source.ended or source.buffer or source.transport.is_closing():
            return
        if not (sink.lost or sink.transport.is_closing() or sink.transport.unsent):
            self._answers.lend_now()
            self._lent = lend(source, sink, shape) is not None

    def close(self) -> None:
        """Take the client's direction back."""
        self._closed = True
        if self._client.lent is not None:
            self._client.lent.close()
