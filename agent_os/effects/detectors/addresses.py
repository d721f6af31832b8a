"""Finds postal addresses: a street with a number, and everything of the address that follows it.

Pure computation. An address is grown from a core (number and street, street and number, a flat, a cue such as "lives at")
over the lines and parts that follow: flats, towns, states, postal codes, countries. Threat: the town and the code of an address
that stay behind when only its street is taken out.
"""
# ruff: noqa: E501 - expressions read better whole

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from agent_os.core.facts import Finding
from agent_os.effects.detectors.gazetteer import gazetteer

PARTS_MAX: Final = 14
_CAP: Final = "[A-Z\u00c0-\u00d6\u00d8-\u00de\u0100-\u017d\u0386-\u03ab\u0400-\u042f]"
_NAME: Final = rf"{_CAP}[\w'\u2019.-]*"
_LETTERED: Final = rf"(?:St\.|Ste\.|{_CAP}(?:[^\W\d_]|['\u2019-])*(?!\w))"
_SUFFIX: Final = (
    r"(?:Street|St|Avenue|Ave|Av|Road|Rd|Lane|Ln|Drive|Dr|Boulevard|Blvd|Way|Court|Ct|Place|Pl|Square|Sq|Terrace|Ter|Trail|Trl|Parkway|Pkwy|Circle|Cir|Close|Crescent|Cres|Gardens|Grove|Hill|Highway|Hwy|"
    r"Mews|Row|Walk|Alley|Loop|Plaza|Point|Ridge|Run|Park|Green|Quay|Wharf|Parade|Esplanade|Heights|Hollow|Junction|Crossing|Crossroad|Path|Pass|Pike|Turnpike|View|Vista|Village|Ville|Station|Summit|Shore|Shores|Spring|Springs|"
    r"Spur|Stream|Throughway|Track|Trafficway|Tunnel|Underpass|Union|Valley|Via|Viaduct|Well|Wells|Mount|Mountain|Mill|Mills|Mission|Motorway|Neck|Orchard|Oval|Overpass|Island|Isle|Knoll|Lake|Land|Landing|Light|Lock|Lodge|Manor|"
    r"Meadow|Meadows|Harbor|Haven|Glen|Fort|Forest|Forge|Fork|Ford|Flat|Field|Fields|Ferry|Falls|Extension|Expressway|Estate|Estates|Drives|Divide|Dale|Dam|Curve|Course|Corner|Corners|Common|Cove|Creek|Camp|Canyon|Cape|Causeway|Center|Centre|Club|"
    r"Bypass|Burg|Brook|Bridge|Branch|Bottom|Bluff|Bend|Beach|Bayou|Arcade|Annex|Inlet|Key|Keys|Rue|Rest|Rapids|Ranch|Radial|Ramp|River|Route|Stravenue|Skyway|Prairie|Port|Pine|Pines|Plain|Plains|Passage|Freeway|Garden|Gateway|Cliff|Cliffs)"
)
_NUMBER: Final = r"(?:\d{1,6}[A-Za-z]?(?:[-/]\d{1,5}[A-Za-z]?)?)"
_ENGLISH: Final = re.compile(
    rf"(?<![\w.$#-])(?:{_NUMBER} ){{1,2}}(?:(?:{_NAME}|\d{{1,3}}(?:st|nd|rd|th)|[nsewNSEW]\.?|of|the|and|de|la|du|van) ){{0,4}}(?:{_NAME} ){_SUFFIX}\b\.?(?: (?:[NSEW]\b|North|South|East|West|NE|NW|SE|SW))?"
    rf"|(?<![\w.$#-])(?:{_NUMBER} ){{1,2}}(?:{_SUFFIX}|Ave(?:nue)?) (?:{_NAME}|[A-Z])\b"
)
_GERMANIC: Final = re.compile(
    rf"(?<!\w)(?:{_NAME} ){{0,3}}{_CAP}?[\w'\u2019-]{{0,48}}(?i:stra\u00dfe|strasse|str\.|weg|platz|gasse|allee|ring|damm|ufer|markt|gatan|v\u00e4gen|v\u00e4g|gr\u00e4nd|vej|gade|veien|vegen|veg|gata|katu|tie|polku|laan|straat|plein|gracht|kade|singel|dreef|utca|\u00fatja|\u00fat|k\u00f6rút|t\u00e9r|rinne|kuja|bakken|haugen|br\u00e6kka|stræde|torv|all\u00e9) "
    rf"\d{{1,5}}[a-zA-Z]?(?:[-/]\d{{1,4}}[a-zA-Z]?)?(?!\w)"
)
_ROMANCE: Final = re.compile(
    rf"(?<!\w)(?:{_NUMBER},? )?(?:rue|Rue|Passage|passage|Sentier|sentier|Faubourg|Vial|Acceso|Ca\u00f1ada|Rambla|Glorieta|Pasadizo|Alameda|C\.(?= de )|Urbanizaci\u00f3n|Callej\u00f3n|V\u00eda|Pasaje|Cuesta|Traves\u00eda|Rotonda|Borgo|Stretto|Canale|Incrocio|Lungomare|Lungotevere|Avenue|avenue|Boulevard|boulevard|Bd|Chemin|chemin|Place|Quai|quai|Impasse|impasse|All\u00e9e|Route|Cours|Square|Rua|Travessa|Avenida|Av\.|Avda\.?|Pra\u00e7a|Largo|Calle|C/|Cl\.|Plaza|Paseo|Ronda|Camino|Carrer|Carretera|Ctra\.?|Via|Viale|Corso|Piazza|Vicolo|Strada|Contrada|ul\.|Ulica|ulica|Ul\.|al\.|os\.|pl\.|Gl\.|Al\.)"
    rf" (?:(?:{_NAME}|\d{{1,2}}|de|du|des|de la|del|della|di|da|do|dos|das|e|y|la|le|les|los|las|el|\xe0|d'\w+|l'\w+) ?){{1,6}}(?:,? ?(?:n\.?\u00ba? ?|no\.? ?)?\d{{1,5}}[a-zA-Z]?)?"
)
_UNIT: Final = re.compile(
    r"(?<!\w)(?:Apt|Apartment|Suite|Ste|Unit|Flat|Room|Floor|P\.? ?O\.? ?Box|Postfach|Apartado|Box|Lot|Building|Bldg)\.? ?#?\s?\d{1,6}[A-Za-z]?(?!\w)"
    r"|(?<!\w)Studio \d{1,3}[A-Za-z]?(?=, [A-Z])|(?<!\w)PSC \d{1,5}, Box \d{1,5}(?!\w)"
    r"|(?<!\w)(?:USNS|USS|USNV|USCGC|PSC|Unit) [\w ]{2,30}(?:Box \d{1,5})?(?=\s*(?:\\n|\n))"
)
_INNER: Final = re.compile(
    r"(?:Piso|Piano|Appartamento|Interno|Int\.|Scala|Appartement|Appt\.?|\u00c9tage|Wohnung|Whg\.?|Etage|Planta|Puerta|Esc\.|Escalera|Andar|Apto\.?) ?\d{1,4}[A-Za-z\u00ba\u00aa]?(?!\w)"
)
"""Parts of a building that count only once an address has begun."""
_CUE: Final = re.compile(
    r"(?:address(?:es)?(?: (?:is|to|of|was|with|are|here|they|following|linked|for|my|new|the|same|card|credit)){0,6}|address:|following\?|here they are:|and|located (?:at|on|in)|restaurant is (?:at|located at)|lives? (?:at|on|in)|lived in|live in|living at|deliver(?:ed)? to|sent to|send (?:a |it |the )?(?:new )?(?:one )?to|new one to|"
    r"(?:meet|meeting)(?: (?:me|you|us))? at|taxi to|return to|arrived at|office is at|offices are located at|be sent to\? user:|statement to|drops you off at|it's in|where to\?|corner of|bus station is on|north side of|south side of|enter on|refers to|wohne in|wohnhaft in|adresse:?|habite au|vivo en|abito in|direcci\u00f3n:?|indirizzo:?)[\s:>\"]{1,6}$"
)
_ZIP: Final = re.compile(
    r"(?:[A-Z]{1,2}-)?(?:\d{5}-\d{3,4}|\d{3,5} ?[A-Z]{2}(?![A-Za-z])|[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2}|[A-Z]\d[A-Z] ?\d[A-Z]\d|\d{2}-\d{3}|\d{3} \d{2}|\d{4}-\d{3}|\d{3,6}|[A-Z]{2} \d{1,2} \d[A-Z]{2})(?!\w)"
)
_STATE: Final = re.compile(r"(?:[A-Z]{2,3}|[IVX]{1,4})(?![\w.])")
_TOWN: Final = re.compile(
    rf"{_LETTERED}(?:[ ](?:de|del|la|le|les|los|las|of|upon|on|am|an|der|im|in|sur|sous|do|da|dos|el|al|'t|di|\(?{_LETTERED}\)?)){{0,5}}(?: ?\([\w ]{{2,20}}\))?"
)
_SEPARATOR: Final = re.compile(r"(?:[ \t]{0,4}(?:\\n|\n|,|;|>|\?\?\?|\|)){0,6}[ \t>]{0,6}")
_LOWER_NEXT: Final = re.compile(r"[ ]+[a-z]{2,}")
_ZIP_CUE: Final = re.compile(
    r"\b(?:zip(?: ?code)?|postal code|post ?code|plz|postleitzahl|code postal|c\u00f3digo postal|cap)(?: is|:| ist|#|=)?[\s:]{1,3}("
    + _ZIP.pattern
    + ")",
    re.I,
)
_STREET_CUE: Final = re.compile(
    rf"(?<![\w])({_NAME}(?: {_NAME}){{0,3}}) (?:[Ss]treet|St\.|St\b|Avenue|Ave\.?|Road|Rd\.?)(?![\w])"
)
_NUMBERED: Final = re.compile(
    rf"(?<![\w.$#-])(?:\d{{1,6}}[A-Za-z]?(?:[-/]\d{{1,4}})? ){{1,3}}(?:{_NAME}|de|la|del|van|der)(?: (?:{_NAME}|de|la|del|du|van|der|den|of|\d{{1,4}}[a-z]?))"
    + r"{0,5}"
)
WINDOW_BEFORE: Final = 70
WINDOW_AFTER: Final = 90
_DIGIT_RUN: Final = re.compile(r"\d+")
_BARE_STREETS: Final = frozenset("weg platz ring allee markt gasse stra\u00dfe strasse ufer damm str.".split())
_GERMANIC_GATE: Final = re.compile(
    r"(?:stra\u00dfe|strasse|str\.|weg|platz|gasse|allee|ring|damm|ufer|markt|gatan|v\u00e4gen|v\u00e4g|gr\u00e4nd|vej|gade|veien|vegen|veg|gata|katu|tie|polku|laan|straat|plein|gracht|kade|singel|dreef|utca|\u00fatja|\u00fat|k\u00f6rút|t\u00e9r|rinne|kuja|bakken|haugen|br\u00e6kka|stræde|torv|all\u00e9) \d"
)
_ROMANCE_GATE: Final = re.compile(
    r"(?<!\w)(?:[Rr]ue|[Aa]venue|[Bb]oulevard|Bd|[Cc]hemin|[Pp]assage|[Ss]entier|Faubourg|Vial|Acceso|Ca\u00f1ada|Rambla|Glorieta|Pasadizo|Alameda|C\. de |Urbanizaci\u00f3n|Callej\u00f3n|V\u00eda|Pasaje|Cuesta|Traves\u00eda|Rotonda|Borgo|Stretto|Canale|Incrocio|Lungo|Place|[Qq]uai|[Ii]mpasse|All\u00e9e|Route|Cours|Square|Rua|Travessa|Avenida|Avd?a?\.|Pra\u00e7a|Largo|Calle|C/|Cl\.|Plaza|Paseo|Ronda|Camino|Carrer|Carretera|Ctra|Via|Viale|Corso|Piazza|Vicolo|Strada|Contrada|[Uu]l\.|[Uu]lica|[Aa]l\.|os\.|pl\.|Gl\.)"
)
_ANY_NUMBER: Final = re.compile(r"\d")


