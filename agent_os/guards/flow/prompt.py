"""The user's words, ready for strict comparison: what they name, count, and call things. Pure.

Vouching is strict (`normal.strict`): a look-alike letter, or a value inside a longer word, is not what the user wrote.
"""

from __future__ import annotations

import itertools
import re
from typing import Final

from agent_os.guards.flow import lexicon, normal
from agent_os.guards.flow.conditions import absences_in
from agent_os.guards.flow.days import days_in, minutes_in
from agent_os.guards.flow.lexicon import bag
from agent_os.guards.flow.numerals import WORDS
from agent_os.guards.flow.opposites import stems
from agent_os.guards.flow.select import Choice
from agent_os.guards.flow.stated import CURRENCIES, currencies_in, numbers_in

STOP: Final = bag(
    "the a an of to in on at for and or with by is are was be it this that my me i you your please can could from as"
    " have has had do does did not all any what who when where which how there their them they he she his her we our"
    " us if then also so will would should about into than com www http https org net new off up down out"
)

_UNITS: Final = (
    "euros?|eur|usd|dollars?|pounds?|gbp|percent|days?|weeks?|months?|years?|minutes?|hours?|times|people|persons?|guests?"
    "|items?|copies|kg|km|miles|degrees"
)


SETTING_CHARS_MAX: Final = 16
"""Longest value that is read as a setting in the form of a verb (`archived`)."""
_HYPHENED: Final = re.compile(r"\b([a-z]+)-([a-z]+)\b")
_FROM: Final = bag("from source debit origin sender von aus de da desde")
_TO: Final = bag("to target dest destination credit into auf nach vers hacia")
_RECEIVES: Final = bag("iban recipient payee beneficiary receiver")
"""Arguments that say where something goes, without a word for it."""
_PREPOSITIONS: Final = bag("from von aus desde to into")
_ANSWERS: Final = bag(
    "reply replies answer respond response back him her them sender antworte réponds responde rispondi"
)
_SOURCE: Final = re.compile(r"\b(?:from|by|of|von|de|da)\s[\"'<(]?$")
_AFTER_RIGHT: Final = STOP | bag(
    "access permission permissions right rights role visibility please link only again now"
)
_CAPITAL: Final = re.compile(r"(?<![\w.@/-])[A-Z][^\W\d_]{2,}")


