"""What the user's words let stay of several rows: `under 5,000`, `at most four days`, `valid in June`, `all but take 2`. Pure.

A bound is evaluated on the trusted fields of the rows alone, on the field that its unit, its noun or its kind speaks of; where
that is not one field, nothing is said. A row that a bound excludes is not what the user asked for, whoever names it, and a
bound that leaves one row has chosen it. Threat: a hijacked model that takes another row of the list than the words allow;
a stranger's text cannot move a bound, since neither the words nor the fields are his.
"""

from __future__ import annotations

import calendar
import datetime
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from agent_os.guards.flow import lexicon, normal
from agent_os.guards.flow.days import MONTHS
from agent_os.guards.flow.lexicon import bag
from agent_os.guards.flow.naming import field_words
from agent_os.guards.flow.numerals import WORDS
from agent_os.guards.flow.select import DATE_TEXT, alike, number_of
from agent_os.guards.flow.stated import number_in

ROWS_MAX: Final = 5000
"""Rows of one column that are compared; where there are more and the prompt has a bound, all of them are asked about."""
BOUNDS_MAX: Final = 8
"""Bounds of one prompt that are read."""
PROMPT_CHARS_MAX: Final = 20_000
"""Characters of a prompt in which bounds are looked for; they stand in its beginning or are not read."""

