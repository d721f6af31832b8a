"""Finds people, organisations, places and nationalities by word lists and the words around them, with no language model.

Pure computation over the lists of `gazetteer`. Runs of capitalised words are cut out once; each run is read left to right:
titles, cues ("my name is", "said"), given names, organisation suffixes, place names after prepositions. With a language model
installed its findings are joined with these (`ner.py`). Threat: names that leave in a prompt; and, as often complained about in
other products, every capitalised word taken for a person.
"""
# ruff: noqa: E501 - word lists and expressions read better whole

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from agent_os.core.facts import Finding
from agent_os.effects.detectors.gazetteer import (
    ABBREVIATED_TITLES,
    DEMONYMS,
    ORG_HARD,
    ORG_SUFFIXES,
    TITLES,
    Gazetteer,
    gazetteer,
    language,
)

KINDS: Final = frozenset({"PERSON", "LOCATION", "ORGANIZATION", "NRP"})
RUN_WORDS_MAX: Final = 16
LONE: Final = 0.42
"""Score of a single family name or an unknown word after a weak cue."""
_UPPER: Final = "A-Z\u00c0-\u00d6\u00d8-\u00de\u0100\u0102\u0104\u0106\u0108\u010a\u010c\u010e\u0110\u0112\u0116\u0118\u011a\u011e\u0122\u012a\u0130\u0136\u0139\u013b\u013d\u0141\u0143\u0145\u0147\u0150\u0152\u0154\u0158\u015a\u015e\u0160\u0162\u0164\u016a\u016e\u0170\u0172\u0178\u0179\u017b\u017d\u0386-\u03ab\u0400-\u042f"
_WORD: Final = re.compile(rf"(?<![\w@/])[{_UPPER}][^\W\d_]*(?:[-'\u2019&][^\W\d_]+)*(?!\w)\.?")
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


