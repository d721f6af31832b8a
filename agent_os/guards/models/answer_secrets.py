"""Secrets in answers: named, and where the policy says so cut out, whole or in a stream. Pure; the finder is handed in.

A stream that is to be cut is held back to the end of each line (or HELD_CHARS_MAX): a secret that has been shown cannot be taken
back. Threat: a model that was shown a key by a tool, or remembers one, and writes it where it is stored and rendered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from agent_os.core.facts import Finding
from agent_os.guards.models.neutral import Delta

Find = Callable[[str], Sequence[Finding]]
"""Takes a text; returns its secrets, without overlaps, in order."""
HELD_CHARS_MAX: Final = 4096
TAIL_CHARS: Final = 256
"""What stays behind when a line is longer than what is held: a secret may begin in it."""


def cut(text: str, found: Sequence[Finding]) -> str:
    """Return a text without its secrets."""
    out, edge = [], 0
    for item in found:
        out += [text[edge : item.start], f"[REDACTED_{item.type}]"]
        edge = item.end
    return "".join([*out, text[edge:]])


class SecretWatch:
    """Looks at the text of one answer. `redact` cuts secrets out; else they are only counted in `kinds`."""

    def __init__(self, find: Find, *, redact: bool) -> None:
        self._find, self._redact = find, redact
        self._held, self._shown = "", ""
        self.kinds: set[str] = set()
        """What was found so far."""

    def whole(self, text: str) -> str:
        """Return a whole text as it may be shown."""
        return self._looked_at(text)

    def _looked_at(self, text: str) -> str:
        """Return a text as it may be shown after the tail of what was shown before, in which a secret may have begun."""
        before = len(self._shown)
        found = [
            replace(item, start=max(item.start - before, 0), end=item.end - before)
            for item in self._find(self._shown + text)
            if item.end > before
        ]
        self._shown = ""
        self.kinds.update(item.type for item in found)
        return cut(text, found) if self._redact else text

    def feed(self, delta: Delta) -> list[Delta]:
        """Take one piece and return what may be shown now, in order."""
        if delta.kind == "finish":
            return [*self.flush(), delta]
        if delta.kind != "text":
            return [*self.pause(), delta] if delta.kind == "tool" else [delta]
        self._held += delta.text
        if not self._redact:
            if len(self._held) > HELD_CHARS_MAX:
                self._looked_at(self._held)
                self._held = self._held[-TAIL_CHARS:]
            return [delta]
        end = self._held.rfind("\n") + 1
        if not end and len(self._held) > HELD_CHARS_MAX:
            end = len(self._held) - TAIL_CHARS
        if not end:
            return []
        ready, self._held = self._held[:end], self._held[end:]
        return [Delta("text", self._looked_at(ready))]

    def pause(self) -> list[Delta]:
        """Return what was held when something else comes between; its tail is looked at again with what follows it."""
        tail = (self._shown + self._held)[-TAIL_CHARS:]
        shown = self.flush()
        self._shown = tail
        return shown

    def flush(self) -> list[Delta]:
        """Return what was held when nothing more can come."""
        held, self._held = self._held, ""
        if not held:
            return []
        shown = self._looked_at(held)
        return [Delta("text", shown)] if self._redact else []
