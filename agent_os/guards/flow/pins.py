"""Whether a call says otherwise than the request it is done for: another day, time, amount, state or text. Pure.

The request is the prompt's (`scope.Leave`), the call the agent's. What the request leaves open stays open. What names a
receiver or a thing is not looked at here: nothing but a voucher helps it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from agent_os.core.manifest import Argument, Effect, Role, ToolSpec
from agent_os.guards.flow import normal
from agent_os.guards.flow.days import minute_of, minutes_in, month_of, readings, weekday_of, within_days
from agent_os.guards.flow.evidence import scalar_text
from agent_os.guards.flow.lexicon import bag
from agent_os.guards.flow.naming import field_words, profile
from agent_os.guards.flow.opposites import OPPOSITES, opposed, said, stems, undone
from agent_os.guards.flow.rows import Rows
from agent_os.guards.flow.scope import Leave
from agent_os.guards.flow.select import number_of
from agent_os.guards.flow.stated import CURRENCIES, MONEY, numbers_in

STATE_WORDS_MAX: Final = 3
"""A payload of more words is a text, not a state; one that is meant as text already with two."""
STATE_CHARS_MAX: Final = 40

_SETTING: Final = bag("update change modify edit set patch adjust")
WORD_CHARS_MIN: Final = 4
"""Letters that two words begin with alike, to count as the same in two forms."""
TOLD_WORDS_MIN: Final = 3
TOLD_CHARS_MAX: Final = 4000
"""Characters of a text whose sentences are compared with what a stranger said."""

_PROSE: Final = bag(
    "body message text content comment note subject description reply answer summary mail email post title"
)
"""Arguments whose values are carried and not set: what they say may come from anywhere."""

_CARRIED: Final = _PROSE - bag("title subject")
_RELAYED: Final = bag(
    "summary summarise summarize summarised summarized forward content contents report copy quote translate translation list"
    " details information info findings results what says said whatever which based mentioned"
    " zusammenfassung zusammen résumé resumen riassunto"
)
"""The request wants something passed on that was read."""
_DEFERS: Final = bag("accordingly according per laut entsprechend gemäß selon según secondo")
"""The request says that something read tells what to change."""
_WIDENS: Final = bag(
    "public publicly anyone everyone everybody world external anonymous force forced override bypass skip permanent permanently"
    " hard recursive cascade purge admin superuser root sudo edit writable all"
)
"""Flags that let more happen, or more people in, than a call without them."""
_GUARDS: Final = bag(
    "private secure verify verification require required review confirm confirmation encrypt encrypted protect protected validate"
)
"""Flags that hold something back while they are set."""

Value = tuple[str, str, Any, Argument]
"""Pointer, name, value and role of an argument."""
Strange = Callable[[str | float], bool]


def contradictions(
    leave: Leave, values: list[Value], strange: Strange, spec: ToolSpec, rows: Rows, prompt: frozenset[str]
) -> Iterator[str]:
    """Yield the pointers of arguments that contradict what the request states (nothing: the call as a whole).

    `strange` says whether a value stands in untrusted text and not in the prompt; `rows` are the records the call is about,
    `prompt` all words of the user's.
    """
    used = {
        number for _, _, value, argument in values if argument.role is not Role.PAYLOAD for number in _numbers(value)
    }
    pays, changes = spec.effect is Effect.PAY, bool(profile(spec).verbs & _SETTING)
    told = changes and not leave.words & _DEFERS
    texts: list[str] = []
    clocks: list[tuple[str, frozenset[int]]] = []
    for pointer, name, value, argument in values:
        if argument.role is Role.HANDLE or value is None or value == "":
            continue
        names = field_words(name)
        if _currency_contradicts(leave, names, value):
            yield pointer
        elif argument.role is Role.AUTHORITY and not isinstance(value, bool):
            texts += [value] if isinstance(value, str) else []
            if argument.type == "number" and leave.stated.numbers:
                number = number_of(value)
                if number is not None and number not in leave.elsewhere | leave.spoken and strange(number):
                    yield pointer  # whatever record has that number as well
            elif isinstance(value, str) and argument.type in ("any", "name") and _state_contradicts(leave, value):
                yield pointer  # whatever vouches for it
        elif isinstance(value, bool):
            if _flag_contradicts(leave, names, value):
                yield pointer
        elif argument.type == "date":
            if _day_contradicts(leave, value):
                yield pointer
            elif isinstance(value, str) and not value.endswith("Z"):
                minute = minute_of(value)
                clock = minutes_in(value) if minute is None else frozenset({minute})
                clocks += [(pointer, clock)] if clock else []
        elif (number := _number(argument, value)) is not None:
            if _number_contradicts(leave, names, number, used, strange, rows, pays=pays, changes=changes):
                yield pointer
            elif isinstance(value, str):
                texts.append(value)
        elif isinstance(value, str):
            texts.append(value)
            if _text_contradicts(leave, names, value, argument, strange, spec, prompt):
                yield pointer
            elif told and not names & _CARRIED and len(value) <= STATE_CHARS_MAX and strange(value):
                if not rows.hold(name, value):
                    yield pointer  # a change to a stranger's words, and not to what it is already
    if leave.stated.minutes and clocks and not any(clock & leave.stated.minutes for _, clock in clocks):
        yield clocks[0][0]
    if leave.stated.contradicts_text(texts):
        yield ""


def _number(argument: Argument, value: Any) -> float | None:
    return number_of(value) if argument.type in ("number", "any") or not isinstance(value, str) else None


def _number_contradicts(
    leave: Leave, names: frozenset[str], number: float, used: set[float], strange: Strange, rows: Rows, *,
    pays: bool, changes: bool,
) -> bool:  # fmt: skip
    known = leave.elsewhere | leave.spoken
    if leave.stated.contradicts_number(names, number, known):
        return True
    if number in known or leave.stated.has_number(names, number):
        return False
    foreign = strange(number)
    if not changes and rows.contradict(names, number, leave, strange=foreign):
        return True
    stated = (leave.elsewhere if pays or names & MONEY else leave.stated.numbers) - used
    # the request has numbers of its own, or does not speak of what is changed, and this is a stranger's
    return foreign and bool(stated or (changes and not names & leave.words))


def _text_contradicts(
    leave: Leave, names: frozenset[str], value: str, argument: Argument, strange: Strange, spec: ToolSpec,
    prompt: frozenset[str],
) -> bool:  # fmt: skip
    setting = (
        len(value) <= STATE_CHARS_MAX and " " not in value and argument.type != "id"
    )  # an id names, it sets nothing
    if setting and (names & leave.words - _PROSE or (spec.derived and _is_code(value))) and strange(value):
        return True  # the request speaks of this setting, or it is some code, and the value is a stranger's
    content = leave.stated.content
    if (
        content
        and (argument.type == "text" or names & _PROSE)
        and _told_otherwise(content | leave.words, value, strange)
    ):
        return True
    tells = not content and spec.effect is Effect.SEND and names & _PROSE and not prompt & _RELAYED
    if tells and _told_otherwise(prompt, value, strange):
        return True
    return _state_contradicts(leave, value, 1 if argument.type == "text" else STATE_WORDS_MAX)


def _currency_contradicts(leave: Leave, names: frozenset[str], value: Any) -> bool:
    code = value.strip().upper() if isinstance(value, str) else ""
    named = code in CURRENCIES or ("currency" in names and len(code) == 3)
    return named and bool(leave.stated.currencies) and code not in leave.stated.currencies


def _told_otherwise(words: frozenset[str], text: str, strange: Strange) -> bool:
    """Return whether a text has nothing of what the request wants told, and a sentence of it is a stranger's."""
    wanted = {word[:WORD_CHARS_MIN] for word in words if len(word) >= WORD_CHARS_MIN}
    text = text[:TOLD_CHARS_MAX]
    if any(word[:WORD_CHARS_MIN] in wanted for word in normal.words(text)):
        return False
    sentences = re.split(r"[.!?\n]+", text)
    return any(strange(sentence) for sentence in sentences if len(normal.words(sentence)) >= TOLD_WORDS_MIN)