_NAME_CUE: Final = re.compile(
    r"(?:\bname(?:'s)?(?: is| was|:| to|=| on the account is)?|\bcall(?:ed|s)?(?: me| him| her)?|\bi'm|\bi am|\bthis is|\bhi|\bhello|\bdear|\bhey|\bregards,?|\bthanks,?|\bsincerely,?"
    r"|\bnamed(?: him| her)?|\bmeet|\bdaughter|\bson|\bwife|\bhusband|\bkid|\bkids?|\bbrother|\bsister|\bmother|\bfather|\bgrandfather|\bgrandmother|\bfriend|\buncle|\baunt|\bboss|\bassistant to"
    r"|\bpartner|\bcolleague|\buser:|\bauthor:?|\battn:?|\bcontact:?|\bguardian|\bsinger|\bplayer|\bproducer|\bsongwriter|\bcommenter|\bactor|\bactress|\bdirector|\bdirected by:?|\bwritten by|\bby|\bco-wrote with"
    r"|\bsays|\bsaid|\basked|\btold|\bstarring|\bartist|\bdoctor|\bpatient|\bclient|\bcustomer|\bemployee|\bmanager|\bfan of|\bfeatures|\bfeaturing|\bfollow up with|\bunder|\bjohn doe"
    r"|\bmein name ist|\bich hei\u00dfe|\bich bin|\bherr|\bfrau|\bhallo|\bliebe[r]?|\bje m'appelle|\bje suis|\bmonsieur|\bmadame|\bbonjour|\bcher|\bch\u00e8re|\bme llamo|\bsoy|\bmi nombre es|\bse\u00f1ora?|\bhola|\bestimad[oa]"
    r"|\bmi chiamo|\bsono|\bsignora?|\bciao|\bgentile|\bmaiden name is|\blast name\?|\bfirst name|\bex-\w+|\bpoet|\bnovelist|\bmaestro|\bcoach|\bmaiden name)[\s:\"'*>-]{1,4}$"
)
_STRONG_CUE: Final = re.compile(
    r"(?:\b(?:hallo|bonjour|bonsoir|hola|ciao|gr\u00fc\u00df(?:e|en)?|gru\u00df|cordialement|saludos?|saluti|wishes|regards|cheers|sincerely|patiente?|patientin|paciente|paziente|kundin|kunde|klient|se\u00f1ora?|signora?|sig\.|(?:cliente|client|kunde|nom|nombre|nome|nachname|apellidos?)\s?:),?|\bname(?:'s)?(?: is| was|:)|\bcall(?:ed|s)?(?: me| him| her)|\bmy name is|\bnamed(?: him| her)?|\bmein name ist|\bich hei\u00dfe|\bje m'appelle|\bme llamo|\bmi nombre es|\bmi chiamo"
    r"|\bhi|\bhello|\bdear|\bmr\.?|\bmrs\.?|\bms\.?|\bdr\.?|\bmiss|\bherr|\bfrau|\bmonsieur|\bmadame|\bpeople call me|\bmaiden name is|\bchange it to|\bcorrect it to|\baccount\? user:|\blast name\?|\byour name\?|\bunder)[\s:\"'*>-]{1,3}$"
)
_SAID: Final = re.compile(
    r"(?:'s|\u2019s)?,?\s{0,2}(?:(?:arbeitet|sagte|sagt|schrieb|wohnt|lebt|erkl\u00e4rte|bestellte|travaille|habite|d\u00e9clare|a (?:dit|\u00e9crit|d\u00e9clar\u00e9|sign\u00e9|command\u00e9)|trabaja|vive|dijo|escribi\u00f3|firm\u00f3|"
    r"lavora|abita|ha (?:detto|scritto|firmato|ordinato)|approved|closed|signed|sent|called|reported|opened|confirmed|requested|submitted|reviewed|booked|ordered|emailed|joined|resigned|will follow up|followed up)\b|said|says|asked|told|wrote|writes|replied|shouted|explained|lives|lived|listed|began|who|had given|had|spoke|speaks|will be talking|is very|is from|was born|was a huge"
    r"|was impressed|is a very|is an?|has|and i\b|,? can i\b|spent|works|worked|moved|flew|got|just|'s (?:daughter|son|wife|husband|address|kid|killers)|concert|version|novel|novels|speak|please|so impulsive|under debate)"
)
_PERSONAL: Final = re.compile(
    r"(?:,? (?:has worked for|will follow up|trabaja (?:en|para)|lavora (?:per|presso)|travaille chez|arbeitet|approved|signed|emailed|closed the|confirmed|resigned|said|says|asked|told|replied|shouted|whispered|laughed|smiled|lives|lived|spoke|walked|thinks|loves|married|spent|moved|flew|had given|wrote (?:to|back)|was born|just has to)\b"
    r"|, can i |(?:'s|\u2019s) (?:daughter|son|wife|husband|mother|father|sister|brother|kid|kids|address|phone|name|birthday)\b)"
)
_PLACE_CUE: Final = re.compile(
    r"(?:\bin|\bfrom|\bto|\bnear|\bvisit(?:ing|ed)?|\bvia|\btowards?|\bleaving|\barrived (?:at|in)|\bacross|\bthrough|\boutside|\bdowntown|\bcity of|\bcity|\bcountry|\bwhere:|\btown of|\bstreet in|\bserving|\bat|\bvisited"
    r"|\bin der|\bin|\baus|\bnach|\b\u00e0|\ben|\bde|\ba|\bda|\bdi)[\s:]{1,3}$"
)
_TO_SOMEBODY: Final = re.compile(
    r"\b(?:according|thanks|spoke|talked|wrote|written|write|reports?|reported|belongs?|due|listen|given|assigned) to $"
)
_STRONG_PLACE_CUE: Final = re.compile(
    r"(?:\blives? in|\blived in|\blive in|\bliving in|\bmoved here from|\boriginally from|\btravell?ing to|\bborn in|\bflew to|\breturned to|\bhome city|\bbased in|\bgrew up in|\btrip to|\bgo to|\bgoing to|\bi am in|\bi'm in|\bwithdraw from|\bstreet in"
    r"|\boffices? in|\bmove to|\bmoved to|\barrived (?:at|in)|\bcoming to|\buniversity of|\bfriend lives in|\bwohne in|\bwohnt in|\bhabite \u00e0|\bvivo en|\babito a|\bcelebrating its \w+ year in|\bplane to|\btrain to|\bcity:|\bcountry:|\bstate:|\bwhere:)\s{1,2}$"
)
_ORG_CUE: Final = re.compile(
    r"(?:\bwork(?:s|ed|ing)? (?:for|at)|\bemployed (?:by|at)|\bceo of|\bcfo of|\bcto of|\bfounder of|\bfounded|\baccount at|\bjoined|\baddress of|\brecorded for|\baccording to the|\binvested in|\byear at|\bfounders of|\blooking to support"
    r"|\bsubsidiary of|\bacquired by|\bsold to|\bpartner at|\bshares of|\barbeitet? bei(?: der)?|\bjahren bei(?: der)?|\btravaille chez|\btrabajo en|\btrabaja (?:en|para)|\blavor[oa] (?:per|presso)|\blater became|\bcompany)\s{1,2}(?:the )?$"
)
_ORG_AFTER: Final = re.compile(
    r"(?:'s|\u2019s)?\s{0,2}(?:office|website|headquarters|employees|shares|stock|orchestra|is the brainchild|is a design agency|is an? (?:\w+ ){0,3}(?:company|bank|firm|agency|startup)|invested|announced|acquired|songwriter|was founded)\b",
    re.I,
)
_SURNAME: Final = re.compile(
    r"(?:ova|eva|ov|ev|in|ina|sky|ska|ski|skaya|cka|cki|czyk|wicz|witz|enko|chuk|yuk|yan|ian|shvili|dze|son|sson|dottir|d\u00f3ttir|sen|berg|stein|mann|bauer|meyer|maier|hoff|feld|wald|thal|bach|brandt|stra|sma|inga|ema"
    r"|ez|es|as|is|os|elli|etti|ini|ucci|acci|ello|aldi|oni|ari|ante|eau|eux|aud|ard|ier|iere|nen|l\u00e4|la|oja|ki|ic|i\u0107|vic|ovi\u0107|ek|ik|\u00edk|\u00e1k|ov\u00e1|\u00e1|y|\u00fd|escu|eanu|oglu|oz|ton|ley|ford|worth|wood|field|well|ham|man|gren|qvist|quist|str\u00f6m|lund|dahl|vik|stad|haug)$"
)  # fmt: skip


