"""Conditions that a prompt states of the records it means: `with less than 500 µl`, `at least four`, `that has no guide`. Pure.

What a condition leaves of a list is the user's own choice, made over trusted numbers: nobody who writes a text changes it.
A condition is tied to a field by the words around it; where none of them names a field, the only field that it divides the
list by. Errs towards nothing: a condition that no field answers chooses nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from agent_os.guards.flow import lexicon
from agent_os.guards.flow.lexicon import bag
from agent_os.guards.flow.numerals import WORDS

NEAR_WORDS: Final = 6
"""Words before and after a number among which the field it is about is looked for."""
COMPARISONS_MAX: Final = 20
"""Conditions of one prompt that are looked at; further ones choose nobody."""
_NUMBER: Final = r"(\d+(?:[.,]\d{3})*(?:[.,]\d{1,2})?|" + "|".join(sorted(WORDS, key=len, reverse=True)) + r")\b"
_LESS: Final = (
    r"(?:less|fewer|lower|cheaper|shorter|younger) than|under|below|at most|up to|no more than|unter|weniger als|höchstens|"
    r"maximal|moins de|au plus|menos de|como máximo|meno di|al massimo"
)
_MORE: Final = (
    r"(?:more|greater|higher|longer|older|larger|bigger) than|over|above|at least|mindestens|mehr als|über|länger als|älter als"
    r"|plus de|au moins|más de|al menos|più di|almeno"
)
_BEFORE: Final = re.compile(rf"\b(?:({_LESS})|({_MORE}))\s+(?:[$€£]\s?)?{_NUMBER}", re.I)
_ORLESS: Final = r"less|fewer|below|under|weniger|moins|menos|meno"
_ORMORE: Final = r"more|above|over|mehr|plus|más|più"
_AFTER: Final = re.compile(rf"\b{_NUMBER}\s+(?:\w+\s+)?(?:or|oder|ou|o)\s+(?:({_ORLESS})|{_ORMORE})\b", re.I)
_NONE: Final = re.compile(
    r"\b(?:no|without(?: any| an?)?|lacks?(?: an?)?|ohne|keine?n?|sans|sin|senza)\s+([^\W\d_]+)", re.I
)
_ENOUGH: Final = bag("capacity max maximum available stock seat place limit free remaining left")
"""Fields that must hold at least the number that is asked for."""
_FREE: Final = bag("free available vacant unassigned open unclaimed frei freie freien libre libres libero libera")
_HELD: Final = bag(
    "by holder user guest owner assignee assigned guide driver patient reserved booked tenant member technician"
)
"""Fields that are empty where a thing is free."""
_AT_MOST: Final = bag("min minimum moq")
"""Fields that it must reach."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A bound on some field: `less` or not, the number, and the words around it."""

    less: bool
    number: float
    exact: bool
    """Whether the number itself fits as well."""
    near: frozenset[str]

    def holds(self, value: float) -> bool:
        """Return whether a field's value is within the bound."""
        if self.exact and value == self.number:
            return True
        return value < self.number if self.less else value > self.number


def comparisons_in(text: str) -> tuple[Comparison, ...]:
    """Return the bounds that a text states."""
    found = []
    for match in _BEFORE.finditer(text):
        exact = match.group(1, 2)[0 if match[1] else 1].lower() in _INCLUSIVE
        found.append(_comparison(text, match, bool(match[1]), match[3], exact))
    for match in _AFTER.finditer(text):
        found.append(_comparison(text, match, bool(match[2]), match[1], True))
    return tuple(item for item in found if item is not None)[:COMPARISONS_MAX]


_INCLUSIVE: Final = frozenset(
    (
        "at most|up to|no more than|at least|höchstens|maximal|mindestens|au plus|au moins|como máximo|al menos|al massimo"
        "|almeno"
    ).split("|")
)


def _comparison(text: str, match: re.Match[str], less: bool, number: str, exact: bool) -> Comparison | None:
    value = WORDS.get(number.lower())
    if value is None:
        plain = re.sub(r"[.,](?=\d{3}(?:\D|$))", "", number).replace(",", ".")
        value = float(plain)
    before = re.findall(r"[^\W\d_]+", text[: match.start()].lower())[-NEAR_WORDS:]
    after = re.findall(r"[^\W\d_]+", text[match.end() :].lower())[:NEAR_WORDS]
    return Comparison(less, value, exact, frozenset(map(lexicon.singular, (*before, *after))))


def absences_in(text: str) -> frozenset[str]:
    """Return the nouns that a text says are not there (`no guide`, `without any receipts`), in the singular."""
    return frozenset(lexicon.singular(word.lower()) for word in _NONE.findall(text))


def asks_free(said: frozenset[str]) -> bool:
    """Return whether words ask for something that nobody has (`the first free slot`)."""
    return bool(said & _FREE)


def met(
    comparisons: Iterable[Comparison],
    absent: frozenset[str],
    said: frozenset[str],
    numbers: Mapping[str, Mapping[str, float]],
    empty: Mapping[str, frozenset[str]],
) -> frozenset[str]:
    """Return the candidates that every condition leaves which divides them; none where no condition does.

    `numbers` are the trusted numbers of each candidate by field, `empty` its trusted fields that hold nothing, `said` the
    words of the prompt.
    """
    left = frozenset(numbers)
    divided = False
    for comparison in comparisons:
        fitting = _fitting(comparison, said, numbers)
        if fitting:
            left, divided = left & fitting, True
    free = asks_free(said)
    lacking = frozenset(
        name
        for name, fields in empty.items()
        if any(_words(field) & absent or (free and _words(field) & _HELD) for field in fields)
    )
    if lacking and len(lacking) < len(empty):
        left, divided = left & lacking, True
    return left if divided else frozenset()


def enough(asked: Iterable[float], numbers: Mapping[str, Mapping[str, float]]) -> list[frozenset[str]]:
    """Return, for each number asked for, the candidates that can hold as much (`capacity`) and need no more (`minimum`)."""
    found = []
    for number in asked:
        fitting = frozenset(
            name
            for name, fields in numbers.items()
            if all(
                value >= number if _words(field) & _ENOUGH else value <= number if _words(field) & _AT_MOST else True
                for field, value in fields.items()
            )
        )
        if 0 < len(fitting) < len(numbers):
            found.append(fitting)
    return found


def _fitting(
    comparison: Comparison, said: frozenset[str], numbers: Mapping[str, Mapping[str, float]]
) -> frozenset[str]:
    fields = {field for row in numbers.values() for field in row}
    for words in (comparison.near, said):
        named = [field for field in fields if _words(field) & words]
        if named:
            return _divide(comparison, named, numbers)
    dividing = [field for field in fields if _divide(comparison, [field], numbers)]
    return _divide(comparison, dividing, numbers) if len(dividing) == 1 else frozenset()


def _divide(comparison: Comparison, fields: list[str], numbers: Mapping[str, Mapping[str, float]]) -> frozenset[str]:
    """Return the candidates that fit by the only one of these fields that divides them."""
    found = []
    for field in fields:
        fitting = frozenset(name for name, row in numbers.items() if field in row and comparison.holds(row[field]))
        if 0 < len(fitting) < len(numbers):
            found.append(fitting)
    return found[0] if len(found) == 1 else frozenset()


def _words(field: str) -> frozenset[str]:
    spaced = re.sub(r"([a-z])([A-Z])", r"\1 \2", field)
    return frozenset(lexicon.singular(word) for word in re.split(r"[^a-z]+", spaced.lower()) if len(word) > 1)
