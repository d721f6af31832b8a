"""Selection over labelled records: operators for programs, and the check that a choice was the one asked for. Pure.

`argmin`, `argmax`, `filter_by`, `first`, `count` and `join_on` run over values whose selecting fields are trusted, so that
what they return is the runtime's choice and not a text's: "book the cheapest" needs no approval. They refuse to
choose by an untrusted field. `is_extreme` recognises such a choice after the fact, when a model made it.
"""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from agent_os.core.errors import ActionError
from agent_os.core.label import Integrity, Label, Labeled
from agent_os.guards.flow import lexicon
from agent_os.guards.flow.lexicon import bag

_NUMBER: Final = re.compile(r"^\s*[^\w-]{0,3}(-?\d[\d,]*(?:\.\d+)?)\s*(?:%|[A-Za-z€$£]{0,4})\s*$")
DATE_TEXT: Final = re.compile(r"^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?$")
_CLOCK: Final = re.compile(r"^\s*(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?\s*$")
_EPOCH: Final = datetime.datetime(1970, 1, 1)
_PRICES: Final = bag("price cost fee rate amount total fare charge rent")
_TIMES: Final = bag(
    "added placed opened posted published begin begins booked filed date time timestamp"
    " created updated modified start end at day when sent received due from until expire expiry expiration valid deadline"
    " departure depart arrival arrive asked requested submitted reported opened touched reachable slot"
)
_SPANS: Final = bag("eta duration lead time days hours minutes delivery transit length")
BESIDE_WORDS: Final = 2
"""Words after a word of choice that may name what it is about."""
ALIKE_CHARS_MIN: Final = 3
_BY: Final = bag("by nach")
_LINKS: Final = bag("the a an of to in on at for and or with by is are that this one ones it from as")
_BOUNDING: Final = bag("at no not")
_IN_TIME: Final = bag("latest newest oldest earliest soonest nearest first newer older later earlier sooner")
_SCORES: Final = bag("rating score stars rank review ratings")


@dataclass(frozen=True, slots=True)
class Choice:
    """The words of a prompt, read for choices (`the largest file`, `the cheapest`)."""

    words: tuple[str, ...]

    def directions(self) -> dict[str, str]:
        """Return word of choice -> `most`, `least`; empty when the prompt leaves nothing to choose."""
        return _directions(self.words)

    def sells(self) -> bool:
        """Return whether the best price is the highest: who sells, or is paid."""
        return bool({"sell", "sells", "selling", "pays", "paying"} & set(self.words))

    def refers(self) -> bool:
        """Return whether a choice is made among what was spoken of before (`the emptiest one`)."""
        chosen = self.directions()
        return any(word in chosen and after in ("one", "ones") for word, after in itertools.pairwise(self.words))


@lru_cache(maxsize=256)
def _directions(words: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for index, word in enumerate(words):
        following = words[index + 1] if index + 1 < len(words) else ""
        before = words[index - 1] if index else ""
        if before in _BOUNDING or following == "than":
            continue  # `at most four days`, `later than noon`: a bound, not a choice
        if word in lexicon.DEAREST:
            found[word] = "least" if before == "least" else "most"
        elif word in lexicon.MOST and following not in lexicon.DEAREST and word != "last":
            found[word] = "most"
        elif word in ("last", "recent") or (word in lexicon.MOST and following == "recent"):
            found["latest"] = "most"
        elif word in lexicon.LEAST and following not in lexicon.DEAREST:
            found[word] = "least"
    return found


def is_extreme(value: Any, table: Mapping[str, Mapping[Any, float]], choice: Choice) -> bool:
    """Return whether `value` has the extreme number that some word of choice asks for, in a field that can answer it."""
    return value in extremes(table, choice)


def extremes(table: Mapping[str, Mapping[Any, float]], choice: Choice) -> frozenset[Any]:
    """Return the values with the extreme number that some word of choice asks for, in a field that can answer it.

    `table` is field -> value -> number. A field whose name stands beside the word (`the most likes`, `the lowest bidder`)
    answers before any other.
    """
    found: set[Any] = set()
    for word, direction in choice.directions().items():
        beside = _beside(word, choice.words)
        named = [field for field in table if alike(_field_words(field), beside)]
        for field in named or [
            field
            for field in table
            if _answers(word, _names(field)) or (word == "best" and choice.sells() and _names(field) & _PRICES)
        ]:
            numbers = table[field]
            best = (max if direction == "most" else min)(numbers.values())
            if len(set(numbers.values())) > 1:
                found.update(value for value, number in numbers.items() if number == best)
    return frozenset(found)


def _beside(word: str, words: tuple[str, ...]) -> frozenset[str]:
    """Return the words straight after a word of choice, and those after `by` or `nach`."""
    found: set[str] = set()
    chosen = False
    for index, each in enumerate(words):
        if each == word or (word == "latest" and each in ("last", "recent")):
            found.update(words[index + 1 : index + 1 + BESIDE_WORDS])
            chosen = True
        elif chosen and each in _BY and index + 1 < len(words):
            found.add(words[index + 1])
    return frozenset(form for one in found for form in (one, lexicon.singular(one))) - _LINKS


def _names(field: str) -> set[str]:
    names = set(re.split(r"[^a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", field).lower()))
    return names | {lexicon.singular(name) for name in names}


