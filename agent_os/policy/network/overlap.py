"""Do two globs share a text? Decides which endpoints compete for the same connection or request. Pure.

A product search over two token lists: stars have an empty step and a loop, so the states are finite (one per pair of
positions). Hosts use `.`-delimited stars; paths use the reference's route globs, in which every star crosses `/`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

_TOP: Final = 0x10FFFF
_ALL: Final = ((0, 0xD7FF), (0xE000, _TOP))
Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _Token:
    ranges: Ranges
    star: bool = False


def host_globs_overlap(one: str, two: str) -> bool:
    """Return whether two endpoint hosts can be the same host; an empty one is any host."""
    if not one or not two:
        return True
    one, two = one.lower(), two.lower()
    if "*" not in one and "*" not in two:
        return one == two
    if not may_share(ends(one), ends(two)):
        return False
    return _overlap(_host_tokens(one), _host_tokens(two))


def ends(pattern: str) -> tuple[str, str]:
    """Return the literal text before the first star and after the last; the whole text twice without one."""
    return pattern.split("*", 1)[0], pattern.rsplit("*", 1)[-1]


def may_share(one: tuple[str, str], two: tuple[str, str]) -> bool:
    """Return whether patterns with these ends could share a text: a quick no before the search."""
    tail, tail2 = one[1], two[1]
    if not (tail.endswith(tail2) or tail2.endswith(tail)):
        return False
    return one[0].startswith(two[0]) or two[0].startswith(one[0])


def path_globs_overlap(one: str, two: str) -> bool:
    """Return whether two endpoint paths can select the same request; what cannot be read is taken to overlap."""
    wide = ("", "**", "/**")
    if one in wide or two in wide:
        return True
    left, right = _path_tokens(one), _path_tokens(two)
    return left is None or right is None or _overlap(left, right)


def _overlap(left: list[_Token], right: list[_Token]) -> bool:
    pending, seen = deque([(0, 0)]), set()
    while pending:
        state = pending.popleft()
        if state in seen:
            continue
        seen.add(state)
        i, j = state
        if i == len(left) and j == len(right):
            return True
        if i < len(left) and left[i].star:
            pending.append((i + 1, j))
        if j < len(right) and right[j].star:
            pending.append((i, j + 1))
        if i < len(left) and j < len(right) and _share(left[i].ranges, right[j].ranges):
            pending.append((i if left[i].star else i + 1, j if right[j].star else j + 1))
    return False


def _share(one: Ranges, two: Ranges) -> bool:
    return any(a <= d and c <= b for a, b in one for c, d in two)


def _without(char: str) -> Ranges:
    return _complement([(ord(char), ord(char))])


def _complement(ranges: list[tuple[int, int]]) -> Ranges:
    result = []
    for low, high in _ALL:
        start = low
        for first, last in sorted(ranges):
            if last < start or first > high:
                continue
            if start < first:
                result.append((start, first - 1))
            start = max(start, last + 1)
        if start <= high:
            result.append((start, high))
    return tuple(result)


def _host_tokens(pattern: str) -> list[_Token]:
    tokens: list[_Token] = []
    index = 0
    while index < len(pattern):
        if pattern[index] != "*":
            tokens.append(_Token(((ord(pattern[index]), ord(pattern[index])),)))
            index += 1
            continue
        stars = len(pattern) - index - len(pattern[index:].lstrip("*"))
        tokens.append(_Token(_ALL if stars > 1 else _without("."), star=True))
        index += stars
    return tokens


def _path_tokens(pattern: str) -> list[_Token] | None:
    tokens: list[_Token] = []
    index = 0
    while index < len(pattern):
        char = pattern[index]
        if char == "?":
            tokens.append(_Token(_ALL))
            index += 1
        elif char == "*":
            stars = len(pattern) - index - len(pattern[index:].lstrip("*"))
            end = index + stars
            if stars > 2:
                return None
            if stars == 2:
                if (index and pattern[index - 1] != "/") or (end < len(pattern) and pattern[end] != "/"):
                    return None
                end += end < len(pattern)
            tokens.append(_Token(_ALL, star=True))
            index = end
        elif char == "[":
            start = index + (2 if pattern[index + 1 : index + 2] == "!" else 1)
            close = pattern.find("]", start)
            if close <= start:
                return None
            ranges = _class_ranges(pattern[start:close])
            tokens.append(_Token(_complement(ranges) if start == index + 2 else tuple(ranges)))
            index = close + 1
        else:
            tokens.append(_Token(((ord(char), ord(char)),)))
            index += 1
    return tokens


def _class_ranges(body: str) -> list[tuple[int, int]]:
    ranges = []
    index = 0
    while index < len(body):
        if index + 2 < len(body) and body[index + 1] == "-":
            if body[index] <= body[index + 2]:
                ranges.append((ord(body[index]), ord(body[index + 2])))
            index += 3
        else:
            ranges.append((ord(body[index]), ord(body[index])))
            index += 1
    return ranges
