"""Guarded values on their way out: secrets and personal data that results carried, found in what leaves. Pure.

A value counts as found when its letters and digits stand in the outgoing text in order, whatever stands between
them, forwards or backwards, and also inside percent, HTML, hex and base64 encodings. Values are found by their first letters,
so that a text costs what it is long however many values are guarded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent_os.core.label import Label
from agent_os.guards.flow import normal

SECRETS_MAX: Final = 5000
"""Guarded values that are looked for; beyond, every outgoing text counts as holding one."""
SECRET_CHARS_MIN: Final = 4
"""Shorter values would be found everywhere by chance."""
HELD_MAX: Final = 20
"""Values found in one text; with as many nobody needs to know of more."""
FEW: Final = 16
"""So many values are looked for one by one."""


@dataclass(frozen=True, slots=True)
class Guarded:
    """One guarded value, as it was read, and its label."""

    text: str
    label: Label


class SecretIndex:
    """Owned by one session; grows only."""

    def __init__(self) -> None:
        self._values: dict[str, Guarded] = {}
        self._begins: dict[str, list[str]] = {}
        """First letters of a value, and of its reversal, and the values that begin so."""
        self._full: Label | None = None

    def add(self, text: str, label: Label) -> None:
        """Take one guarded value; of two labels of one value the join holds."""
        squashed = "".join(normal.words(text))
        if len(squashed) < SECRET_CHARS_MIN:
            return
        known = self._values.get(squashed)
        if known is not None:
            self._values[squashed] = Guarded(known.text, known.label.join(label))
            return
        if len(self._values) >= SECRETS_MAX:
            self.overflow(label)
            return
        self._values[squashed] = Guarded(text, label)
        for form in {squashed, squashed[::-1]}:
            self._begins.setdefault(form[:SECRET_CHARS_MIN], []).append(squashed)

    def overflow(self, label: Label) -> None:
        """Let every outgoing text count as holding a value of this label: there is more than can be looked for."""
        self._full = label if self._full is None else self._full.join(label)

    def found_in(self, text: str) -> Label | None:
        """Return the join of the labels of the guarded values that stand in a text, or None."""
        held = self.held_in(text)
        return Label.join_all(guarded.label for guarded in held) if held else None

    def held_in(self, text: str) -> list[Guarded]:
        """Return the guarded values that stand in a text, at most HELD_MAX."""
        if not text or (not self._values and self._full is None):
            return []
        found: dict[str, Guarded] = {}
        if self._full is not None:
            found[""] = Guarded("", self._full)
        if not self._values:
            return list(found.values())
        for variant in (text, *normal.decoded(text)):
            squashed = "".join(normal.words(variant))
            for value in self._candidates(squashed):
                if value not in found and (value in squashed or value[::-1] in squashed):
                    found[value] = self._values[value]
                    if len(found) >= HELD_MAX:
                        return list(found.values())
        return list(found.values())

    def _candidates(self, squashed: str) -> list[str]:
        if len(self._values) <= FEW:
            return list(self._values)
        size = SECRET_CHARS_MIN
        grams = {squashed[place : place + size] for place in range(len(squashed) - size + 1)}
        if len(grams) > len(self._begins):
            begins = [begin for begin in self._begins if begin in grams]
        else:
            begins = [gram for gram in grams if gram in self._begins]
        return [value for begin in begins for value in self._begins[begin]]