def find_addresses(text: str, lowered: str) -> list[Finding]:
    """Return addresses (LOCATION) of one text; `lowered` is the text in lower case, of the same length."""
    found: list[Finding] = []
    if not _ANY_NUMBER.search(text):
        found.extend(_streets(text))
        return found
    taken = -1
    for start, end, score in sorted(_cores(text, lowered)):
        if start < taken:
            continue
        stop = _grown(text, end)
        found.append(Finding("LOCATION", start, stop, score))
        taken = stop
    for match in _ZIP_CUE.finditer(text):
        found.append(Finding("LOCATION", match.start(1), match.end(1), 0.7))
    found.extend(_streets(text))
    return found


def _cores(text: str, lowered: str) -> Iterator[tuple[int, int, float]]:
    for low, high in _windows(text):
        yield from _cores_between(text, lowered, low, high)


def _windows(text: str) -> Iterator[tuple[int, int]]:
    """Yield stretches around digits, joined where they overlap: an address core never lies outside one."""
    low = high = -1
    for match in _DIGIT_RUN.finditer(text):
        start, end = match.start() - WINDOW_BEFORE, match.end() + WINDOW_AFTER
        if start > high:
            if high >= 0:
                yield max(0, low), high
            low = start
            while low > 0 and text[low - 1].isalnum():
                low -= 1
        high = end
    if high >= 0:
        yield max(0, low), min(len(text), high)


