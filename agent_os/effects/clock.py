"""The real clock."""

from __future__ import annotations

import time


class SystemClock:
    """Wall time and monotonic time of this machine; implements `core.ports.Clock`."""

    def now(self) -> float:
        """Return Unix seconds, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()
