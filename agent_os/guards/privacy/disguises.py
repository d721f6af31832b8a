"""More disguises of a value: markup in the middle of it, tag characters, reversed display, letters for digits, numbers as words. Pure.

Each is a reading (`view.View`) of the text without the disguise. What would make values out of ordinary tables is left out: cells
and lines are never put together here.
"""

# ruff: noqa: E501 - word lists and expressions read better whole
from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Final

from agent_os.guards.privacy.view import View, substituted

INFLATED_BYTES_MAX: Final = 1_000_000
AROUND_CHARS: Final = 48
_MARKUP: Final = re.compile(
    r"(?<=[\w@.-])(?:<!--[^<>]{0,80}-->|</?(?:a|abbr|b|big|code|em|font|i|mark|s|small|span|strong|sub|sup|u|wbr)(?:\s[^<>]{0,80})?/?>"
    r"|\*\*|__|~~|[\"'] ?[+.&] ?[\"'])+(?=[\w@.-])",
    re.IGNORECASE,
)
_OCTAL: Final = re.compile(r"(?:\\[0-3]?[0-7]{2}){4,}")
_TAGS: Final = re.compile("[\U000e0020-\U000e007e]{6,}")
_TURNED: Final = re.compile("\u202e([^\u202c\r\n]{6,400})")
_LETTERED: Final = re.compile(r"(?<![\w.])[0-9OoIlSBZ](?:[ .-]?[0-9OoIlSBZ]){11,33}(?![\w.])", re.ASCII)
_FOR_DIGITS: Final = str.maketrans("OoIlSBZ", "0011582")


def disguises(text: str) -> Iterator[View]:
    """Yield the readings of a text that differ from it."""
    if "<" in text or "*" in text or "_" in text or "~" in text or "+" in text or "&" in text or '"' in text:
        yield from _without_markup(text)
    if "\\" in text:
        yield from substituted(text, _OCTAL, _from_octal)
    if not text.isascii():
        for match in _TAGS.finditer(text):
            yield View(
                "".join(chr(ord(char) - 0xE0000) for char in match.group()),
                (match.start(),),
                (match.end(),),
                whole=True,
            )
        for match in _TURNED.finditer(text):
            yield View(match[1][::-1], (match.start(),), (match.end(),), whole=True)
    for match in _LETTERED.finditer(text):
        plain = match.group().translate(_FOR_DIGITS)
        if plain != match.group() and sum(char.isdigit() for char in match.group()) >= 8:
            places = range(*match.span())
            yield View(plain, places, range(match.start() + 1, match.end() + 1))
    lowered = text.lower()
    if len(lowered) == len(text):
        yield from _spoken(lowered)


def _without_markup(text: str) -> Iterator[View]:
    """The surroundings of markup that stands within words, digits or addresses, without it: short views, whatever the text's size."""
    windows: list[list[int]] = []
    for match in _MARKUP.finditer(text):
        begin, end = max(match.start() - AROUND_CHARS, 0), min(match.end() + AROUND_CHARS, len(text))
        if not any(char.isdigit() or char == "@" for char in text[begin:end]):
            continue
        if windows and begin <= windows[-1][1]:
            windows[-1][1] = end
        else:
            windows.append([begin, end])
    for begin, end in windows:
        chars = [(place, text[place]) for place in _outside(text, begin, end)]
        starts = [place for place, _ in chars]
        yield View("".join(char for _, char in chars), starts, [place + 1 for place in starts])


def _outside(text: str, begin: int, end: int) -> Iterator[int]:
    edge = begin
    for match in _MARKUP.finditer(text, begin, end):
        yield from range(edge, match.start())
        edge = match.end()
    yield from range(edge, end)


def _from_octal(value: str) -> str:
    return bytes(int(code, 8) for code in value[1:].split("\\")).decode("utf-8")


def inflated(data: bytes) -> bytes:
    """Return what gzip or zlib packed, its first INFLATED_BYTES_MAX bytes; anything else as it is."""
    if data[:2] not in (b"\x1f\x8b", b"\x78\x01", b"\x78\x9c", b"\x78\xda"):
        return data
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(data, INFLATED_BYTES_MAX)
    except zlib.error:
        return data


_NUMBERS: Final = {
    "zero": "0", "oh": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9",
    "z\u00e9ro": "0", "un": "1", "deux": "2", "trois": "3", "quatre": "4", "cinq": "5", "sept": "7", "huit": "8", "neuf": "9",
    "cero": "0", "uno": "1", "dos": "2", "tres": "3", "cuatro": "4", "cinco": "5", "seis": "6", "siete": "7", "ocho": "8", "nueve": "9",
    "due": "2", "tre": "3", "quattro": "4", "cinque": "5", "sei": "6", "sette": "7", "otto": "8", "nove": "9",
    "null": "0", "eins": "1", "zwei": "2", "drei": "3", "vier": "4", "f\u00fcnf": "5", "sechs": "6", "sieben": "7", "acht": "8", "neun": "9",
}  # fmt: skip
_SPOKEN: Final = re.compile(
    r"(?<!\w)(?:" + "|".join(_NUMBERS) + r")(?:[ ,.-]{1,3}(?:" + "|".join(_NUMBERS) + r")){8,40}(?!\w)"
)


def _spoken(lowered: str) -> Iterator[View]:
    """Digits written as words, nine or more in a row."""
    for match in _SPOKEN.finditer(lowered):
        words = re.findall(r"[^\W\d_]+", match.group())
        joined = "".join(_NUMBERS[word] for word in words)
        yield View(joined, (match.start(),), (match.end(),), whole=True)
