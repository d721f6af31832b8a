"""What the words of a request state about the effect they ask for: days, times, amounts and the text itself. Pure.

A hijacked model may do what the user asked for and still do harm: the user's own payment over another amount, the user's
own message with other words, the user's own lock in the other state. What a request states is therefore pinned, and a
call that says otherwise is a question (`contradicts_prompt`). Only what is stated can be contradicted: a request that
names no amount leaves the amount open. Errs towards silence where words compute (`by 10 %`, `each`, `half`), since a
sum is then not the number stated; errs towards a question where the agent converts a unit this module does not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Set
from dataclasses import dataclass
from typing import Final

from agent_os.guards.flow import lexicon, normal
from agent_os.guards.flow.days import WEEKDAYS, days_in, minutes_in, months_in
from agent_os.guards.flow.lexicon import bag
from agent_os.guards.flow.numerals import WORDS, in_digits, pointed_numbers

LITERAL_SHARE_MIN: Final = 0.6
"""Share of the words of a stated text that must stand in what is carried: a model may put a comma elsewhere."""
_LITERAL_WORDS_MIN: Final = 3
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}|\d{1,2}:\d{2}|\b(?:19|20)\d\d\b|(?<!\d)\d{1,2}\.\d{1,2}\.")
_FIRST_SENTENCE: Final = re.compile(r"(?<=[.!?])\s")
_QUANTITY: Final = re.compile(
    r"(?<![\w#/:.@-])([$€£¥])?\s?(\d{1,3}(?:[,' ]\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?|(?:" + "|".join(WORDS) + r")\b)"
    r"\s?(k\b|[$€£¥%°]|(?=[a-z]))?[ -]?([^\W\d_]+)?(?![\w:])",
    re.I,
)
_DIGITS: Final = re.compile(r"(?<![\w#])(?<![A-Za-z]-)(?:\d{1,3}(?:[,' ]\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?)")
"""Digits inside a longer name (an account, `RUG-20`) are no number."""
_MONEY: Final = bag(
    "$ € £ ¥ eur euro euros usd dollar dollars gbp pound pounds chf franc francs yen buck bucks cent cents sek nok dkk pln cad"
    " aud quid"
)
_TIME: Final = bag("second minute hour day week month year night min mins hr hrs h")
_LEVEL: Final = bag("degree percent celsius fahrenheit c f % °")
UNITS: Final = _MONEY | _TIME | _LEVEL
"""Words that only measure: `twenty euros` are not several of anything."""
_PEOPLE: Final = bag("people person guest adult child kid seat participant attendee pax head")
_ARGUMENT_DIMENSIONS: Final = {
    "money": bag(
        "amount total price sum payment budget fee rent salary cost tip bid donation credit refund charge fare value cents"
        " limit cap money bonus commission deposit allowance wage payout expense penalty tax duty"
    ),
    "time": bag(
        "minute hour duration day week length night second month year term period minutes hours days nights weeks"
    ),
    "level": bag("temperature temp degree level brightness volume percent percentage intensity setpoint celsius value"),
    "people": bag("guest people person party adult seat attendee size headcount participant guests adults seats"),
    "count": bag("quantity qty count number copy copies unit units share shares amount items num pieces"),
}
MONEY: Final = _ARGUMENT_DIMENSIONS["money"] - {"value", "limit", "cap"}
"""Words in the names of arguments that are sums of money: any number of the prompt may be meant by them."""
_COMPUTES: Final = bag(
    "each per apiece double twice triple split difference remaining rest average more less extra another additional"
    " about around roughly approximately approx ca further respectively"
)
_BY: Final = re.compile(r"\b(?:by|um) (?:[$€£]|\d|an? |half|" + "|".join(WORDS) + ")", re.I)
"""An amount that something is changed by is not the amount it has then."""
_THAN: Final = re.compile(r"\b(?:more|less|fewer) than\b", re.I)
"""A bound works nothing out."""
_HALF: Final = re.compile(r"\bhalf (?:of|the|as)\b", re.I)
_AT_MOST: Final = bag("under below max maximum within most than")
_AT_LEAST: Final = bag("over above least minimum")
_OPEN_TIME: Final = re.compile(
    r"\b(?:before|after|by|until|till|around|about|between|past|since|roughly|latest|earliest|vor|nach|bis|avant|après|antes|después"
    r"|prima|dopo)\s+(?:(?:next|this|the|around|about)\s+)?(?:\d|" + "|".join(WEEKDAYS) + r")",
    re.I,
)
"""A time that is a limit or a guess: what happens then has no time of its own."""
_CONDITION: Final = re.compile(
    r"\b(?:if|unless|when|whenever|whether|provided|as long as|in case|whose|wenn|falls|sofern|ob|si|sauf si|se)\b[^.!?;,\n]*",
    re.I,
)
"""A number in here says when something is done, and not how much of it."""
_COMMAND: Final = re.compile(
    r"(?<!\bthe )(?<!\ba )(?<!\bto )\b([^\W\d_]+) (?=[\d$€£]|(?:the|a|an|my|our|it|them|all|"
    + "|".join(WORDS)
    + r")\b)",
    re.I,
)
_NAMING: Final = bag("# no nr number id ref reference version chapter page line floor gate flat")
_BEFORE_VERB: Final = bag(", . ! ? : ; and then to please you or but also now just")
"""A word after one of these may be a verb (`and order 20 of them`); elsewhere it is a noun (`refund order 20417`)."""
_MEASURED: Final = frozenset(word for words in _ARGUMENT_DIMENSIONS.values() for word in words)
_CENTS: Final = bag("cent cents minor pence penny")
_RATIOS: Final = {
    "time": (
        1.0,
        60.0,
        3600.0,
        86400.0,
        24.0,
        1440.0,
        7.0,
        168.0,
        10080.0,
        28.0,
        29.0,
        30.0,
        31.0,
        12.0,
        52.0,
        365.0,
        1000.0,
    ),
    "level": (1.0, 0.01, 100.0),
}
_SAYING: Final = bag("saying says say telling text body content caption reading reads words sms")
"""A text straight after one of these is what is to be carried."""
_WITH: Final = bag("message comment note remark reply answer reason text body caption")
"""The same, where `with the …` stands before it (`reply to the message "…"` only says to which)."""
_TELLING: Final = bag("text tell message dm sms say write reply answer post tweet ask comment shout")
"""Verbs whose sentence may end with what is to be carried (`text Priya "…"`)."""
_REFERS: Final = bag(
    "mail email message thread ticket titled called named about file document event subject title from to in on of the for"
    " issue task project channel post article page folder list note review regarding re a an with is was playlist"
)
CURRENCIES: Final = {
    "EUR": ("€", "euro", "euros", "eur"), "USD": ("$", "dollar", "dollars", "usd", "bucks"),
    "GBP": ("£", "pound", "pounds", "quid", "gbp"), "JPY": ("¥", "yen", "jpy"), "CHF": ("franken", "francs", "chf"),
    "SEK": ("kronor", "sek"), "NOK": ("kroner", "nok"), "DKK": ("dkk",), "PLN": ("zloty", "złoty", "pln"),
    "INR": ("₹", "rupees", "inr"), "CNY": ("yuan", "renminbi", "cny"), "CAD": ("cad",), "AUD": ("aud",),
}  # fmt: skip
OPEN_MARK, CLOSE_MARK = 0xE000, 0xF8FF
"""Private-use characters stand for quoted texts while a sentence is read: each is the index of one."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number that a request states: what it measures (`money`, `time`, `level`, `people`, a noun, or nothing)."""

    number: float
    dimension: str
    unit: str = ""
    """The word it is measured in, in the singular."""
    bound: str = ""
    """`most` or `least` where the number is a limit."""


