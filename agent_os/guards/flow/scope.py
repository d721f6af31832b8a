"""The effect scope: which effects the trusted prompt asks for. Deterministic planner, pure.

The scope is a function of the user's words and a tool's semantics alone, so it is frozen before the first untrusted read
by construction: nothing that a tool returns can widen it. `reading.py` finds the requests of a prompt with a small generic
lexicon; a tool is in scope when a request's verb and object fit the tool's. Where the prompt calls a thing by its own name
(`restart search-api`), the request fits a call about that thing if the verb is the tool's own. What is not understood is
out of scope, and asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from agent_os.core.manifest import Effect, ToolSpec
from agent_os.guards.flow import lexicon, synonyms
from agent_os.guards.flow.lexicon import bag
from agent_os.guards.flow.naming import GENERIC, PEOPLE, VAGUE, name_words, profile, verb_groups
from agent_os.guards.flow.numerals import spoken_numbers
from agent_os.guards.flow.opposites import opposed, stems
from agent_os.guards.flow.reading import read, requests, spoken
from agent_os.guards.flow.sentence import Request, Sentence
from agent_os.guards.flow.stated import NOTHING, Stated, amounts_in, numbers_in, together, unconditional

GRAVE: Final = frozenset({Effect.PAY, Effect.CREDENTIAL, Effect.EXECUTE})
"""Effects that a request must name more closely: a verb that fits anything fits them only by what it is done to."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Why a tool's effect is in scope: the request's verb, and how often (0: without limit)."""

    verb: str
    times: int
    stated: Stated = NOTHING
    """What the requests state of the effect."""
    ways: frozenset[str] = frozenset()
    """The requests' verbs and particles: what they ask for has a direction (`on`, `lock`)."""
    words: frozenset[str] = frozenset()
    clauses: tuple[frozenset[str], ...] = ()
    """The words of each request's own clause: what it is done to is described there before anywhere else."""
    elsewhere: frozenset[float] = frozenset()
    """All numbers of the prompt in digits that may say how much."""
    spoken: frozenset[float] = frozenset()
    """Those in words: they vouch, but a prompt that says `one` has not stated an amount."""


