"""Host patterns: matching, overlap, and an index from a host and port to the entries that could match. Pure.

A pattern is a canonical name or a wildcard by DNS label: `*` stays within a label, a label `**` takes one or more.
The index looks at ports first, then at exact names, then at the labels a wildcard ends in, so that entries for other
names cost nothing. Threat: a policy whose cost grows with rules that cannot match (a slow decision is a denial of
service), and selectors that seem to cover a host and do not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final, Generic, TypeVar

from agent_os.policy.network.globs import GlobError, compile_glob, has_wildcard

T = TypeVar("T")
MANY: Final = "**"


class HostPattern:
    """A compiled pattern of DNS labels. Raises GlobError for what cannot be one."""

    __slots__ = ("labels", "literal", "source")

    def __init__(self, pattern: str) -> None:
        if not pattern:
            raise GlobError("host pattern must not be empty")
        if any(char.isspace() for char in pattern):
            raise GlobError("host pattern must not contain white space")
        if "{" in pattern or "}" in pattern:
            raise GlobError("host pattern must not contain braces; list each host separately")
        self.source: Final = pattern.lower()
        self.labels: Final = self.source.split(".")
        if not all(self.labels):
            raise GlobError("host pattern must not contain empty labels")
        for label in self.labels:
            if label != MANY:
                if "**" in label:
                    raise GlobError("invalid host pattern: '**' must be a whole label")
                compile_glob(label, ".")
        self.literal: Final = not has_wildcard(self.source)

    def matches(self, host: str) -> bool:
        """Return whether a host matches; a host with an empty label matches nothing."""
        labels = host.lower().split(".")
        if not all(labels):
            return False
        pending, seen = [(0, 0)], set()
        while pending:
            state = pending.pop()
            if state in seen:
                continue
            seen.add(state)
            left, right = state
            if left == len(self.labels):
                if right == len(labels):
                    return True
                continue
            if right == len(labels):
                continue
            if self.labels[left] == MANY:
                pending += [(left + 1, right + 1), (left, right + 1)]
            elif compile_glob(self.labels[left], ".")(labels[right]):
                pending.append((left + 1, right + 1))
        return False

    def overlaps(self, other: HostPattern) -> bool:
        """Return whether some host could match both; two wildcard labels are taken to overlap."""
        pending, seen = deque([(0, 0)]), set()
        while pending:
            state = pending.popleft()
            if state in seen:
                continue
            seen.add(state)
            left, right = state
            if left == len(self.labels) and right == len(other.labels):
                return True
            if left == len(self.labels) or right == len(other.labels):
                continue
            one, two = self.labels[left], other.labels[right]
            if MANY in (one, two) or _labels_overlap(one, two):
                pending.append((left + 1, right + 1))
            if one == MANY:
                pending.append((left, right + 1))
            if two == MANY:
                pending.append((left + 1, right))
        return False


def _labels_overlap(one: str, two: str) -> bool:
    if not has_wildcard(one):
        return one == two if not has_wildcard(two) else compile_glob(two, ".")(one)
    return True if has_wildcard(two) else compile_glob(one, ".")(two)


@lru_cache(maxsize=4096)
def host_pattern(pattern: str) -> HostPattern:
    """Return the compiled pattern; the same text gives the same object."""
    return HostPattern(pattern)


def host_matches(pattern: str, host: str) -> bool:
    """Return whether a host matches a pattern. Raises GlobError for an invalid pattern."""
    return host_pattern(pattern).matches(host)


def hosts_overlap(one: str, two: str) -> bool:
    """Return whether some host could match both patterns. Raises GlobError for an invalid pattern."""
    return host_pattern(one).overlaps(host_pattern(two))


class HostSelector:
    """Hosts by patterns to include and patterns to exclude; exclusion wins."""

    __slots__ = ("exclude", "include")

    def __init__(self, include: Iterable[str], exclude: Iterable[str] = ()) -> None:
        self.include: Final = [host_pattern(item) for item in include]
        self.exclude: Final = [host_pattern(item) for item in exclude]

    def matches(self, host: str) -> bool:
        """Return whether the selector takes a concrete host."""
        return any(item.matches(host) for item in self.include) and not any(item.matches(host) for item in self.exclude)

    def may_match(self, candidate: HostPattern) -> bool:
        """Return whether the selector could take some host that matches `candidate`; errs on the side of yes."""
        for item in self.include:
            if not item.overlaps(candidate):
                continue
            concrete = candidate if candidate.literal else item if item.literal else None
            if concrete is not None:
                excluded = any(out.matches(concrete.source) for out in self.exclude)
            else:
                whole = {item.source, candidate.source, MANY}
                excluded = any(out.source in whole for out in self.exclude)
            if not excluded:
                return True
        return False


class HostIndex(Generic[T]):
    """Entries by port and host; `find` yields those that could match, in the order they were added."""

    __slots__ = ("_anywhere", "_exact", "_size", "_suffixes")

    def __init__(self) -> None:
        self._exact: dict[tuple[int, str], list[tuple[int, T]]] = {}
        self._suffixes: dict[tuple[int, str], list[tuple[int, T]]] = {}
        self._anywhere: dict[int, list[tuple[int, T]]] = {}
        self._size = 0

    def add(self, host: str, ports: Iterable[int], entry: T) -> None:
        """Add an entry for a lower-case name or wildcard; an empty `host` stands for every host."""
        labels = host.split(".") if host else []
        tail: list[str] = []
        for label in reversed(labels):
            if has_wildcard(label):
                break
            tail.append(label)
        for port in ports:
            item = (self._size, entry)
            if host and len(tail) == len(labels):
                self._exact.setdefault((port, host), []).append(item)
            elif tail:
                self._suffixes.setdefault((port, ".".join(reversed(tail))), []).append(item)
            else:
                self._anywhere.setdefault(port, []).append(item)
        self._size += 1

    def find(self, host: str, port: int) -> Iterator[T]:
        """Yield the entries that could match a canonical host and a port."""
        found = list(self._exact.get((port, host), ()))
        if self._suffixes:
            start = 0
            while True:
                found += self._suffixes.get((port, host[start:]), ())
                start = host.find(".", start) + 1
                if not start:
                    break
        found += self._anywhere.get(port, ())
        if len(found) > 1:
            found.sort(key=lambda item: item[0])
        return (entry for _, entry in found)
