"""Finds identifiers of people in one text: numbers with checksums, codes, e-mails, addresses of machines, dates, phones.

Pure computation: no clock, no I/O. One pass cuts the text into runs of digits, another into codes of capitals and digits;
the shapes of the catalogue look at those regions only, and a shape that needs a context word is not tried where there is
none. Threat: personal data that leaves in a prompt; and inputs made to be slow (all quantifiers are bounded).
"""

# ruff: noqa: E501 - word lists and expressions read better whole
from __future__ import annotations

import bisect
import ipaddress
import re
from collections.abc import Iterator
from functools import cache
from typing import Final

from agent_os.core.facts import Finding
from agent_os.effects.detectors.personal import CODES, NUMBERS, SCORE_MIN, Shape

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
        if _MACHINE_GATE.search(text):
            found.extend(_machines(text))
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
        found.extend(_written_dates(text, lowered))
        found.extend(_ages(text, lowered))
        return found

    def _number(self, text: str, lowered: str, start: int, end: int, context: _Context, found: list[Finding]) -> None:
        run = text[start:end]
        count = sum(map(run.count, "0123456789"))
        _times(text, lowered, start, end, found)
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
                context.phones = [match.start() for match in _PHONE_WORDS.finditer(lowered)]
            _phones(text, lowered, start, end, context.phones, found)

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

# ---- e-mail, URL, machines ------------------------------------------------------------------------------------------

_LOCAL: Final = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}$")
_DOMAIN: Final = re.compile(r"@((?:[\w](?:[\w-]{0,61}[\w])?\.){1,8}[^\W\d_](?:[\w-]{0,61}[^\W_]))(?![\w-])")


def emails(text: str) -> Iterator[Finding]:
    """Yield e-mail addresses, found from their `@`."""
    place = text.find("@")
    while place >= 0:
        local = _LOCAL.search(text, max(0, place - 64), place)
        domain = _DOMAIN.match(text, place)
        if local and domain:
            start = local.start()
            while start < place and text[start] in ".'`*|{}/=&?#":
                start += 1
            cut = max(text.rfind(char, start, place) for char in "=?&/'|{}")
            start = max(start, cut + 1)
            if start < place:
                yield Finding("EMAIL_ADDRESS", start, domain.end(), 1.0)
        place = text.find("@", place + 1)


_URL: Final = re.compile(r"(?:https?|ftps?|wss?|s3|git|ssh|mailto)://[^\s<>\"'`{}|\\^\u201c\u201d]{3,2000}", re.I)
_WWW: Final = re.compile(r"(?<![\w@/.-])www\.[a-z0-9-]{1,63}\.[^\s<>\"'`{}|\\^]{2,500}", re.I)
_BARE: Final = re.compile(
    r"(?<![\w@/.-])(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,4}(?:com|org|net|edu|gov|info|biz|co\.uk|org\.uk|io|de|fr|it|es|eu|nl|ch|at|be|ca|us)"
    r"(?:/[^\s<>\"'`{}|\\^]{0,300})?(?![\w@(-])(?!\.\w)", re.I
)  # fmt: skip
_BARE_ANCHORS: Final = (
    ".com",
    ".org",
    ".net",
    ".edu",
    ".gov",
    ".info",
    ".biz",
    ".uk",
    ".io",
    ".de",
    ".fr",
    ".eu",
    ".nl",
    ".ch",
)


def urls(text: str, lowered: str) -> Iterator[Finding]:
    """Yield URLs with a scheme, `www.` names, and bare names under common top-level domains (less sure)."""
    if "://" in text:
        for match in _URL.finditer(text):
            yield _trimmed("URL", text, match.start(), match.end(), 0.7)
    if "www." in lowered:
        for match in _WWW.finditer(text):
            yield _trimmed("URL", text, match.start(), match.end(), 0.6)
    seen = -1
    for place in sorted(place for anchor in _BARE_ANCHORS for place in _occurrences(lowered, anchor)):
        if place < seen:
            continue
        begin = place
        while begin > 0 and place - begin < 120 and (lowered[begin - 1].isalnum() or lowered[begin - 1] in "-."):
            begin -= 1
        for match in _BARE.finditer(text, begin, place + 320):
            if match.start() > place:
                break
            if match.end() > place and not text[match.start() : match.end()].endswith((".it", ".is")):
                seen = match.end()
                yield _trimmed("URL", text, match.start(), match.end(), 0.5)
                break


def _occurrences(text: str, word: str) -> Iterator[int]:
    place = text.find(word)
    while place >= 0:
        yield place
        place = text.find(word, place + 1)


def _trimmed(kind: str, text: str, start: int, end: int, score: float) -> Finding:
    while end > start and text[end - 1] in ".,;:!?)]}'*":
        if text[end - 1] == ")" and "(" in text[start:end]:
            break
        end -= 1
    return Finding(kind, start, end, score)


_IPV6: Final = re.compile(
    r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:){1,7}(?::|[0-9A-Fa-f]{1,4}|(?::[0-9A-Fa-f]{1,4}){1,6})(?:%\w{1,12})?(?![\w:])|(?<![\w:.])::(?:[0-9A-Fa-f]{1,4}:){0,6}[0-9A-Fa-f]{1,4}(?![\w:])"
)
_MAC: Final = re.compile(r"(?<![\w:-])[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}(?![\w:-])")
_MACHINE_GATE: Final = re.compile(
    r"[0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}[:-]|[0-9A-Fa-f]::?[0-9A-Fa-f]{1,4}:|::[0-9A-Fa-f]|[0-9A-Fa-f]::"
)


