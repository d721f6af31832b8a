"""Guarded values on their way out: secrets and personal data that results carried, found in what leaves. Pure.

A value counts as found when its letters and digits stand in the outgoing text in order, whatever stands between
them, forwards or backwards, and also inside percent, HTML, hex and base64 encodings.
"""

from __future__ import annotations

from typing import Final

from agent_os.core.label import Label
from agent_os.guards.flow import normal

SECRETS_MAX: Final = 5000
"""Guarded values that are looked for; beyond, every outgoing text counts as holding one."""
SECRET_CHARS_MIN: Final = 4
"""Shorter values would be found everywhere by chance."""


class SecretIndex:
    """Owned by one session; grows only."""

    def __init__(self) -> None:
        self._values: dict[str, Label] = {}
        self._full: Label | None = None

    def add(self, text: str, label: Label) -> None:
        """Take one guarded value."""
        squashed = "".join(normal.words(text))
        if len(squashed) < SECRET_CHARS_MIN:
            return
        if len(self._values) >= SECRETS_MAX:
            self._full = label
            return
        self._values.setdefault(squashed, label)

    def found_in(self, text: str) -> Label | None:
        """Return the label of a guarded value that stands in the text, or None."""
        if not self._values or not text:
            return None
        if self._full is not None:
            return self._full
        for variant in (text, *normal.decoded(text)):
            squashed = "".join(normal.words(variant))
            backwards = squashed[::-1]
            for value, label in self._values.items():
                if value in squashed or value in backwards:
                    return label
        return None
