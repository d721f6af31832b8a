"""Findings in a text that streams: what may go on now, and what waits because a finding could still grow out of it. Pure.

A window shows the detector what is held together with what has gone on before (`CONTEXT_CHARS`), so that a finding that is cut
over pieces is found in one of the views. What stays is the last run of words that names, numbers and keys are made of, and a
finding that touches the end. INVARIANT: nothing goes on that was not in a view, and a finding that a rule denies ends the
stream however much of it has gone on. Threat: personal data cut in two by chunks or events; a stream that makes the guard
hold without bound.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from agent_os.core.facts import Finding
from agent_os.guards.egress.findings import FindingRule, denied_by
from agent_os.guards.privacy.spans import resolve

CONTEXT_CHARS: Final = 512
"""Text that has gone on already and is looked at again beside what follows it."""
RUN_CHARS_MAX: Final = 256
"""The longest run of words that waits for what follows."""
WORD_CHARS_MAX: Final = 4096
"""The longest unfinished word that waits; of a longer one its end goes on with the rest."""
FINDING_CHARS_MAX: Final = 16_384
"""The longest finding that waits for its end (a private key)."""
_WORD: Final = re.compile(r"\S+")
_SHORT: Final = 3

Span = tuple[int, int, str]
"""Start, end and type of what a masking rule takes out of a text."""


class HeldFindingError(Exception):
    """A rule denies what was found; `types` names it."""

    def __init__(self, types: Sequence[str]) -> None:
        self.types = tuple(types)
        super().__init__(", ".join(types))


def open_tail(text: str) -> int:
    """Return the index from which a text could still become part of something worth finding.

    The unfinished last word, and before it the words with a digit or a capital that stand together (short ones between
    them included): `Ana de `, `DE89 3704 00`.
    """
    start = max(0, len(text) - WORD_CHARS_MAX)
    words = [(match.start() + start, match.end() + start) for match in _WORD.finditer(text[start:])]
    if not words:
        return len(text)
    cut = len(text)
    if words[-1][1] == len(text):
        cut = words.pop()[0]
    floor = len(text) - RUN_CHARS_MAX
    for begin, end in reversed(words):
        if begin < floor:
            break
        word = text[begin:end]
        if _telling(word):
            cut = begin
        elif end - begin > _SHORT:
            break
    return cut


def _telling(word: str) -> bool:
    letter = next((char for char in word if char.isalpha()), "")
    return letter.isupper() or any(char.isdigit() or char in "@=:_" for char in word)


def spans_of(found: Sequence[Finding], text: str, rules: Sequence[FindingRule]) -> list[Span]:
    """Return what masking rules take out of one text, in order. Raises HeldFindingError for what a rule denies."""
    if denied := denied_by(found, rules):
        raise HeldFindingError(denied)
    chosen = [item for item in found if any(rule.meets(item) for rule in rules)]
    return [(item.start, item.end, item.type) for item in resolve(chosen, text=text)]


def clipped(spans: Sequence[Span], start: int, end: int) -> list[Span]:
    """Return the spans of a text as those of `text[start:end]`."""
    return [(max(a, start) - start, min(b, end) - start, kind) for a, b, kind in spans if a < end and b > start]


def without(text: str, spans: Sequence[Span]) -> str:
    """Return a text with a mark in the place of each span (none where its type is empty); they may overlap."""
    out, edge = [], 0
    for begin, stop, kind in sorted(spans):
        out.append(text[edge : max(begin, edge)])
        if kind and begin >= edge:
            out.append(f"[REDACTED_{kind}]")
        edge = max(stop, edge)
    return "".join([*out, text[edge:]])


def release_point(text: str, spans: Sequence[Span], touching: Sequence[tuple[int, int]]) -> int:
    """Return how much of a view may go on: to its open tail, and never into a finding that may still grow.

    `touching` are (start, end) of all findings, of whatever rule: one that ends where the text does may go on growing.
    """
    cut = open_tail(text)
    for begin, stop in (*touching, *((begin, stop) for begin, stop, _ in spans)):
        if begin < cut and stop >= cut and len(text) - begin <= FINDING_CHARS_MAX:
            cut = begin
    return cut


def context(text: str) -> str:
    """Return the end of a text that stays in view, from the beginning of a word where there is one."""
    if len(text) <= CONTEXT_CHARS:
        return text
    kept = text[-CONTEXT_CHARS:]
    blank = re.search(r"\s", kept)
    return kept[blank.end() :] if blank is not None else kept


class TextWindow:
    """One plain text: `add` pieces, look at `texts()`, `release` what may go on."""

    def __init__(self, rules: Sequence[FindingRule]) -> None:
        self._rules = rules
        self._gone, self._held = "", ""

    @property
    def holds(self) -> bool:
        """Whether something waits."""
        return bool(self._held)

    def add(self, text: str, *, last: bool = False) -> None:
        """Take the next piece of the text."""
        self._held += text

    def texts(self) -> Mapping[str, str]:
        """Return what is to be looked at, by pointer."""
        return {"": self._gone + self._held} if self._held else {}

    def release(self, found: Sequence[Finding], *, everything: bool) -> str:
        """Return what goes on after a look; `everything`: nothing waits any longer. Raises HeldFindingError."""
        view, edge = self._gone + self._held, len(self._gone)
        spans = spans_of(found, view, self._rules)
        cut = len(view) if everything else release_point(view, spans, [(item.start, item.end) for item in found])
        cut = max(cut, edge)
        out = without(view[edge:cut], clipped(spans, edge, cut))
        self._gone, self._held = context(view[:cut]), view[cut:]
        return out
