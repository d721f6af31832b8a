"""Finds e-mail addresses, URLs and addresses of machines (IPv6, MAC) in a text. Pure; every quantifier is bounded."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Final

from agent_os.core.facts import Finding

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
MACHINE_GATE: Final = re.compile(
    r"[0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}[:-]|[0-9A-Fa-f]::?[0-9A-Fa-f]{1,4}:|::[0-9A-Fa-f]|[0-9A-Fa-f]::"
)


MACHINE_CHARS: Final = 48


def machines(text: str) -> Iterator[Finding]:
    seen = -1
    for gate in MACHINE_GATE.finditer(text):
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
