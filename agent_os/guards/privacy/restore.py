"""Restoration: placeholders back to originals, in texts, JSON trees and streams cut at any character or byte. Pure.

The stream restorer holds back a suffix only while it could still become a pseudonym, so a stream is never delayed by more
than one placeholder's length and never shows half of one. Threat: text that spells a placeholder which was not issued in
this scope (another session's, or made up) comes out as it went in.
"""

from __future__ import annotations

import bisect
import json
import re
from collections.abc import Collection, Iterable
from typing import Any, Final, Literal, Protocol
from weakref import WeakKeyDictionary

from agent_os.guards.privacy.pseudonyms import PLACEHOLDER, PLACEHOLDER_CHARS_MAX

RESTORE_DEPTH_MAX: Final = 200
_PARTIAL: Final = re.compile(r"\[(?:[A-Z][A-Z0-9_]{0,47}(?:_[0-9]{1,7}(?:_[0-9a-f]{0,8})?)?)?$")
Escape = Literal["none", "json"]


class Book(Protocol):
    """What restoration asks of a `PseudonymBook`."""

    def original(self, pseudonym: str) -> str | None:
        """Return what an issued pseudonym stands for."""
        ...

    @property
    def surrogates(self) -> Collection[str]:
        """The issued pseudonyms that are not placeholders; none is empty."""
        ...


def restore_text(text: str, book: Book, *, escape: Escape = "none") -> str:
    """Return a text with every issued pseudonym of the book replaced by its original.

    `escape="json"` is for text that is the inside of a JSON document: originals are escaped as in a JSON string.
    """
    if "[" in text:
        text = PLACEHOLDER.sub(lambda match: _put(match.group(), book, escape), text)
    known = _known(book)
    return known.put(text, book, escape) if known is not None else text


class _Known:
    """The surrogates of a book, so that a text is looked through once however many there are."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = frozenset(texts)
        self.longest = max(map(len, self.texts))
        self._sorted = sorted(self.texts)
        lengths: dict[str, set[int]] = {}
        for text in self.texts:
            lengths.setdefault(text[:2], set()).add(len(text))
        self._lengths = {start: sorted(found, reverse=True) for start, found in lengths.items()}
        self._first = re.compile("[" + "".join(re.escape(char) for char in {text[0] for text in self.texts}) + "]")

    def put(self, text: str, book: Book, escape: Escape) -> str:
        """Return a text with every surrogate replaced: the first that begins, the longest of those."""
        out, edge = [], 0
        for start, end in self.places(text):
            out += [text[edge:start], _put(text[start:end], book, escape)]
            edge = end
        return "".join([*out, text[edge:]]) if out else text

    def places(self, text: str) -> Iterable[tuple[int, int]]:
        """Yield where surrogates stand, without overlaps."""
        at = 0
        while (found := self._first.search(text, at)) is not None:
            start = at = found.start()
            for length in self._lengths.get(text[start : start + 2], ()):
                if text[start : start + length] in self.texts:
                    at = start + length
                    yield start, at
                    break
            else:
                at = start + 1

    def begins(self, tail: str) -> bool:
        """Whether a surrogate begins with this and is longer."""
        place = bisect.bisect_right(self._sorted, tail)
        return place < len(self._sorted) and self._sorted[place].startswith(tail)


_KNOWN: WeakKeyDictionary[Book, tuple[int, _Known]] = WeakKeyDictionary()
"""The last look at each book. A book only grows: the number of its surrogates says whether the look still holds."""


def _known(book: Book) -> _Known | None:
    count = len(book.surrogates)
    if not count:
        return None
    held = _KNOWN.get(book)
    if held is None or held[0] != count:
        held = _KNOWN[book] = (count, _Known(book.surrogates))
    return held[1]


def _put(pseudonym: str, book: Book, escape: Escape) -> str:
    original = book.original(pseudonym)
    if original is None:
        return pseudonym
    return json.dumps(original, ensure_ascii=False)[1:-1] if escape == "json" else original


def restore_tree(value: Any, book: Book, *, _depth: int = 0) -> Any:
    """Return a JSON tree (dicts, lists, tuples, texts, bytes) with pseudonyms restored in every text and key."""
    if isinstance(value, str):
        return restore_text(value, book)
    if isinstance(value, bytes):
        return ByteRestorer(book).all(value)
    if _depth > RESTORE_DEPTH_MAX or value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, dict):
        return {
            restore_text(key, book) if isinstance(key, str) else key: restore_tree(item, book, _depth=_depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [restore_tree(item, book, _depth=_depth + 1) for item in value]
    if isinstance(value, tuple):
        return tuple(restore_tree(item, book, _depth=_depth + 1) for item in value)
    return value


class StreamRestorer:
    """Restores one stream of text (one answer, or the arguments of one tool call) whose chunks may be cut anywhere."""

    def __init__(self, book: Book, *, escape: Escape = "none") -> None:
        self._book, self._escape = book, escape
        self._held = ""

    def feed(self, chunk: str) -> str:
        """Return what can be shown after this chunk."""
        text = self._held + chunk
        cut = self._safe(text)
        self._held = text[cut:]
        return restore_text(text[:cut], self._book, escape=self._escape)

    def finish(self) -> str:
        """Return what was held back; the stream ends."""
        text, self._held = self._held, ""
        return restore_text(text, self._book, escape=self._escape)

    def _safe(self, text: str) -> int:
        """Return the index up to which no pseudonym can reach beyond the end of the text."""
        cut = len(text)
        opened = text.rfind("[", max(0, len(text) - PLACEHOLDER_CHARS_MAX))
        if opened >= 0 and _PARTIAL.match(text, opened):
            cut = opened
        known = _known(self._book)
        if known is not None:
            for start in range(max(0, len(text) - known.longest + 1), cut):
                if known.begins(text[start:]):
                    # a complete pseudonym that ends inside the tail must not be cut in two
                    return next((first for first, last in known.places(text) if first < start < last), start)
        return cut


class ByteRestorer:
    """The same for a stream of bytes (UTF-8 or not): placeholders are ASCII, everything else passes unread."""

    def __init__(self, book: Book, *, escape: Escape = "none") -> None:
        self._inner = StreamRestorer(_Latin(book, escape))

    def feed(self, chunk: bytes) -> bytes:
        """Return what can be sent on after this chunk."""
        return self._inner.feed(chunk.decode("latin-1")).encode("latin-1")

    def finish(self) -> bytes:
        """Return what was held back."""
        return self._inner.finish().encode("latin-1")

    def all(self, data: bytes) -> bytes:
        """Return whole bytes restored."""
        return self.feed(data) + self.finish()


class _Latin:
    """A book whose texts are UTF-8 bytes read as Latin-1, one character a byte."""

    def __init__(self, book: Book, escape: Escape = "none") -> None:
        self._book, self._escape = book, escape
        self._recoded: list[str] = []

    def original(self, pseudonym: str) -> str | None:
        """Return the original of a pseudonym as bytes in Latin-1."""
        found = self._book.original(_recoded(pseudonym))
        if found is None:
            return None
        text = json.dumps(found, ensure_ascii=False)[1:-1] if self._escape == "json" else found
        return text.encode("utf-8", "surrogatepass").decode("latin-1")

    @property
    def surrogates(self) -> Collection[str]:
        """Return the surrogates as bytes in Latin-1."""
        if len(self._recoded) != len(self._book.surrogates):
            self._recoded = [item.encode().decode("latin-1") for item in self._book.surrogates]
        return self._recoded


def _recoded(text: str) -> str:
    return text.encode("latin-1").decode("utf-8", "replace")
