"""Companies and institutions in a run of capitalised words, by suffix, legal form or the words around.

Pure computation. Threat: a customer's or supplier's name that leaves in a prompt.
"""
# ruff: noqa: E501 - word lists and expressions read better whole

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from agent_os.core.facts import Finding
from agent_os.effects.detectors.gazetteer import ORG_HARD, ORG_SUFFIXES, Gazetteer
from agent_os.effects.detectors.names.cues import ORG_AFTER, ORG_CUE
from agent_os.effects.detectors.names.words import FUNCTION, UPPER, Word, before_word, ordinary, starts_sentence

_FORM: Final = re.compile(
    r"(?:[.,]?[ ]?(?:\((?:Holdings?|UK|US|USA|Pty|Group|International|Europe|REIT)\)|(?:PLC|Plc|plc|p\.l\.c|LTD|Ltd|ltd|INC|Inc|inc|LLC|llc|LLP|Limited|Corp|CORP|GmbH|Co|CO|S\.A|SA|N\.V|NV|B\.V|BV|S\.p\.A|SpA|AG|SE|KG|Pty|PTY|Holdings)"
    r"(?![A-Za-z])\.?(?: & Co\.? KG)?)){1,4}"
)
_TAIL: Final = re.compile(
    r" (?:S\.L\.(?:[LU]\.|N\.E\.?)?|S\.A\.(?:[US]\.|R\.L\.)?|S\.C\.P\.?|S\.Com\.|S\.Coop\.|[sS]\.[rR]\.[lL]\.(?:s\.)?|[sS]\.[nN]\.[cC]\.|[sS]\.[aA]\.[sS]\.|[sS]\.[pP]\.[aA]\.|SRL|SPA|SARL|SAS|EURL|SNC|SLU?|"
    r"(?:(?:GmbH|AG|OHG|UG)(?: mbH)?(?: & Co\.? (?:KGaA|KG|OHG)| KG)|GbR|gGmbH|KGaA|OHG|KG|mbH|e\. ?V\.|e\. ?G\.|e\. ?K\.|Stiftung)(?: & Co\.? ?(?:KGaA|KG|OHG)?)?(?: mbH)?|et Fils|e figli|& (?:S\u00f6hne|Sons|Fils|Figli|Partner))(?![\w])"
)
"""Legal forms of companies that hold dots or lower case, with the blank before them."""
_TAIL_GATE: Final = ("S.", "s.r", "s.n", "s.p", "s.a", "SRL", "SPA", "SAS", "SARL", "EURL", "SNC", "SL", "GmbH", "AG", "OHG", "KG", "GbR", "UG", "mbH", "e.", "Stiftung", "Fils", "igli", "hne", "Sons", "Partner")  # fmt: skip
_TAILED: Final = re.compile(
    rf"[{UPPER}][\w&'\u2019-]*(?:(?:, | y | e | & | und | et | and | de | del | di | )[{UPPER}][\w&'\u2019-]*){{0,6}}(?: y asociados)?$"
)
COMPANY_CHARS_MAX: Final = 90
_FIRM: Final = re.compile(
    rf"[{UPPER}][\w'\u2019-]+(?:, [{UPPER}][\w'\u2019-]+){{0,4}} (?:and|&|und|et|y|e) [{UPPER}][\w'\u2019-]+"
)


def companies_by_form(text: str) -> Iterator[Finding]:
    """Companies by a legal form that is no capitalised word: `Hermanos Mayol S.L.`, `Heuser e.V.`, `Castelli e Gadda s.r.l.`."""
    if not any(gate in text for gate in _TAIL_GATE):
        return
    for tail in _TAIL.finditer(text):
        low = max(0, tail.start() - COMPANY_CHARS_MAX)
        line = text.rfind("\n", low, tail.start()) + 1
        name = _TAILED.search(text[max(low, line) : tail.start()])
        if name is None:
            continue
        start = max(low, line) + name.start()
        first = text[start : tail.start()].partition(" ")[0]
        if first.lower() in FUNCTION and len(first) + start + 1 < tail.start():
            start += len(first) + 1
        yield Finding("ORGANIZATION", start, tail.end(), 0.79)


def organisation(text: str, lowered: str, run: list[Word], lists: Gazetteer, found: list[Finding]) -> list[Word]:
    """Take an organisation out of a run; return the words left."""
    last = hard = -1
    for index, word in enumerate(run):
        if word.bare == "limited" and index and run[index - 1].bare == "not":
            continue  # the words of every licence
        if word.bare in ORG_SUFFIXES and (index > 0 or word.bare in ORG_HARD):
            last = index
            hard = index if index and word.bare in ORG_HARD else hard
    form = _FORM.match(text, run[-1].end)
    if form and form.group().strip(" .,"):
        last = hard = len(run)
    if hard > 0:
        last = hard
    if last > 0:
        first = 0
        while first < min(last, len(run)) - 1 and run[first].bare in FUNCTION:
            first += 1
        if hard <= 0:
            while first < last - 1 and starts_sentence(run[first], text, lists):
                first += 1
            if last - first < 2 and all(ordinary(word, lists) for word in run[first : last + 1]):
                return run
            if last - first < 1 or (
                all(word.bare in lists.words for word in run[first:last]) and run[first].text.isupper()
            ):
                return run
        begin = run[min(first, len(run) - 1)].start
        end = run[-1].end if last >= len(run) else run[last].end
        more = _FORM.match(text, end)
        if more and hard > 0:
            end = more.end()
        found.append(Finding("ORGANIZATION", begin, end, 0.75 if hard > 0 else 0.6))
        return [word for word in run if word.start >= end]
    start, end = run[0].start, run[-1].end
    before = before_word(lowered, start)
    if ORG_CUE.search(before) or (ORG_AFTER.match(text, end) and run[0].bare not in lists.first):
        offset = 0
        while offset < len(run) - 1 and run[offset].bare in FUNCTION:
            offset += 1
        firm = _FIRM.match(text, run[offset].start)
        if firm:
            found.append(Finding("ORGANIZATION", firm.start(), firm.end(), 0.6))
            return [word for word in run if word.start >= firm.end()]
        if before.rstrip().endswith(" en") and lowered[run[offset].start : end] in lists.cities | lists.countries:
            return run
        if not (run[offset].bare in lists.words and offset == len(run) - 1):
            found.append(Finding("ORGANIZATION", run[offset].start, end, 0.55))
            return []
    return run
