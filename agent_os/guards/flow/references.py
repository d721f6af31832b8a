"""Reference lists: records an operator keeps (`flow.trusted`), whose values vouch for an authority by themselves. Pure.

A supplier's account stands in the supplier's own mail as well, and a value that stands in untrusted text has lost every
voucher but the prompt. What an operator calls trusted, with a reason and an owner, keeps its word: a payee of the list is
a payee, wherever else the number was seen. It vouches for the value and for nothing more: the effect must be asked for
all the same. What this session (or an earlier one, with untrusted text) wrote is no reference, whatever it is called.
With several layers a value must be vouched for by each that has a `flow:` section.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from agent_os.guards.flow import forms, normal

REFERENCES_MAX: Final = 100_000
"""Values one layer's lists may hold; later ones vouch for nothing."""
REFERENCE_DEPTH_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Source:
    """One entry of `flow.trusted`: which sources it means (`file:…`, `tool:…`, `host:…`), and which of their fields."""

    matches: Callable[[str], bool]
    fields: frozenset[str] = frozenset()
    """Names of fields in small letters; empty means all."""


@dataclass(slots=True)
class Layer:
    """What one policy layer trusts, and the values that were read there so far."""

    sources: tuple[Source, ...] = ()
    values: set[str] = field(default_factory=set)


class References:
    """Owned by one session; grows only."""

    def __init__(self, layers: Iterable[Layer] = ()) -> None:
        self._layers = tuple(layers)

    def learn(self, source: str, value: Any) -> bool:
        """Take what was read from a source; return whether every layer calls all of it trusted."""
        whole = bool(self._layers)
        for layer in self._layers:
            matching = [entry for entry in layer.sources if entry.matches(source)]
            for entry in matching:
                for name, item in _cells(source, value):
                    if len(layer.values) < REFERENCES_MAX and (not entry.fields or name.lower() in entry.fields):
                        layer.values.add(spelling(item))
            whole = whole and any(not entry.fields for entry in matching)
        return whole

    def holds(self, text: str) -> bool:
        """Return whether a value stands in a reference list of every layer."""
        return bool(self._layers) and all(spelling(text) in layer.values for layer in self._layers)

    def knows(self, source: str) -> bool:
        """Return whether some layer trusts a part of a source."""
        return any(entry.matches(source) for layer in self._layers for entry in layer.sources)


def spelling(text: str) -> str:
    """Return one spelling of a value: strict (no look-alikes), without the spaces that group an account number."""
    return "".join(normal.strict(text).split())


def _cells(source: str, value: Any) -> list[tuple[str, str]]:
    """Return (field, text) of every scalar: of JSON and YAML by key, of CSV by column, of any other text by line."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        value = _read(source, value)
    found: list[tuple[str, str]] = []
    stack: list[tuple[str, Any, int]] = [("", value, 0)]
    seen: set[int] = set()
    while stack and len(found) < REFERENCES_MAX:
        name, item, depth = stack.pop()
        if isinstance(item, (dict, list, tuple)):
            if depth < REFERENCE_DEPTH_MAX and id(item) not in seen:
                seen.add(id(item))
                pairs = item.items() if isinstance(item, dict) else ((name, part) for part in item)
                stack.extend((str(key), part, depth + 1) for key, part in pairs)
        elif isinstance(item, (str, int, float)) and not isinstance(item, bool) and str(item).strip():
            found.append((name, str(item)))
    return found


def _read(source: str, text: str) -> Any:
    structured = forms.structured(text, described=True)
    if structured is not text:
        return structured
    if source.endswith((".csv", ".tsv")):
        try:
            return list(csv.DictReader(io.StringIO(text), delimiter="\t" if source.endswith(".tsv") else ","))
        except csv.Error:
            return []
    return [line.strip() for line in text.splitlines()]
