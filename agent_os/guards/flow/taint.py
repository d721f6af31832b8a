"""The index of untrusted text: "does this value stand in anything untrusted?", answered without a rescan. Pure.

Incremental: adding text costs time linear in that text, asking costs time linear in the value asked about and nothing in
the amount of text seen. Errs on the side of yes: a value of several words counts as present when each pair of its
neighbouring words stood side by side somewhere. Past TAINT_CHARS_MAX the index says yes to everything (fail closed).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Generator, Iterator
from typing import Final

from agent_os.guards.flow import normal

TAINT_CHARS_MAX: Final = 32_000_000
"""Untrusted characters of one session; beyond, every value counts as tainted and only the prompt vouches."""
SOURCES_MAX: Final = 4096
"""Words whose first source is remembered for the person who approves; later ones are tainted all the same."""


SPACED_RUNS_MAX: Final = 2000
"""Runs of spaced-out letters that are searched; beyond, the index says yes to everything."""


QUOTED_SOURCES_MAX: Final = 512
"""Sources whose text is kept for quoting; a value from a later one is shown without its surroundings."""
QUOTE_CHARS: Final = 160
QUOTE_SEARCH_CHARS_MAX: Final = 50_000
"""Characters of a source that are searched for the words of one quote; a value that first stands later is shown without."""


PIECE_CHARS: Final = 32_000
"""Characters that are indexed at once; a longer text is cut where it has spaces (`pieces`)."""
PIECES_OVERLAP: Final = 400
"""Characters that two pieces share, so that what is spelt with spaces is whole in one of them."""


_APART: Final = re.compile(r"[^A-Za-z0-9+/=_-]")
"""What no run that is decoded as a whole has inside (`normal.decoded`)."""


def pieces(text: str) -> Iterator[str]:
    """Yield a text in pieces that overlap, cut at spaces; a run without any is cut only past what is decoded at once."""
    begin, size = 0, len(text)
    while size - begin > PIECE_CHARS:
        end = _cut(text, begin + PIECE_CHARS, min(begin + normal.DECODED_CHARS_MAX, size))
        yield text[begin:end]
        if end == size:
            return
        begin = _cut(text, max(end - PIECES_OVERLAP, begin + 1), end)
    yield text[begin:] if begin else text


def _cut(text: str, begin: int, end: int) -> int:
    """Return the first place in a stretch of text where it may be cut: at a space nearby, else between two runs."""
    near = min(begin + PIECES_OVERLAP, end)
    spaces = [place for mark in " \n" if (place := text.find(mark, begin, near)) >= 0]
    if spaces:
        return min(spaces)
    apart = _APART.search(text, begin, end)
    return apart.start() if apart is not None else end


class TaintIndex:
    """Owned by one session; grows only."""

    def __init__(self) -> None:
        self._words: set[str] = set()
        self._pairs: set[int] = set()
        self._runs: set[str] = set()
        self._urls: dict[str, str] = {}
        self._sources: dict[str, str] = {}
        self._texts: dict[str, list[str]] = {}
        self._chars = 0
        self.saturated = False

    def add(self, text: str, source: str) -> None:
        """Index untrusted text and everything that encodings in it hide."""
        for _ in self.adding(text, source):
            pass

    def adding(self, text: str, source: str) -> Generator[None, None, None]:
        """Do the same a piece at a time, and yield after each."""
        self._chars += len(text)
        if self._chars > TAINT_CHARS_MAX:
            self.saturated = True
            return
        if len(self._texts) < QUOTED_SOURCES_MAX or source in self._texts:
            self._texts.setdefault(source, []).append(text)
        for piece in pieces(text):
            self._index(piece, source)
            for hidden in normal.decoded(piece):
                self._index(hidden, source)
            if piece is not text:
                yield

    def _index(self, text: str, source: str) -> None:
        found = normal.words(text)
        self._words.update(found)
        self._pairs.update(map(hash, itertools.pairwise(found)))
        for joined in normal.spaced_out(found):
            self._runs.add(joined)
            self.saturated = self.saturated or len(self._runs) > SPACED_RUNS_MAX
        if len(self._sources) < SOURCES_MAX:
            for word in found:
                if len(word) > 3:
                    self._sources.setdefault(word, source)
        for url in normal.urls(text):
            self._urls.setdefault(normal.host_of(url), source)

    def holds(self, value: str) -> bool:
        """Return whether the value, or its reversal, may stand in untrusted text."""
        if self.saturated:
            return True
        return self._holds(value) or self._holds(value[::-1])

    def _holds(self, value: str) -> bool:
        found = normal.words(value)
        if not found:
            return False
        if not self._words.issuperset(found):
            squashed = "".join(found)
            return len(squashed) > 3 and (squashed in self._words or any(squashed in run for run in self._runs))
        return all(hash(pair) in self._pairs for pair in itertools.pairwise(found))

    def holds_host(self, host: str) -> bool:
        """Return whether a web address with this host stands in untrusted text."""
        return self.saturated or host in self._urls

    def quote(self, value: str, source: str) -> str:
        """Return the line in which a source named a value, or the words around it; nothing where it stands there encoded."""
        word, left = max(normal.words(value), key=len, default=""), QUOTE_SEARCH_CHARS_MAX
        for text in self._texts.get(source, ()) if word else ():
            if left <= 0:
                break
            text, left = text[:left], left - len(text)
            at = text.lower().find(word)
            if at >= 0:
                start, end = text.rfind("\n", 0, at) + 1, text.find("\n", at)
                end = len(text) if end < 0 else end
                if end - start <= QUOTE_CHARS:
                    return " ".join(text[start:end].split())
                start = max(start, at - (QUOTE_CHARS - len(word)) // 2)
                return "…" + " ".join(text[start : min(end, start + QUOTE_CHARS)].split()) + "…"
        return ""

    def source_of(self, value: str) -> str:
        """Return where the value's rarest word first came from, or nothing."""
        for word in sorted(normal.words(value), key=len, reverse=True):
            if word in self._sources:
                return self._sources[word]
        return ""
