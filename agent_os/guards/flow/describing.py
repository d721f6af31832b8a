"""What of a record the prompt speaks of, and which of several records it speaks of most. Pure.

A record is described by its short fields, trusted or not: a text could be stuffed with the prompt's words, a name hardly. What
is compared by size or state is read from trusted fields alone. Errs towards nothing: a tie describes nobody.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from agent_os.guards.flow import lexicon, normal
from agent_os.guards.flow.days import DAYPARTS, days_in, minute_of
from agent_os.guards.flow.leaves import Record, is_name
from agent_os.guards.flow.lexicon import bag
from agent_os.guards.flow.naming import field_words
from agent_os.guards.flow.prompt import STOP, Prompt
from agent_os.guards.flow.select import DATE_TEXT, number_of

_SAID: Final = bag(
    "body message text content comment note description reply answer remark memo reason feedback review bio about brief"
    " instruction"
)
"""Fields that hold what somebody said, however short."""
RECORDS_MAX: Final = 8
"""Records of one value that are looked at for its names."""


def hits_of(prompt: Prompt, record: Record) -> set[str]:
    """Return what of a record's short fields the prompt has: words, whole phrases (`=phrase`), numbers and days."""
    hits: set[str] = set()
    for part in record.family():
        hits |= _own_hits(prompt, part)
    return hits


def _own_hits(prompt: Prompt, record: Record) -> set[str]:
    hits: set[str] = set()
    for name, value in record.fields.items():
        if name in record.trusted and isinstance(value, (bool, int, float)):
            hits.update(_state(prompt, name, value))
        if isinstance(value, str):
            if not value or not is_name(value) or (name not in record.trusted and field_words(name) & _SAID):
                continue  # a text could be stuffed with the prompt's words
            if DATE_TEXT.match(value):
                hits.update(f"{month}/{day}" for month, day in days_in(value) & prompt.days)
                hits.update(_time_of_day(prompt, value))
                continue
            found = [word for word in prompt.describes(value) if not word.isdigit()]
            if name not in record.trusted:
                found = [word for word in found if not _idle(prompt, word, record)]
            hits.update(found)
            if found and len(value) > 2 and prompt.names(value):
                hits.add("=" + normal.strict(value))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            text = f"{value:g}"
            if len(text) > 1 and (text in prompt.words or f"{value:.2f}" in prompt.text):
                hits.add(text)
    return hits


def _idle(prompt: Prompt, word: str, record: Record) -> bool:
    """Return whether a word of a stranger's says nothing of his record: the request's verbs and words of choice, and what all
    of its kind are called (`cheapest offer, buy it` among `$.offers`).
    """
    kind = lexicon.singular(re.split(r"[^a-z]+", record.group.lower().rstrip("[*]"))[-1])
    return word in prompt.idle or lexicon.singular(word) == kind


def _state(prompt: Prompt, name: str, value: bool | float) -> set[str]:
    """Return what the prompt says of a flag or a count: `unhealthy` of `healthy: false`, `two approvals`."""
    words = [lexicon.singular(word) for word in re.split(r"[^a-z]+", name.lower()) if word]
    if not words:
        return set()
    if not isinstance(value, bool):
        return {f"{name}={value:g}"} if (words[-1], float(value)) in prompt.counted else set()
    said = prompt.words
    flag = words[-1]
    unsaid = {f"{before}{flag}" for before in ("un", "in", "dis", "non")} & said or f"not {flag}" in prompt.text
    stated = flag in said and flag not in lexicon.VERB_GROUPS and f"not {flag}" not in prompt.text
    return {f"{name}={value}"} if (stated if value else unsaid) else set()


def _time_of_day(prompt: Prompt, stamp: str) -> set[str]:
    """Return what of the prompt's times of day a date and time lies in."""
    minute = minute_of(stamp)
    if minute is None:
        return set()
    found = {f"@{minute}"} if minute in prompt.minutes else set()
    parts = DAYPARTS.keys() & prompt.words
    return found | {f"@{part}" for part in parts if DAYPARTS[part][0] <= minute < DAYPARTS[part][1]}


def density(prompt: Prompt, records: Sequence[Record]) -> float:
    """Return how much of what the fields say is the prompt's: to tell records that share the same words apart."""
    best = 0.0
    for record in records[:RECORDS_MAX]:
        for value in record.fields.values():
            if isinstance(value, str) and is_name(value) and not DATE_TEXT.match(value):
                found = set(normal.words(value))
                hits = sum(word in prompt.words for word in found)
                best = max(best, hits * hits / len(found)) if found else best
    return best


def is_object(prompt: Prompt, words: set[str]) -> bool:
    meant = words - STOP
    return bool(meant) and max(map(len, meant)) > 2 and any(words <= direct for direct in prompt.directs)


def proper_words(prompt: Prompt, value: str, records: Sequence[Record]) -> set[str]:
    found = set(normal.words(value))
    for record in records[:RECORDS_MAX]:
        for name in record.trusted:
            item = record.fields.get(name)
            if isinstance(item, str) and is_name(item):
                found.update(normal.words(item))
    return found & prompt.proper


def numbers_of(record: Record) -> dict[str, float]:
    """Return what a record can be ordered by: its trusted numbers and dates by field, and the sizes of its lists."""
    if record.numbers is None:
        numbers = {f"{name}.count": float(count) for name, count in record.lists.items()}
        for name in record.trusted:
            number = number_of(record.fields.get(name))
            if number is not None:
                numbers[name] = number
        record.numbers = numbers
    return record.numbers


def empty_of(records: Sequence[Record]) -> frozenset[str]:
    """Return the fields of a value's records that hold nothing: null, an empty text, none of something."""
    return frozenset(
        name
        for record in records[:RECORDS_MAX]
        for part in record.family()
        for name, value in part.fields.items()
        if value in (None, "", 0) and not isinstance(value, bool)
    )


def within(hit: str, words: frozenset[str]) -> bool:
    """Return whether a hit stands among the words of a clause."""
    return hit in words or (hit[:1] == "=" and words.issuperset(normal.words(hit)))


def winner_of(described: Mapping[Any, set[str]]) -> Any:
    """Return whose description scores above all others, or None; a word counts the more the fewer candidates share it."""
    spread: Counter[str] = Counter()
    for hits in described.values():
        spread.update(hits)
    total = len(described)
    scores = {
        name: math.fsum(1.0 / spread[word] for word in hits if spread[word] < total or total == 1)
        for name, hits in described.items()
    }
    best = max(scores.values(), default=0.0)
    found = [name for name, score in scores.items() if score == best] if best > 0 else []
    return found[0] if len(found) == 1 else None


_LETTERS: Final = frozenset({"email", "message"})
"""What is a mail to one tool is a message to the next."""
_UNKIND: Final = frozenset({"record", "object", "item", "entry", "row", "resource", "element"})
"""Words of tools that hand out things of any kind (`query_records`)."""


def same_kind(made: frozenset[str], used: frozenset[str]) -> bool:
    """Return whether an id handed out for one kind of thing may be used for another; one of no kind may."""
    if not made or not used or made & _UNKIND:
        return True
    return bool(made & used) or bool(made & _LETTERS and used & _LETTERS)
