"""What the records that a call is about say of its other arguments: their own sums, and what they hold already. Pure.

A handle stands for a record of the service's. Where that has a sum of its own (`total`, `bid`), a call over another sum is not
what the user asked for, unless the request states it or has it worked out; and a change of a field to what it holds already
changes nothing. Threat: the right order with another order's sum, or with one that a stranger spelt so that nobody finds it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from agent_os.core.manifest import Role, ToolSpec
from agent_os.guards.flow.describing import RECORDS_MAX, numbers_of
from agent_os.guards.flow.evidence import Evidence, scalar_text
from agent_os.guards.flow.fields import is_code
from agent_os.guards.flow.knowledge import Knowledge, kind_of
from agent_os.guards.flow.leaves import Record
from agent_os.guards.flow.naming import field_words
from agent_os.guards.flow.scope import Leave
from agent_os.guards.flow.stated import MONEY
from agent_os.guards.flow.vouching import kind_of_argument


@dataclass(frozen=True, slots=True)
class Rows:
    """The records that the handles of one call stand for, and those in which a code of it stands."""

    evidence: Evidence
    records: tuple[Record, ...] = ()
    coded: tuple[Record, ...] = ()

    def hold(self, name: str, value: Any) -> bool:
        """Return whether a field of this name has this value already."""
        text = scalar_text(value)
        return bool(text) and any(scalar_text(part.fields.get(name)) == text for part in self._parts())

    def contradict(self, names: frozenset[str], number: float, leave: Leave, *, strange: bool) -> bool:
        """Return whether a sum of money is not that of these records, nor one that the request states or has worked out."""
        if not names & MONEY or number in leave.elsewhere | leave.spoken:
            return False
        found = {
            name: value
            for part in self._parts(coded=strange)
            for name, value in numbers_of(part).items()
            if isinstance(part.fields.get(name), (int, float)) or field_words(name) & MONEY
        }
        if not found or number in found.values() or leave.stated.has_number(names, number):
            return False
        if strange:
            return True  # whatever its own numbers are called
        own = {name for name in found if field_words(name) & MONEY}
        fields = self.evidence.fields_with(number)
        return bool(own) and (bool(fields & own) or not (fields or leave.stated.computes))

    def _parts(self, *, coded: bool = False) -> Iterable[Record]:
        return (part for record in (*self.records, *(self.coded if coded else ())) for part in record.family())


def rows_of(known: Knowledge, spec: ToolSpec, values: list[tuple[str, str, Any]]) -> Rows:
    """Return the records that the handles and codes among a call's arguments stand for; the first few."""
    records: dict[int, Record] = {}
    coded: dict[int, Record] = {}
    kind = kind_of(spec)
    for _, name, value in values[:RECORDS_MAX]:
        argument = known.argument(spec, name, value)
        handle = argument.role is Role.HANDLE
        if value and (handle or (argument.role is Role.AUTHORITY and is_code(value))):
            found = records if handle else coded
            for entry in known.evidence.entries(scalar_text(value), kind_of_argument(name, argument, kind))[
                :RECORDS_MAX
            ]:
                found[id(entry.leaf.record)] = entry.leaf.record
    return Rows(known.evidence, tuple(records.values()), tuple(coded.values()))
