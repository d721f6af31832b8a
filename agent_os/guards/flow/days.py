"""Days and times of day in a text, and whether others lie within them. Pure."""

from __future__ import annotations

import datetime
import re
from typing import Final

MONTHS: Final = {
    "jan": 1, "january": 1, "januar": 1, "janvier": 1, "enero": 1, "gennaio": 1, "feb": 2, "february": 2, "februar": 2,
    "février": 2, "febrero": 2, "febbraio": 2, "mar": 3, "march": 3, "märz": 3, "mars": 3, "marzo": 3, "apr": 4, "april": 4,
    "avril": 4, "abril": 4, "aprile": 4, "may": 5, "mai": 5, "mayo": 5, "maggio": 5, "jun": 6, "june": 6, "juni": 6, "juin": 6,
    "junio": 6, "giugno": 6, "jul": 7, "july": 7, "juli": 7, "juillet": 7, "julio": 7, "luglio": 7, "aug": 8, "august": 8,
    "août": 8, "agosto": 8, "sep": 9, "sept": 9, "september": 9, "septembre": 9, "septiembre": 9, "settembre": 9, "oct": 10,
    "october": 10, "oktober": 10, "octobre": 10, "octubre": 10, "ottobre": 10, "nov": 11, "november": 11, "novembre": 11,
    "noviembre": 11, "dec": 12, "december": 12, "dezember": 12, "décembre": 12, "diciembre": 12, "dicembre": 12,
}  # fmt: skip
_MONTH: Final = "(" + "|".join(sorted(MONTHS, key=len, reverse=True)) + ")"
_DAYS: Final = (
    (re.compile(r"\b\d{4}-(\d{2})-(\d{2})(?!\d)"), "md"),
    (re.compile(rf"\b{_MONTH}\.? (\d{{1,2}})(?:st|nd|rd|th)?\b(?!:)", re.I), "md"),
    (re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th|er)?\.? (?:of |de |di )?{_MONTH}\b", re.I), "dm"),
    (re.compile(r"(?<![\w.])(\d{1,2})\.\s?(\d{1,2})\.(?:\s?(?:19|20)\d\d|(?=\s|$))"), "dm"),
)


_CLOCK: Final = re.compile(
    r"(?<![\d:.-])([01]?\d|2[0-3])(?::([0-5]\d))?\s?(am|pm|a\.m\.|p\.m\.|o'clock|uhr|h)?(?![\w:.-]\d|\w)", re.I
)
DAYPARTS: Final = {
    "morning": (5 * 60, 12 * 60), "noon": (12 * 60, 13 * 60), "afternoon": (12 * 60, 18 * 60), "evening": (17 * 60, 24 * 60),
    "night": (20 * 60, 24 * 60), "midnight": (0, 1), "vormittag": (5 * 60, 12 * 60), "morgens": (5 * 60, 12 * 60),
    "nachmittag": (12 * 60, 18 * 60), "abend": (17 * 60, 24 * 60), "matin": (5 * 60, 12 * 60), "soir": (17 * 60, 24 * 60),
    "mañana": (5 * 60, 12 * 60), "tarde": (12 * 60, 20 * 60), "mattina": (5 * 60, 12 * 60), "pomeriggio": (12 * 60, 18 * 60),
    "sera": (17 * 60, 24 * 60),
}  # fmt: skip
"""Parts of a day, in minutes from midnight: from the first up to the second."""
_STAMP: Final = re.compile(r"\d{4}-\d{2}-\d{2}[T ](\d{2}):(\d{2})")


def minutes_in(text: str) -> frozenset[int]:
    """Return the times of day in a text that say they are one (`14:00`, `2 pm`), in minutes from midnight."""
    found = set()
    for hour, minute, half in _CLOCK.findall(text):
        if minute or half:
            add = 12 if half.lower().startswith("p") and int(hour) < 12 else 0
            less = 12 if half.lower().startswith("a") and int(hour) == 12 else 0
            found.add((int(hour) + add - less) * 60 + int(minute or 0))
    return frozenset(found)


def minute_of(stamp: str) -> int | None:
    """Return the time of day in an ISO date and time, in minutes from midnight."""
    match = _STAMP.match(stamp)
    return int(match[1]) * 60 + int(match[2]) if match else None