_OPENERS: Final = frozenset(
    "hallo hello hi hey dear bonjour bonsoir hola ciao liebe lieber cher ch\u00e8re estimado estimada gentile patient patientin patiente paciente paziente kunde kundin client cliente customer".split()
)
"""Words that are capitalised themselves and announce a name."""
_BY_CUE: Final = re.compile(
    r"(?:\b(?:par|durch|por|da|von|according to|selon|laut|seg\u00fan|secondo|f\u00fchrte|redact\u00f3|firm\u00f3|unterschrieb)|\b(?:and|y|et) )\s{0,2}$"
)
"""Before a family name that is nothing else."""


def _french_or_spanish_title(word: Word, lowered: str) -> bool:
    """Whether `M.` stands for Monsieur, or `D.` for Don: a matter of the language around it."""
    return (word.text == "M." and language(lowered) == "fr") or (word.text == "D." and language(lowered) == "es")


class NameFinder:
    """Finds names by lists and cues; the lists are loaded when first needed."""

    def __init__(self) -> None:
        self._lists: Gazetteer | None = None

    def find(self, text: str, lowered: str) -> list[Finding]:
        """Return findings of KINDS in one text; `lowered` is the text in lower case, of the same length."""
        found: list[Finding] = list(_demonyms(text, lowered))
        lists = self._lists or gazetteer()
        self._lists = lists
        seen: set[str] = set()
        for run in runs(text):
            _read_run(text, lowered, run, lists, found, seen)
        found.extend(_lower_names(lowered, lists))
        found.extend(_with_forms(text))
        if language(lowered) == "de":  # every noun has a capital there: a lone one without a cue is no evidence
            found = [item for item in found if item.type != "PERSON" or item.score > LONE]
        return found


def _before(lowered: str, start: int) -> str:
    return lowered[max(0, start - 34) : start]


def _read_run(text: str, lowered: str, run: list[Word], lists: Gazetteer, found: list[Finding], seen: set[str]) -> None:
    if len(run) == 1 and len(run[0].bare) < 2:
        return
    rest = _organisation(text, lowered, run, lists, found)
    index = 0
    while index < len(rest):
        taken = _place(text, lowered, rest, index, lists, found) or _person(
            text, lowered, rest, index, lists, found, seen
        )
        index += max(1, taken)


# ---- organisations --------------------------------------------------------------------------------------------------


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
    rf"[{_UPPER}][\w&'\u2019-]*(?:(?:, | y | e | & | und | et | and | de | del | di | )[{_UPPER}][\w&'\u2019-]*){{0,6}}(?: y asociados)?$"
)
COMPANY_CHARS_MAX: Final = 90
_FIRM: Final = re.compile(
    rf"[{_UPPER}][\w'\u2019-]+(?:, [{_UPPER}][\w'\u2019-]+){{0,4}} (?:and|&|und|et|y|e) [{_UPPER}][\w'\u2019-]+"
)


