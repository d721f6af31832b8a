"""People in a run of capitalised words: titles, cues, given and family names, and the words behind them.

Pure computation. Threat: a person's name that leaves in a prompt; and every unknown capitalised word taken for one.
"""
# ruff: noqa: E501 - word lists and expressions read better whole

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from agent_os.core.facts import Finding
from agent_os.effects.detectors.gazetteer import DEMONYMS, ORG_SUFFIXES, TITLES, Gazetteer, language
from agent_os.effects.detectors.names.cues import (
    BY_CUE,
    NAME_CUE,
    OPENERS,
    PERSONAL,
    PLACE_CUE,
    SAID,
    STRONG_CUE,
    SURNAME,
)
from agent_os.effects.detectors.names.words import Word, before_word, ordinary, starts_sentence

LONE: Final = 0.42
"""Score of a single family name or an unknown word after a weak cue."""
_STREETS: Final = frozenset(
    "street st avenue ave road rd lane drive boulevard blvd court square terrace parkway circle close crescent gardens grove highway row alley plaza cove dam islands island mills club crossing "
    "village ville station heights fort pass loop trail fields bridge harbor harbour beach creek valley lake lakes ridge views meadow meadows springs junction via".split()
)


def _french_or_spanish_title(word: Word, lowered: str) -> bool:
    """Whether `M.` stands for Monsieur, or `D.` for Don: a matter of the language around it."""
    return (word.text == "M." and language(lowered) == "fr") or (word.text == "D." and language(lowered) == "es")


@dataclass(frozen=True, slots=True)
class _Signs:
    """What stands for and against a word being the first of somebody's name."""

    opens: bool
    """First of its run, or behind a greeting."""
    before: str
    cue: bool
    strong: bool
    """A cue that announces a person and nothing else."""
    after: bool
    """What follows is what people do: `said`, `lives`."""
    given: bool
    family: bool
    common: bool
    """An ordinary word of the language."""


def person(
    text: str, lowered: str, run: list[Word], index: int, lists: Gazetteer, found: list[Finding], seen: set[str]
) -> int:
    """Take a person's name that begins at `index`; return how many words it took."""
    word = run[index]
    if word.bare in TITLES or (index == 0 and _french_or_spanish_title(word, lowered)):
        if index + 1 < len(run) and (len(run[index + 1].bare) > 1 or index + 2 < len(run)):
            size = _extent(run, index + 1, lists, titled=True)
            _add(found, run[index + 1 : index + 1 + size], 0.85, seen)
            return size + 1
        return 1
    opens = index == 0 or run[index - 1].bare in OPENERS
    before = before_word(lowered, word.start) if opens else ""
    cue, strong = bool(before and NAME_CUE.search(before)), bool(before and STRONG_CUE.search(before))
    given, family = word.bare in lists.first, word.bare in lists.last
    if word.text.isupper() and len(word.text) > 1 and not (len(run) - index >= 2 and given):
        if not (cue and (given or family)):
            return 0
    size = _extent(run, index, lists, titled=strong)
    part = run[index : index + size]
    if not any(len(item.bare) > 1 for item in part):
        return 0
    after = bool(SAID.match(lowered, part[-1].end))
    if _is_street(part, lists, given=given, after=after, strong=strong):
        if before[-2:-1].isdigit() or PLACE_CUE.search(before):
            found.append(Finding("LOCATION", part[0].start, part[-1].end, 0.5))
        return size
    signs = _Signs(opens, before, cue, strong, after, given, family, ordinary(word, lists))
    if size >= 2:
        score = _full_name(text, part, lists, signs)
    elif word.bare in seen and not signs.common:
        score = 0.6
    else:
        score = _single_name(text, lowered, word, lists, signs)
    if score:
        _add(found, part, score, seen)
    return size if score else 0


def _is_street(part: list[Word], lists: Gazetteer, *, given: bool, after: bool, strong: bool) -> bool:
    last = part[-1].bare
    if len(part) < 2 or last not in _STREETS or strong or last in lists.first:
        return False
    return not (last in lists.last and given and after)


