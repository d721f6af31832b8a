"""Finds people, organisations, places and nationalities by word lists and the words around them, with no language model.

Pure computation over the lists of `gazetteer`. Runs of capitalised words are cut out once and read left to right. With a language
model installed its findings are joined with these (`ner.py`). Threat: names that leave in a prompt.
"""

from __future__ import annotations

from typing import Final

from agent_os.core.facts import Finding
from agent_os.effects.detectors.gazetteer import Gazetteer, gazetteer, language
from agent_os.effects.detectors.names.nations import nationalities
from agent_os.effects.detectors.names.organisations import companies_by_form, organisation
from agent_os.effects.detectors.names.people import LONE, lower_case_names, person
from agent_os.effects.detectors.names.places import place
from agent_os.effects.detectors.names.words import Word, runs

KINDS: Final = frozenset({"PERSON", "LOCATION", "ORGANIZATION", "NRP"})


class NameFinder:
    """Finds names by lists and cues; the lists are loaded when first needed."""

    def __init__(self) -> None:
        self._lists: Gazetteer | None = None

    def find(self, text: str, lowered: str) -> list[Finding]:
        """Return findings of KINDS in one text; `lowered` is the text in lower case, of the same length."""
        found: list[Finding] = list(nationalities(text, lowered))
        lists = self._lists or gazetteer()
        self._lists = lists
        seen: set[str] = set()
        for run in runs(text):
            _read_run(text, lowered, run, lists, found, seen)
        found.extend(lower_case_names(lowered, lists))
        found.extend(companies_by_form(text))
        if language(lowered) == "de":  # every noun has a capital there: a lone one without a cue is no evidence
            found = [item for item in found if item.type != "PERSON" or item.score > LONE]
        return found


def _read_run(text: str, lowered: str, run: list[Word], lists: Gazetteer, found: list[Finding], seen: set[str]) -> None:
    if len(run) == 1 and len(run[0].bare) < 2:
        return
    rest = organisation(text, lowered, run, lists, found)
    index = 0
    while index < len(rest):
        taken = place(text, lowered, rest, index, lists, found) or person(
            text, lowered, rest, index, lists, found, seen
        )
        index += max(1, taken)
