"""Values cut in two: what stands over the joint of two neighbouring texts, and over that of two calls of one tool. Pure.

A number that is split over two messages, two parts, two tool results, two members of an object or two calls of one tool is found
in none of them. So the ends and beginnings of neighbours are put side by side in texts of their own, bounded, which the same
detector scans; a finding there counts if it spans a joint and is of a kind that hardly comes about by chance: an IBAN (check
digits, length of its country), a card number that is written in groups or spoken of as one, a secret with a prefix of its own.
It is then a finding in each of the texts it stands in. Not found: halves with words between them, or out of order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from agent_os.core.action import Action, ModelCall
from agent_os.core.facts import Finding

EDGE_CHARS: Final = 80
"""Characters of each end of a text that are put beside its neighbour."""
WINDOW_TEXTS: Final = 16
"""Neighbours in one joined text; the last one is the first of the next, so that the earlier ones stay as they were."""
JOINED_TEXTS_MAX: Final = 4_096
"""Texts of one action whose joints are looked at: the last ones."""
TAILS_MAX: Final = 256
"""Places in calls whose last end a session remembers."""
PIECE_CHARS_MIN: Final = 2
JOINT: Final = "#joint/"
_EDGES: Final = " \t\r\n\"'`.,;:()[]{}<>|*_-\u2026\u00a0\u200b"
_DIGIT_BEFORE: Final = re.compile(r"[\d+][ .-]?$")
_DIGIT_BEHIND: Final = re.compile(r"[ .-]?\d")
_CARD_WORDS: Final = re.compile(
    r"card|karte|carte|tarjeta|carta|visa|master|amex|kredit|credit|cr[eé]dit|\bpan\b", re.IGNORECASE
)
_PREFIXED: Final = re.compile(r"(?:AKIA|ASIA|AIza|eyJ|[A-Za-z][A-Za-z0-9]{1,11}[-_])[\w.+/=-]{12,}", re.ASCII)
"""Secrets that say themselves what they are; those known by the words around them would be guesses beside a neighbour's words."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of one text within a joined text: `at` there, `start` in the text itself (-1: it has gone before)."""

    pointer: str
    start: int
    at: int
    length: int


@dataclass(frozen=True, slots=True)
class Joined:
    """Ends and beginnings of neighbours, side by side."""

    text: str
    pieces: tuple[Piece, ...]


def joints(action: Action, texts: Mapping[str, str], before: Mapping[str, str]) -> dict[str, Joined]:
    """Return what is to be scanned beside the texts of an action, by a pointer of its own; `before`: the session's last call."""
    messages = action.messages if isinstance(action, ModelCall) else ()
    roles = [str(item.get("role", "")) if isinstance(item, Mapping) else "" for item in messages]
    found = neighbours(texts, roles)
    found += [
        joined([(pointer, before[pointer]), (pointer, text)], gone=True)
        for pointer, text in texts.items()
        if before.get(pointer)
    ]
    return {f"{JOINT}{number}#": item for number, item in enumerate(found)}


def settled(found: Sequence[Finding], over: Mapping[str, Joined], texts: Mapping[str, str]) -> list[Finding]:
    """Return findings with those in joined texts as what they are in the texts themselves."""
    own = [item for item in found if item.pointer not in over]
    more = {
        each: None for item in found if item.pointer in over for each in spread(item, over[item.pointer], texts, own)
    }
    return [*own, *more]


def joined(sequence: Sequence[tuple[str, str]], *, gone: bool = False) -> Joined:
    """Return the neighbours (pointer, text) as one text; `gone`: the first of them has left already."""
    out: list[str] = []
    pieces: list[Piece] = []
    at = 0
    for number, (pointer, text) in enumerate(sequence):
        solid = text.strip(_EDGES)
        begin = text.find(solid) if solid else 0
        parts = [(begin, solid)]
        if len(solid) > 2 * EDGE_CHARS:
            parts = [(begin, solid[:EDGE_CHARS]), (begin + len(solid) - EDGE_CHARS, solid[-EDGE_CHARS:])]
        for index, (start, part) in enumerate(parts):
            if index:
                out.append("\n\n\n")
                at += 3
            pieces.append(Piece(pointer, -1 if gone and number == 0 else start, at, len(part)))
            out.append(part)
            at += len(part)
    return Joined("".join(out), tuple(pieces))


