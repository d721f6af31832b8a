"""What may vouch for an authority argument: trusted result fields, own creations, known principals. Pure.

A trusted field vouches only when the prompt *leads to it*. Each trusted value is a candidate of its column (all values
that came from the same field of the same tool), described by the short fields of the records it stands in and by the
results of calls that were made about it. The prompt leads to a candidate when it is the only one of a lookup keyed
by the prompt, when the prompt's words describe it better than any other candidate, when the prompt asks for all of
them, or when it is the extreme that a word of choice in the prompt points to (`select.py`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent_os.core.label import Integrity
from agent_os.guards.flow import lexicon, normal
from agent_os.guards.flow.leaves import NAME_CHARS_MAX, Leaf, Record, Scalar, is_name
from agent_os.guards.flow.lexicon import bag
from agent_os.guards.flow.scope import days_in
from agent_os.guards.flow.select import DATE_TEXT, Choice, is_extreme, number_of

CANDIDATES_MAX: Final = 5000
"""Candidates of one column that are compared; in a larger column only a unique keyed lookup vouches."""
SECRETS_MAX: Final = 5000
"""Secret values of one session that are looked for; beyond, everything that leaves counts as secret."""

DENSITY_CANDIDATES_MAX: Final = 50
"""Records with the same hits that are compared more closely; among more, a person chooses."""

STOP: Final = bag(
    "the a an of to in on at for and or with by is are was be it this that my me i you your please can could from as"
    " have has had do does did not all any what who when where which how there their them they he she his her we our"
    " us if then also so will would should about into than com www http https org net new"
)


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


@dataclass(slots=True)
class Candidate:
    """One value of a column: the records it stands in and what calls about it returned."""

    value: str
    records: list[Record] = field(default_factory=list)
    hits: set[str] = field(default_factory=set)
    seen: set[int] = field(default_factory=set)


_UNITS: Final = (
    "euros?|eur|usd|dollars?|pounds?|gbp|percent|days?|weeks?|months?|years?|minutes?|hours?|times|people|persons?|guests?"
    "|items?|copies|kg|km|miles|degrees"
)


_CAPITAL: Final = re.compile(r"(?<![\w.@/-])[A-Z][^\W\d_]{2,}")


class Prompt:
    """The user's words, ready for strict comparison."""

    def __init__(self) -> None:
        self.text = ""
        self.raw = ""
        self.words: frozenset[str] = frozenset()
        self.hosts: frozenset[str] = frozenset()
        self.choice = Choice(())
        self.repeats = False
        self.days: frozenset[tuple[int, int]] = frozenset()
        self.proper: frozenset[str] = frozenset()
        """Words written with a capital that are no verbs: likely names."""

    def extend(self, text: str) -> None:
        """Add a message of the user."""
        text = normal.spaced_sentences(text)
        self.text = f"{self.text}\n{normal.strict(text)}" if self.text else normal.strict(text)
        words = normal.words(text)
        self.words = self.words | {*words, *map(lexicon.singular, words)} - STOP
        self.raw = f"{self.raw}\n{text}"
        self.hosts = self.hosts | {normal.strict_host(url) for url in normal.urls(text)} - {""}
        self.days = self.days | days_in(text)
        capital = {word.lower() for word in _CAPITAL.findall(text)} - STOP - lexicon.VERB_GROUPS.keys()
        self.proper = self.proper | capital
        self.choice = Choice((*self.choice.words, *words))
        self.repeats = self.repeats or bool(lexicon.UNIVERSAL & set(words))

    def names(self, value: str) -> bool:
        """Return whether the prompt names exactly this value, as a word or phrase of its own."""
        wanted = normal.strict(value)
        if not wanted:
            return False
        start = self.text.find(wanted)
        while start >= 0:
            if _bounded(self.text, start, start + len(wanted)):
                return True
            start = self.text.find(wanted, start + 1)
        return False

    def vouches(self, value: str, *, exact: bool = False) -> bool:
        """Return whether the prompt names this value as one that has a meaning of its own.

        Not for words that every sentence has, nor for a number that counts or measures something; `exact` also asks for the
        same capital letters (passwords, paths).
        """
        wanted = normal.strict(value)
        if not self.names(wanted) or (exact and value.strip() not in self.raw):
            return False
        if wanted in STOP or wanted in lexicon.UNIVERSAL:
            return any(f"{mark}{wanted}" in self.text for mark in "#@'\"`“")
        if wanted.isdigit() and len(wanted) <= 4:
            return not re.search(rf"(?:[$€£]\s?{wanted}\b|\b{wanted}\s?(?:{_UNITS})\b|\b{wanted}\s?%)", self.text)
        return True

    def names_id(self, value: str) -> bool:
        """Return whether the prompt names a short id as an id (`id 13`, `#13`, `number '13'`), not merely as a number."""
        wanted = normal.strict(value)
        start = self.text.find(wanted) if wanted else -1
        while start >= 0:
            before = self.text[max(0, start - 14) : start].rstrip("'\"`(: ")
            if _bounded(self.text, start, start + len(wanted)) and before.endswith(
                ("id", "ids", "#", "no", "no.", "number", "nr", "nr.", "ref", "reference", "code")
            ):
                return True
            start = self.text.find(wanted, start + 1)
        return False

    def covers(self, value: str) -> bool:
        """Return whether every content word of a search text is the prompt's."""
        found = [word for word in normal.words(value) if word not in STOP]
        return bool(found) and all(word in self.words or lexicon.singular(word) in self.words for word in found)