_NUMBER: Final = (
    r"(?P<sign>[$€£¥])?\s?(?P<number>\d{1,3}(?:[,' ]\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?|(?:" + "|".join(WORDS) + r")\b)"
    r"(?P<kilo>k\b)?\s?(?P<unit>[$€£¥%°]|[^\W\d_]{1,12})?(?P<after>(?: [^\W\d_]+){0,2})"
)
_BELOW: Final = (
    r"under|below|less than|fewer than|lower than|cheaper than|smaller than|shorter than|unter|weniger als|kürzer als|moins de"
    r"|menos de|meno di"
)
_UP_TO: Final = (
    r"up to|at most|at maximum|no more than|not more than|no longer than|not longer than|a maximum of|maximum|max\.?|within"
    r"|höchstens|maximal|bis zu|au plus|au maximum|como máximo|al massimo"
)
_ABOVE: Final = (
    r"over|above|more than|greater than|higher than|longer than|older than|bigger than|larger than|über|mehr als|länger als"
    r"|plus de|más de|più di"
)
_FROM: Final = (
    r"at least|at minimum|no less than|not less than|no fewer than|a minimum of|minimum|min\.?|mindestens|au moins|al menos"
    r"|almeno"
)
_BEFORE_NUMBER: Final = re.compile(
    rf"(?P<noun>(?:[^\W\d_]+ ){{0,3}})\b(?:(?P<below>{_BELOW})|(?P<upto>{_UP_TO})|(?P<above>{_ABOVE})|(?P<from>{_FROM}))\s+"
    rf"{_NUMBER}",
    re.I,
)
_AFTER_NUMBER: Final = re.compile(
    rf"(?P<noun>){_NUMBER.replace('(?P<after>', '(?P<skipped>').replace('{0,2})', '{0,1}?)')} (?:or|oder|ou|o) "
    r"(?:(?P<from>more|mehr|plus|más|longer|higher|above|over|later)|(?P<upto>less|fewer|weniger|moins|menos|below|under|lower))\b"
    r"(?P<after>(?: [^\W\d_]+){0,3})",
    re.I,
)
_MONTH: Final = "(?:" + "|".join(sorted(MONTHS, key=len, reverse=True)) + ")"
_DATE: Final = (
    r"(?P<date>\d{4}-\d{2}-\d{2}|(?:the )?\d{1,2}(?:st|nd|rd|th|\.)? (?:of )?"
    + _MONTH
    + r"\.?,? \d{4}|"
    + _MONTH
    + r"\.? "
    r"\d{1,2}(?:st|nd|rd|th)?,? \d{4}|(?:the )?(?:end|start|beginning) of \d{4}|"
    + _MONTH
    + r"\.? \d{4}|(?:19|20)\d\d)\b"
)
_BY_DATE: Final = re.compile(
    rf"(?P<noun>(?:[^\W\d_]+ ){{0,4}})\b(?:(?P<below>before|until|till|prior to|earlier than|vor|bis|avant|antes del?)"
    rf"|(?P<above>after|since|later than|nach|seit|après|después del?)|(?P<valid>(?:still )?valid (?:in|on|until|through|till)))"
    rf"\s+{_DATE}",
    re.I,
)
_EXCEPT: Final = re.compile(
    r"\b(?:except(?: for)?|but(?! not\b)|besides|apart from|other than|außer|ausser|bis auf|sauf|excepto|salvo|tranne)\s+"
    r"(?P<what>[^.,;:!?()\n]{2,60})",
    re.I,
)
_NOT: Final = re.compile(r"\bnot (?:the |my |our |any of )?(?P<what>[^.,;:!?()\n]{2,40})", re.I)
"""What is named only to say that it is not meant (`the current one, not 2024's`)."""
_ALL: Final = re.compile(
    r"\b(?:all|every|everything|everyone|each|any|alle[ns]?|alles|jede[ns]?|tous|toutes|todos|todas|tutti)\b", re.I
)
_LACKS: Final = re.compile(
    r"\b(?:(?:has|have|had|having|with|got|hat|haben|a|avec) (?:no|kein\w*)|without(?: any| an?)?|ohne|sans|sin|senza)\s+"
    r"(?P<noun>[^\W\d_]+)",
    re.I,
)
_DENIED: Final = re.compile(
    r"(?:\b(?:none|nobody|nothing|no|not|never|unless|neither|keine?\w?|nicht|nie|aucune?|pas|ni|ning[uú]n\w*|nessun\w*)\b|n['’]t\b)"
    r"[^.;!?\n]{0,40}$",
    re.I,
)
"""A bound after one of these says what is not to be (`none of his scores is below 3`); that is not read."""
_MONEY: Final = bag(
    "$ € £ ¥ eur euro euros usd dollar dollars gbp pound pounds chf franc francs yen cent cents sek nok dkk pln cad aud"
)
_MONEY_NAMES: Final = bag(
    "price cost fee rate amount total sum value bid rent fare charge salary balance budget preis betrag gebühr prix montant"
)
_TIME: Final = bag(
    "second minute hour day week month year night min hr tag tage stunde minute woche monat jahr jour heure"
)
_TIME_NAMES: Final = bag(
    "days hours minutes weeks months day hour minute week month duration eta lead transit length age time"
)
_PEOPLE: Final = bag("people person guest ppl pax seat participant attendee personen gäste personnes personas")
_PEOPLE_NAMES: Final = bag("capacity seats people persons guests pax size places sleeps max")
_UNITS: Final = {
    "µl": "volume ul microliter", "ul": "volume ul", "ml": "volume ml", "l": "volume litre liter capacity",
    "kg": "weight kg mass",
    "g": "weight mass grams", "t": "tonnes weight tons quantity", "km": "distance km", "m": "length height width metres meters",
    "cm": "length height width cm", "gb": "size gb storage memory", "mb": "size mb", "percent": "percent share rate",
    "%": "percent share rate pct", "star": "rating stars", "points": "score points grade",
}  # fmt: skip
_NO_ATTRIBUTE: Final = bag("id ids no nr number code year zip phone port index page version ref")
"""Numbers of these names identify; nothing is bounded by them."""
_EMPTY: Final = (None, "", 0, False)
_GENERIC: Final = bag(
    "the a an of to in on at for and or with by is are was be been it this that those these which who whose what has have had"
    " him her them us me my our your their one ones any all every each not no only more less than from as their his its"
    " der die das den dem ein eine einen und mit für von zu im am"
)


@dataclass(frozen=True, slots=True)
class Bound:
    """Least and greatest number that a field may have, and the words that say which field."""

    low: float
    high: float
    nouns: frozenset[str]
    kind: str
    """`money`, `time`, `people`, `date`, a unit, `other` for a noun of its own (`5,000 widgets`), or nothing."""
    open_low: bool = False
    open_high: bool = False

    def holds(self, number: float) -> bool:
        """Return whether a number lies within."""
        above = number > self.low if self.open_low else number >= self.low
        return above and (number < self.high if self.open_high else number <= self.high)