def _is_code(value: str) -> bool:
    """Return whether a setting is no plain word: it has a digit, or is written in capitals."""
    return len(value) > 2 and (value.isupper() or any(char.isdigit() for char in value))


def _numbers(value: Any) -> frozenset[float]:
    return numbers_in(scalar_text(value)) if isinstance(value, (str, int, float)) else frozenset()


def _state_contradicts(leave: Leave, value: str, words_max: int = STATE_WORDS_MAX) -> bool:
    words = re.findall(r"[a-z0-9]+", value.lower()) if len(value) <= STATE_CHARS_MAX else []
    return len(words) <= words_max and any(undone(word, leave.ways | leave.words) for word in words)


def _day_contradicts(leave: Leave, value: Any) -> bool:
    stated = leave.stated
    month = month_of(value) if isinstance(value, str) else None
    if month is not None and stated.months:
        return not min(stated.months) <= month <= max(stated.months)
    if stated.days:
        found = readings(value) if isinstance(value, (str, int, float)) else []
        return bool(found) and not any(within_days(days, stated.days) for days in found)
    if stated.weekdays and isinstance(value, str):
        weekday = weekday_of(value)
        first, last = min(stated.weekdays), max(stated.weekdays)
        return weekday is not None and not (first <= weekday <= last or weekday == (last + 1) % 7)
    return False


def _flag_contradicts(leave: Leave, names: frozenset[str], value: bool) -> bool:
    """Return whether a flag is set against the request: `locked: false` for "lock it", `public: true` for "keep it private"."""
    widens = names & (_WIDENS if value else _GUARDS)
    if widens and not any(said(word, leave.words) for word in widens):
        return True
    if value:
        return any(undone(word, leave.ways) for word in names)
    for word in names:
        if said(word, leave.ways):
            return True
        others = frozenset().union(*(OPPOSITES.get(stem, frozenset()) for stem in stems(word)))
        if others and any(opposed(other, way) for other in others for way in leave.ways):
            return True
    return False
