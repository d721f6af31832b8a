"""One direction of a tunnel that is the guard's, lent to the carrier: answers of a server, which nobody looks into, and
requests of a client that are like one that was judged.

While it is lent the guard reads nothing from the source. A client's direction is lent with a shape: one whole head of it goes
on at a time, and whatever is not comes back to the guard, unread, with the loan. A loan ends then, when the source does,
when either side breaks, or when the guard wants it back. No direction with a byte budget is lent.
"""

from __future__ import annotations

from itertools import count
from typing import Final

from agent_os.effects.proxy.carrier import LOANS_MAX, SINK_BROKE, SLOTS, SOURCE_BROKE, SOURCE_ENDED, Carrier, Shape
from agent_os.effects.proxy.stream import Stream

_GENERATIONS: Final = 1 << 32


class Loan:
    """What `Stream.lent` is of a source while another process moves its bytes."""

    __slots__ = ("_loans", "_seen", "generation", "sink", "slot", "source")

    def __init__(self, loans: Loans, slot: int, generation: int, source: Stream, sink: Stream) -> None:
        self._loans, self._seen = loans, 0
        self.slot, self.generation = slot, generation
        self.source: Stream | None = source
        self.sink = sink

    @property
    def count(self) -> int:
        """Bytes that went on so far."""
        return self._loans.carrier.counts(self.slot)[1]

    def moved(self) -> bool:
        """Return whether a byte passed since this was asked last."""
        seen, self._seen = self._seen, self.count
        return seen != self._seen

    def over(self, moved: int) -> Stream | None:
        """Put what it moved to the account of both sides, once; return the source then."""
        source, self.source = self.source, None
        if source is not None:
            source.lent = None
            source.received += moved
            self.sink.sent += moved
        return source

    def close(self) -> None:
        """Take the direction back; what is under way in it is gone."""
        if self.over(self.count) is not None:
            self._loans.take_back(self)


class Loans:
    """The loans of one carrier."""

    def __init__(self, carrier: Carrier) -> None:
        self.carrier = carrier
        self._generations = count(1)
        self._free = list(range(SLOTS + LOANS_MAX - 1, SLOTS - 1, -1))
        self._open: dict[int, Loan] = {}

    def lend(self, source: Stream, sink: Stream, shape: Shape | None = None) -> Loan | None:
        """Let the carrier move what `source` gets to `sink` from now on; None where it has no more room.

        With a `shape`: only pieces that are one whole head of it.
        """
        if not self._free:
            return None
        slot = self._free.pop()
        loan = Loan(self, slot, next(self._generations) % _GENERATIONS, source, sink)
        self._open[slot] = source.lent = loan
        source.transport.pause_reading()
        self.carrier.lend(slot, loan.generation, source.transport.sock, sink.transport.sock, shape)
        return loan

    def take_back(self, loan: Loan) -> None:
        """Ask for a loan; its place is free when the carrier has answered."""
        self.carrier.take_back(loan.slot, loan.generation)

    def returned(self, slot: int, moved: int, how: int, unlike: bytes = b"") -> None:
        """Tell the side that ended or broke; take what was unlike the shape as what it is, the source's next bytes."""
        loan = self._open.pop(slot)
        self._free.append(slot)
        source = loan.over(moved)
        if source is None or source.lost:
            return
        if how & SOURCE_ENDED:
            source.transport.peer_ended()
        elif how & SOURCE_BROKE:
            source.transport.failed(ConnectionResetError())
        elif how & SINK_BROKE and not loan.sink.lost:
            loan.sink.transport.failed(BrokenPipeError())
        elif unlike:
            source.transport.resume_reading()
            source.data_received(unlike)

    def gone(self) -> None:
        """The carrier is over: nobody knows what of these directions arrived, so they are broken off."""
        for slot, loan in list(self._open.items()):
            self.returned(slot, loan.count, SOURCE_BROKE)
