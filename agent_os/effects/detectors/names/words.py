"""Runs of capitalised words, and what is said of one word: ordinary or not, the first of a sentence or not.

Pure computation. Threat: every capitalised word taken for a person, as often complained about in other products.
"""
# ruff: noqa: E501 - word lists and expressions read better whole

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from agent_os.effects.detectors.gazetteer import ABBREVIATED_TITLES, Gazetteer

RUN_WORDS_MAX: Final = 16
CUE_CHARS: Final = 34
"""How far before a word its cue may begin."""
UPPER: Final = "A-Z\u00c0-\u00d6\u00d8-\u00de\u0100\u0102\u0104\u0106\u0108\u010a\u010c\u010e\u0110\u0112\u0116\u0118\u011a\u011e\u0122\u012a\u0130\u0136\u0139\u013b\u013d\u0141\u0143\u0145\u0147\u0150\u0152\u0154\u0158\u015a\u015e\u0160\u0162\u0164\u016a\u016e\u0170\u0172\u0178\u0179\u017b\u017d\u0386-\u03ab\u0400-\u042f"
_WORD: Final = re.compile(rf"(?<![\w@/])[{UPPER}][^\W\d_]*(?:[-'\u2019&][^\W\d_]+)*(?!\w)\.?")
_GAP: Final = re.compile(
    r" {1,2}(?:(?:de|da|do|dos|das|del|della|di|du|van|von|der|den|ten|ter|zu|bin|ibn|al|el|af|av|la|le|los|of|and|for|&|the|y) ){0,2}"
)
_LINK: Final = re.compile(r"\b(?:and|of|for|the|y)\b|&")
_LOWER_PARTS: Final = re.compile(r"[^\W\d_]+")


@dataclass(slots=True)
class Word:
    """One capitalised word of a run: `bare` is lower case without a trailing dot or possessive."""

    start: int
    end: int
    text: str
    bare: str
    linked: bool = False
    """Joined to the word before it by `and`, `of`, `&` and the like: one name for an organisation, two for people."""


def runs(text: str) -> Iterator[list[Word]]:
    """Yield runs of capitalised words that stand beside each other (particles of names may stand between)."""
    run: list[Word] = []
    for match in _WORD.finditer(text):
        start, end = match.span()
        word = match.group()
        if word.endswith(".") and not _keeps_dot(word):
            word, end = word[:-1], end - 1
        if word[0] == "I" and word[1:2] in ("'", "\u2019"):
            continue
        bare = word.lower().rstrip(".")
        for ending in ("'s", "\u2019s"):
            if bare.endswith(ending):
                bare, word, end = bare[:-2], word[:-2], end - 2
        linked = False
        if run:
            gap = text[run[-1].end : start]
            linked = len(gap) > 2 and _LINK.search(gap) is not None
            joined = (gap in (" ", "  ") or (len(gap) < 14 and _GAP.fullmatch(gap) is not None)) and len(
                run
            ) < RUN_WORDS_MAX
            if not joined:
                yield run
                run = []
        run.append(Word(start, end, word, bare, linked))
    if run:
        yield run


def _keeps_dot(word: str) -> bool:
    bare = word[:-1].lower()
    return (
        len(bare) == 1
        or bare in ABBREVIATED_TITLES
        or bare in ("inc", "ltd", "corp", "co", "llc", "bros", "mt", "ste", "s.a", "plc")
        or "." in bare
    )


def before_word(lowered: str, start: int) -> str:
    return lowered[max(0, start - 34) : start]


def starts_sentence(word: Word, text: str, lists: Gazetteer) -> bool:
    """Whether a capitalised word is capitalised only because a sentence begins."""
    if word.bare not in lists.words or (len(word.text) > 1 and word.text.isupper()):
        return False
    before = text[max(0, word.start - 3) : word.start].rstrip(" \"'(\u201c")
    return not before or before[-1] in ".!?:\n>"


_WORD_ENDING: Final = re.compile(
    r".{3,}(?:tion|tions|ment|ments|ness|ity|ous|ful|ally|ably|able|ible|ism|isms|ary|ive|ence|ance|ures|ings?|less|ships?|ware|ology|istic|ized?|ization)$"
)


def ordinary(word: Word, lists: Gazetteer) -> bool:
    """Whether a word is an ordinary one: listed, or with the ending of a derived word and in no list of names."""
    if word.bare in lists.words:
        return True
    return word.bare not in lists.first and word.bare not in lists.last and _WORD_ENDING.match(word.bare) is not None


FUNCTION: Final = frozenset(
    "the a an in at on by for from to of with and or but if when while then my our your his her their its this that these those i we you he she they it is are was were do does did "
    "please dear hello hi yes no not why what where who how today yesterday tomorrow after before since during about as also both all each every der die das le la les el los il".split()
)