def _bounded(text: str, start: int, end: int) -> bool:
    before = text[start - 1] if start else " "
    after = text[end : end + 2]
    if before in "@#" and (start < 2 or not text[start - 2].isalnum()):
        before = " "  # a handle: `@maria`, `#general`
    if before.isalnum() or before in "_@" or (before in ".-+" and start > 1 and text[start - 2].isalnum()):
        return False
    if not after:
        return True
    if after[0].isalnum() or after[0] in "_@":
        return False
    return not (after[0] in ".-+" and len(after) > 1 and after[1].isalnum())


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

    def rebuild(self) -> None:
        """Describe every candidate again, after the prompt grew."""
        for column in self._columns.values():
            for candidate in column.values():
                candidate.hits = set()
                for record in candidate.records:
                    candidate.hits |= self._hits(record)

    def learn(self, entry: Entry, tool: str) -> None:
        """Take a trusted leaf of a call that was carried out."""
        leaf = entry.leaf
        value = normal.strict(str(leaf.value))
        if not value or value in self._own:
            return  # the principal is nobody's choice
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
        for record in records:
            hits = self._hits(record)
            for value in record.fields.values():
                if value is not None and not isinstance(value, bool) and len(str(value)) <= NAME_CHARS_MAX:
                    for candidate in self._by_value.get(normal.strict(str(value)), ()):
                        _stand_in(candidate, record)
                        candidate.hits |= hits

    def know(self, value: str) -> None:
        """Take a principal the user has dealt with before."""
        self._known.add(normal.strict(value))

    def knows(self, value: str) -> bool:
        """Return whether this principal is known and the prompt names or describes it."""
        strict = normal.strict(value)
        return strict in self._known and bool(self._prompt.words & set(normal.words(value)))

    def create(self, entry: Entry) -> None:
        """Take a value that an allowed effect of this session brought into being."""
        self._created.setdefault(normal.strict(str(entry.leaf.value)), []).append(entry)

    def created(self, value: str, objects: frozenset[str]) -> bool:
        """Return whether this session itself created what the value stands for."""
        return any(_same_kind(entry.objects, objects) for entry in self._created.get(normal.strict(value), ()))

    def about(self, value: str, tool: str, records: list[Record], numbers: dict[str, float]) -> None:
        """Take what a call about a value returned: its records describe that value from now on."""
        key = normal.strict(value)
        known = self._about.setdefault(key, [])
        if len(known) < CANDIDATES_MAX:
            known.extend(records[: CANDIDATES_MAX - len(known)])
        self._about_numbers.setdefault(key, {}).update({f"{tool}.{name}": number for name, number in numbers.items()})

    def entries(self, value: str, objects: frozenset[str]) -> list[Entry]:
        """Return the trusted occurrences of a value that fit the kind of thing the argument names."""
        return [entry for entry in self._entries.get(normal.strict(value), ()) if _same_kind(entry.objects, objects)]

    def leads_to(self, value: str, entry: Entry) -> str:
        """Return how the prompt leads to this occurrence of a value (`lookup`, `words`, `all`, `extreme`), or nothing."""
        prompt, record = self._prompt, entry.leaf.record
        strict = normal.strict(value)
        rows = self._group_sizes.get((record.call, record.group), set())
        column = self._columns.get(f"{entry.tool}{entry.leaf.column}", {})
        if (
            entry.keyed
            and entry.keys
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
        named = self._named(column)
        if strict in named:
            return "words"
        if prompt.repeats and entry.keyed and not named:
            return "all"
        if self._extreme(strict, column) or self._extreme(strict, self._best_described(column)):
            return "extreme"
        return ""

    def _values(self, column: dict[str, Candidate], record: Record) -> list[str]:
        return [value for value, candidate in column.items() if any(own is record for own in candidate.records)]

    def _hits(self, record: Record) -> set[str]:
        """Return what of a record's short fields the prompt has: words, whole phrases (`=phrase`), numbers and days."""
        hits: set[str] = set()
        prompt = self._prompt
        for value in record.fields.values():
            if isinstance(value, str):
                if not value or not is_name(value):
                    continue  # a text could be stuffed with the prompt's words
                if DATE_TEXT.match(value):
                    hits.update(f"{month}/{day}" for month, day in days_in(value) & prompt.days)
                    continue
                found = [word for word in normal.words(value) if word in prompt.words and not word.isdigit()]
                hits.update(found)
                if found and len(value) > 2 and prompt.names(value):
                    hits.add("=" + normal.strict(value))
            elif isinstance(value, (int, float)) and not isinstance(value, bool):
                text = f"{value:g}"
                if len(text) > 1 and (text in prompt.words or f"{value:.2f}" in prompt.text):
                    hits.add(text)
        return hits

    def _density(self, candidate: Candidate) -> float:
        """Return how much of what the fields say is the prompt's: to tell records that share the same words apart."""
        best = 0.0
        for record in candidate.records[:8]:
            for value in record.fields.values():
                if isinstance(value, str) and is_name(value) and not DATE_TEXT.match(value):
                    found = set(normal.words(value))
                    hits = sum(word in self._prompt.words for word in found)
                    best = max(best, hits * hits / len(found)) if found else best
        return best

    def _described(self, value: str, candidate: Candidate) -> set[str]:
        hits = set(candidate.hits)
        hits.update(word for word in normal.words(value) if word in self._prompt.words)
        for record in self._about.get(value, ()):
            hits |= self._hits(record)
        return hits

    def _best(self, value: str, column: dict[str, Candidate], handle: bool) -> bool:
        """Return whether the prompt's words describe this candidate better than every other."""
        described = {name: self._described(name, candidate) for name, candidate in column.items()}
        if _clear_winner(described, value):
            return True
        if not handle or not described.get(value) or len(column) > DENSITY_CANDIDATES_MAX:
            return False
        peers = [name for name, hits in described.items() if hits == described[value]]
        if len(peers) < 2 or any(hits > described[value] for hits in described.values()):
            return False
        own = self._density(column[value])
        return all(self._density(column[name]) < own for name in peers if name != value)

    def _best_record(self, record: Record, column: dict[str, Candidate]) -> bool:
        """Return whether the prompt's words describe this record better than every other of the column."""
        records = {id(row): row for candidate in column.values() for row in candidate.records}
        described = {key: self._hits(row) for key, row in records.items()}
        return _clear_winner(described, id(record))

    def _named(self, column: dict[str, Candidate]) -> set[str]:
        """Return the candidates whose trusted fields hold a proper name of the prompt that no other candidate has."""
        if len(column) > DENSITY_CANDIDATES_MAX or not self._prompt.proper:
            return set()
        names = {value: self._proper(value, candidate) for value, candidate in column.items()}
        spread = Counter(word for found in names.values() for word in found)
        return {value for value, found in names.items() if any(spread[word] == 1 for word in found)}

    def _proper(self, value: str, candidate: Candidate) -> set[str]:
        found = set(normal.words(value))
        for record in candidate.records[:8]:
            for name in record.trusted:
                item = record.fields.get(name)
                if isinstance(item, str) and is_name(item):
                    found.update(normal.words(item))
        return found & self._prompt.proper

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
        for attribute, numbers in table.items():
            if len(numbers) == len(column) and is_extreme(value, attribute, numbers, self._prompt.choice):
                return True
        return False

    def _numbers(self, value: str, candidate: Candidate) -> dict[str, float]:
        numbers: dict[str, float] = {"rows.count": float(len(candidate.records))}
        if candidate.records:
            numbers.update(_record_numbers(candidate.records[0]))
        numbers.update(self._about_numbers.get(value, {}))
        return numbers


def _record_numbers(record: Record) -> dict[str, float]:
    if record.numbers is None:
        numbers = {f"{name}.count": float(count) for name, count in record.lists.items()}
        for name in record.trusted:
            number = number_of(record.fields.get(name))
            if number is not None:
                numbers[name] = number
        record.numbers = numbers
    return record.numbers


def _clear_winner(described: Mapping[Any, set[str]], wanted: Any) -> bool:
    """Return whether one description scores above all others; a word counts the more the fewer candidates share it."""
    if wanted not in described:
        return False
    spread: Counter[str] = Counter()
    for hits in described.values():
        spread.update(hits)
    total = len(described)

    def score(hits: set[str]) -> float:
        return sum(1.0 / spread[word] for word in hits if spread[word] < total or total == 1)

    own = score(described[wanted])
    if own <= 0:
        return False
    return all(score(hits) < own for name, hits in described.items() if name != wanted)


def _stand_in(candidate: Candidate, record: Record) -> None:
    if id(record) not in candidate.seen and len(candidate.records) < CANDIDATES_MAX:
        candidate.seen.add(id(record))
        candidate.records.append(record)


def _same_kind(made: frozenset[str], used: frozenset[str]) -> bool:
    return not made or not used or bool(made & used)


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
