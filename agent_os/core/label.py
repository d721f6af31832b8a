"""Labels: how far data may be trusted and how far it may travel. Pure values.

Two lattices side by side, after Denning (1976) and FIDES (2025). Integrity falls when data is mixed
(the least trusted part decides), confidentiality rises (the most guarded part decides). `join` is the
least upper bound in both; it is commutative, associative and idempotent (tests/property/test_label.py).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from agent_os.core.errors import ActionError

T = TypeVar("T")


class Integrity(enum.IntEnum):
    """Who may have authored a value; a join takes the smaller."""

    UNTRUSTED = 0
    KNOWN = 1
    """An authenticated principal other than the user, for example a colleague's address."""
    TRUSTED = 2


class Confidentiality(enum.IntEnum):
    """How guarded a value is; a join takes the larger."""

    PUBLIC = 0
    READERS = 1
    SECRET = 2


@dataclass(frozen=True, slots=True)
class Label:
    """Integrity and confidentiality of a value, and the classes of data found in it.

    `readers` counts only at `Confidentiality.READERS`: the principals and hosts that may see the value.
    `tags` are detector classes such as `pii` or `secret`; they only ever accumulate.
    `sources` says where the value came from (`tool:read_file`, `file:inbox/a.eml`), bounded by MAX_SOURCES.
    """

    integrity: Integrity = Integrity.UNTRUSTED
    confidentiality: Confidentiality = Confidentiality.PUBLIC
    readers: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    sources: tuple[str, ...] = ()

    def join(self, other: Label) -> Label:
        """Return the label of a value made from both."""
        if self is other:
            return self
        mine, theirs = self.confidentiality, other.confidentiality
        if mine == theirs == Confidentiality.READERS:
            readers = self.readers & other.readers
        elif Confidentiality.SECRET in (mine, theirs):
            readers = frozenset()
        else:
            readers = self.readers if mine == Confidentiality.READERS else other.readers
        sources = tuple(sorted({*self.sources, *other.sources}))[:MAX_SOURCES]
        return Label(min(self.integrity, other.integrity), max(mine, theirs), readers, self.tags | other.tags, sources)

    def flows_to(self, reader: str) -> bool:
        """Return whether `reader` may see a value with this label."""
        if self.confidentiality == Confidentiality.PUBLIC:
            return True
        return self.confidentiality == Confidentiality.READERS and reader in self.readers

    @staticmethod
    def join_all(labels: Iterable[Label]) -> Label:
        """Return the join of all, or TRUSTED for none (a value made from nothing)."""
        result = TRUSTED
        for label in labels:
            result = result.join(label)
        return result

    def to_json(self) -> dict[str, Any]:
        """Return the wire form."""
        return {
            "integrity": self.integrity.name.lower(),
            "confidentiality": self.confidentiality.name.lower(),
            "readers": sorted(self.readers),
            "tags": sorted(self.tags),
            "sources": list(self.sources),
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Label:
        """Return the label of its wire form; raises KeyError or ValueError on anything else."""
        return Label(
            Integrity[data["integrity"].upper()],
            Confidentiality[data["confidentiality"].upper()],
            frozenset(data.get("readers", ())),
            frozenset(data.get("tags", ())),
            tuple(data.get("sources", ())),
        )


MAX_SOURCES: Final = 32
TRUSTED: Final = Label(Integrity.TRUSTED)
UNTRUSTED: Final = Label(Integrity.UNTRUSTED)


@dataclass(frozen=True, slots=True)
class Labeled(Generic[T]):
    """A value with its label, and labels of its JSON leaves by RFC 6901 pointer where they differ."""

    value: T
    label: Label = UNTRUSTED
    leaves: tuple[tuple[str, Label], ...] = ()

    @property
    def trusted(self) -> bool:
        """Whether all of it may be trusted."""
        return self.label.integrity is Integrity.TRUSTED

    def at(self, pointer: str) -> Labeled[Any]:
        """Return a part (`/0/price`) with the join of the labels in it. Raises ActionError when there is none."""
        part: Any = self.value
        for step in pointer.split("/")[1:] if pointer else []:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(part, Mapping) and name in part:
                part = part[name]
            elif isinstance(part, list | tuple) and name.isdecimal() and int(name) < len(part):
                part = part[int(name)]
            else:
                raise ActionError(
                    f"has no part {pointer}", field="pointer", hint="a pointer looks like /0/price (RFC 6901)"
                )
        own = {name[len(pointer) :]: label for name, label in self.leaves if f"{name}/".startswith(f"{pointer}/")}
        labels = [own.get(name, self.label) for name in _scalars(part)]
        label = Label.join_all(labels) if labels else self.label
        return Labeled(part, label, tuple((name, found) for name, found in own.items() if name))

    def rows(self) -> list[dict[str, Labeled[Any]]]:
        """Return the records of a list, each field with its label: what `guards/flow/select.py` chooses among.

        Raises ActionError for anything but a list of objects.
        """
        if not isinstance(self.value, list) or not all(isinstance(row, Mapping) for row in self.value):
            raise ActionError("is no list of records", field="value")
        return [
            {str(name): self.at(f"/{place}/{_escape(str(name))}") for name in row}
            for place, row in enumerate(self.value)
        ]


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _scalars(value: Any) -> Iterator[str]:
    """Yield the pointers of the scalars in a value. Iterative: its depth is bounded by memory alone."""
    stack = [("", value)]
    while stack:
        pointer, part = stack.pop()
        if isinstance(part, Mapping):
            stack += [(f"{pointer}/{_escape(str(name))}", item) for name, item in part.items()]
        elif isinstance(part, list | tuple):
            stack += [(f"{pointer}/{place}", item) for place, item in enumerate(part)]
        else:
            yield pointer