@dataclass(frozen=True, slots=True)
class Wish:
    """Everything of a prompt that keeps rows in or out."""

    bounds: tuple[Bound, ...] = ()
    lacking: frozenset[str] = frozenset()
    """What the rows must not have (`tours that have no guide`)."""
    but: tuple[frozenset[str], ...] = ()
    """The words of each exception (`all but take 2`)."""

    def __bool__(self) -> bool:
        return bool(self.bounds or self.lacking or self.but)


@dataclass(frozen=True, slots=True)
class Kept:
    """What the words leave of the rows: the excluded ones, and those that a bound speaks for."""

    excluded: frozenset[Any] = frozenset()
    meant: frozenset[Any] = frozenset()
    """Rows for which every wish that could be evaluated holds; empty where none could."""


NOTHING: Final = Kept()
Row = tuple[Mapping[str, Any], frozenset[str]]
"""The fields of one row, and which of them are trusted."""


@lru_cache(maxsize=64)
def wish_of(text: str) -> Wish:
    """Return what a prompt says about the rows it wants."""
    text = text[:PROMPT_CHARS_MAX]
    bounds: list[Bound] = []
    for pattern in (_BEFORE_NUMBER, _AFTER_NUMBER):
        bounds.extend(bound for match in pattern.finditer(text) if (bound := _bound(match)) is not None)
    bounds.extend(bound for match in _BY_DATE.finditer(text) if (bound := _date_bound(match)) is not None)
    lacking = frozenset(_forms({match["noun"].lower() for match in _LACKS.finditer(text)}) - _GENERIC)
    but = []
    for sentence in re.split(r"(?<=[.!?])\s|\n", text):
        for match in (*_EXCEPT.finditer(sentence), *_NOT.finditer(sentence)):
            if match.re is _NOT or _ALL.search(sentence[: match.start()]):
                words = frozenset(_tokens(re.split(r"\b(?:and|und|et|y|then|dann)\b", match["what"])[0])) - _GENERIC
                but.extend([words] if words else [])
    return Wish(tuple(bounds[:BOUNDS_MAX]), lacking, tuple(but[:BOUNDS_MAX]))


def kept(wish: Wish, rows: Mapping[Any, Row]) -> Kept:
    """Return which of the rows (by any key) a wish excludes, and which it means."""
    if not wish:
        return NOTHING
    if len(rows) > ROWS_MAX:
        return Kept(frozenset(rows))  # nobody looked at which of them the words leave
    held: dict[Any, bool] = {}
    for bound in wish.bounds:
        attribute = _attribute(bound, rows)
        if not attribute:
            continue
        for key, (fields, trusted) in rows.items():
            number = number_of(fields.get(attribute)) if attribute in trusted else None
            if number is not None:
                held[key] = held.get(key, True) and bound.holds(number)
    for noun in wish.lacking:
        for key, (fields, trusted) in rows.items():
            for name in trusted:
                if noun in field_words(name):
                    held[key] = held.get(key, True) and fields.get(name) in _EMPTY
    for words in wish.but:
        out = [key for key, row in rows.items() if words <= _said(row)]
        if out and len(out) < len(rows):
            held.update({key: held.get(key, True) and key not in out for key in rows})
    return Kept(
        frozenset(key for key, holds in held.items() if not holds),
        frozenset(key for key, holds in held.items() if holds),
    )


def _bound(match: re.Match[str]) -> Bound | None:
    found = match.groupdict()
    at = next((match.start(name) for name in ("below", "upto", "above", "from") if found.get(name)), match.start())
    if _DENIED.search(match.string[:at]):
        return None
    number = number_in(found["number"] or "")
    if number is None:
        return None
    number *= 1000 if found.get("kilo") else 1
    unit = (found["unit"] or "").lower()
    one = lexicon.singular(unit)
    kind = (
        "money" if found["sign"] or unit in _MONEY
        else "time" if one in _TIME
        else "people" if one in _PEOPLE
        else unit if unit in _UNITS
        else one if one in _UNITS
        else "other" if unit and one not in _GENERIC
        else ""
    )  # fmt: skip
    said = f"{found['noun'] or ''} {unit} {found['after'] or ''}".lower()
    nouns = frozenset(_forms(set(re.findall(r"[^\W\d_]+", said)) - _GENERIC))
    if found.get("below"):
        return Bound(float("-inf"), number, nouns, kind, open_high=True)
    if found.get("upto"):
        return Bound(float("-inf"), number, nouns, kind)
    return Bound(number, float("inf"), nouns, kind, open_low=bool(found.get("above")))


