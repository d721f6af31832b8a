"""Finds dates, times of day and ages in a text, in six languages. Pure; every quantifier is bounded."""

# ruff: noqa: E501 - word lists and expressions read better whole
from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from agent_os.core.facts import Finding

_DIGIT: Final = re.compile(r"\d")
_BIRTH: Final = re.compile(
    r"born|birth|dob\b|geb(?:oren|\.|urt)|n\u00e9e? le|naissance|nacid|nacimiento|nat[oa] (?:il|a)|nascita"
)
_BIRTH_STEMS: Final = ("born", "birth", "dob", "geb", "n\u00e9", "naissance", "nac", "nat", "nascita")
_ISO: Final = re.compile(
    r"(?<![\w.-])(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])(?:[T ][0-2]\d:[0-5]\d(?::[0-5]\d(?:[.,]\d{1,9})?)?)?(?:Z|[+-][01]\d:?[0-5]\d)?(?![\w-])"
)
_NUMERIC: Final = re.compile(
    r"(?<![\w./-])(\d{1,2})([/.-])(\d{1,2})\2((?:19|20)\d\d|\d\d)(?:,? [0-2]?\d:[0-5]\d(?::[0-5]\d)?)?(?![\w/-])(?!\.\d)"
)
_YEAR_FIRST: Final = re.compile(r"(?<![\w./-])((?:19|20)\d\d)([/.])(\d{1,2})\2(\d{1,2})(?![\w/-])(?!\.\d)")
_CLOCK: Final = re.compile(
    r"(?<![\w:.-])(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?(?: ?[ap]\.?m\b\.?)?(?![\w:])", re.I
)
_YEAR_CONTEXT: Final = re.compile(
    r"(?:\b(?:in|since|during|of|from|by|until|till|before|after|year|circa|around|between|seit|jahr|im jahre?|en|depuis|desde|nel|dal|ann\u00e9e|"
    r"a|an|the|early|late|mid|spring|summer|autumn|fall|winter|born)|\(c\)|\u00a9|\()\s{0,2}$"
)


def times(text: str, lowered: str, start: int, end: int, found: list[Finding]) -> None:
    size = end - start
    if size < 4:
        return
    if size == 4 or (text[end - 4 : end].isdigit() and not text[end - 5].isdigit()):
        year = text[end - 4 : end]
        if (
            year[:2] in ("19", "20")
            and (size == 4 or not text[end - 5].isalnum())
            and text[end : end + 1] not in ("-", "/", "_", "%")
        ):
            place = end - 4
            if _YEAR_CONTEXT.search(lowered, max(0, place - 20), place) and not text[end : end + 1].isalnum():
                found.append(Finding("DATE_TIME", place, end, 0.6))
    for match in _ISO.finditer(text, start, end + 8):
        found.append(_dated(lowered, match.start(), match.end(), 0.8))
    for match in _NUMERIC.finditer(text, start, end + 4):
        first, second = int(match.group(1)), int(match.group(3))
        if 1 <= first <= 31 and 1 <= second <= 31 and (first <= 12 or second <= 12):
            full = len(match.group(4)) == 4
            found.append(
                _dated(lowered, match.start(), match.end(), 0.75 if full else 0.5 if match.group(2) != "." else 0.35)
            )
    for match in _YEAR_FIRST.finditer(text, start, end + 4):
        if 1 <= int(match.group(3)) <= 12 and 1 <= int(match.group(4)) <= 31:
            found.append(_dated(lowered, match.start(), match.end(), 0.7))
    if ":" in text[start:end]:
        for match in _CLOCK.finditer(text, start, end + 5):
            found.append(Finding("DATE_TIME", match.start(), match.end(), 0.5))


def _dated(lowered: str, start: int, end: int, score: float) -> Finding:
    window = lowered[max(0, start - 40) : start]
    near = any(stem in window for stem in _BIRTH_STEMS) and _BIRTH.search(window)
    return Finding("DATE_TIME", start, end, 0.95 if near else score)


