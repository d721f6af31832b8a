"""Finds identifiers of people in one text: numbers with checksums, codes, e-mails, addresses of machines, dates, phones.

Pure computation: no clock, no I/O. One pass cuts the text into runs of digits, another into codes of capitals and digits;
the shapes of the catalogue look at those regions only, and a shape that needs a context word is not tried where there is
none. Threat: personal data that leaves in a prompt; and inputs made to be slow (all quantifiers are bounded).
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from functools import cache
from typing import Final

from agent_os.core.facts import Finding
from agent_os.effects.detectors.dates import ages, times, written_dates
from agent_os.effects.detectors.links import MACHINE_GATE, emails, machines, urls
from agent_os.effects.detectors.personal import CODES, NUMBERS, SCORE_MIN, Shape
from agent_os.effects.detectors.phones import PHONE_WORDS, phones

BEFORE_CHARS: Final = 70
AFTER_CHARS: Final = 24
_RUN: Final = re.compile(r"[+(]{0,2}\d(?:[\d .()/+:,-]{0,120}\d)?")
_CODE: Final = re.compile(
    r"(?:(?<![A-Za-z0-9])|(?<=\\[nrt]))(?:[A-Z0-9]|bc1|tb1|ltc1|0x)[A-Za-z0-9]*(?:[ -][A-Z0-9]{1,34})*"
)
_DIGITS_MIN: Final = {
    "US_DRIVER_LICENSE": 6, "MEDICAL_RECORD_NUMBER": 5, "US_BANK_NUMBER": 8, "HEALTH_INSURANCE_ID": 8, "FR_SIRET": 9, "NL_BSN": 8,
}  # fmt: skip


@cache
def _compiled(pattern: str, flags: int = 0) -> re.Pattern[str]:
    return re.compile(pattern, flags)


class _Ready:
    """A shape with its context words split."""

    __slots__ = ("certain", "least", "shape", "words")

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.words = tuple(word for word in shape.context.split("|") if word)
        self.certain = max(shape.base, shape.checked) >= SCORE_MIN
        self.least = _DIGITS_MIN.get(shape.type, 9)


class _Context:
    """Where the context words of every shape stand in one text, found once and asked for each region."""

    def __init__(self, lowered: str, rows: list[_Ready]) -> None:
        known: dict[str, list[int]] = {}
        self.active: list[tuple[_Ready, list[int]]] = []
        self.phones: list[int] | None = None
        for row in rows:
            places: list[int] = []
            for word in row.words:
                if word not in known:
                    known[word] = list(_word_places(lowered, word)) if word in lowered else []
                places += known[word]
            if row.certain or places:
                self.active.append((row, sorted(places)))

    @staticmethod
    def near(places: list[int], start: int, end: int) -> bool:
        """Whether one of the places lies in the window around a region."""
        index = bisect.bisect_left(places, start - BEFORE_CHARS)
        return index < len(places) and places[index] < end + AFTER_CHARS


def _word_places(lowered: str, word: str) -> Iterator[int]:
    """Yield where a context word begins: at the beginning of a word, and for short ones as a whole word."""
    short = len(word) < 5 and word[-1].isalpha()
    place = lowered.find(word)
    while place >= 0:
        end = place + len(word)
        if not lowered[place - 1 : place].isalpha() and not (short and lowered[end : end + 1].isalpha()):
            yield place
        place = lowered.find(word, end)


class PersonalFinder:
    """Scans texts for every shape of the catalogue and for the kinds below; stateless after construction."""

    def __init__(self) -> None:
        self._numbers = [_Ready(shape) for shape in NUMBERS]
        self._codes = [_Ready(shape) for shape in CODES]

    @property
    def kinds(self) -> frozenset[str]:
        """Every entity name this finder can report."""
        own = "EMAIL_ADDRESS URL IP_ADDRESS MAC_ADDRESS PHONE_NUMBER DATE_TIME AGE".split()
        return frozenset(shape.type for shape in (*NUMBERS, *CODES)) | frozenset(own)

    def find(self, text: str, lowered: str) -> list[Finding]:
        """Return findings in one text, overlaps included; `lowered` is the text in lower case, of the same length."""
        found: list[Finding] = []
        found.extend(emails(text))
        found.extend(urls(text, lowered))
        if MACHINE_GATE.search(text):
            found.extend(machines(text))
        context: _Context | None = None
        for match in _RUN.finditer(text):
            start, end = match.span()
            if end - start > 3:
                context = context or _Context(lowered, self._numbers)
                self._number(text, lowered, start, end, context, found)
        codes: _Context | None = None
        for match in _CODE.finditer(text):
            start, end = match.span()
            if end - start >= 5 and _ANY_DIGIT.search(text, start, end) and _ANY_UPPER.search(text, start, end):
                codes = codes or _Context(lowered, self._codes)
                self._shapes(codes, text, start, end, 99, found)
        found.extend(written_dates(text, lowered))
        found.extend(ages(text, lowered))
        return found

    def _number(self, text: str, lowered: str, start: int, end: int, context: _Context, found: list[Finding]) -> None:
        run = text[start:end]
        count = sum(map(run.count, "0123456789"))
        times(text, lowered, start, end, found)
        if count < 4:
            return
        if "." in run:
            for match in _IPV4.finditer(text, start, end):
                if all(int(part) < 256 for part in match.group().split(".")):
                    found.append(Finding("IP_ADDRESS", match.start(), match.end(), 0.6))
        if count >= 5:
            self._shapes(context, text, start, end, count, found)
        if count >= 6:
            if context.phones is None:
                context.phones = [match.start() for match in PHONE_WORDS.finditer(lowered)]
            phones(text, lowered, start, end, context.phones, found)

    def _shapes(self, context: _Context, text: str, start: int, end: int, count: int, found: list[Finding]) -> None:
        for row, places in context.active:
            if count < row.least:
                continue
            near = bool(places) and context.near(places, start, end)
            if not near and not row.certain:
                continue
            shape = row.shape
            for match in _compiled(shape.regex).finditer(text, start, end):
                score = shape.base
                if shape.check is not None:
                    if shape.check(match.group()):
                        score = max(score, shape.checked)
                    elif shape.base < SCORE_MIN or shape.checked:
                        continue
                if near:
                    score = min(1.0, score + shape.boost)
                if score >= SCORE_MIN:
                    found.append(Finding(shape.type, match.start(), match.end(), round(score, 2)))


_ANY_DIGIT: Final = re.compile(r"\d")
_ANY_UPPER: Final = re.compile(r"[A-Z]|bc1|tb1|ltc1|0x")
_IPV4: Final = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)")
