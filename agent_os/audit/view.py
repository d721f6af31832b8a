"""What a log says of actions: intents with their outcomes, and what was interrupted. Pure.

An intent is *finished* when its outcome stands in the same log, *interrupted* when the writer started anew before it
did, else *under way*. Threat: an effect that may have happened while its process died, taken for one that did not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

FINISHED, INTERRUPTED, UNDER_WAY = "finished", "interrupted", "under way"


@dataclass(slots=True)
class Performed:
    """One action that was let through: its intent, its outcome if there is one, and its state."""

    intent: Mapping[str, Any]
    outcome: Mapping[str, Any] | None = None
    state: str = UNDER_WAY


@dataclass(slots=True)
class Overview:
    """Actions by reference in order, and counts of record types; feed it records of one or several writers."""

    actions: dict[str, Performed] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    _open: dict[str, dict[str, Performed]] = field(default_factory=dict)

    def add(self, record: Mapping[str, Any]) -> None:
        """Take one record in, in the order of its writer's log."""
        kind, writer = str(record.get("type", "?")), str(record.get("writer", ""))
        self.counts[kind] = self.counts.get(kind, 0) + 1
        waiting = self._open.setdefault(writer, {})
        reference = str(record.get("ref", ""))
        if kind == "intent":
            waiting[reference] = self.actions[reference] = Performed(record)
        elif kind == "outcome" and reference in waiting:
            performed = waiting.pop(reference)
            performed.outcome, performed.state = record, FINISHED
        elif kind == "audit.started":
            for performed in waiting.values():
                performed.state = INTERRUPTED
            waiting.clear()

    @staticmethod
    def of(records: Iterable[Mapping[str, Any]]) -> Overview:
        """Return the overview of records."""
        overview = Overview()
        for record in records:
            overview.add(record)
        return overview

    def interrupted(self) -> list[Performed]:
        """Return the actions whose outcome is not known and never will be."""
        return [performed for performed in self.actions.values() if performed.state == INTERRUPTED]