class Scope:
    """What the prompts of one session ask for. Grows with each message of the user and with nothing else."""

    def __init__(self, within: Scope | None = None) -> None:
        self.requests: list[Request] = []
        self._objects: set[str] = set()
        self._words: set[str] = set()
        self._sentences: list[Sentence] = []
        self._within = within
        self._numbers: frozenset[float] = frozenset()
        self._amounts: frozenset[float] = frozenset()
        self._spoken_numbers: frozenset[float] = frozenset()
        self._spoken_amounts: frozenset[float] = frozenset()
        self._cache: dict[str, Leave | None] = {}

    def extend(self, prompt: str) -> None:
        """Add the requests of one trusted message."""
        self._cache.clear()
        self._numbers |= numbers_in(prompt)
        self._amounts |= amounts_in(prompt)
        self._spoken_numbers |= spoken_numbers(prompt)
        self._spoken_amounts |= spoken_numbers(unconditional(prompt))
        for sentence in read(prompt):
            self._sentences.append(sentence)
            self._objects |= sentence.objects
            self._words |= sentence.nouns
            self.requests.extend(requests(sentence))

    def numbers(self, value: float) -> bool:
        """Return whether the prompt has a number, in whatever spelling (`1,187.50`, `86.4`)."""
        return value in self._numbers or value in self._spoken_numbers

    def digits(self, value: float) -> bool:
        """Return whether the prompt has a number in digits: `one` may be anything."""
        return value in self._numbers

    @property
    def to_self(self) -> bool:
        """Whether the user asks for something to be sent to themselves."""
        own = any(request.to_me and request.verb not in lexicon.OUTPUT_ONLY | {"remind"} for request in self.requests)
        return own or "myself" in self._words

    def leave(self, spec: ToolSpec) -> Leave | None:
        """Return why the tool's effect is in scope, or None. Reading always is."""
        if spec.effect is Effect.READ:
            return Leave("read", 0)
        if spec.name not in self._cache:
            matched = [request for request in self._candidates(spec) if self._fits(request, spec)]
            self._cache[spec.name] = self._within_parent(spec, _leave(matched, spec))
        return self._cache[spec.name]

    def leave_by_name(self, spec: ToolSpec, named: frozenset[str], given: frozenset[str]) -> Leave | None:
        """Return why a call is in scope that is about something the prompt calls by its own name, or None.

        `named` are the words of what the call is done to. They must stand where the request says what it is done to, no
        noun that the lexicon knows may stand there, and the verb must be the tool's own. `given` are words of the names
        of arguments whose values the prompt has.
        """
        verbs, objects = profile(spec).verbs, profile(spec).objects
        attributes = objects & _VALUED
        matched = []
        for request in [*self.requests, *self._spoken(verbs - lexicon.VERB_GROUPS.keys())]:
            own = request.verb in verbs or (
                bool(verbs & _SETTING) and (request.verb in synonyms.CHANGING or "update" in request.groups)
            )
            if not own or _only_answers(request, spec) or _opposite(request, spec, verbs):
                continue
            if attributes and not attributes & (request.words | given):
                continue  # `put it to 3 on hand` sets no price
            known = {word for word in request.direct if lexicon.singular(word) in lexicon.OBJECT_GROUPS}
            where = request.direct | request.clause if request.verb in verbs else request.direct
            here = named & where and (not known or known & (named | objects))
            if here or (request.of_before and named & self._words):
                matched.append(request)
        return self._within_parent(spec, _leave(matched, spec))

    def _within_parent(self, spec: ToolSpec, own: Leave | None) -> Leave | None:
        if own is not None:
            own = replace(own, elsewhere=self._amounts, spoken=self._spoken_amounts)
        return None if own is not None and self._within is not None and self._within.leave(spec) is None else own

    def _candidates(self, spec: ToolSpec) -> Iterator[Request | _Own]:
        verbs, objects = profile(spec).verbs, profile(spec).objects
        yield from self.requests
        yield from self._spoken(verbs - lexicon.VERB_GROUPS.keys())
        if verbs & GENERIC:
            for sentence in self._sentences:
                for request in spoken(sentence, objects - lexicon.VERB_GROUPS.keys(), imperative=True):
                    yield _Own(request)
        if verbs and verbs <= _DOING:
            yield from (_Own(request) for request in self.requests if request.verb in objects)

    def _spoken(self, verbs: frozenset[str]) -> Iterator[Request]:
        for sentence in self._sentences:
            yield from spoken(sentence, verbs)

    def _fits(self, given: Request | _Own, spec: ToolSpec) -> bool:
        if isinstance(given, _Own):
            return not _opposite(given.request, spec, frozenset())
        request = given
        verbs, _, objects, groups, _ = profile(spec)
        same_word = request.verb in verbs
        shared = verb_groups(spec, request.verb, request.clause)
        if (not same_word and not shared) or _only_answers(request, spec) or _opposite(request, spec, verbs):
            return False
        if spec.effect in GRAVE:
            if not same_word and shared <= _LOOSE:
                objects, groups = objects - _PEOPLE, groups - {"user"}  # what is written to a customer is no payment
        if request.verb in _PLACING and not request.of_before and not request.direct & _ATTRIBUTES:
            if request.direct and not _here(request, objects, groups):
                return False
        if _only_part(request, spec):
            return False
        light = request.verb in _ANYTHING or (not same_word and shared <= _LOOSE)
        if light and not request.of_before and _named_otherwise(request, objects, groups):
            return False
        return self._object_fits(request, same_word, spec, objects, groups)

    def _object_fits(
        self, request: Request, same_word: bool, spec: ToolSpec, objects: frozenset[str], groups: frozenset[str]
    ) -> bool:
        implied = frozenset(lexicon.IMPLIED.get(request.verb, "").split())
        if implied & groups or request.words & objects:
            return True
        if same_word and (VAGUE in objects or not (groups or objects)):
            return True  # a tool named by its verb alone
        if (
            same_word
            and request.of_before
            and not request.direct & lexicon.OBJECT_GROUPS.keys()
            and spec.effect not in GRAVE
        ):
            return True  # `generate it`: what it is done to was spoken of before, and is judged as an argument
        if same_word and not groups and spec.effect not in GRAVE - {Effect.PAY} and not _known_nouns(request):
            return True  # nouns that the lexicon does not know, on both sides
        here = request.objects - _of_verb(request)
        if "money" in groups and spec.effect is Effect.PAY and _is_amount(request):
            return True  # `move 250 from everyday to savings`
        if here & groups:
            return True
        if spec.effect is Effect.SEND and "send" in request.groups and not here & implied:
            return True  # whom it goes to is authority and is judged as such
        if not here or request.of_before:  # "make one", "cancel it": what was spoken of elsewhere
            return bool(self._objects & groups or self._words & objects)
        return False