def _cores_between(text: str, lowered: str, low: int, high: int) -> Iterator[tuple[int, int, float]]:
    for match in _ENGLISH.finditer(text, low, high):
        yield match.start(), match.end(), 0.9
    if _GERMANIC_GATE.search(lowered, low, high):
        for match in _GERMANIC.finditer(text, low, high):
            if _is_word(match.group()):
                continue
            yield match.start(), match.end(), 0.9
    if _ROMANCE_GATE.search(text, low, high):
        for match in _ROMANCE.finditer(text, low, high):
            value = match.group().rstrip()
            if _ANY_NUMBER.search(value):
                yield match.start(), match.start() + len(value), 0.86
    for match in _UNIT.finditer(text, low, high):
        yield match.start(), match.end(), 0.65
    for match in _NUMBERED.finditer(text, low, high):
        after = text[match.end() : match.end() + 3]
        cued = bool(_CUE.search(lowered, max(0, match.start() - 60), match.start()))
        if cued or (re.match(r"\s*(?:\\n|\n|,)", after) and _addressed(text, match.end())):
            yield match.start(), match.end(), 0.88 if cued else 0.6


def _is_word(street: str) -> bool:
    """Whether what looks like a street is an ordinary word before a number: `During 1989`, `string 12`."""
    word = street.split()[-2].lower() if " " in street else street.lower()
    return word not in _BARE_STREETS and word in gazetteer().words


