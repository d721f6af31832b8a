"""What the guard knows of a stored secret, and where it asks for one. Values and a port only.

How placeholders are found and filled is `guards.egress.placeholders`, how echoes are masked `guards.egress.masking`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

SECRET_BYTES_MIN: Final = 6
"""Shorter secrets cannot be masked in responses without destroying them, and are not accepted."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A stored secret. `destinations` are `host` or `host:port`, canonical and exact."""

    name: str
    value: str = field(repr=False)
    destinations: tuple[str, ...] = ()

    def bound_to(self, host: str, port: int) -> bool:
        """Whether it may be used towards a destination."""
        return host in self.destinations or f"{host}:{port}" in self.destinations


class SecretStore(Protocol):
    """Where secrets are kept."""

    async def get(self, name: str) -> Secret | None:
        """Return a secret, or None. Raises EffectError when the store cannot be read."""
        ...