def _with_forms(text: str) -> Iterator[Finding]:
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
        if first.lower() in _FUNCTION and len(first) + start + 1 < tail.start():
            start += len(first) + 1
        yield Finding("ORGANIZATION", start, tail.end(), 0.79)


_FUNCTION: Final = frozenset(
    "the a an in at on by for from to of with and or but if when while then my our your his her their its this that these those i we you he she they it is are was were do does did "
    "please dear hello hi yes no not why what where who how today yesterday tomorrow after before since during about as also both all each every der die das le la les el los il".split()
)


def _organisation(text: str, lowered: str, run: list[Word], lists: Gazetteer, found: list[Finding]) -> list[Word]:
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
        while first < min(last, len(run)) - 1 and run[first].bare in _FUNCTION:
            first += 1
        if hard <= 0:
            while first < last - 1 and _sentence_start(run[first], text, lists):
                first += 1
            if last - first < 2 and all(_common(word, lists) for word in run[first : last + 1]):
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
    before = _before(lowered, start)
    if _ORG_CUE.search(before) or (_ORG_AFTER.match(text, end) and run[0].bare not in lists.first):
        offset = 0
        while offset < len(run) - 1 and run[offset].bare in _FUNCTION:
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


def _sentence_start(word: Word, text: str, lists: Gazetteer) -> bool:
    """Whether a capitalised word is capitalised only because a sentence begins."""
    if word.bare not in lists.words or (len(word.text) > 1 and word.text.isupper()):
        return False
    before = text[max(0, word.start - 3) : word.start].rstrip(" \"'(\u201c")
    return not before or before[-1] in ".!?:\n>"


# ---- places ---------------------------------------------------------------------------------------------------------


def _place(text: str, lowered: str, run: list[Word], index: int, lists: Gazetteer, found: list[Finding]) -> int:
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
        before = _before(lowered, part[0].start)
        cued = bool(_PLACE_CUE.search(before)) and not _TO_SOMEBODY.search(before)
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
            if _NAME_CUE.search(before) and not cued and not country:
                continue
        found.append(Finding("LOCATION", part[0].start, part[-1].end, 0.8 if country else 0.7 if cued else 0.55))
        return size
    first = run[index]
    if index == 0 and _STRONG_PLACE_CUE.search(_before(lowered, first.start)):
        size = 1
        while size < len(run) and size < 4 and run[size].bare not in lists.words:
            size += 1
        if first.bare not in lists.words or size > 1:
            known = first.bare in lists.first and not re.search(
                r"(?:\bin|city:?|where:)\s+$", _before(lowered, first.start)
            )
            if not known:
                found.append(Finding("LOCATION", first.start, run[size - 1].end, 0.5))
                return size
    return 0


# ---- people ---------------------------------------------------------------------------------------------------------


