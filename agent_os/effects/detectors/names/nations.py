"""Nationalities and religions by their words.

Pure computation. Threat: what a person believes or where he comes from leaves in a prompt.
"""
# ruff: noqa: E501 - word lists and expressions read better whole

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from agent_os.core.facts import Finding
from agent_os.effects.detectors.gazetteer import DEMONYMS

_NOT_NRP: Final = frozenset(
    "english finn dane turk swede scot pole thai lao arab jew igbo republican democrat polish orthodox christian german texan jordan briton welsh basque catalan persian georgian irish dominican latino latina guinean malian swiss samoan jordanian".split()
)


_FORMS: Final = frozenset(
    DEMONYMS | {word + "s" for word in DEMONYMS} | {word[:-2] + "en" for word in DEMONYMS if word.endswith("man")}
)
_LETTERS: Final = re.compile(r"[^\W\d_]+(?:-american)?")


def nationalities(text: str, lowered: str) -> Iterator[Finding]:
    """Nationalities and religions: capitalised, or in lower case where the word means nothing else."""
    for bare in _FORMS.intersection(_LETTERS.findall(lowered)):
        guarded = bare in _NOT_NRP
        place = lowered.find(bare)
        while place >= 0:
            end = place + len(bare)
            alone = (
                not (lowered[place - 1 : place].isalnum() or lowered[end : end + 1].isalnum())
                if place
                else not lowered[end : end + 1].isalnum()
            )
            capital = text[place].isupper()
            if alone and (capital or not guarded):
                yield Finding("NRP", place, end, 0.6 if capital else 0.5)
            place = lowered.find(bare, end)