@dataclass(frozen=True, slots=True)
class Stated:
    """What one sentence states."""

    days: frozenset[tuple[int, int]] = frozenset()
    weekdays: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    minutes: frozenset[int] = frozenset()
    quantities: tuple[Quantity, ...] = ()
    numbers: frozenset[float] = frozenset()
    """Every number in it, whatever it measures or names."""
    literals: tuple[str, ...] = ()
    """Texts given word by word as what is to be carried."""
    content: frozenset[str] = frozenset()
    """Words of what is to be told (`that it is free`)."""
    currencies: frozenset[str] = frozenset()
    computes: bool = False
    """It has an amount worked out (`half of it`, `the difference`)."""

    def contradicts_number(self, names: frozenset[str], value: float, elsewhere: frozenset[float]) -> bool:
        """Return whether an argument of these name words states another number than the request.

        `elsewhere` are all numbers of the prompt: one that it has is not contradicted by it.
        """
        relevant = [quantity for quantity in self.quantities if _measures(quantity, names)]
        if not relevant:
            return False
        total = sum(quantity.number for quantity in relevant)
        return (
            value != total
            and value not in elsewhere
            and not any(_agrees(quantity, value, names) for quantity in relevant)
        )

    def has_number(self, names: frozenset[str], value: float) -> bool:
        """Return whether the request states this number for an argument of these name words."""
        return any(_measures(quantity, names) and _agrees(quantity, value, names) for quantity in self.quantities)

    def contradicts_text(self, texts: Iterable[str]) -> bool:
        """Return whether none of the texts stated word by word stands in what is carried."""
        if not self.literals:
            return False
        carried = {word for text in texts for word in normal.words(text)}
        if not carried:
            return False
        wanted = [normal.words(literal) for literal in self.literals]
        return not any(sum(word in carried for word in found) >= LITERAL_SHARE_MIN * len(found) for found in wanted)