MACHINE_CHARS: Final = 48


def _machines(text: str) -> Iterator[Finding]:
    seen = -1
    for gate in _MACHINE_GATE.finditer(text):
        if gate.start() < seen:
            continue
        low, high = max(0, gate.start() - MACHINE_CHARS), gate.end() + MACHINE_CHARS
        seen = high - MACHINE_CHARS
        for match in _MAC.finditer(text, low, high):
            yield Finding("MAC_ADDRESS", match.start(), match.end(), 0.9)
        for match in _IPV6.finditer(text, low, high):
            value = match.group().partition("%")[0]
            if value.count(":") < 2 or (len(value) < 5 and value != "::1"):
                continue
            try:
                ipaddress.IPv6Address(value)
            except ValueError:
                continue
            yield Finding("IP_ADDRESS", match.start(), match.end(), 0.75)


# ---- dates, times, ages ---------------------------------------------------------------------------------------------

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


def _times(text: str, lowered: str, start: int, end: int, found: list[Finding]) -> None:
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


def _written_dates(text: str, lowered: str) -> Iterator[Finding]:
    if "day" in lowered:
        for match in _WEEKDAY.finditer(text):
            yield Finding("DATE_TIME", match.start(), match.end(), 0.6)
    if not _ANY_DIGIT.search(text):
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


def _ages(text: str, lowered: str) -> Iterator[Finding]:
    if any(word in lowered for word in _AGE_GATE):
        for match in _AGE.finditer(lowered):
            group = 1 if match.group(1) else 2
            if 0 < int(match.group(group)) <= 120:
                yield Finding("AGE", match.start(group), match.end(group), 0.6)


# ---- phones ---------------------------------------------------------------------------------------------------------

_PHONE_WORDS: Final = _compiled(
    r"phone|telefon|t\u00e9l\u00e9phone|tel\u00e9fono|telefono|\btel\b|\btel[.:]|mobile?\b|\bcell|handy|m\u00f3vil|cellulare|portable|\bfax|\bcall(?:ed|ing)?\b|"
    r"\breach\b|\bdial|\bcontact|whatsapp|\bsms\b|\btext me|\boffice\b|\bdesk\b|hotline|rufnummer|answering|messages? to|registered|\bring\b|appel|"
    r"llam|chiam|anruf|\bext\b"
)
_PHONE: Final = re.compile(
    r"(?<![\w.#$\u20ac\u00a3/-])(?:\+|00)?(?:\(\+?\d{1,6}\)[ .-]?|\d)[\d .()/-]{4,24}\d(?:[ ,]{0,2}(?:x|ext\.?|#) ?\d{1,6})?(?![\w%])(?!-\d)(?!\.\d)",
    re.I,
)
_NANP: Final = re.compile(r"(?:\+?1[ .-]?)?\(?[2-9]\d{2}\)?[ .-]?[2-9]?\d{2}[ .-]\d{4}")
_NOT_PHONE: Final = re.compile(
    r"(?:19|20)\d\d[-/. ](?:0?[1-9]|1[0-2])[-/. ]\d{1,2}|\d{1,2}[/.-]\d{1,2}[/.-](?:19|20)?\d\d|\d{1,3}(?:\.\d{1,3}){3}|\d+\.\d+|(?:19|20)\d\d ?- ?(?:19|20)\d\d"
)
_MONEY_OR_ID: Final = re.compile(
    r"(?:[$\u20ac\u00a3]|usd|eur|gbp|order|invoice|ticket|#|no\.|nr\.?|id|ref|isbn|issn|version|v|port|line|page|zip|card|iban|ssn|account)[\s:#]{0,3}$"
)


PHONE_BEFORE: Final = 50
PHONE_AFTER: Final = 20
_EXTENSION: Final = re.compile(r"[xX]|[eE][xX][tT]|#")
_GROUPS: Final = re.compile(r"[ .()/-]+")


def _phones(text: str, lowered: str, start: int, end: int, words: list[int], found: list[Finding]) -> None:
    for match in _PHONE.finditer(text, start, end + 10):
        if match.start() >= end:
            return
        value = match.group()
        body = _EXTENSION.split(value, maxsplit=1)[0].strip()
        count = sum(map(body.count, "0123456789"))
        if not 6 <= count <= 15 or _NOT_PHONE.fullmatch(body) or body.count("(") != body.count(")"):
            continue
        place = bisect.bisect_left(words, match.start() - PHONE_BEFORE)
        near = place < len(words) and words[place] < match.end() + PHONE_AFTER
        grouped = sum(1 for part in _GROUPS.split(body) if part)
        score = 0.0
        if body.startswith(("+", "(+")) and count >= 8:
            score = 0.8
        elif (
            (_NANP.fullmatch(body) and grouped >= 3)
            or (body.startswith("00") and count >= 10 and grouped > 1)
            or (body.startswith("(") and count >= 8)
        ):
            score = 0.6
        elif body.startswith("0") and 9 <= count <= 12 and grouped > 1:
            score = 0.5
        elif 2 <= grouped <= 6 and 7 <= count <= 13 and "/" not in body:
            score = 0.3
        elif grouped == 1 and 7 <= count <= 13:
            score = 0.15
        if near and count >= 7:
            score = min(0.95, score + 0.4)
        elif score >= SCORE_MIN and _MONEY_OR_ID.search(lowered, max(0, match.start() - PHONE_BEFORE), match.start()):
            score -= 0.3
        if score >= SCORE_MIN:
            found.append(Finding("PHONE_NUMBER", match.start(), match.start() + len(value.rstrip()), round(score, 2)))
