"""Bytes on their way to an effector, held by their digest. Pure: memory only, no clock, no I/O.

An Action names content by digest (`content_digest`, `body_digest`), so that approvals and the audit bind to it without
holding it. The tool that asks for the effect holds the bytes here while the action goes through the door; the
effector takes them by the digest that was judged and so cannot be handed others.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from agent_os.core.errors import ActionError, EffectError

CARRIED_BYTES_MAX: Final = 256 * 1024 * 1024
"""All bytes in flight in one process; one more is refused."""


def content_digest(content: bytes) -> str:
    """Return `sha256:` and the hex digest of some bytes."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Carried:
    """Content-addressed bytes in flight; safe to share between threads."""

    def __init__(self, bytes_max: int = CARRIED_BYTES_MAX) -> None:
        self._held: dict[str, tuple[bytes, int]] = {}
        self._bytes, self._bytes_max = 0, bytes_max
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, content: bytes) -> Iterator[str]:
        """Hold bytes for the time of a `with` block and yield their digest. Raises ActionError over the bound."""
        digest = content_digest(content)
        with self._lock:
            known = self._held.get(digest)
            if known is None:
                if self._bytes + len(content) > self._bytes_max:
                    raise ActionError(f"more than {self._bytes_max} bytes in flight", field="content")
                self._bytes += len(content)
            self._held[digest] = (content, known[1] + 1 if known else 1)
        try:
            yield digest
        finally:
            with self._lock:
                held, count = self._held[digest]
                if count == 1:
                    del self._held[digest]
                    self._bytes -= len(held)
                else:
                    self._held[digest] = (held, count - 1)

    def bytes_for(self, digest: str) -> bytes:
        """Return the bytes of a digest that is in flight. Raises EffectError when nobody holds them."""
        with self._lock:
            held = self._held.get(digest)
        if held is None:
            raise EffectError("the content of this action is not in flight: perform it again with its content")
        return held[0]