_MONTHS: Final = (
    "january february march april may june july august september october november december jan feb mar apr jun jul aug sep sept oct nov dec "
    "januar februar m\u00e4rz mai juni juli oktober dezember janvier f\u00e9vrier mars avril juin juillet ao\u00fbt septembre octobre novembre d\u00e9cembre "
    "enero febrero marzo abril mayo junio julio agosto septiembre setiembre octubre noviembre diciembre gennaio febbraio aprile maggio giugno luglio "
    "settembre ottobre dicembre"
).split()
_MONTH: Final = "(?:" + "|".join(sorted(_MONTHS, key=len, reverse=True)) + r")\b\.?"
_DAY: Final = r"\d{1,2}(?:st|nd|rd|th|\.|er|\u00ba|\u00aa|\u00b0)?"
_WRITTEN: Final = re.compile(
    rf"(?<![\w.-])(?:{_DAY} (?:of |de |di )?{_MONTH}(?:,? (?:de |del )?(?:19|20)\d\d)?|{_MONTH} {_DAY}(?:,? (?:19|20)\d\d)?|{_MONTH},? (?:de |del )?(?:19|20)\d\d)(?!\w)"
)
_MONTH_GATE: Final = ("jan", "feb", "fév", "mar", "m\u00e4r", "apr", "avr", "abr", "may", "mai", "mag", "jun", "juin", "giu", "jul", "jui", "lug", "aug", "ao\u00fb",
                      "ago", "sep", "set", "oct", "okt", "ott", "nov", "dec", "dez", "d\u00e9c", "dic", "ene", "gen")  # fmt: skip
_MONTH_NEAR: Final = re.compile(rf"\b{_MONTH}")
_WEEKDAY: Final = re.compile(r"(?<![\w-])(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day\b(?! Times| Night Live)")


def written_dates(text: str, lowered: str) -> Iterator[Finding]:
    if "day" in lowered:
        for match in _WEEKDAY.finditer(text):
            yield Finding("DATE_TIME", match.start(), match.end(), 0.6)
    if not _DIGIT.search(text):
        return
    seen = -1
    for month in _MONTH_NEAR.finditer(lowered) if any(name in lowered for name in _MONTH_GATE) else ():
        if month.start() < seen:
            continue
        date = _WRITTEN.search(lowered, max(0, month.start() - 9), month.end() + 20)
        if date and date.start() <= month.start() < date.end():
            seen = date.end()
            yield _dated(lowered, date.start(), date.end(), 0.7)


_AGE: Final = re.compile(
    r"\b(\d{1,3})(?=[- ]?(?:years?[- ]olds?|y/o|y\.o\.|yo\b|yrs? old|ans\b|jahre alt|j\u00e4hrig|a\u00f1os|anni\b))"
    r"|\b(?:aged?(?: of)?:?|turn(?:s|ed|ing)?|age is|im alter von|\u00e2g\u00e9e? de|edad de|et\u00e0 di|(?:he|she|they|i) (?:was|were|am|is)|i'm|he's|she's)"
    r" (\d{1,3})(?![\d,%.]\d|[\d%]|[- ]?(?:%|percent|minutes|hours|km|miles|feet|cm|kg|of|out|in|on|at|th|st|nd|rd|points|goals|times|weeks|months|days))"
)
_AGE_GATE: Final = (
    "year",
    "y/o",
    "y.o.",
    " yo",
    " old",
    "age",
    "turn",
    " ans",
    "jahr",
    "j\u00e4hrig",
    "a\u00f1os",
    "anni",
    " was ",
    " were ",
    " am ",
    "i'm ",
    "he's ",
)


def ages(text: str, lowered: str) -> Iterator[Finding]:
    if any(word in lowered for word in _AGE_GATE):
        for match in _AGE.finditer(lowered):
            group = 1 if match.group(1) else 2
            if 0 < int(match.group(group)) <= 120:
                yield Finding("AGE", match.start(group), match.end(group), 0.6)