NOTHING: Final = Stated()


def stated_in(sentence: str) -> Stated:
    """Return what a sentence states beside the texts it gives word by word."""
    sentence = in_digits(sentence)
    words = set(normal.words(sentence))
    days = days_in(sentence)
    done = unconditional(sentence)
    doing = set(normal.words(_THAN.sub(" ", done)))
    computes = bool(doing & _COMPUTES or _HALF.search(done) or _BY.search(done))
    loose = bool(_OPEN_TIME.search(sentence))
    return Stated(
        days,
        frozenset() if days or loose else frozenset(WEEKDAYS[word] for word in words & WEEKDAYS.keys()),
        months_in(sentence),
        frozenset() if loose else minutes_in(sentence),
        () if computes else tuple(_quantities(done)),
        frozenset() if doing & _COMPUTES or _BY.search(done) else numbers_in(done),
        currencies=currencies_in(sentence, words),
        computes=computes,
    )


def unconditional(text: str) -> str:
    """Return a text without the conditions in it (`if the rating is at least four`)."""
    return _CONDITION.sub(_command_in, text)


def _command_in(condition: re.Match[str]) -> str:
    """Return what of a condition without a comma is the command behind it (`if under the limit order 200`)."""
    found = (place for place in _COMMAND.finditer(condition[0]) if place[1].lower() in lexicon.VERB_GROUPS)
    first = next(found, None)
    return " " if first is None else condition[0][first.start() :]


def amounts_in(text: str) -> frozenset[float]:
    """Return the numbers of a text that may say how much: no part of a condition, and none that only names (`invoice 20417`)."""
    text = _DATE.sub(" ", in_digits(unconditional(text)))
    found = set(pointed_numbers(text))
    for match in _DIGITS.finditer(text):
        before = re.findall(r"[^\W\d_]+|[^\w\s]", text[max(0, match.start() - 60) : match.start()].lower())
        number = number_in(match[0])
        if number is not None and not _is_name(before[-1:], before[-2:-1]):
            found.add(number)
    return frozenset(found)


def _is_name(last: list[str], before: list[str]) -> bool:
    """Return whether a number after these words names something, and says not how much."""
    word = lexicon.singular(last[0]) if last else ""
    if word in _NAMING:
        return True
    if word not in lexicon.OBJECT_GROUPS or word in _MEASURED:
        return False
    return word not in lexicon.VERB_GROUPS or bool(before and before[0] not in _BEFORE_VERB)


def numbers_in(text: str) -> frozenset[float]:
    """Return every number in a text that is written in digits and no part of a date or a time."""
    text = _DATE.sub(" ", in_digits(text))
    found = (number_in(digits) for digits in _DIGITS.findall(text))
    return frozenset(number for number in found if number is not None) | pointed_numbers(text)


def currencies_in(text: str, words: Set[str]) -> frozenset[str]:
    """Return the currencies that a text names, by their codes."""
    return frozenset(
        code
        for code, signs in CURRENCIES.items()
        if any(sign in words if sign.isalpha() else sign in text for sign in signs)
    )


def together(found: Iterable[Stated]) -> Stated:
    """Return what several requests state: a call may be what any of them asks for."""
    parts = list(found)
    if not parts:
        return NOTHING
    open_number = any(not part.quantities for part in parts)
    open_text = any(not part.literals for part in parts)
    return Stated(
        frozenset(day for part in parts for day in part.days),
        frozenset(day for part in parts for day in part.weekdays),
        frozenset(month for part in parts for month in part.months)
        if all(part.months for part in parts)
        else frozenset(),
        frozenset(minute for part in parts for minute in part.minutes),
        () if open_number else tuple(quantity for part in parts for quantity in part.quantities),
        frozenset()
        if any(not part.numbers for part in parts)
        else frozenset(n for part in parts for n in part.numbers),
        () if open_text else tuple(literal for part in parts for literal in part.literals),
        frozenset(word for part in parts for word in part.content)
        if all(part.content for part in parts)
        else frozenset(),
        frozenset(code for part in parts for code in part.currencies),
        any(part.computes for part in parts),
    )


