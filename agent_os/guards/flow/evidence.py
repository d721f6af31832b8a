"""What may vouch for an authority argument: trusted result fields, own creations, known principals. Pure.

A trusted field vouches only when the prompt *leads to it*. Each trusted value is a candidate of its column (all values
that came from the same field of the same tool), described by the short fields of the records it stands in and by the
results of calls that were made about it. The prompt leads to a candidate when it is the only one of a lookup keyed
by the prompt, when the prompt's words describe it better than any other candidate, when the prompt asks for all of
them, or when it is the extreme that a word of choice in the prompt points to (`select.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agent_os.core.label import Integrity
from agent_os.guards.flow import normal
from agent_os.guards.flow.choosing import DENSITY_CANDIDATES_MAX, Candidate, Column
from agent_os.guards.flow.describing import hits_of, same_kind
from agent_os.guards.flow.leaves import NAME_CHARS_MAX, Leaf, Record, Scalar
from agent_os.guards.flow.numerals import spellings
from agent_os.guards.flow.picking import NOTHING, Kept, Row, kept, wish_of
from agent_os.guards.flow.prompt import STOP, Prompt

CANDIDATES_MAX: Final = 5000
"""Candidates of one column that are compared; in a larger column only a unique keyed lookup vouches."""
SECRETS_MAX: Final = 5000
"""Secret values of one session that are looked for; beyond, everything that leaves counts as secret."""


@dataclass(slots=True)
class Entry:
    """A trusted value, or one the session created, and the record it stands in."""

    leaf: Leaf
    keyed: bool
    """The call was led by the prompt: each of its selectors came from it, or it has none."""
    keys: int
    """How many of its selectors came from the prompt's own words."""
    objects: frozenset[str]
    tool: str
    early: bool = False
    """It was looked up before anything untrusted was read: nobody but the user can have led to the call."""


