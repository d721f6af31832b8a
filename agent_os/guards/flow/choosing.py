"""Which of the values of one column the prompt means: named, described best, spoken of, lacking something, the extreme. Pure.

A `Column` is what was learnt of a column up to now, read in the light of the prompt as it is now. Everything that does not depend
on the value asked about is worked out once and kept until either grows, so that a choice among thousands of rows costs once
and not with every call. Errs towards nothing: a tie means nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from agent_os.guards.flow import conditions, normal
from agent_os.guards.flow.describing import (
    density,
    empty_of,
    hits_of,
    is_object,
    numbers_of,
    proper_words,
    winner_of,
    within,
)
from agent_os.guards.flow.leaves import Record
from agent_os.guards.flow.prompt import STOP, Prompt
from agent_os.guards.flow.select import extremes

DENSITY_CANDIDATES_MAX: Final = 50
"""Records with the same hits that are compared more closely; among more, a person chooses."""
Clauses = tuple[frozenset[str], ...]


@dataclass(slots=True)
class Candidate:
    """One value of a column: the records it stands in and what calls about it returned."""

    place: str
    """Its column."""
    records: list[Record] = field(default_factory=list)
    hits: set[str] = field(default_factory=set)
    seen: set[int] = field(default_factory=set)


class Column:
    """The candidates of one column, as long as neither they nor the prompt change."""

    def __init__(
        self,
        prompt: Prompt,
        candidates: Mapping[str, Candidate],
        about: Mapping[str, list[Record]],
        about_numbers: Mapping[str, dict[str, float]],
    ) -> None:
        self.candidates = candidates
        self._prompt, self._about, self._about_numbers = prompt, about, about_numbers
        self._by_clause: dict[frozenset[str], Any] = {}
        self._extremes: dict[frozenset[str], frozenset[Any]] = {}

    def __len__(self) -> int:
        return len(self.candidates)

    @cached_property
    def described(self) -> dict[str, set[str]]:
        """What of each candidate, and of what was returned about it, the prompt speaks of."""
        return {value: self._described(value, candidate) for value, candidate in self.candidates.items()}

    def _described(self, value: str, candidate: Candidate) -> set[str]:
        hits = {*candidate.hits, *self._prompt.describes(value)}
        for record in self._about.get(value, ()):
            hits |= hits_of(self._prompt, record)
        return hits

    @cached_property
    def _winner(self) -> Any:
        return winner_of(self.described)

    def best(self, value: str, *, handle: bool) -> bool:
        """Return whether the prompt's words describe this candidate better than every other."""
        if value == self._winner:
            return True
        if not handle or not self.described.get(value) or len(self) > DENSITY_CANDIDATES_MAX:
            return False
        peers = [name for name, hits in self.described.items() if hits == self.described[value]]
        if len(peers) < 2 or any(hits > self.described[value] for hits in self.described.values()):
            return False
        own = density(self._prompt, self.candidates[value].records)
        return all(density(self._prompt, self.candidates[name].records) < own for name in peers if name != value)

    def best_by(self, value: str, words: frozenset[str]) -> bool:
        """Return whether the words of one clause describe this candidate better than every other."""
        if len(self) < 2:
            return False
        if words not in self._by_clause:
            self._by_clause[words] = winner_of(
                {name: {hit for hit in hits if within(hit, words)} for name, hits in self.described.items()}
            )
        return bool(self._by_clause[words] == value)

    @cached_property
    def best_record(self) -> Any:
        """The id of the record that the prompt's words describe better than every other; None where there is none."""
        records = {id(row): row for candidate in self.candidates.values() for row in candidate.records}
        return winner_of({key: hits_of(self._prompt, row) for key, row in records.items()})

    def of_record(self, record: Record) -> int:
        """Return how many of the candidates stand in a record itself."""
        return sum(any(own is record for own in candidate.records) for candidate in self.candidates.values())

    def written(self, clauses: Clauses) -> set[str]:
        """Return the ids among the candidates that stand in a clause of the request itself."""
        return {value for value in self._written if any(set(normal.words(value)) <= clause for clause in clauses)}

    @cached_property
    def _written(self) -> list[str]:
        if not 1 < len(self) <= DENSITY_CANDIDATES_MAX:
            return []
        ids = (value for value in self.candidates if len(value) >= ID_CHARS_MIN and any(map(str.isdigit, value)))
        return [value for value in ids if not value.isdigit() and self._prompt.names(value)]

    def told(self, clauses: Clauses) -> set[str]:
        """Return the candidates that bear a whole name which a clause of the request has, where not all of them do."""
        found = {
            value
            for value, names in self._whole_names.items()
            if any(words <= clause for clause in clauses for words in names)
        }
        return found if len(found) < len(self) else set()

    @cached_property
    def _whole_names(self) -> dict[str, list[set[str]]]:
        found: dict[str, list[set[str]]] = {}
        for value, candidate in self.candidates.items():
            for hit in candidate.hits:
                if hit[0] == "=" and (words := set(normal.words(hit)) - STOP):
                    found.setdefault(value, []).append(words)
        return found

    @cached_property
    def named(self) -> set[str]:
        """The candidates that alone bear a proper name of the prompt, or a whole name that it wants something done to."""
        if len(self) > DENSITY_CANDIDATES_MAX:
            return set()
        return self._alone_proper() | self._alone_called()

    def _alone_proper(self) -> set[str]:
        if not self._prompt.proper:
            return set()
        names = {name: proper_words(self._prompt, name, one.records) for name, one in self.candidates.items()}
        spread = Counter(word for found in names.values() for word in found)
        found = {value for value, words in names.items() if any(spread[word] == 1 for word in words)}
        whole = {value for value in found if any(" " in hit for hit in self.candidates[value].hits if hit[0] == "=")}
        return whole or found  # `Katri Salo wrote about the Lindh case`: a name in full says who is meant

    def _alone_called(self) -> set[str]:
        names = {value: {hit for hit in one.hits if hit[0] == "="} for value, one in self.candidates.items()}
        spread = Counter(hit for found in names.values() for hit in found)
        return {
            value
            for value, found in names.items()
            for hit in found
            if spread[hit] == 1 and is_object(self._prompt, set(normal.words(hit)))
        }

    @cached_property
    def spoken_of(self) -> set[str]:
        """The candidates any of whose fields has a proper name of the prompt, where not all have one."""
        proper = self._prompt.proper
        return self._some({value for value, hits in self.described.items() if hits & proper})

    @cached_property
    def surely_spoken_of(self) -> set[str]:
        """The same by fields that a stranger cannot write, and by whole names: the others are not meant by `all`."""
        proper = self._prompt.proper
        return self._some(
            {
                value
                for value, one in self.candidates.items()
                if proper_words(self._prompt, value, one.records)
                or proper & {hit[1:] for hit in one.hits if hit[0] == "="}
            }
            if proper
            else set()
        )

    def _some(self, found: set[str]) -> set[str]:
        return found if len(found) < len(self) else set()

    @cached_property
    def best_described(self) -> frozenset[str]:
        """The candidates that share the most words with the prompt: `the cheapest cable` chooses among cables."""
        most = max(map(len, self.described.values()), default=0)
        return frozenset(name for name, hits in self.described.items() if len(hits) == most and most > 0)

    @cached_property
    def left(self) -> frozenset[str]:
        """The candidates that lack what the prompt says is not there; none where it says no such thing."""
        prompt = self._prompt
        if not (prompt.absent or conditions.asks_free(prompt.words)) or len(self) < 2:
            return frozenset()
        empty = {name: empty_of(candidate.records) for name, candidate in self.candidates.items()}
        return conditions.met(prompt.absent, prompt.words, empty)

    def extreme(self, value: str) -> bool:
        """Return whether a word of choice points to this candidate: among all, the best described, or those that will do."""
        if not self._prompt.choice.directions():
            return False
        apart = 0 < len(self.best_described) < len(self) and self._prompt.choice.refers()
        among = [frozenset() if apart else frozenset(self.candidates), self.best_described, self.left, *self._enough]
        return any(value in self.extremes_of(chosen) for chosen in among)

    def extremes_of(self, chosen: frozenset[str]) -> frozenset[Any]:
        """Return those of some candidates to which a word of choice in the prompt points by some trusted number."""
        if len(chosen) < 2:
            return frozenset()
        if chosen not in self._extremes:
            table: dict[str, dict[str, float]] = {}
            for name in chosen:
                for attribute, number in self._numbers[name].items():
                    table.setdefault(attribute, {})[name] = number
            whole = {attribute: numbers for attribute, numbers in table.items() if len(numbers) == len(chosen)}
            self._extremes[chosen] = extremes(whole, self._prompt.choice)
        return self._extremes[chosen]

    @cached_property
    def _enough(self) -> list[frozenset[str]]:
        """The candidates that can hold what is asked for, for each number of the prompt."""
        return conditions.enough(self._prompt.numbers, self._numbers) if len(self) > 1 else []

    @cached_property
    def _numbers(self) -> dict[str, dict[str, float]]:
        found = {}
        for value, candidate in self.candidates.items():
            numbers: dict[str, float] = {"rows.count": float(len(candidate.records))}
            if candidate.records:
                for part in reversed(candidate.records[0].family()):
                    numbers.update(numbers_of(part))
                numbers.update(numbers_of(candidate.records[0]))
            numbers.update(self._about_numbers.get(value, {}))
            found[value] = numbers
        return found


ID_CHARS_MIN: Final = 3
"""Shortest id that is looked for in the prompt."""