def _field_words(field: str) -> set[str]:
    """Return the words of a field's own name, without the tool it came from and the mark of a counted list."""
    parts = field.split(".")
    own = parts[-2] if parts[-1] == "count" and len(parts) > 1 else parts[-1]
    return {name for name in _names(own) if len(name) > 2} - {"rows", "row"}


def alike(names: Iterable[str], nouns: Iterable[str]) -> bool:
    """Return whether a field's name and the user's words share a word, in one form or another (`bid`, `bidder`)."""
    return any(
        name == noun
        or (min(len(name), len(noun)) >= ALIKE_CHARS_MIN and (noun.startswith(name) or name.startswith(noun)))
        for name in names
        for noun in nouns
    )


def _answers(word: str, names: set[str]) -> bool:
    if word in ("cheapest", "cheaper", *lexicon.DEAREST):
        return bool(names & _PRICES)
    if word in ("fastest", "quickest", "faster", "quicker"):
        return bool(names & _SPANS)
    if word in _IN_TIME:
        return bool(names & _TIMES) or "id" in names
    if word in ("best", "worst", "greatest"):
        return bool(names & _SCORES)
    return not names & {"id"}


def number_of(value: Any) -> float | None:
    """Return what a field can be ordered by: a number, an amount with its unit, or a date; else None."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        return float(value)
    if not isinstance(value, str) or len(value) > 40:
        return None
    match = _NUMBER.match(value)
    if match:
        return float(match[1].replace(",", ""))
    if _CLOCK.match(value):
        hour, minute = value.strip().split(":")[:2]
        return float(int(hour) * 60 + int(minute))
    if DATE_TEXT.match(value.strip()):
        try:
            moment = datetime.datetime.fromisoformat(value.strip().replace("Z", "+00:00")).replace(tzinfo=None)
            return (moment - _EPOCH).total_seconds()
        except ValueError:
            return None
    return None


Row = Mapping[str, Labeled[Any]]


def argmax(rows: Sequence[Row], by: str) -> Row:
    """Return the row whose trusted field `by` is largest. Raises ActionError for no rows or an untrusted field."""
    return max(_checked(rows, by), key=lambda row: _key(row, by))


def argmin(rows: Sequence[Row], by: str) -> Row:
    """Return the row whose trusted field `by` is smallest. Raises ActionError for no rows or an untrusted field."""
    return min(_checked(rows, by), key=lambda row: _key(row, by))


def filter_by(rows: Sequence[Row], by: str, keep: Callable[[Any], bool]) -> list[Row]:
    """Return the rows whose trusted field `by` satisfies a predicate of the program."""
    return [row for row in _checked(rows, by, empty=True) if keep(row[by].value)]


def first(rows: Sequence[Row]) -> Row:
    """Return the first row. Raises ActionError for none."""
    if not rows:
        raise ActionError("there are no rows to choose from", field="rows")
    return rows[0]


def count(rows: Sequence[Row]) -> Labeled[int]:
    """Return how many rows there are: a trusted number when each row's handle is."""
    return Labeled(len(rows), Label.join_all(labeled.label for row in rows for labeled in list(row.values())[:1]))


def join_on(left: Sequence[Row], right: Sequence[Row], by: str) -> list[Row]:
    """Return rows of both sides that agree in the trusted field `by`; the right side's fields win."""
    known = {row[by].value: row for row in _checked(right, by, empty=True)}
    return [{**row, **known[row[by].value]} for row in _checked(left, by, empty=True) if row[by].value in known]


def _checked(rows: Iterable[Row], by: str, *, empty: bool = False) -> list[Row]:
    found = list(rows)
    if not found and not empty:
        raise ActionError("there are no rows to choose from", field="rows")
    for row in found:
        if by not in row:
            raise ActionError("a row lacks this field", field=by)
        if row[by].label.integrity is not Integrity.TRUSTED:
            raise ActionError("a choice by an untrusted field is the text's, not yours", field=by)
    return found


def _key(row: Row, by: str) -> Any:
    number = number_of(row[by].value)
    return row[by].value if number is None else number