def _full_name(text: str, part: list[Word], lists: Gazetteer, signs: _Signs) -> float:
    """Return the score of several words as one person's name; 0: not a name."""
    full = [item for item in part if len(item.bare) > 1]
    family = full[-1]
    known = sum(item.bare in lists.first or item.bare in lists.last for item in full)
    rare = sum(not ordinary(item, lists) for item in full)
    if signs.given and rare and (not signs.common or (known >= 2 and not starts_sentence(part[0], text, lists))):
        return 0.85
    if signs.given and known >= 2:
        if signs.common and rare == 0 and (signs.cue or signs.after):
            return 0.6
        if family.bare in lists.last and not ordinary(family, lists):
            if signs.cue or signs.after or family.bare not in lists.cities:
                return 0.6
    if signs.strong or (signs.cue and rare == len(full)):
        return 0.7
    if signs.common or rare < len(full):
        return 0.0
    if known:
        return 0.6
    owned = text[max(0, part[0].start - 3) : part[0].start - 1] in ("'s", "\u2019s")
    initial = any(len(item.bare) == 1 for item in part[1:])
    return 0.5 if not owned and (initial or signs.after or SURNAME.search(family.bare)) else 0.0


def _single_name(text: str, lowered: str, word: Word, lists: Gazetteer, signs: _Signs) -> float:
    """Return the score of one word as a person's name; 0: not a name."""
    given, common, strong = signs.given, signs.common, signs.strong
    if (len(word.bare) < 3 and not (strong and given)) or (word.bare in lists.countries and not strong):
        return 0.0
    elsewhere = word.bare in lists.cities or word.bare in DEMONYMS
    if given and not common:
        if elsewhere and not (signs.cue or strong):
            return 0.0
        return 0.6 if signs.cue or strong or signs.after else 0.5
    opening = starts_sentence(word, text, lists)
    if given and (strong or (signs.cue and not opening)):
        return 0.5
    personal = PERSONAL.match(lowered, word.end) is not None
    if common:  # an ordinary word that is a family name too, doing what people do
        return 0.45 if signs.family and word.text[1:].islower() and personal and not opening else 0.0
    if strong and (signs.family or not elsewhere):
        return 0.6
    if not elsewhere and (signs.cue or signs.after) and (signs.family or SURNAME.search(word.bare)):
        return 0.5
    if signs.family and (personal or (not elsewhere and signs.opens and BY_CUE.search(signs.before))):
        return 0.45
    if elsewhere or word.text.isupper():
        return 0.0
    if signs.cue or personal:
        return LONE
    return LONE if signs.family and len(word.bare) > 3 and not _sentence_alone(text, word) else 0.0


def _sentence_alone(text: str, word: Word) -> bool:
    """Whether a word is alone on its line: a heading, a label or a code, not a person."""
    return text[word.end : word.end + 1] in (":", "=", "(", "_", "/", "\\")


def _extent(run: list[Word], index: int, lists: Gazetteer, *, titled: bool) -> int:
    """Return how many words from `index` on look like one person's name."""
    size = 0
    while index + size < len(run) and size < 5:
        item = run[index + size]
        if item.bare in ORG_SUFFIXES and size:
            break
        if size and item.linked:
            break
        common = ordinary(item, lists) and item.bare not in lists.last
        if size and common and len(item.bare) > 1 and not (titled and size == 1 and item.bare not in ("is", "and")):
            break
        if size and item.bare in TITLES and item.bare not in lists.last:
            break
        size += 1
        if item.text.endswith(".") and len(item.bare) > 1 and size > 1:
            break
    return size


def _add(found: list[Finding], part: list[Word], score: float, seen: set[str]) -> None:
    if part:
        found.append(Finding("PERSON", part[0].start, part[-1].end, score))
        if len(part) > 1 and score >= 0.6:
            seen.update(item.bare for item in part if len(item.bare) > 3)


_LOWER_NAME: Final = re.compile(
    r"(?:\bmy name is|\bname is|\bpeople call me|\beveryone calls me|\bnamed (?:him|her)|\bms\.|\bmr\.|\bmrs\.|\bhi|\bit's under|\bmy partner's name|\bmaiden name is|\bme llamo|\bje m'appelle|\bich hei\u00dfe|\bmi chiamo|\bwhat's your name\?)"
    r" ([^\W\d_]{2,20}(?: (?:[^\W\d_]\. )?[^\W\d_]{2,20})?)"
)


def lower_case_names(lowered: str, lists: Gazetteer) -> Iterator[Finding]:
    """Names written in lower case, after a cue that leaves no doubt."""
    if "name" not in lowered and "call" not in lowered and " m" not in lowered and not lowered.startswith("hi "):
        return
    for match in _LOWER_NAME.finditer(lowered):
        words = match.group(1).split()
        end = match.end(1)
        if len(words) > 1 and (words[-1] in lists.words or words[-1] in ("and", "but", "is")):
            end -= len(words[-1]) + 1
            words = words[:-1]
        if words and words[0] not in lists.words and (words[0] in lists.first or words[-1] in lists.last):
            yield Finding("PERSON", match.start(1), end, 0.5)
