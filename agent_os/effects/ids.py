"""Identifiers and randomness from the operating system's generator (getrandom(2))."""

from __future__ import annotations

import os
import secrets
from typing import Final

ID_BYTES: Final = 12
"""96 bits: not to be guessed, and no collision within any log this project will ever hold."""


class RandomIds:
    """Unguessable identifiers; implements `core.ports.Ids`."""

    def new(self, prefix: str) -> str:
        """Return `prefix_` and 24 hex digits."""
        return f"{prefix}_{secrets.token_hex(ID_BYTES)}"


class SystemRng:
    """Cryptographic randomness; implements `core.ports.Rng`."""

    def bytes(self, count: int) -> bytes:
        """Return `count` random bytes."""
        return os.urandom(count)
