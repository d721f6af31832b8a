"""The real clock."""

from __future__ import annotations

import time


def passed() -> float:
    """Return seconds since this machine started, those that it or this process slept too; no clock that is set moves them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SystemClock:
    """Wall time and monotonic time of this machine; implements `core.ports.Clock`."""

    def now(self) -> float:
        """Return Unix seconds, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()
