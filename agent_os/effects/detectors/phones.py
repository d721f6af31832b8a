"""Finds telephone numbers in the runs of digits of a text, by their form and the words before them. Pure; every quantifier is bounded."""

# ruff: noqa: E501 - word lists and expressions read better whole
from __future__ import annotations

import bisect
import re
from typing import Final

from agent_os.core.facts import Finding
from agent_os.effects.detectors.personal import SCORE_MIN

PHONE_WORDS: Final = re.compile(
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


def phones(text: str, lowered: str, start: int, end: int, words: list[int], found: list[Finding]) -> None:
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