@dataclass(frozen=True, slots=True)
class _Own:
    """A request by a word that is the tool's own noun (`grade the essay` for `set_grade`): its object is said with it."""

    request: Request


def _leave(found: list[Request | _Own] | list[Request], spec: ToolSpec) -> Leave | None:
    """Return what requests that fit allow: how often, and on which days."""
    if not found:
        return None
    matched = [item.request if isinstance(item, _Own) else item for item in found]
    kinds = profile(spec).objects | profile(spec).kinds
    several = any(request.repeats or (not request.of_before and request.plurals & kinds) for request in matched)
    ways = frozenset(word for request in matched for word in request.ways)
    words = frozenset(word for request in matched for word in request.words)
    stated = together(request.stated for request in matched)
    return Leave(
        matched[0].verb,
        0 if several else _times(matched),
        stated,
        ways,
        words,
        tuple(request.clause for request in matched),
    )


def _opposite(request: Request, spec: ToolSpec, verbs: frozenset[str]) -> bool:
    """Return whether a tool undoes what a request asks for (`stop_service` for "start it", `turn_off` for "turn it on")."""
    particles = _WAYS & set(name_words(spec.name))
    if any(opposed(word, way) for word in particles for way in request.ways) and not particles & request.ways:
        return True
    if any(stems(verb) & stems(way) for verb in verbs for way in request.ways - _WAYS):
        return False
    return any(opposed(verb, way) for verb in verbs for way in request.ways)


def _only_answers(request: Request, spec: ToolSpec) -> bool:
    """Return whether a request asks for an answer and for no effect (`tell me`, `show me`)."""
    if request.to_me and request.verb in lexicon.OUTPUT_ONLY and spec.effect is not Effect.EXECUTE:
        return True
    return request.to_me and request.verb == "remind" and spec.effect is Effect.SEND  # an entry, not a message


def _named_otherwise(request: Request, objects: frozenset[str], groups: frozenset[str]) -> bool:
    """Return whether the clause says what the verb is done to, and that is of another kind than the tool's.

    For verbs that may be done to anything: `dim the lamp` in a sentence that also has a door opens no door.
    """
    said = {
        word
        for word in request.direct
        if word in lexicon.OBJECT_GROUPS and word not in _ATTRIBUTES and word != request.verb
    }
    if not said or VAGUE in objects or not (objects or groups):
        return False
    clause = request.clause | request.direct
    if "file" in groups & request.objects and any("." in word[1:-1] for word in clause):
        return False  # a file by its name
    return not (
        clause & objects
        or any(lexicon.OBJECT_GROUPS.get(word, lexicon.NONE) & groups for word in clause - {request.verb})
    )