def _person(
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
    opens = index == 0 or run[index - 1].bare in _OPENERS
    before = _before(lowered, word.start) if opens else ""
    cue = bool(before and _NAME_CUE.search(before))
    strong = bool(before and _STRONG_CUE.search(before))
    given, common = word.bare in lists.first, _common(word, lists)
    family = word.bare in lists.last
    if word.text.isupper() and len(word.text) > 1 and not (len(run) - index >= 2 and given):
        if not (cue and (given or family)):
            return 0
    size = _extent(run, index, lists, titled=strong)
    part = run[index : index + size]
    full = [item for item in part if len(item.bare) > 1]
    if size == 0 or not full:
        return 0
    after = bool(_SAID.match(lowered, part[-1].end))
    street = size >= 2 and part[-1].bare in _STREETS and not strong
    if street and not (part[-1].bare in lists.last and given and after) and part[-1].bare not in lists.first:
        if before[-2:-1].isdigit() or _PLACE_CUE.search(before):
            found.append(Finding("LOCATION", part[0].start, part[-1].end, 0.5))
        return size
    if size >= 2:
        known = sum(item.bare in lists.first or item.bare in lists.last for item in full)
        rare = sum(not _common(item, lists) for item in full)
        owned = text[max(0, word.start - 3) : word.start - 1] in ("'s", "\u2019s")
        shaped = bool(_SURNAME.search(full[-1].bare))
        initial = any(len(item.bare) == 1 for item in part[1:])
        if given and (not common or (known >= 2 and not _sentence_start(word, text, lists))) and rare:
            score = 0.85
        elif (given and common and known >= 2 and rare == 0 and (cue or after)) or (
            given
            and known >= 2
            and full[-1].bare in lists.last
            and not _common(full[-1], lists)
            and (cue or after or full[-1].bare not in lists.cities)
        ):
            score = 0.6
        elif strong or (cue and rare == len(full)):
            score = 0.7
        elif common:
            return 0
        elif known and rare == len(full):
            score = 0.6
        elif rare == len(full) and (shaped or initial or after) and not owned:
            score = 0.5
        else:
            return 0
        _add(found, part, score, seen)
        return size
    if word.bare in seen and not common:
        _add(found, part, 0.6, seen)
        return 1
    if len(word.bare) < 3 and not (strong and given):
        return 0
    lone = word.bare in lists.cities or word.bare in DEMONYMS
    if word.bare in lists.countries and not strong:
        return 0
    if given and not common:
        score = 0.6 if cue or strong or after else 0.5
        if lone and not (cue or strong):
            return 0
    elif given and common and (strong or (cue and not _sentence_start(word, text, lists))):
        score = 0.5
    elif strong and not common and (family or not lone):
        score = 0.6
    elif (cue or after) and not common and not lone and (family or _SURNAME.search(word.bare)):
        score = 0.5
    elif (
        (family and not common and _PERSONAL.match(lowered, word.end))
        or (family and not common and not lone and opens and _BY_CUE.search(before))
        or (
            family
            and common
            and word.text[1:].islower()
            and _PERSONAL.match(lowered, word.end)
            and not _sentence_start(word, text, lists)
        )
    ):
        score = 0.45
    elif (
        family
        and not common
        and not lone
        and len(word.bare) > 3
        and not word.text.isupper()
        and not _sentence_alone(text, word)
    ) or ((cue or _PERSONAL.match(lowered, word.end)) and not common and not lone and not word.text.isupper()):
        score = LONE
    else:
        return 0
    _add(found, part, score, seen)
    return 1


def _sentence_alone(text: str, word: Word) -> bool:
    """Whether a word is alone on its line: a heading, a label or a code, not a person."""
    return text[word.end : word.end + 1] in (":", "=", "(", "_", "/", "\\")


_WORD_ENDING: Final = re.compile(
    r".{3,}(?:tion|tions|ment|ments|ness|ity|ous|ful|ally|ably|able|ible|ism|isms|ary|ive|ence|ance|ures|ings?|less|ships?|ware|ology|istic|ized?|ization)$"
)
_STREETS: Final = frozenset(
    "street st avenue ave road rd lane drive boulevard blvd court square terrace parkway circle close crescent gardens grove highway row alley plaza cove dam islands island mills club crossing "
    "village ville station heights fort pass loop trail fields bridge harbor harbour beach creek valley lake lakes ridge views meadow meadows springs junction via".split()
)


def _common(word: Word, lists: Gazetteer) -> bool:
    """Whether a word is an ordinary one: listed, or with the ending of a derived word and in no list of names."""
    if word.bare in lists.words:
        return True
    return word.bare not in lists.first and word.bare not in lists.last and _WORD_ENDING.match(word.bare) is not None


def _extent(run: list[Word], index: int, lists: Gazetteer, *, titled: bool) -> int:
    """Return how many words from `index` on look like one person's name."""
    size = 0
    while index + size < len(run) and size < 5:
        item = run[index + size]
        if item.bare in ORG_SUFFIXES and size:
            break
        if size and item.linked:
            break
        common = _common(item, lists) and item.bare not in lists.last
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


def _lower_names(lowered: str, lists: Gazetteer) -> Iterator[Finding]:
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


# ---- nationalities --------------------------------------------------------------------------------------------------

_NOT_NRP: Final = frozenset(
    "english finn dane turk swede scot pole thai lao arab jew igbo republican democrat polish orthodox christian german texan jordan briton welsh basque catalan persian georgian irish dominican latino latina guinean malian swiss samoan jordanian".split()
)


_FORMS: Final = frozenset(
    DEMONYMS | {word + "s" for word in DEMONYMS} | {word[:-2] + "en" for word in DEMONYMS if word.endswith("man")}
)
_LETTERS: Final = re.compile(r"[^\W\d_]+(?:-american)?")


def _demonyms(text: str, lowered: str) -> Iterator[Finding]:
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
