"""A reading of a text, with the way back to the text as given. Pure values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class View:
    """A reading of a text. `starts[i]`..`ends[i]` is the range of the original that character `i` stands for."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]
    whole: bool = False
    """The reading has no character map (Base64): any finding in it stands for the whole range."""
    cut: bool = False
    """There would be more to read here than the bounds allow: nobody knows what it says."""

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Return the range of the original for a half-open range of the view."""
        if self.whole:
            return self.starts[0], self.ends[-1]
        return self.starts[start], self.ends[end - 1]


def substituted(text: str, pattern: re.Pattern[str], change: Callable[[str], str]) -> Iterator[View]:
    """The text with every match decoded; a decoded character stands for its share of the match."""
    out: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    edge, changed = 0, False
    for match in pattern.finditer(text):
        value = match.group()
        try:
            plain = change(value)
        except (ValueError, UnicodeDecodeError):
            continue
        if plain == value or not plain:
            continue
        changed = True
        out.append(text[edge : match.start()])
        starts.extend(range(edge, match.start()))
        ends.extend(range(edge + 1, match.start() + 1))
        share = len(value) / len(plain)
        out.append(plain)
        starts.extend(match.start() + int(index * share) for index in range(len(plain)))
        ends.extend(match.start() + int((index + 1) * share) for index in range(len(plain)))
        edge = match.end()
    if changed:
        out.append(text[edge:])
        starts.extend(range(edge, len(text)))
        ends.extend(range(edge + 1, len(text) + 1))
        yield View("".join(out), starts, ends)
