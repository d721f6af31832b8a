"""What an agent has sent to and taken from one destination, and how much it may. Pure.

One meter is shared by every connection of an agent to a destination, passed or opened, so that many small tunnels
carry no more than one large one. A byte is charged before it goes on: no sum of connections ever passes `most`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_UNLIMITED: Final = 1 << 62


@dataclass(slots=True)
class Meter:
    """`used` bytes up and down of at most `most`; 0: no limit."""

    most: int = 0
    used: int = 0

    @property
    def left(self) -> int:
        """How many bytes may still pass."""
        return max(0, self.most - self.used) if self.most else _UNLIMITED

    def take(self, count: int) -> int:
        """Charge at most `count` bytes and return how many were charged."""
        taken = min(count, self.left)
        self.used += taken
        return taken