def _quantities(sentence: str) -> Iterable[Quantity]:
    for match in _QUANTITY.finditer(sentence):
        sign, digits, mark, unit = (part or "" for part in match.groups())
        around = re.findall(r"[^\W\d_]+|[^\w\s]", sentence[max(0, match.start() - 40) : match.start()].lower())
        before = [word for word in around if word.isalpha()]
        last = before[-1] if before else ""
        number = number_in(digits)
        if number is None or (unit.lower() in ("am", "pm", "uhr", "o") and not sign):
            continue
        if mark.lower() == "k":
            number *= 1000
        word = lexicon.singular(unit.lower())
        dimension = (
            "money" if {sign, mark, unit.lower(), word} & _MONEY or (last in _MONEY and not unit)
            else "level" if {mark, word} & _LEVEL
            else "time" if word in _TIME
            else "people" if word in _PEOPLE
            else word if word and word not in _STOP
            else ""
        )  # fmt: skip
        if not dimension and last in lexicon.VERB_GROUPS and (not unit or word in _STOP):
            if digits.isalpha() or (around[-1:] == [last] and not _is_name([last], around[-2:-1] or ["."])):
                dimension = "count"  # `order one from them`
        if not dimension and last not in _BARE:
            continue  # `issue 12`, `room 4`: a number that names
        near = set(before[-3:])
        bound = "most" if near & _AT_MOST and not near & _AT_LEAST else "least" if near & _AT_LEAST else ""
        yield Quantity(number, dimension, word, bound)


_STOP: Final = bag("and or for in on at to from with the a of is are as if then please by until before after so but it")
_BARE: Final = bag("to at of quantity amount limit target")


def number_in(digits: str) -> float | None:
    """Return the number that digits, with either mark for thousands, or a word stand for; None for neither."""
    word = digits.lower()
    if word in WORDS:
        return WORDS[word]
    plain = re.sub(r"[,' ](?=\d{3}(?:\D|$))", "", digits).replace(",", ".")
    try:
        return float(plain)
    except ValueError:
        return None


def _measures(quantity: Quantity, names: frozenset[str]) -> bool:
    dimensions = {dimension for dimension, words in _ARGUMENT_DIMENSIONS.items() if words & names}
    if quantity.dimension in dimensions or quantity.dimension in names:
        return True
    if not quantity.dimension:
        return bool(dimensions - {"time", "people"})
    return "count" in dimensions and quantity.dimension not in _ARGUMENT_DIMENSIONS


def _agrees(quantity: Quantity, value: float, names: frozenset[str]) -> bool:
    if quantity.bound:
        return value <= quantity.number if quantity.bound == "most" else value >= quantity.number
    ratios = (1.0,) if quantity.unit in names else _RATIOS.get(quantity.dimension, (1.0,))
    stated = [quantity.number * ratio for ratio in ratios] + [quantity.number / ratio for ratio in ratios]
    if names & _CENTS:  # nowhere else is money given in its hundredth part
        stated.append(quantity.number * 100)
    return any(abs(value - number) <= 1e-6 * max(1.0, abs(number)) for number in stated)


def literals(sentence: str, quoted: list[str]) -> list[tuple[int, str]]:
    """Return (index in `quoted`, text) of quoted texts that are what is to be said.

    They have several words and stand behind a word for what is carried, or at the end of a sentence that tells. `quoted`
    are the texts that the private-use characters of the sentence stand for.
    """
    found = []
    for index, char in enumerate(sentence):
        place = ord(char) - OPEN_MARK
        if not OPEN_MARK <= ord(char) <= CLOSE_MARK or place >= len(quoted):
            continue
        text = _FIRST_SENTENCE.split(quoted[place].strip(), maxsplit=1)[0]
        before = normal.words(sentence[:index])
        last, near = before[-1] if before else "", set(before[-4:])
        colon = sentence[:index].rstrip(" ⟨⟩").endswith((":", " -", "–", "—"))
        carried = colon or last in _SAYING or (last in _WITH and "with" in near)
        ends = not re.search(r"\w", sentence[index + 1 :]) and bool(_TELLING & set(before)) and last not in _REFERS
        if len(normal.words(text)) >= _LITERAL_WORDS_MIN and (carried or ends):
            found.append((place, text))
    return found