def days_in(text: str) -> frozenset[tuple[int, int]]:
    """Return (month, day) of every date in a text that names a day."""
    if not any(char.isdigit() for char in text):
        return frozenset()
    found = set()
    for pattern, order in _DAYS:
        for one, two in pattern.findall(text):
            month, day = (one, two) if order == "md" else (two, one)
            number = int(month) if month.isdigit() else MONTHS[month.lower()]
            if 1 <= number <= 12 and 1 <= int(day) <= 31:
                found.add((number, int(day)))
    return frozenset(found)


_MONTH_OF_YEAR: Final = re.compile(rf"\b{_MONTH}\.? (?:19|20)\d\d\b", re.I)
_IN_MONTH: Final = re.compile(rf"\b(?:in|for|of|for the|the|im|für|en|de|du|per|di|a) {_MONTH}\b")
_MONTH_STAMP: Final = re.compile(r"(?:19|20)\d\d[-/](0[1-9]|1[0-2])")


def months_in(text: str) -> frozenset[int]:
    """Return the months that a text names as such (`May 2026`, `in April`), whether or not it names a day of them."""
    found = [match.group(1) for match in _MONTH_OF_YEAR.finditer(text)]
    found += [name for name in (match.group(1) for match in _IN_MONTH.finditer(text.lower())) if len(name) > 3]
    return frozenset(MONTHS[name.lower()] for name in found)


def month_of(value: str) -> int | None:
    """Return the month that a value as a whole stands for (`2026-05`), or None."""
    match = _MONTH_STAMP.fullmatch(value.strip())
    return int(match[1]) if match else None


def within_days(days: frozenset[tuple[int, int]], asked: frozenset[tuple[int, int]]) -> bool:
    """Return whether every day lies among, or between the first and last of, those asked for (a night over is within)."""

    def ordinal(day: tuple[int, int]) -> int:
        return day[0] * 31 + day[1]

    allowed = sorted(map(ordinal, asked))
    return all(allowed[0] <= ordinal(day) <= allowed[-1] + 1 for day in days) if allowed else True


WEEKDAYS: Final = {
    name: number
    for number, names in enumerate((
        "monday montag lundi lunes lunedì", "tuesday dienstag mardi martes martedì", "wednesday mittwoch mercredi miércoles"
        " mercoledì", "thursday donnerstag jeudi jueves giovedì", "friday freitag vendredi viernes venerdì", "saturday samstag"
        " samedi sábado sabato", "sunday sonntag dimanche domingo domenica",
    ))
    for name in names.split()
}  # fmt: skip
_FULL: Final = re.compile(r"(?<!\d)(\d{4})[-/.]?(\d{2})[-/.]?(\d{2})(?!\d)")
_PARTS: Final = re.compile(r"(?<!\d)(\d{1,2})[/.-](\d{1,2})(?:[/.-](?:\d{4}|\d{2}))?(?!\d)")
_EPOCH_MIN, _EPOCH_MAX = 10**9, 10**13


def readings(value: str | float) -> list[frozenset[tuple[int, int]]]:
    """Return what days an argument may mean, one set a reading: day and month in either order, ISO, compact, since 1970."""
    text = str(value)
    if not isinstance(value, str) or re.fullmatch(r"\d{10}(?:\d{3})?", text):
        number = float(value)
        if not _EPOCH_MIN <= number < _EPOCH_MAX:
            return []
        moment = datetime.datetime.fromtimestamp(number / (1000 if number > 10**11 else 1), datetime.UTC)
        return [
            frozenset({(other.month, other.day)})
            for other in (moment + datetime.timedelta(hours=hours) for hours in (0, -12, 12))
        ]
    assert isinstance(value, str)
    named = days_in(text)
    if named:
        return [named]
    full = [(int(month), int(day)) for _, month, day in _FULL.findall(text)]
    found = [frozenset(full)] if full and all(_is_day(*day) for day in full) else []
    if not found:
        pairs = [(int(one), int(two)) for one, two in _PARTS.findall(text)]
        for order in (pairs, [(two, one) for one, two in pairs]):
            if order and all(_is_day(*day) for day in order):
                found.append(frozenset(order))
    return found


def weekday_of(stamp: str) -> int | None:
    """Return the weekday of an ISO date, Monday 0."""
    try:
        return datetime.date.fromisoformat(stamp[:10]).weekday()
    except ValueError:
        return None


def _is_day(month: int, day: int) -> bool:
    return 1 <= month <= 12 and 1 <= day <= 31
