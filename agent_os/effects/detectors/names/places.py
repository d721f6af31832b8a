"""Places in a run of capitalised words, by lists of countries and cities and by prepositions before them.

Pure computation. Threat: an address or a home town that leaves in a prompt; a family name taken for a town.
"""

from __future__ import annotations

import re

from agent_os.core.facts import Finding
from agent_os.effects.detectors.gazetteer import TITLES, Gazetteer
from agent_os.effects.detectors.names.cues import NAME_CUE, PLACE_CUE, STRONG_PLACE_CUE, TO_SOMEBODY
from agent_os.effects.detectors.names.words import Word, before_word


def place(text: str, lowered: str, run: list[Word], index: int, lists: Gazetteer, found: list[Finding]) -> int:
    """Take a place that begins at `index`; return how many words it took."""
    if index and run[index - 1].bare in TITLES:
        return 0
    for size in (4, 3, 2, 1):
        part = run[index : index + size]
        if len(part) < size or (size == 1 and len(part[0].bare) < 3 and part[0].text not in ("UK", "US")):
            continue
        name = lowered[part[0].start : part[-1].end].rstrip(".")
        country = name in lists.countries
        if not country and name not in lists.cities:
            continue
        before = before_word(lowered, part[0].start)
        cued = bool(PLACE_CUE.search(before)) and not TO_SOMEBODY.search(before)
        if size == 1:
            follower = run[index + 1] if index + 1 < len(run) else None
            ambiguous = name in lists.first or name in lists.last or name in lists.words
            if (
                follower is not None
                and not country
                and (follower.bare in lists.last or follower.bare not in lists.words)
                and ambiguous
                and not cued
            ):
                continue
            if ambiguous and not cued and not country:
                continue
            if country and name in lists.first and not cued:
                continue
            if NAME_CUE.search(before) and not cued and not country:
                continue
        found.append(Finding("LOCATION", part[0].start, part[-1].end, 0.8 if country else 0.7 if cued else 0.55))
        return size
    first = run[index]
    if index == 0 and STRONG_PLACE_CUE.search(before_word(lowered, first.start)):
        size = 1
        while size < len(run) and size < 4 and run[size].bare not in lists.words:
            size += 1
        if first.bare not in lists.words or size > 1:
            known = first.bare in lists.first and not re.search(
                r"(?:\bin|city:?|where:)\s+$", before_word(lowered, first.start)
            )
            if not known:
                found.append(Finding("LOCATION", first.start, run[size - 1].end, 0.5))
                return size
    return 0