class Prompt:
    """The user's words, ready for strict comparison."""

    def __init__(self) -> None:
        self.text = ""
        self.raw = ""
        self.words: frozenset[str] = frozenset()
        self.spoken: frozenset[str] = frozenset()
        """The words that do not stand in an address: a house that only an address names describes nobody in it."""
        self.verbs: frozenset[str] = frozenset()
        """Base forms of its verbs."""
        self.hosts: frozenset[str] = frozenset()
        self.choice = Choice(())
        self.repeats = False
        self.absent: frozenset[str] = frozenset()
        """Nouns that it says are not there (`without receipts`)."""
        self.numbers: frozenset[float] = frozenset()
        self.each = False
        """Whether it says so of each single one: `whoever is cheapest` is one, `each, the oldest first` is all."""
        self.days: frozenset[tuple[int, int]] = frozenset()
        self.directs: tuple[frozenset[str], ...] = ()
        """What each request is done to, in the user's words."""
        self.idle: frozenset[str] = frozenset()
        """The verbs of the requests, and words of choice: in what a stranger wrote they describe nothing."""
        self.minutes: frozenset[int] = frozenset()
        self.counted: frozenset[tuple[str, float]] = frozenset()
        """What is counted or measured, and the number beside it (`two approvals`, `priority 1`)."""
        self.proper: frozenset[str] = frozenset()
        """Words written with a capital that are no verbs: likely names."""

    def extend(self, text: str) -> None:
        """Add a message of the user."""
        text = normal.spaced_sentences(text)
        self.text = f"{self.text}\n{normal.strict(text)}" if self.text else normal.strict(text)
        words = normal.words(text)
        self.words = self.words | {*words, *map(lexicon.singular, words)} - STOP
        apart = normal.words(normal.EMAIL.sub(" ", text))
        self.spoken = self.spoken | {*apart, *map(lexicon.singular, apart)} - STOP
        hyphened = {first for first, last in _HYPHENED.findall(text.lower()) if last in lexicon.VERB_GROUPS}
        self.verbs = (
            self.verbs | hyphened | {form for word in words for form in stems(word) if form in lexicon.VERB_GROUPS}
        )
        self.raw = f"{self.raw}\n{text}"
        self.hosts = self.hosts | {normal.strict_host(url) for url in normal.urls(text)} - {""}
        self.days = self.days | days_in(text)
        self.minutes = self.minutes | minutes_in(text)
        self.counted = self.counted | _counted(words)
        capital = {word.lower() for word in _CAPITAL.findall(text)} - STOP - lexicon.VERB_GROUPS.keys()
        self.proper = self.proper | capital
        self.choice = Choice((*self.choice.words, *words))
        self.repeats = self.repeats or bool(lexicon.UNIVERSAL & set(words))
        self.absent = self.absent | absences_in(text)
        self.numbers = self.numbers | numbers_in(text)
        self.each = self.each or bool(lexicon.EACH & set(words))

    def names(self, value: str) -> bool:
        """Return whether the prompt names exactly this value, as a word or phrase of its own."""
        wanted = normal.strict(value)
        if not wanted:
            return False
        start = self.text.find(wanted)
        while start >= 0:
            if _bounded(self.text, start, start + len(wanted)):
                return True
            start = self.text.find(wanted, start + 1)
        return False

    def vouches(self, value: str, *, exact: bool = False) -> bool:
        """Return whether the prompt names this value as one that has a meaning of its own.

        Not for words that every sentence has, nor for a number that counts or measures something; `exact` also asks for the
        same capital letters (passwords, paths).
        """
        wanted = normal.strict(value)
        if not self.names(wanted) or (exact and value.strip() not in self.raw):
            return False
        if wanted in STOP or wanted in lexicon.UNIVERSAL:
            return any(f"{mark}{wanted}" in self.text for mark in "#@'\"`“")
        if wanted.isdigit() and len(wanted) <= 4:
            return not re.search(rf"(?:[$€£]\s?{wanted}\b|\b{wanted}\s?(?:{_UNITS})\b|\b{wanted}\s?%)", self.text)
        return True

    def names_id(self, value: str, nouns: frozenset[str] = frozenset()) -> bool:
        """Return whether the prompt names a short id as an id (`id 13`, `#13`, `number '13'`), not merely as a number.

        `nouns` are words for what the id stands for: `issue 311`.
        """
        wanted = normal.strict(value)
        start = self.text.find(wanted) if wanted else -1
        while start >= 0:
            before = self.text[max(0, start - 24) : start].rstrip("'\"`(: ")
            if _bounded(self.text, start, start + len(wanted)):
                if before.endswith(("id", "ids", "#", "no", "no.", "number", "nr", "nr.", "ref", "reference", "code")):
                    return True
                if nouns & {lexicon.singular(word) for word in re.findall(r"[^\W\d_]+", before)[-2:]}:
                    return True
            start = self.text.find(wanted, start + 1)
        return False

    def beside(self, names: list[str]) -> tuple[frozenset[str], ...]:
        """Return the words after `from` (`to`) for an argument whose name says where something comes from (goes to)."""
        marks = _FROM if _FROM & set(names) else _TO if (_TO | _RECEIVES) & set(names) else frozenset()
        found = []
        for mark in marks & _PREPOSITIONS:
            for match in re.finditer(rf"\b{mark} ((?:[\w'-]+ ?){{1,6}})", self.text):
                words = re.split(r"\b(?:to|into|from|on|for|with|and|via)\b", match[1])[0]
                found.append(frozenset(normal.words(words)) - STOP)
        return tuple(found)

    def only_source(self, address: str) -> bool:
        """Return whether the prompt has an address only as where something comes from, and another one as where it goes.

        Not where it asks for an answer: that goes back to where the question came from.
        """
        wanted = normal.strict(address)
        if self.words & _ANSWERS:
            return False
        places = [match.start() for match in re.finditer(re.escape(wanted), self.text)]
        sources = [_SOURCE.search(self.text[max(0, place - 24) : place]) for place in places]
        if not places or not all(sources):
            return False
        others = {other for other in normal.emails(self.text) if other != wanted}
        return any(re.search(rf"\b(?:to|with|for|cc|and|an|à|a) {re.escape(other)}", self.text) for other in others)

    def only_qualifies(self, value: str) -> bool:
        """Return whether the prompt has a right only as what something else is like (`the public library`)."""
        found = re.findall(rf"(?<![\w-]){re.escape(normal.strict(value))}(?![\w-])[ ]?([^\W\d_]*)", self.text)
        return bool(found) and all(after and after not in _AFTER_RIGHT for after in found)

    def means(self, value: str) -> bool:
        """Return whether the prompt has a word in another form (`closed` for `close`), or a currency by its name or sign.

        For the settings of a call (a state, a method, a currency) and never for an address: those have more than letters.
        """
        if value.upper() in CURRENCIES:
            return value.upper() in currencies_in(self.text, self.words)
        if 3 <= len(value) <= SETTING_CHARS_MAX and value.isalpha() and value.lower() in self.words:
            return True  # `Lead` for "leads"
        if not 4 <= len(value) <= SETTING_CHARS_MAX or not value.isalpha() or not value.islower():
            return False
        return bool(stems(value) & self.verbs)

    def describes(self, value: str) -> list[str]:
        """Return the words of a value that the prompt has, those of an address's house only where it speaks of the house."""
        name, at, house = value.rpartition("@")
        if not at or " " in house:
            return [word for word in normal.words(value) if word in self.words]
        found = [word for word in normal.words(name) if word in self.words]
        return found + [word for word in normal.words(house) if word in self.spoken]

    def covers(self, value: str) -> bool:
        """Return whether every content word of a search text is the prompt's."""
        found = [word for word in normal.words(value) if word not in STOP]
        return bool(found) and all(word in self.words or lexicon.singular(word) in self.words for word in found)


def _counted(words: list[str]) -> frozenset[tuple[str, float]]:
    """Return pairs of a noun and the number that stands directly before or after it."""
    found = set()
    for first, second in itertools.pairwise(words):
        for number, noun in ((first, second), (second, first)):
            value = float(number) if number.isdecimal() else WORDS.get(number)
            if value is not None and len(number) < 12 and noun not in STOP:
                found.add((lexicon.singular(noun), value))
    return frozenset(found)


def _bounded(text: str, start: int, end: int) -> bool:
    before = text[start - 1] if start else " "
    after = text[end : end + 2]
    if before in "@#" and (start < 2 or not text[start - 2].isalnum()):
        before = " "  # a handle: `@maria`, `#general`
    if before.isalnum() or before in "_@" or (before in ".-+" and start > 1 and text[start - 2].isalnum()):
        return False
    if not after:
        return True
    if after[0].isalnum() or after[0] in "_@":
        return False
    return not (after[0] in ".-+" and len(after) > 1 and after[1].isalnum())
