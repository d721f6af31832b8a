"""What of several records a prompt means by what they lack or can hold: `that has no guide`, `free`, `for 120 people`. Pure.

Bounds on numbers and dates are `picking.py`'s. What is read here are fields that hold nothing, and fields that say how much
something holds; nobody who writes a text changes either. Errs towards nothing: what divides no list chooses nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from agent_os.guards.flow import lexicon
from agent_os.guards.flow.lexicon import bag
from agent_os.guards.flow.naming import field_words

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


def absences_in(text: str) -> frozenset[str]:
    """Return the nouns that a text says are not there (`no guide`, `without any receipts`), in the singular."""
    return frozenset(lexicon.singular(word.lower()) for word in _NONE.findall(text))


def asks_free(said: frozenset[str]) -> bool:
    """Return whether words ask for something that nobody has (`the first free slot`)."""
    return bool(said & _FREE)


def met(absent: frozenset[str], said: frozenset[str], empty: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Return the candidates that lack what the prompt says is not there, or what a free thing lacks; none where all do, or none.

    `empty` are the fields of each candidate that hold nothing, `said` the words of the prompt.
    """
    free = asks_free(said)
    lacking = frozenset(
        name
        for name, fields in empty.items()
        if any(field_words(field) & absent or (free and field_words(field) & _HELD) for field in fields)
    )
    return lacking if len(lacking) < len(empty) else frozenset()


def enough(asked: Iterable[float], numbers: Mapping[str, Mapping[str, float]]) -> list[frozenset[str]]:
    """Return, for each number asked for, the candidates that can hold as much (`capacity`) and need no more (`minimum`)."""
    found = []
    for number in asked:
        fitting = frozenset(
            name
            for name, fields in numbers.items()
            if all(
                value >= number
                if field_words(field) & _ENOUGH
                else value <= number
                if field_words(field) & _AT_MOST
                else True
                for field, value in fields.items()
            )
        )
        if 0 < len(fitting) < len(numbers):
            found.append(fitting)
    return found
