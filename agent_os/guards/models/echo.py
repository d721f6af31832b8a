"""A provider's own key in its answer is cut out, whole or in a stream. Pure.

Threat: a provider, or a debugging proxy before it, that writes back the headers it was sent: the answer would hand the agent
the key that the gateway keeps from it. (One that encodes the key has it anyway: this stops echoes, not a provider that attacks.)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from agent_os.guards.models.neutral import Delta

MARK: Final = "[REDACTED_SECRET]"
_SAID: Final = frozenset({"text", "reasoning", "signature", "tool"})
"""Kinds of pieces whose text is the provider's."""


def without(value: Any, key: str) -> Any:
    """Return a JSON tree without a key in any text or name."""
    if isinstance(value, str):
        return value.replace(key, MARK)
    if isinstance(value, dict):
        return {name.replace(key, MARK): without(item, key) for name, item in value.items()}
    if isinstance(value, list):
        return [without(item, key) for item in value]
    return value


class EchoWatch:
    """Cuts a key out of the pieces of one stream, however it is cut; an empty key passes everything on.

    Held back is only the end of a piece that could be the key's beginning, until the next piece of the same block or the
    block's end.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._open: Delta | None = None
        """The block under way, with what is held back of it as its text."""

    def feed(self, delta: Delta) -> list[Delta]:
        """Take one piece and return what may be passed on, in order."""
        if not self._key or delta.kind not in _SAID:
            return [*self.finish(), delta]
        same = self._open is not None and (self._open.kind, self._open.index) == (delta.kind, delta.index)
        out = [] if same else self.finish()
        text = (self._open.text if same and self._open is not None else "") + delta.text
        text = text.replace(self._key, MARK)
        cut = len(text) - self._begun(text)
        self._open = Delta(delta.kind, text[cut:], delta.index)
        kept = replace(delta, text=text[:cut], id=without(delta.id, self._key), name=without(delta.name, self._key))
        return [*out, kept] if kept.text or not text or kept.id or kept.name else out

    def finish(self) -> list[Delta]:
        """Return what was held back when its block, or the stream, ends."""
        held, self._open = self._open, None
        return [held] if held is not None and held.text else []

    def _begun(self, text: str) -> int:
        """Return how many characters at the end of a text could begin the key."""
        longest = min(len(self._key) - 1, len(text))
        return next((size for size in range(longest, 0, -1) if self._key.startswith(text[-size:])), 0)