def _date_bound(match: re.Match[str]) -> Bound | None:
    span = _span(match["date"])
    if span is None:
        return None
    first, last = span
    nouns = frozenset(_forms(set(re.findall(r"[^\W\d_]+", (match["noun"] or "").lower())) - _GENERIC))
    if match["valid"]:
        return Bound(first, float("inf"), nouns | bag("valid until expire expiry expires validity"), "date")
    if match["above"]:
        return Bound(last, float("inf"), nouns, "date", open_low=True)
    return Bound(float("-inf"), first, nouns, "date", open_high=True)


def _span(text: str) -> tuple[float, float] | None:
    """Return the first and the last second of a day, a month or a year, as `number_of` counts them."""
    lowered = text.lower()
    try:
        if DATE_TEXT.match(lowered):
            day = datetime.datetime.fromisoformat(lowered)
            return _seconds(day), _seconds(day) + 86_399
        year = int(re.findall(r"\d{4}", lowered)[-1])
        names = [MONTHS[word] for word in re.findall(r"[^\W\d_]+", lowered) if word in MONTHS]
        if "end of" in lowered:
            last = _seconds(datetime.datetime(year, 12, 31)) + 86_399
            return last, last
        if not names:
            return _seconds(datetime.datetime(year, 1, 1)), _seconds(datetime.datetime(year, 12, 31)) + 86_399
        days = [int(part) for part in re.findall(r"(?<!\d)\d{1,2}(?!\d)", lowered)]
        first, last_day = (days[0], days[0]) if days else (1, calendar.monthrange(year, names[0])[1])
        begin = datetime.datetime(year, names[0], first)
        return _seconds(begin), _seconds(datetime.datetime(year, names[0], last_day)) + 86_399
    except (ValueError, IndexError):
        return None


def _seconds(moment: datetime.datetime) -> float:
    return (moment - datetime.datetime(1970, 1, 1)).total_seconds()


def _attribute(bound: Bound, rows: Mapping[Any, Row]) -> str:
    """Return the one trusted field that a bound speaks of, or nothing."""
    numeric: set[str] = set()
    dated: set[str] = set()
    for fields, trusted in rows.values():
        for name in trusted:
            value = fields.get(name)
            if isinstance(value, str) and DATE_TEXT.match(value.strip()):
                dated.add(name)
            elif number_of(value) is not None:
                numeric.add(name)
    names = dated - numeric if bound.kind == "date" else numeric - dated
    words = {name: field_words(name) for name in names}
    words = {
        name: said for name, said in words.items() if not said & _NO_ATTRIBUTE or said & bound.nouns - _NO_ATTRIBUTE
    }
    named = [name for name, said in words.items() if alike(said, bound.nouns)]
    if len(named) == 1:
        return named[0]
    of_kind = [name for name in named or words if words[name] & _names_of(bound.kind)]
    if len(of_kind) == 1:
        return of_kind[0]
    if named or of_kind or bound.kind not in ("", "date"):
        return ""
    if bound.kind == "":
        priced = [name for name, said in words.items() if said & _MONEY_NAMES]
        if len(priced) == 1:
            return priced[0]
    return next(iter(words)) if len(words) == 1 else ""


def _names_of(kind: str) -> frozenset[str]:
    fixed = {"money": _MONEY_NAMES, "time": _TIME_NAMES, "people": _PEOPLE_NAMES}
    return fixed[kind] if kind in fixed else bag(_UNITS.get(kind, ""))


def _forms(words: Iterable[str]) -> set[str]:
    return {form for word in words for form in (word.lower(), lexicon.singular(word.lower()))}


def _tokens(text: str) -> set[str]:
    return {lexicon.singular(word) for word in normal.words(re.sub(r"['’]s\b", "", text))}


def _said(row: Row) -> frozenset[str]:
    """Return the words of a row's trusted fields; a short number is said with the name of its field (`take: 2`)."""
    found: set[str] = set()
    for name in row[1]:
        value = row[0].get(name)
        if isinstance(value, str):
            found |= _tokens(value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found |= {f"{value:g}", *field_words(name)}
    return frozenset(found)
