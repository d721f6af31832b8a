"""What the logs of several machines say together: a single-use approval carries one effect, over all of them. Pure.

Each machine's chain verifies by itself; only side by side do they show one approval that was used on two machines. Feed it
the records of every log, in any order. Threat: a shared store that was restored from a backup, or edited, so that what was
used could be used again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

SINGLE_USE: Final = ("grt_", "apr_")


@dataclass(slots=True)
class Together:
    """Approvals by the effects that used them."""

    _used: dict[str, list[tuple[str, str, int]]] = field(default_factory=dict)
    _done: set[str] = field(default_factory=set)

    def add(self, where: str, record: Mapping[str, Any]) -> None:
        """Take one record of a log called `where` in."""
        kind, reference = record.get("type"), str(record.get("ref", ""))
        if kind == "outcome":
            self._done.add(reference)
        approvals = record.get("approvals")
        if kind != "intent" or not isinstance(approvals, list):
            return
        for approval in approvals:
            if isinstance(approval, str) and approval.startswith(SINGLE_USE):
                place = (reference, f"{where}/{record.get('writer')}", int(record.get("seq", 0)))
                self._used.setdefault(approval, []).append(place)

    def faults(self) -> list[str]:
        """Return a line for each approval that more than one effect used; an intent without outcome did not use it."""
        found = []
        for approval, places in sorted(self._used.items()):
            done = [place for place in places if place[0] in self._done]
            if len(done) > 1:
                said = ", ".join(f"{log}:{seq}" for _, log, seq in done)
                found.append(f"approval {approval} was used {len(done)} times: {said}")
        return found

    @property
    def approvals(self) -> int:
        """How many single-use approvals were used."""
        return len(self._used)