class Evidence:
    """Trusted values of one session. Owned by its session; grows only."""

    def __init__(self, prompt: Prompt, own: str = "") -> None:
        self._prompt = prompt
        self._own = frozenset({normal.strict(own), "me"})
        self._entries: dict[str, list[Entry]] = {}
        self._columns: dict[str, dict[str, Candidate]] = {}
        self._by_value: dict[str, list[Candidate]] = {}
        self._about: dict[str, list[Record]] = {}
        self._about_numbers: dict[str, dict[str, float]] = {}
        self._created: dict[str, list[Entry]] = {}
        self._known: set[str] = set()
        self._group_sizes: dict[tuple[int, str], set[int]] = {}
        self._grown: Counter[str] = Counter()
        """Counts what was learnt of each column: what was worked out before that is worked out again."""
        self._held: dict[tuple[str, bool], tuple[int, str, Column, Kept]] = {}

    def rebuild(self) -> None:
        """Describe every candidate again, after the prompt grew."""
        for column in self._columns.values():
            for candidate in column.values():
                candidate.hits = set()
                for record in candidate.records:
                    candidate.hits |= hits_of(self._prompt, record)

    def learn(self, entry: Entry, tool: str) -> None:
        """Take a trusted leaf of a call that was carried out."""
        leaf = entry.leaf
        value = normal.strict(str(leaf.value))
        if not value or value in self._own:
            return  # the principal is nobody's choice
        self._entries.setdefault(value, []).append(entry)
        self._group_sizes.setdefault((leaf.record.call, leaf.record.group), set()).add(id(leaf.record))
        place = f"{tool}{leaf.column}"
        self._grown[place] += 1
        column = self._columns.setdefault(place, {})
        candidate = column.get(value)
        if candidate is None:
            candidate = column[value] = Candidate(place)
            self._by_value.setdefault(value, []).append(candidate)
        _stand_in(candidate, leaf.record)

    def describe(self, records: list[Record]) -> None:
        """Compute what describes the candidates of a call, once its records are complete."""
        for record in records:
            hits = hits_of(self._prompt, record)
            for value in record.fields.values():
                if value is not None and not isinstance(value, bool) and len(str(value)) <= NAME_CHARS_MAX:
                    for candidate in self._by_value.get(normal.strict(str(value)), ()):
                        _stand_in(candidate, record)
                        candidate.hits |= hits
                        self._grown[candidate.place] += 1

    def know(self, value: str) -> None:
        """Take a principal the user has dealt with before."""
        self._known.add(normal.strict(value))

    def knows(self, value: str) -> bool:
        """Return whether this principal is known and the prompt names or describes it."""
        strict = normal.strict(value)
        if strict not in self._known:
            return False
        own = {word for word in normal.words(value.partition("@")[0]) if len(word) > 1}
        return bool(self._prompt.words & own)  # the house an address belongs to names nobody in it

    def create(self, entry: Entry) -> None:
        """Take a value that an allowed effect of this session brought into being."""
        self._created.setdefault(normal.strict(str(entry.leaf.value)), []).append(entry)

    def created(self, value: str, objects: frozenset[str]) -> bool:
        """Return whether this session itself created what the value stands for."""
        return any(same_kind(entry.objects, objects) for entry in self._created.get(normal.strict(value), ()))

    def about(self, value: str, tool: str, records: list[Record], numbers: dict[str, float]) -> None:
        """Take what a call about a value returned: its records describe that value from now on."""
        key = normal.strict(value)
        known = self._about.setdefault(key, [])
        self._grown.update(candidate.place for candidate in self._by_value.get(key, ()))
        if len(known) < CANDIDATES_MAX:
            known.extend(records[: CANDIDATES_MAX - len(known)])
        self._about_numbers.setdefault(key, {}).update({f"{tool}.{name}": number for name, number in numbers.items()})

    def entries(self, value: str, objects: frozenset[str]) -> list[Entry]:
        """Return the trusted occurrences of a value that fit the kind of thing the argument names."""
        return [entry for entry in self._entries.get(normal.strict(value), ()) if same_kind(entry.objects, objects)]

    def fields_with(self, number: float) -> set[str]:
        """Return the names of the trusted fields that hold a number anywhere."""
        forms = {str(number), *spellings(number)}
        return {entry.leaf.name for form in forms for entry in self._entries.get(form, ())}

    def leads_to(self, value: str, entry: Entry, focus: tuple[frozenset[str], ...] = (), many: bool = False) -> str:
        """Return how the prompt leads to this occurrence of a value (`lookup`, `words`, `bound`, `all`, `extreme`), or nothing.

        What a bound of the prompt excludes (`picking.py`) is not what was asked for, whatever else speaks for it. `focus`
        are the words of the clauses that ask for the call, each tried by itself; `many`: they ask for several.
        """
        prompt, record = self._prompt, entry.leaf.record
        strict = normal.strict(value)
        rows = self._group_sizes.get((record.call, record.group), set())
        column, picked = self._column(f"{entry.tool}{entry.leaf.column}")
        if strict in picked.excluded:
            return ""
        if strict not in (written := column.written(focus)) and written:
            return ""  # the request has the id of another row of this list
        if picked.excluded and len(column) == 1 and strict in picked.meant:
            return "bound"
        only = len(rows) == 1 and (entry.leaf.in_list or column.of_record(record) <= 1)
        if ((entry.keyed and entry.keys) or entry.early) and only:
            return "lookup"
        if len(column) > CANDIDATES_MAX:
            return ""
        if entry.leaf.in_list and column.best_record == id(record):
            return "words"
        if column.best(strict, handle=entry.leaf.result is not None and entry.leaf.result.handle):
            return "words"
        if any(column.best_by(strict, words) for words in focus):
            return "words"
        chooses = prompt.choice.directions().keys() & prompt.words  # who asks for the earliest one does not ask for all
        one = bool(chooses) and (not focus or any(chooses & words for words in focus))
        repeats = prompt.each if many else not focus and (prompt.each or (prompt.repeats and not chooses))
        several = repeats or (many and not one)
        if strict in picked.meant and picked.excluded and several:
            return "all"
        told = column.told(focus)
        if strict in told and several:
            return "all"
        if told and strict not in told:
            several = False  # `remove what promo4u has posted` is all of theirs
        if strict in column.named:
            return "words"
        left = column.left
        if strict in left and (several or len(left) == 1):
            return "condition"
        if left and strict not in left:
            return ""
        if column.surely_spoken_of and strict not in column.surely_spoken_of:
            return ""
        if several and entry.keyed and not column.named and (repeats or entry.keys):
            return "all"
        if several and strict in column.best_described and len(column.best_described) < len(column):
            return "all"
        return "extreme" if column.extreme(strict) else ""

    def outdone(self, value: str, focus: tuple[frozenset[str], ...]) -> bool:
        """Return whether a word of choice points to another candidate than this one, which the prompt names as one of several.

        Not where a clause of the request itself names it (`focus`), nor an id: who writes one means that one.
        """
        strict = normal.strict(value)
        if any(char.isdigit() for char in strict) or not focus or not self._prompt.choice.directions():
            return False
        if any(set(normal.words(value)) <= words for words in focus):
            return False
        for entry in self._entries.get(strict, ()):
            column, _ = self._column(f"{entry.tool}{entry.leaf.column}", whole=True)
            if 1 < len(column) <= DENSITY_CANDIDATES_MAX and strict not in column.extremes_of(
                frozenset(column.candidates)
            ):
                best = column.extremes_of(frozenset(column.spoken_of or column.candidates) | {strict})
                if best and strict not in best:
                    return True
        return False

    def _column(self, place: str, *, whole: bool = False) -> tuple[Column, Kept]:
        """Return what stands to choose in a column, and what the prompt's bounds say of it; kept until either grows.

        `whole`: with what the bounds exclude.
        """
        held = self._held.get((place, whole))
        if held is not None and held[0] == self._grown[place] and held[1] == self._prompt.raw:
            return held[2], held[3]
        candidates: Mapping[str, Candidate] = self._columns.get(place, {})
        picked = NOTHING if whole else self._keeps(candidates)
        if picked.excluded:
            candidates = {name: candidate for name, candidate in candidates.items() if name not in picked.excluded}
        column = Column(self._prompt, candidates, self._about, self._about_numbers)
        self._held[place, whole] = (self._grown[place], self._prompt.raw, column, picked)
        return column, picked

    def _keeps(self, column: Mapping[str, Candidate]) -> Kept:
        """Return which values of a column the prompt's bounds exclude and mean: by every record that they stand in."""
        wish = wish_of(self._prompt.raw)
        if not wish:
            return NOTHING
        rows: dict[tuple[str, int], Row] = {}
        for value, candidate in column.items():
            for index, record in enumerate((*candidate.records, *self._about.get(value, ()))):
                rows[value, index] = record.fields, frozenset(record.trusted)
        by_row = kept(wish, rows)
        out, meant = {value for value, _ in by_row.excluded}, {value for value, _ in by_row.meant}
        return Kept(frozenset(out - meant), frozenset(meant - out))

    def called(self, record: Record) -> set[str]:
        """Return the prompt's words among the names in a record, words that say nothing aside."""
        return {hit for hit in hits_of(self._prompt, record) if hit[:1].isalpha() and hit not in STOP}


def _stand_in(candidate: Candidate, record: Record) -> None:
    if id(record) not in candidate.seen and len(candidate.records) < CANDIDATES_MAX:
        candidate.seen.add(id(record))
        candidate.records.append(record)


def scalar_text(value: Scalar) -> str:
    """Return a scalar as the text an argument would hold."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def trusted(leaf: Leaf) -> bool:
    """Return whether a leaf may vouch: trusted, and not merely an identity."""
    if leaf.result is not None and leaf.result.identity:
        return leaf.label.integrity is Integrity.TRUSTED or "@" not in str(leaf.value)
    return leaf.label.integrity is Integrity.TRUSTED
