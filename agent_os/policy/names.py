"""An index from names to the rules whose pattern matches them, so that cost does not grow with rules that cannot. Pure.

Exact names are a dictionary; globs are found by their literal beginning, else by their literal end, else one by one.
What a name was found to match is remembered (bounded), which changes no answer.
"""

from __future__ import annotations

import unicodedata
from typing import Final, Generic, TypeVar

from agent_os.policy.globs import Matcher, compile_glob, is_literal, literal_prefix, literal_suffix

T = TypeVar("T")
MAX_REMEMBERED: Final = 4096


class NameIndex(Generic[T]):
    """Patterns with their values; `find(name)` returns the values of every pattern that matches, in order of `add`."""

    def __init__(self, *, crossing: bool) -> None:
        self._crossing = crossing
        self._count = 0
        self._exact: dict[str, list[tuple[int, T]]] = {}
        self._by_prefix: dict[str, list[tuple[int, Matcher, T]]] = {}
        self._by_suffix: dict[str, list[tuple[int, Matcher, T]]] = {}
        self._rest: list[tuple[int, Matcher, T]] = []
        self._prefix_lengths: tuple[int, ...] = ()
        self._suffix_lengths: tuple[int, ...] = ()

    def add(self, pattern: str, value: T) -> None:
        """Add a pattern. Raises PatternError for a malformed one."""
        self._count += 1
        pattern = pattern if pattern.isascii() else unicodedata.normalize("NFC", pattern)
        if is_literal(pattern):
            self._exact.setdefault(pattern, []).append((self._count, value))
            return
        entry = (self._count, compile_glob(pattern, crossing=self._crossing), value)
        prefix, suffix = literal_prefix(pattern), literal_suffix(pattern)
        if prefix:
            self._by_prefix.setdefault(prefix, []).append(entry)
            self._prefix_lengths = tuple(sorted({len(key) for key in self._by_prefix}))
        elif suffix:
            self._by_suffix.setdefault(suffix, []).append(entry)
            self._suffix_lengths = tuple(sorted({len(key) for key in self._by_suffix}))
        else:
            self._rest.append(entry)

    def find(self, name: str) -> list[T]:
        """Return the values of every pattern that matches a name."""
        found = list(self._exact.get(name, ()))
        for length in self._prefix_lengths:
            if length > len(name):
                break
            entries = self._by_prefix.get(name[:length], ())
            found.extend((number, value) for number, matches, value in entries if matches(name))
        for length in self._suffix_lengths:
            if length > len(name):
                break
            entries = self._by_suffix.get(name[len(name) - length :], ())
            found.extend((number, value) for number, matches, value in entries if matches(name))
        found.extend((number, value) for number, matches, value in self._rest if matches(name))
        if len(found) > 1:
            found.sort(key=lambda item: item[0])
        return [value for _, value in found]