def _addressed(text: str, place: int) -> bool:
    """Whether what follows within two lines reads like the rest of an address: a flat or a postal code."""
    return bool(
        re.search(
            r"(?:Apt|Suite|Unit|Flat|Box)\.? \d|(?<![\w.])(?:\d{4,6}(?:-\d{3,4})?|[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2})(?![\w.])",
            text[place : place + 70],
        )
    )


def _grown(text: str, end: int) -> int:
    """Return the end of the address whose core ends at `end`."""
    coded = False
    for _ in range(PARTS_MAX):
        gap = _SEPARATOR.match(text, end)
        place = gap.end() if gap else end
        if place == end and place < len(text) and text[place] not in " ,\n\\":
            break
        unit = (
            _UNIT.match(text, place)
            or _ENGLISH.match(text, place)
            or _GERMANIC.match(text, place)
            or _INNER.match(text, place)
        )
        if unit:
            end = unit.end()
            continue
        code = _ZIP.match(text, place)
        if code:
            end, coded = code.end(), True
            continue
        state = _STATE.match(text, place)
        if state:
            end = state.end()
            continue
        town = _TOWN.match(text, place)
        if town and (_is_part(text, end, place, town.end()) or (coded and text[end:place] == " ")):
            end, coded = town.end(), False
            if text[end - 1] == ".":
                return end - 1
            continue
        break
    return end


_STOPPERS: Final = re.compile(
    r"(?:I|It|The|We|My|Please|Call|Can|Mobile|Desk|Fax|Phone|Office|Tel|E-?mail|Email|Website|Also|Do|Where|What|Thanks|Is|In|On|At|And|Or|She|He|They|This|That|For|But|If|When|Could|Would|Name|Address)\b"
)


def _is_part(text: str, end: int, place: int, stop: int) -> bool:
    """Whether a capitalised stretch is a town or country of the address, not the next sentence."""
    gap = text[end:place]
    if text[stop : stop + 1] == ":" and "\n" in gap:
        return False  # the next field's name
    if _STOPPERS.match(text, place) or (end and text[end - 1] == "." and not gap.strip(" ")):
        return False
    if not gap.strip():
        return "\n" in gap or not _LOWER_NEXT.match(text, stop)
    return not _LOWER_NEXT.match(text, stop)


def _streets(text: str) -> Iterator[Finding]:
    """Streets without a number: `the clubs of Baker Street`."""
    if "St" in text or "st" in text or "Ave" in text or "R" in text:
        for match in _STREET_CUE.finditer(text):
            yield Finding("LOCATION", match.start(1), match.end(1), 0.5)