def _only_part(request: Request, spec: ToolSpec) -> bool:
    """Return whether a request is about a part of what a tool acts on as a whole.

    `delete the file in the folder` deletes no folder, `delete the contact` no account. Not for what changes an attribute:
    that is a part of a thing as well.
    """
    own = profile(spec)
    if not own.leading & _WHOLLY or not request.thing or own.objects & request.thing or VAGUE in own.objects:
        return False
    if own.objects and own.objects <= request.place:
        return not request.thing <= _ATTRIBUTES
    nouns = request.thing & lexicon.OBJECT_GROUPS.keys()
    return bool(nouns and own.objects & _WHOLES) and not (nouns & PEOPLE and own.objects & PEOPLE)


def _here(request: Request, objects: frozenset[str], groups: frozenset[str]) -> bool:
    """Return whether what the verb is done to, as it stands after it, is of the tool's kind."""
    direct = {lexicon.singular(word) for word in request.direct}
    return bool(direct & objects) or any(lexicon.OBJECT_GROUPS.get(word, lexicon.NONE) & groups for word in direct)


def _known_nouns(request: Request) -> bool:
    """Return whether anything that stands directly after the verb is a noun that the lexicon knows."""
    return any(lexicon.singular(word) in lexicon.OBJECT_GROUPS for word in request.direct)


def _is_amount(request: Request) -> bool:
    """Return whether what a verb is done to is a number and nothing that the lexicon knows."""
    return not _known_nouns(request) and any(word[:1].isdigit() for word in request.direct)


def _times(requests: list[Request]) -> int:
    """Return how many effects are asked for: `create an event … make the event last an hour` is one."""
    by_verb = Counter(request.verb for request in requests)
    return max(sum(not request.definite for request in requests), *by_verb.values())


def _of_verb(request: Request) -> frozenset[str]:
    """Return object groups that stand in the sentence only because its verb is a noun as well (`text`, `book`)."""
    others = {
        group for word in request.words - {request.verb} for group in lexicon.OBJECT_GROUPS.get(word, lexicon.NONE)
    }
    return request.objects - others - {"file", "email"}


_WAYS: Final = bag("on off up down")
_WHOLLY: Final = synonyms.NARROW.keys() - lexicon.VERBS["pay"].split() - bag("rename move open post")
"""Verbs of tools that do something to a whole thing."""
_WHOLES: Final = bag(
    "account user employee customer client team workspace organization organisation tenant project repository repo drive folder"
    " directory database table server channel campaign group board calendar mailbox inbox collection library album playlist"
    " notebook environment cluster course class department site website domain"
)
"""What holds other things: nobody means it who speaks of one of those."""
_DOING: Final = bag("set create make put do give place perform submit add write leave send post")
"""Generic verbs where the noun is a verb that the lexicon knows (`set_lock` locks, `create_order` orders)."""
_PLACING: Final = bag("set change update")
"""Verbs whose object is what stands directly after them, and not where that is (`set X on the service`)."""
_ATTRIBUTES: Final = bag(
    "status priority state title name description deadline date time color level rating category label tag owner assignee"
    " amount quantity address subject place location duration start end"
)
"""What a thing has: setting one changes the thing it belongs to, wherever that is named."""
_VALUED: Final = (
    _ATTRIBUTES - bag("status state priority") | frozenset(lexicon.OBJECTS["money"].split()) | bag("email phone")
)
"""Attributes that no verb implies: who changes one of them says so."""
_SETTING: Final = synonyms.CHANGING | bag("write")
_ANYTHING: Final = bag("turn switch set put change update make get take move")
"""Verbs that may be done to anything, also where the tool is named by one of them."""
_LOOSE: Final = frozenset({"create", "update"})
"""Groups of verbs that may be done to anything."""
_PEOPLE: Final = frozenset(lexicon.OBJECTS["user"].split())
