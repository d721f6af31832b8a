"""What may vouch for an authority argument: trusted result fields, own creations, known principals. Pure.

A trusted field vouches only when the prompt *leads to it*. Each trusted value is a candidate of its column (all values
that came from the same field of the same tool), described by the short fields of the records it stands in and by the
results of calls that were made about it. The prompt leads to a candidate when it is the only one of a lookup keyed
by the prompt, when the prompt's words describe it better than any other candidate, when the prompt asks for all of
them, or when it is the extreme that a word of choice in the prompt points to (`select.py`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from agent_os.core.label import Integrity
from agent_os.guards.flow import conditions, normal
from agent_os.guards.flow.describing import (
    clear_winner,
    density,
    empty_of,
    hits_of,
    is_object,
    numbers_of,
    proper_words,
    same_kind,
    within,
)
from agent_os.guards.flow.leaves import NAME_CHARS_MAX, Leaf, Record, Scalar
from agent_os.guards.flow.numerals import spellings
from agent_os.guards.flow.picking import NOTHING, Kept, Row, kept, wish_of
from agent_os.guards.flow.prompt import STOP, Prompt
from agent_os.guards.flow.select import is_extreme

CANDIDATES_MAX: Final = 5000
"""Candidates of one column that are compared; in a larger column only a unique keyed lookup vouches."""
SECRETS_MAX: Final = 5000
"""Secret values of one session that are looked for; beyond, everything that leaves counts as secret."""

ID_CHARS_MIN: Final = 3
DENSITY_CANDIDATES_MAX: Final = 50
"""Records with the same hits that are compared more closely; among more, a person chooses."""


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


@dataclass(slots=True)
class Candidate:
    """One value of a column: the records it stands in and what calls about it returned."""

    value: str
    records: list[Record] = field(default_factory=list)
    hits: set[str] = field(default_factory=set)
    seen: set[int] = field(default_factory=set)
    said: set[str] | None = None
    """What describes it, once somebody asked; forgotten when more is known of it, so that a call rescans nothing."""


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
        self._grown = 0
        """Counts what was learnt: what was worked out before that is worked out again."""
        self._kept: dict[str, tuple[int, str, Kept]] = {}

    def rebuild(self) -> None:
        """Describe every candidate again, after the prompt grew."""
        for column in self._columns.values():
            for candidate in column.values():
                candidate.hits, candidate.said = set(), None
                for record in candidate.records:
                    candidate.hits |= hits_of(self._prompt, record)

    def learn(self, entry: Entry, tool: str) -> None:
        """Take a trusted leaf of a call that was carried out."""
        leaf = entry.leaf
        value = normal.strict(str(leaf.value))
        if not value or value in self._own:
            return  # the principal is nobody's choice
        self._grown += 1
        self._entries.setdefault(value, []).append(entry)
        self._group_sizes.setdefault((leaf.record.call, leaf.record.group), set()).add(id(leaf.record))
        column = self._columns.setdefault(f"{tool}{leaf.column}", {})
        candidate = column.get(value)
        if candidate is None:
            candidate = column[value] = Candidate(value)
            self._by_value.setdefault(value, []).append(candidate)
        _stand_in(candidate, leaf.record)

    def describe(self, records: list[Record]) -> None:
        """Compute what describes the candidates of a call, once its records are complete."""
        self._grown += 1
        for record in records:
            hits = hits_of(self._prompt, record)
            for value in record.fields.values():
                if value is not None and not isinstance(value, bool) and len(str(value)) <= NAME_CHARS_MAX:
                    for candidate in self._by_value.get(normal.strict(str(value)), ()):
                        _stand_in(candidate, record)
                        candidate.hits |= hits
                        candidate.said = None

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
        self._grown += 1
        key = normal.strict(value)
        known = self._about.setdefault(key, [])
        for candidate in self._by_value.get(key, ()):
            candidate.said = None
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
        place = f"{entry.tool}{entry.leaf.column}"
        column = self._columns.get(place, {})
        picked = self._keeps(place, column)
        if strict in picked.excluded:
            return ""
        if strict not in (written := self._written(column, focus)) and written:
            return ""  # the request has the id of another row of this list
        if picked.excluded:
            column = {name: candidate for name, candidate in column.items() if name not in picked.excluded}
            if len(column) == 1 and strict in picked.meant:
                return "bound"
        if (
            ((entry.keyed and entry.keys) or entry.early)
            and len(rows) == 1
            and (entry.leaf.in_list or len(self._values(column, record)) <= 1)
        ):
            return "lookup"
        if len(column) > CANDIDATES_MAX:
            return ""
        if entry.leaf.in_list and self._best_record(record, column):
            return "words"
        if self._best(strict, column, handle=entry.leaf.result is not None and entry.leaf.result.handle):
            return "words"
        if any(self._best_by(strict, column, words) for words in focus):
            return "words"
        chooses = prompt.choice.directions().keys() & prompt.words  # who asks for the earliest one does not ask for all
        one = bool(chooses) and (not focus or any(chooses & words for words in focus))
        repeats = prompt.each if many else not focus and (prompt.each or (prompt.repeats and not chooses))
        many = many and not one
        if strict in picked.meant and picked.excluded and (many or repeats):
            return "all"
        told = self._told(column, focus)
        if strict in told and (many or repeats):
            return "all"
        if told and strict not in told:
            many = repeats = False  # `remove what promo4u has posted` is all of theirs
        named = self._named(column) | self._called(column)
        if strict in named:
            return "words"
        left = self._left(column)
        if strict in left and (repeats or many or len(left) == 1):
            return "condition"
        if left and strict not in left:
            return ""
        spoken_of = self._spoken_of(column, vouched=True)
        if spoken_of and strict not in spoken_of:
            return ""
        if entry.keyed and not named and (repeats or (many and entry.keys)):
            return "all"
        if repeats or many:
            meant = self._best_described(column)
            if strict in meant and len(meant) < len(column):
                return "all"
        described = self._best_described(column)
        apart = 0 < len(described) < len(column)
        choices = [{} if apart and prompt.choice.refers() else column, described, {name: column[name] for name in left}]
        if any(self._extreme(strict, chosen) for chosen in (*choices, *self._enough(column))):
            return "extreme"
        return ""

    def outdone(self, value: str, focus: tuple[frozenset[str], ...]) -> bool:
        """Return whether a word of choice points to another candidate than this one, which the prompt names as one of several.

        Not where a clause of the request itself names it (`focus`), nor an id: who writes one means that one.
        """
        strict = normal.strict(value)
        if any(char.isdigit() for char in strict):
            return False
        if (
            not focus
            or not self._prompt.choice.directions()
            or any(set(normal.words(value)) <= words for words in focus)
        ):
            return False
        for entry in self._entries.get(strict, ()):
            column = self._columns.get(f"{entry.tool}{entry.leaf.column}", {})
            if 1 < len(column) <= DENSITY_CANDIDATES_MAX and not self._extreme(strict, column):
                named = {name: column[name] for name in (self._spoken_of(column) or set(column)) | {strict}}
                if not self._extreme(strict, named) and any(self._extreme(name, named) for name in named):
                    return True
        return False

    def _written(self, column: dict[str, Candidate], focus: tuple[frozenset[str], ...]) -> set[str]:
        """Return the ids of a column that stand in a clause of the request itself."""
        if not 1 < len(column) <= DENSITY_CANDIDATES_MAX:
            return set()
        ids = (value for value in column if len(value) >= ID_CHARS_MIN and any(map(str.isdigit, value)))
        named = [value for value in ids if not value.isdigit() and self._prompt.names(value)]
        return {value for value in named if any(set(normal.words(value)) <= clause for clause in focus)}

    def _keeps(self, place: str, column: dict[str, Candidate]) -> Kept:
        """Return which values of a column the prompt's bounds exclude and mean: by every record that they stand in."""
        text = self._prompt.raw
        wish = wish_of(text)
        if not wish:
            return NOTHING
        held = self._kept.get(place)
        if held is not None and held[:2] == (self._grown, text):
            return held[2]
        rows: dict[tuple[str, int], Row] = {}
        for value, candidate in column.items():
            for index, record in enumerate((*candidate.records, *self._about.get(value, ()))):
                rows[value, index] = record.fields, frozenset(record.trusted)
        by_row = kept(wish, rows)
        out, meant = {value for value, _ in by_row.excluded}, {value for value, _ in by_row.meant}
        found = Kept(frozenset(out - meant), frozenset(meant - out))
        self._kept[place] = (self._grown, text, found)
        return found

    def called(self, record: Record) -> set[str]:
        """Return the prompt's words among the names in a record, words that say nothing aside."""
        return {hit for hit in hits_of(self._prompt, record) if hit[:1].isalpha() and hit not in STOP}

    def _values(self, column: dict[str, Candidate], record: Record) -> list[str]:
        return [value for value, candidate in column.items() if any(own is record for own in candidate.records)]

    def _described(self, value: str, candidate: Candidate) -> set[str]:
        if candidate.said is None:
            hits = set(candidate.hits)
            hits.update(self._prompt.describes(value))
            for record in self._about.get(value, ()):
                hits |= hits_of(self._prompt, record)
            candidate.said = hits
        return candidate.said

    def _best(self, value: str, column: dict[str, Candidate], handle: bool) -> bool:
        """Return whether the prompt's words describe this candidate better than every other."""
        described = {name: self._described(name, candidate) for name, candidate in column.items()}
        if clear_winner(described, value):
            return True
        if not handle or not described.get(value) or len(column) > DENSITY_CANDIDATES_MAX:
            return False
        peers = [name for name, hits in described.items() if hits == described[value]]
        if len(peers) < 2 or any(hits > described[value] for hits in described.values()):
            return False
        own = density(self._prompt, column[value].records)
        return all(density(self._prompt, column[name].records) < own for name in peers if name != value)

    def _best_by(self, value: str, column: dict[str, Candidate], words: frozenset[str]) -> bool:
        """Return whether the words of one clause describe this candidate better than every other."""
        described = {
            name: {hit for hit in self._described(name, candidate) if within(hit, words)}
            for name, candidate in column.items()
        }
        return len(column) > 1 and clear_winner(described, value)

    def _best_record(self, record: Record, column: dict[str, Candidate]) -> bool:
        """Return whether the prompt's words describe this record better than every other of the column."""
        records = {id(row): row for candidate in column.values() for row in candidate.records}
        described = {key: hits_of(self._prompt, row) for key, row in records.items()}
        return clear_winner(described, id(record))

    def _named(self, column: dict[str, Candidate]) -> set[str]:
        """Return the candidates whose trusted fields hold a proper name of the prompt that no other candidate has."""
        if len(column) > DENSITY_CANDIDATES_MAX or not self._prompt.proper:
            return set()
        names = {value: proper_words(self._prompt, value, candidate.records) for value, candidate in column.items()}
        spread = Counter(word for found in names.values() for word in found)
        found = {value for value, words in names.items() if any(spread[word] == 1 for word in words)}
        whole = {value for value in found if any(" " in hit for hit in column[value].hits if hit[0] == "=")}
        return whole or found  # `Katri Salo wrote about the Lindh case`: a name in full says who is meant

    def _spoken_of(self, column: dict[str, Candidate], *, vouched: bool = False) -> set[str]:
        """Return the candidates any of whose fields has a proper name of the prompt, where not all have one: the others are not
        meant by `all`. `vouched`: only fields that a stranger cannot write, and whole names.
        """
        proper = self._prompt.proper

        def spoken(value: str, candidate: Candidate) -> bool:
            if not vouched:
                return bool(self._described(value, candidate) & proper)
            whole = {hit[1:] for hit in candidate.hits if hit[0] == "="}
            return bool(proper_words(self._prompt, value, candidate.records) or whole & proper)

        found = {value for value, candidate in column.items() if spoken(value, candidate)}
        return found if len(found) < len(column) else set()

    def _told(self, column: dict[str, Candidate], focus: tuple[frozenset[str], ...]) -> set[str]:
        """Return the candidates that bear a whole name which a clause of the request has, where not all of them do."""
        found = {
            value
            for value, candidate in column.items()
            for hit in candidate.hits
            if hit[0] == "="
            and any(words and words <= clause for clause in focus for words in [set(normal.words(hit)) - STOP])
        }
        return found if len(found) < len(column) else set()

    def _called(self, column: dict[str, Candidate]) -> set[str]:
        """Return the candidates that alone bear a whole name that the prompt calls something it wants done by."""
        if len(column) > DENSITY_CANDIDATES_MAX:
            return set()
        names = {value: {hit for hit in candidate.hits if hit[0] == "="} for value, candidate in column.items()}
        spread = Counter(hit for found in names.values() for hit in found)
        return {
            value
            for value, found in names.items()
            for hit in found
            if spread[hit] == 1 and is_object(self._prompt, set(normal.words(hit)))
        }

    def _best_described(self, column: dict[str, Candidate]) -> dict[str, Candidate]:
        """Return the candidates that share the most words with the prompt: `the cheapest cable` chooses among cables."""
        sizes = {name: len(self._described(name, candidate)) for name, candidate in column.items()}
        most = max(sizes.values(), default=0)
        return {name: column[name] for name, size in sizes.items() if size == most and most > 0}

    def _extreme(self, value: str, column: dict[str, Candidate]) -> bool:
        """Return whether a word of choice in the prompt points to this candidate by some trusted number."""
        directions = self._prompt.choice.directions()
        if not directions or len(column) < 2 or value not in column:
            return False
        table: dict[str, dict[str, float]] = {}
        for name, candidate in column.items():
            for attribute, number in self._numbers(name, candidate).items():
                table.setdefault(attribute, {})[name] = number
        whole = {attribute: numbers for attribute, numbers in table.items() if len(numbers) == len(column)}
        return is_extreme(value, whole, self._prompt.choice)

    def _left(self, column: dict[str, Candidate]) -> frozenset[str]:
        """Return the candidates that lack what the prompt says is not there; none where it says no such thing."""
        prompt = self._prompt
        if not (prompt.absent or conditions.asks_free(prompt.words)) or len(column) < 2:
            return frozenset()
        empty = {name: empty_of(candidate.records) for name, candidate in column.items()}
        return conditions.met(prompt.absent, prompt.words, empty)

    def _enough(self, column: dict[str, Candidate]) -> list[dict[str, Candidate]]:
        """Return the candidates that can hold what is asked for, for each number of the prompt."""
        if not self._prompt.choice.directions() or len(column) < 2:
            return []
        numbers = {name: self._numbers(name, candidate) for name, candidate in column.items()}
        return [{name: column[name] for name in fit} for fit in conditions.enough(self._prompt.numbers, numbers)]

    def _numbers(self, value: str, candidate: Candidate) -> dict[str, float]:
        numbers: dict[str, float] = {"rows.count": float(len(candidate.records))}
        if candidate.records:
            for part in reversed(candidate.records[0].family()):
                numbers.update(numbers_of(part))
            numbers.update(numbers_of(candidate.records[0]))
        numbers.update(self._about_numbers.get(value, {}))
        return numbers


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
