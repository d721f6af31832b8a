"""Restoration of a streamed answer, piece by piece: texts and the partial JSON of tool-call arguments. Pure.

Each text stream and each tool call has a restorer of its own; what one holds back comes out when its channel is ended, and
all of it at the end. Threat: a placeholder shown in a stream because it was cut in two, or an original set into
JSON so that it closes the string it stands in.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from agent_os.core.guards import TextRestorer


class Restores(Protocol):
    """What gives restorers: a privacy router."""

    def stream(self, *, escape: str = "none") -> TextRestorer:
        """Return a restorer for one stream of text (`json` for partial arguments of a tool call)."""
        ...


class PieceRestorer:
    """Restores pieces that belong to channels: one channel a text, one a tool call."""

    def __init__(self, router: Restores) -> None:
        self._router = router
        self._open: dict[Hashable, TextRestorer] = {}

    def feed(self, channel: Hashable, text: str, *, json: bool = False) -> str:
        """Return what may be shown of a channel after this piece."""
        restorer = self._open.get(channel)
        if restorer is None:
            restorer = self._open[channel] = self._router.stream(escape="json" if json else "none")
        return restorer.feed(text)

    def end(self, channel: Hashable) -> str:
        """End one channel and return what it held back; empty for a channel that is not open."""
        restorer = self._open.pop(channel, None)
        return restorer.finish() if restorer is not None else ""

    def finish(self) -> list[tuple[Hashable, str]]:
        """End all channels and return what they held back."""
        return [(channel, held) for channel in list(self._open) if (held := self.end(channel))]
