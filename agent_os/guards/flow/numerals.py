"""Numbers as people write them: digits with either mark for thousands, and words, in five languages. Pure data and reading.

`3.200` is read both ways (3.2 and 3200): the languages disagree, and a request that is read too narrowly only asks a person.
Words up to twenty, the tens, and tens with units. Threat: a number that no reading of the user's words gives is a stranger's.
"""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {
    "en": "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen twenty",
    "de": "null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn"
    " achtzehn neunzehn zwanzig",
    "fr": "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept dix-huit"
    " dix-neuf vingt",
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete"
    " dieciocho diecinueve veinte",
    "it": "zero uno due tre quattro cinque sei sette otto nove dieci undici dodici tredici quattordici quindici sedici"
    " diciassette diciotto diciannove venti",
}
_TENS: Final = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90, "hundred": 100,
    "dreißig": 30, "vierzig": 40, "fünfzig": 50, "sechzig": 60, "siebzig": 70, "achtzig": 80, "neunzig": 90, "hundert": 100,
    "trente": 30, "quarante": 40, "cinquante": 50, "soixante": 60, "cent": 100, "treinta": 30, "cuarenta": 40, "cincuenta": 50,
    "sesenta": 60, "setenta": 70, "ochenta": 80, "noventa": 90, "cien": 100, "trenta": 30, "quaranta": 40, "cinquanta": 50,
    "sessanta": 60, "settanta": 70, "ottanta": 80, "novanta": 90, "cento": 100, "dozen": 12, "dutzend": 12, "douzaine": 12,
    "docena": 12, "dozzina": 12, "half": 0.5, "thousand": 1000, "tausend": 1000, "mille": 1000, "mil": 1000,
}  # fmt: skip
_AMBIGUOUS: Final = frozenset("un uno ein sei due once cent".split())
"""Articles, and words of one language that mean something else in another (`due`, `once`): they are no numbers here."""
WORDS: Final[dict[str, float]] = {
    word: float(number)
    for word, number in [
        *((word, number) for language in _UNITS.values() for number, word in enumerate(language.split())),
        *_TENS.items(),
    ]
    if word not in _AMBIGUOUS
}
_ROUND: Final = "|".join(word for word, number in _TENS.items() if 20 <= number < 100)
_ENGLISH: Final = "|".join(_UNITS["en"].split()[1:10])
_GERMAN: Final = "|".join(_UNITS["de"].split()[1:10])
_PAIR: Final = re.compile(rf"\b({_ROUND})-({_ENGLISH})\b")
_GERMAN_PAIR: Final = re.compile(rf"\b({_GERMAN})und(zwanzig|{_ROUND})\b")
_POINTED: Final = re.compile(r"(?<![\d.,])(\d{1,3}(?:\.\d{3})+)(?:,(\d{1,2}))?(?![\d.,]\d)")
_COMMA: Final = re.compile(r"(?<![\d.,])(\d+),(\d{1,2})(?![\d.,]\d)")


def spoken_numbers(text: str) -> frozenset[float]:
    """Return the numbers of a text that are written in words (`one` among them, which may also stand for a thing)."""
    lowered = text.lower()
    found = {WORDS[word] for word in re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)?", lowered) if word in WORDS}
    found |= {WORDS[tens] + WORDS[unit] for tens, unit in _PAIR.findall(lowered)}
    found |= {WORDS[tens] + WORDS.get(unit, 1.0) for unit, tens in _GERMAN_PAIR.findall(lowered)}
    return frozenset(found)


def pointed_numbers(text: str) -> frozenset[float]:
    """Return the numbers of a text that are written with a point for thousands or a comma for the fraction."""
    found = {float(whole.replace(".", "") + "." + (part or "0")) for whole, part in _POINTED.findall(text)}
    return frozenset(found | {float(f"{whole}.{part}") for whole, part in _COMMA.findall(text)})


_TIMES: Final = {
    "hundred": 100,
    "thousand": 1000,
    "million": 1_000_000,
    "hundert": 100,
    "tausend": 1000,
    "mille": 1000,
    "mil": 1000,
}
_RUN: Final = re.compile(
    r"\b(?:(?:" + "|".join([*WORDS, *_TIMES]) + r")(?:[ -](?:and |und )?|\b))+(?<![ -])", re.I
)  # fmt: skip


def in_digits(text: str) -> str:
    """Return a text with numbers of several words in digits (`forty thousand`: 40000); a single word stays what it is."""
    return _RUN.sub(_digits, text)


def _digits(match: re.Match[str]) -> str:
    found = [word for word in re.split(r"[ -]+", match[0].lower().strip()) if word not in ("and", "und")]
    if len(found) < 2 or not set(found) & _TIMES.keys():
        return match[0]
    whole = part = 0.0
    for word in found:
        times = _TIMES.get(word)
        if times == 100:
            part = max(part, 1.0) * times
        elif times is not None:
            whole, part = whole + max(part, 1.0) * times, 0.0
        else:
            part += WORDS.get(word, 0.0)
    return f"{whole + part:g}" + (" " if match[0].endswith(" ") else "")


def spellings(number: float) -> tuple[str, ...]:
    """Return how a number may stand in a text, told apart as words are: `1987.5` also as `1,987.50`."""
    forms = {f"{number:.12g}", f"{number:.2f}", f"{number:,.2f}", f"{number:,.12g}"}
    return tuple(sorted(forms))
