"""What was read in a part that is no text, and the port of who reads it. Values only.

Threat: a picture that is judged by its words and carries something else: what goes on is not the bytes that came but the
pixels that were read, made anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

READ: Final = "#read"
"""What a pointer of a part ends in where it means the text that was read in it."""
Quad = tuple[tuple[int, int], ...]
"""The corners of a place on a page, in pixels."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of `Reading.text`: where it begins there, on which page it stands and where, and each of its characters.

    `places` has one quad for each character that is no blank; empty where they are not known. `clear` is False for what
    looks like text and was not read for sure.
    """

    start: int
    text: str
    page: int
    place: Quad
    places: tuple[Quad, ...] = ()
    clear: bool = True


@dataclass(frozen=True, slots=True)
class Reading:
    """The text of one part, or why there is none (`error`). `ours`: the bytes are pixels that were made anew here."""

    text: str = ""
    lines: tuple[Line, ...] = ()
    error: str = ""
    ours: bool = False


class MediaReader(Protocol):
    """Reads pictures and documents, and paints over places in them."""

    async def read(self, media: Mapping[str, bytes]) -> Mapping[str, Reading]:
        """Return what stands in each part. Never raises, but for cancellation: a failure is a reading with `error` set."""
        ...

    async def painted(self, data: bytes, places: Sequence[tuple[int, Quad]]) -> bytes:
        """Return a part's pixels alone, made anew in its format, with (page, place) painted over. Raises EffectError."""
        ...
