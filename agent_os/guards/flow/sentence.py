"""One sentence of a prompt, and the request that a verb in it makes: to what, in what, how often, when. Pure.

`reading.py` cuts a prompt into sentences and finds the verbs; `scope.py` compares requests with tools.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from agent_os.guards.flow import lexicon, normal
from agent_os.guards.flow.lexicon import bag
from agent_os.guards.flow.stated import NOTHING, Stated

DIRECT_WORDS_MAX: Final = 10
"""Words after a verb among which what it is done to is looked for."""
DETERMINER: Final = bag(
    "a an the this my our that his her their every all each any some no which what these those many most fewest oldest newest"
    " latest other currently still are is remain"
)
PRONOUNS: Final = bag("it them this that these those one ones him her")
END_OF_OBJECT: Final = bag(
    "to on in for from with at into onto by because after before if when once while so that which who as via using than"
    " then and but , unless about until whether"
)
"""Words behind which what a verb is done to has ended."""
_END_OF_CLAUSE: Final = bag(", and then but while that which who if when until because so")
_WITHIN: Final = bag("in of from within inside at")
_NO_THING: Final = (
    bag(
        "the my your his her our their its off on up down out please now today tomorrow again back away rest copy half pair"
        " couple part kind and or one two three me us"
    )
    | DETERMINER | PRONOUNS | lexicon.UNIVERSAL | lexicon.MOST | lexicon.LEAST | lexicon.DEAREST
)  # fmt: skip
"""Words after a verb that do not say what it is done to."""
_WAYS: Final = bag("on off up down")
_TOLD: Final = bag("that saying dass que che")
"""Words behind which stands what is to be told."""


@dataclass(frozen=True, slots=True)
class Request:
    """One thing the user asks for: the verb as written, the object groups and words around it, and whether it repeats."""

    verb: str
    groups: frozenset[str]
    objects: frozenset[str]
    words: frozenset[str]
    repeats: bool
    to_me: bool
    of_before: bool = False
    """What it is done to was named before (`move it`)."""
    definite: bool = False
    """It is done to something known (`the event`)."""
    plurals: frozenset[str] = frozenset()
    """Nouns of the sentence in the plural, and their groups."""
    stated: Stated = NOTHING
    """What the sentence states of the effect: its days, times, amounts and texts, which a call must not contradict."""
    direct: frozenset[str] = frozenset()
    """The words that say what it is done to, as written, and the parts of those that are joined (`search-api`)."""
    clause: frozenset[str] = frozenset()
    """The words from the verb to the end of its clause."""
    thing: frozenset[str] = frozenset()
    """The plain words (no names) that say what it is done to, in the singular."""
    place: frozenset[str] = frozenset()
    """The words that say in what, or of what, that is (`the file in the folder`)."""
    ways: frozenset[str] = frozenset()
    """The verb and the particles of its clause (`switch the lights off`): what an opposite is opposite to."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence: its words (a capital name in ⟨⟩), nouns in the singular, and their groups."""

    tokens: tuple[str, ...]
    nouns: frozenset[str]
    objects: frozenset[str]
    plurals: frozenset[str]
    repeats: bool
    stated: Stated
    literals: tuple[tuple[int, str], ...] = ()
    """Texts given word by word, and before which token each stands."""
    names: frozenset[str] = frozenset()
    """Its words with a capital or a mark inside, but for the first."""

    def request(self, verb: str, groups: frozenset[str], index: int) -> Request:
        """Return the request that the verb at a place makes."""
        following = self.tokens[index + 1] if index + 1 < len(self.tokens) else ""
        direct = self._direct(index)
        if self.tokens[index : index + 1] == ("go",) or self.tokens[index - 1 : index] == ("be",):
            direct |= self._subject(index)
        clause = [word.strip("⟨⟩") for word in self.tokens[index : self._end(index)]]
        before = following in PRONOUNS or bool(direct & {"one", "ones"})
        repeats = self.repeats and not ("one" in direct and not lexicon.UNIVERSAL & set(clause))
        thing, place = self._thing(index)
        return Request(
            verb, groups, self.objects, self.nouns, repeats, following in ("me", "us"), before,
            before or following in ("the", "my", "our", "their", "his", "her"), self.plurals, self._stated(index),
            direct, frozenset(map(lexicon.singular, clause)) | set(clause), thing, place,
            frozenset({verb, *(_WAYS & set(clause))}),
        )  # fmt: skip

    def _thing(self, index: int) -> tuple[frozenset[str], frozenset[str]]:
        """Return the plain words of what the verb at a place is done to, and those of what that is in, or of."""
        thing: set[str] = set()
        place: set[str] = set()
        found: set[str] | None = thing
        for token in self.tokens[index + 1 : self._end(index)]:
            if token in _WITHIN:
                found = place
            elif token in END_OF_OBJECT:
                found = None
            elif found is not None and token.isalpha() and (found is place or token not in self.names):
                found.add(lexicon.singular(token))
        return frozenset(thing - _NO_THING), frozenset(place)

    def _stated(self, index: int) -> Stated:
        texts = tuple(text for place, text in self.literals if index < place <= self._end(index))
        stated = replace(self.stated, literals=texts) if texts else self.stated
        told = next((at for at in range(index + 1, len(self.tokens)) if self.tokens[at] in _TOLD), 0)
        if not told or self.tokens[index] not in lexicon.VERB_GROUPS:
            return stated
        return replace(stated, content=frozenset(self.tokens[told + 1 :]) - _TOLD)

    def _end(self, index: int) -> int:
        """Return where the words that belong to the verb at a place end."""
        following = range(index + 1, len(self.tokens))
        return next((at for at in following if self.tokens[at] in _END_OF_CLAUSE), len(self.tokens))

    def _subject(self, index: int) -> frozenset[str]:
        """Return the words before a verb that say what it is done to (`the vase shall go to …`, `it must be moved`)."""
        start = max(0, index - DIRECT_WORDS_MAX)
        before = [token.strip("⟨⟩") for token in self.tokens[start:index]]
        cut = next((at for at in range(len(before) - 1, -1, -1) if before[at] in (",", "and", "then", "but")), -1)
        return _parts(before[cut + 1 :])

    def _direct(self, index: int) -> frozenset[str]:
        found: list[str] = []
        for token in self.tokens[index + 1 : index + 1 + DIRECT_WORDS_MAX]:
            if token in END_OF_OBJECT:
                break
            found.append(token.strip("⟨⟩"))
        return _parts(found)


def _parts(found: list[str]) -> frozenset[str]:
    """Return words as written, the parts of those that are joined, in the singular and without marks."""
    parts = [part for token in found for part in re.split(r"[^\w]+", token.removesuffix("'s")) if part]
    return frozenset({*found, *parts, *map(lexicon.singular, parts), *map(normal.loose, parts)})