def neighbours(texts: Mapping[str, str], roles: Sequence[str] = ()) -> list[Joined]:
    """Return the joined texts of an action; `roles` of its messages: neighbours of one role count, whoever spoke between."""
    values = [(pointer, text) for pointer, text in texts.items() if not pointer.endswith("#")][-JOINED_TEXTS_MAX:]
    rows = [values]
    if len(set(roles)) > 1:
        by_role: dict[str, list[tuple[str, str]]] = {}
        for pointer, text in values:
            number = pointer.split("/", 3)[2] if pointer.startswith("/messages/") else ""
            if number.isdigit() and int(number) < len(roles):
                by_role.setdefault(roles[int(number)], []).append((pointer, text))
        rows += by_role.values()
    return [
        joined(row[start : start + WINDOW_TEXTS + 1])
        for row in rows
        for start in range(0, max(len(row) - 1, 0), WINDOW_TEXTS)
    ]


def _card(text: str, touched: Sequence[tuple[Piece, int, int]], texts: Mapping[str, str]) -> bool:
    """Whether digits over joints are written or spoken of as a card number, and are no part of a longer number."""
    first, last = touched[0][1], touched[-1][2]
    if _DIGIT_BEFORE.search(text[max(first - 2, touched[0][0].at) : first]):
        return False
    if _DIGIT_BEHIND.match(text[last : min(last + 2, touched[-1][0].at + touched[-1][0].length)]):
        return False
    groups = [part for _, start, end in touched for part in re.split(r"[ -]", text[start:end])]
    if len(groups) > len(touched):
        return all(len(part) <= 4 for part in groups)
    return any(_CARD_WORDS.search(f"{piece.pointer} {texts.get(piece.pointer, '')}") for piece, _, _ in touched)


def spread(finding: Finding, over: Joined, texts: Mapping[str, str], own: Sequence[Finding]) -> list[Finding]:
    """Return what a finding in a joined text is in the texts themselves; empty where it is none that counts.

    `own` are the findings of the texts: what is whole in one of them ends there.
    """
    touched = [
        (piece, max(finding.start, piece.at), min(finding.end, piece.at + piece.length))
        for piece in over.pieces
        if piece.length and finding.start < piece.at + piece.length and piece.at < finding.end
    ]
    if len({piece.pointer for piece, _, _ in touched}) < 2 and not any(piece.start < 0 for piece, _, _ in touched[:1]):
        return []
    if len(touched) < 2 or any(end - start < PIECE_CHARS_MIN for _, start, end in touched):
        return []
    value = over.text[finding.start : finding.end]
    if finding.type == "CREDIT_CARD":
        if not _card(over.text, touched, texts):
            return []
    elif finding.type.startswith("SECRET_"):
        if not _PREFIXED.fullmatch(value):
            return []
    elif finding.type != "IBAN_CODE":
        return []
    found = []
    for piece, start, end in touched:
        if piece.start < 0:
            continue
        begin, last = piece.start + start - piece.at, piece.start + end - piece.at
        mine = [item for item in own if item.pointer == piece.pointer and item.type == finding.type]
        if any(item.start <= begin and last <= item.end for item in mine):
            if finding.type != "IBAN_CODE" and not any(char.isdigit() for char in over.text[end : finding.end]):
                return []  # whole in itself: the neighbour's first word is no part of it
            continue
        found.append(replace(finding, start=begin, end=last, pointer=piece.pointer, by="joined"))
    return found
