"""The effect scope: which effects the trusted prompt asks for. Deterministic planner, pure.

The scope is a function of the user's words and a tool's semantics alone, so it is frozen before the first untrusted read
by construction: nothing that a tool returns can widen it. The planner reads requests (a verb in its base form, in a
sentence, with what it is to be done to) with a small generic lexicon; a tool is in scope when a request's verb and
object fit the tool's. What the lexicon does not understand is out of scope, and asks.
Quoted text is what the user wants carried, not what the user asks for, and is left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from agent_os.core.manifest import Effect, ToolSpec
from agent_os.guards.flow import lexicon, normal
from agent_os.guards.flow.lexicon import bag

PROMPT_CHARS_MAX: Final = 200_000
"""Longest prompt that is planned; what stands beyond is not read, so it widens nothing."""

_SENTENCE: Final = re.compile(r"(?<=[.!?;:])\s+(?=[\"'(\w])|\n+|(?<=\w)\.(?=[A-Z])")
_TOKEN: Final = re.compile(r"[^\W_][\w'’.@/+-]*|,(?=\s)")
_QUOTED: Final = re.compile(
    r"(?<![\w])(?:'([^'\n]{2,400}?)'(?!\w)|\"([^\"\n]{2,2000}?)\"|“([^”\n]{2,2000}?)”|`([^`\n]{2,2000})`)"
)
_FILENAME: Final = re.compile(
    r"\b[\w-]+\.(?:docx?|xlsx?|pptx?|txt|pdf|csv|md|json|ya?ml|py|js|ts|html|png|jpe?g|zip|log|xml)\b", re.I
)
_COLON_TEXT: Final = re.compile(
    r"\b(?:message|text|question|note|comment|reply|content|body|saying|says)\b[^:\n.]{0,60}:\s(?!\s*\d[.)])", re.I
)
_NEGATION: Final = bag("not don't dont never without cannot can't won't")
_POSITIVE_AFTER_NEGATION: Final = bag("forget hesitate fail only")
_DETERMINER: Final = bag("a an the this my our that his her their")


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
    days: frozenset[tuple[int, int]] = frozenset()
    """Month and day of each date in the sentence: what the effect's dates are pinned to."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Why a tool's effect is in scope: the request's verb, and how often (0: without limit)."""

    verb: str
    times: int
    days: frozenset[tuple[int, int]] = frozenset()


class Scope:
    """What the prompts of one session ask for. Grows with each message of the user and with nothing else."""

    def __init__(self, within: Scope | None = None) -> None:
        self.requests: list[Request] = []
        self._objects: set[str] = set()
        self._words: set[str] = set()
        self._sentences: list[tuple[list[str], Request]] = []
        self._within = within
        self._cache: dict[str, Leave | None] = {}

    def extend(self, prompt: str) -> None:
        """Add the requests of one trusted message."""
        self._cache.clear()
        prompt = normal.spaced_sentences(prompt[:PROMPT_CHARS_MAX])
        names_file = bool(_FILENAME.search(prompt))
        has_email = bool(normal.emails(prompt))
        stripped = _without_carried(prompt)
        for sentence in _SENTENCE.split(stripped):
            raw = [token for token in (found.strip(".'’-/") for found in _TOKEN.findall(sentence)) if token]
            plain = [token.lower() for token in raw]
            tokens = [
                f"⟨{token.lower()}⟩" if index and token[0].isupper() and token.lower() in _NAMES else token.lower()
                for index, token in enumerate(raw)
            ]
            nouns = {lexicon.singular(token) for token in plain} | {
                part for token in plain for part in token.split("-")
            }
            objects = {group for noun in nouns for group in lexicon.OBJECT_GROUPS.get(noun, lexicon.NONE)}
            if _FILENAME.search(sentence) or (names_file and "⟨" in sentence):
                objects.add("file")
            if has_email and "@" in sentence:
                objects.add("email")
            self._objects |= objects
            self._words |= nouns
            self._requests(sentence, tokens, frozenset(objects), frozenset(nouns))

    def _requests(self, sentence: str, tokens: list[str], objects: frozenset[str], nouns: frozenset[str]) -> None:
        repeats = bool(lexicon.UNIVERSAL & nouns) or bool(_LISTED.search(sentence))
        plurals = {lexicon.singular(token) for token in tokens if token != lexicon.singular(token)}
        plurals |= {group for noun in plurals for group in lexicon.OBJECT_GROUPS.get(noun, lexicon.NONE)}
        many = frozenset(plurals)
        days = days_in(sentence)
        self._sentences.append(
            (tokens, Request("", lexicon.NONE, objects, nouns, repeats, False, plurals=many, days=days))
        )
        for index, following in enumerate(tokens[1:] + [""] * bool(tokens)):
            verb, groups = _said(tokens, index)
            if groups:
                to_me, of_before = following in ("me", "us"), following in _PRONOUNS
                definite = of_before or following in ("the", "my", "our", "their", "his", "her")
                self.requests.append(
                    Request(verb, groups, objects, nouns, repeats, to_me, of_before, definite, many, days)
                )

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
            own = self._leave(spec)
            if own is not None and self._within is not None and self._within.leave(spec) is None:
                own = None
            self._cache[spec.name] = own
        return self._cache[spec.name]

    def _leave(self, spec: ToolSpec) -> Leave | None:
        verbs, verb_groups, objects, object_groups = profile(spec)
        matched: list[Request] = []
        candidates = self.requests
        if not any(verb in lexicon.VERB_GROUPS for verb in verbs):
            candidates = [*candidates, *self._spoken(verbs)]
        elif verbs & _GENERIC:
            matched.extend(self._spoken(objects - lexicon.VERB_GROUPS.keys(), imperative=True))
        for request in candidates:
            same_word = request.verb in verbs
            if not same_word and not request.groups & verb_groups:
                continue
            if request.to_me and request.verb in lexicon.OUTPUT_ONLY and spec.effect is not Effect.EXECUTE:
                continue
            if request.to_me and request.verb == "remind" and spec.effect is Effect.SEND:
                continue  # a reminder is an entry, not a message
            if self._object_fits(request, same_word, spec, objects, object_groups):
                matched.append(request)
        if not matched:
            return None
        kinds = objects | object_groups
        several = any(request.repeats or (not request.of_before and request.plurals & kinds) for request in matched)
        times = 0 if several else _times(matched)
        days = frozenset(day for request in matched for day in request.days)
        return Leave(matched[0].verb, times, days)

    def _spoken(self, verbs: frozenset[str], *, imperative: bool = False) -> Iterator[Request]:
        """Yield requests by verbs that the lexicon does not know but the prompt uses.

        `imperative`: only where a command can begin, for words that are nouns elsewhere (`grade the essay`).
        """
        for tokens, request in self._sentences:
            for index, token in enumerate(tokens):
                if imperative and index and tokens[index - 1] not in _BEFORE_COMMAND:
                    continue
                if token in verbs and _requested(tokens, index):
                    following = tokens[index + 1] if index + 1 < len(tokens) else ""
                    yield replace(request, verb=token, to_me=following in ("me", "us"))

    def _object_fits(
        self, request: Request, same_word: bool, spec: ToolSpec, objects: frozenset[str], groups: frozenset[str]
    ) -> bool:
        implied = frozenset(lexicon.IMPLIED.get(request.verb, "").split())
        if implied & groups or request.words & objects:
            return True
        if not groups and not objects:
            return same_word  # a tool named by its verb alone
        here = request.objects - _of_verb(request)
        if here & groups:
            return True
        if spec.effect is Effect.SEND and "send" in request.groups and not here & implied:
            return True  # whom it goes to is authority and is judged as such
        if not here or request.of_before:  # "make one", "cancel it": what was spoken of elsewhere
            return bool(self._objects & groups or self._words & objects)
        return False


@lru_cache(maxsize=4096)
def _profile(
    name: str, own_verbs: tuple[str, ...], own_objects: tuple[str, ...], arguments: tuple[str, ...], pays: bool
) -> Profile:
    named = [word for word in name_words(name) if word not in BRANDS] or name_words(name)
    verbs = set(own_verbs)
    if not verbs:
        known = [word for word in named if word in lexicon.VERB_GROUPS]
        known = [word for word in known if word not in _LIGHT] or known
        plain = [word for word in known if lexicon.singular(word) not in lexicon.OBJECT_GROUPS]
        verbs = set((plain or known or named)[:1])
        if verbs & _GENERIC:
            verbs |= _COMMERCIAL & set(named)
    leading = own_verbs[:1] or tuple(verbs)  # the other words of a manifest are meant as they stand
    groups = {group for verb in leading for group in lexicon.tool_groups(verb)} - {"read"}
    if not pays:
        groups.discard("pay")
    words = set(own_objects)
    if not words:
        words = {lexicon.singular(word) for word in named if word not in verbs | _LIGHT and word not in _FILLERS}
        if not words:
            words = {lexicon.singular(part) for argument in arguments for part in name_words(argument)} - _FILLERS
    object_groups = {group for word in words for group in lexicon.OBJECT_GROUPS.get(word, lexicon.NONE)}
    return frozenset(verbs), frozenset(groups), frozenset(words), frozenset(object_groups)


Profile = tuple[frozenset[str], frozenset[str], frozenset[str], frozenset[str]]


def _times(requests: list[Request]) -> int:
    """Return how many effects are asked for: `create an event … make the event last an hour` is one."""
    by_verb = Counter(request.verb for request in requests)
    return max(sum(not request.definite for request in requests), *by_verb.values())


def profile(spec: ToolSpec) -> Profile:
    """Return a tool's verbs, their groups, its object words and their groups, from its manifest or else its name."""
    pays = spec.effect is Effect.PAY
    return _profile(spec.name.rsplit("/", 1)[-1], spec.verbs, spec.objects, tuple(spec.arguments), pays)


BRANDS: Final = bag(
    "git github gitlab gmail slack jira notion google outlook microsoft aws azure gcp salesforce hubspot stripe shopify"
    " spotify twitter linkedin facebook mcp server client service api tool"
)
"""Words that stand before a tool's own name: whose it is."""

_FILLERS: Final = BRANDS | bag("to from in of the a an for by with on at new all my id is direct scheduled")

_BEFORE_COMMAND: Final = bag("please and then to also just now you or but kindly , not forget first finally next so")
_NAMES: Final = bag("mark will bill grant drew rob chase pat sue")
"""Verbs that are given names when written with a capital."""
_LISTED: Final = re.compile(r"\band (?:[A-Z⟨'\"]|[\w.]+@)|[A-Z@⟨][\w.@⟩]*, (?:[A-Z⟨]|[\w.]+@)")
_PRONOUNS: Final = bag("it them this that these those one ones him her")
_GENERIC: Final = bag("set create add make send update give submit post put write do")
"""Verbs that mean whatever their noun means: `set_grade` grades."""
_LIGHT: Final = bag("place perform process initiate issue take")
"""Verbs that say nothing beside another: `place_order` orders."""
_COMMERCIAL: Final = bag("order purchase refund booking reservation transfer")


def name_words(name: str) -> list[str]:
    """Return the words of an identifier: `sendEmail`, `send_email`, `mail.send-email` alike."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return [word.lower() for word in re.split(r"[^A-Za-z0-9]+", spaced) if word]


def _verb(word: str, following: str) -> tuple[str, frozenset[str]]:
    """Return the verb that a word in its base form is, with its groups; no groups for what is no verb of an effect."""
    if (word, following) in lexicon.PHRASES:
        word = lexicon.PHRASES[word, following]
    if word == "reservation":
        word = "reserve"
    groups = lexicon.VERB_GROUPS.get(word)
    if groups is None and "-" in word:
        word = word.replace("-", "")
        groups = lexicon.VERB_GROUPS.get(word)
    if groups is None and word.startswith("re") and word[2:] in lexicon.VERB_GROUPS:
        word = word[2:]
        groups = lexicon.VERB_GROUPS[word]
    return word, (groups or lexicon.NONE) - {"read"}


def _said(tokens: list[str], index: int) -> tuple[str, frozenset[str]]:
    """Return the verb asked for at a place, also as `to be deleted`, `by sending`, `let … know`."""
    word, following = tokens[index], tokens[index + 1] if index + 1 < len(tokens) else ""
    before = tokens[max(0, index - 5) : index]
    if word == "let" and following not in ("me", "us"):
        return (
            ("tell", lexicon.VERB_GROUPS["tell"] - {"read"})
            if "know" in tokens[index + 2 : index + 6]
            else ("", lexicon.NONE)
        )
    if before[-1:] == ["be"] and set(before[:-1]) & _MUST:
        base = lexicon.base_form(word, "ed")
        if base:
            return base, lexicon.VERB_GROUPS[base] - {"read"}
    if before and before[-1] in ("by", "mind", "start"):
        base = lexicon.base_form(word, "ing")
        if base:
            return base, lexicon.VERB_GROUPS[base] - {"read"}
    verb, groups = _verb(word, following)
    return (verb, groups) if groups and _requested(tokens, index) else ("", lexicon.NONE)


_MUST: Final = bag("to should must needs need please shall can could want wants")


def _requested(tokens: list[str], index: int) -> bool:
    """Return whether the base-form verb at a place is a request rather than a statement, a noun or a prohibition."""
    before = tokens[max(0, index - 4) : index]
    if _NEGATION & set(before[-3:]) and not _POSITIVE_AFTER_NEGATION & set(before):
        return False
    last = before[-1] if before else ""
    if last in lexicon.NO_EFFECT_BEFORE or {"did", "does"} & set(before[-3:]):
        return False
    if last == "you" and not {"can", "could", "would", "will", "please", "should", "if", "want", "need"} & set(before):
        return False
    if last == "usually" or ({"remind", "reminder"} & set(before[-3:]) and last == "to"):
        return False
    if index and lexicon.singular(tokens[index]) in lexicon.OBJECT_GROUPS and last not in _BEFORE_COMMAND:
        return False  # "the minutes file": a noun wherever a command cannot begin
    if last in _DETERMINER and tokens[index] != "reservation":
        return False  # "the message", "my order": a noun
    return not (last == "to" and len(before) > 1 and before[-2] in ("how", "link", "when", "where", "used", "going"))


def _of_verb(request: Request) -> frozenset[str]:
    """Return object groups that stand in the sentence only because its verb is a noun as well (`text`, `book`)."""
    others = {
        group for word in request.words - {request.verb} for group in lexicon.OBJECT_GROUPS.get(word, lexicon.NONE)
    }
    return request.objects - others - {"file", "email"}


def _without_carried(prompt: str) -> str:
    """Return a prompt without what the user only wants carried: quoted text, and text after `the following message:`."""

    def mark(match: re.Match[str]) -> str:
        inner = next(group for group in match.groups() if group)
        kept = _FILENAME.findall(inner)
        return "⟨" + (" ".join(kept) if kept else " ".join(normal.emails(inner))) + "⟩"

    prompt = _QUOTED.sub(mark, prompt)
    found = _COLON_TEXT.search(prompt)
    while found:
        end = prompt.find("\n", found.end())
        stop = len(prompt) if end < 0 else end
        prompt = prompt[: found.end()] + " " + prompt[stop:] if stop - found.end() > 0 else prompt
        found = _COLON_TEXT.search(prompt, found.end() + 1)
    return prompt


_MONTHS: Final = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
_MONTH: Final = (
    r"(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)"
)
_DAYS: Final = (
    (re.compile(r"\b\d{4}-(\d{2})-(\d{2})\b"), "md"),
    (re.compile(rf"\b{_MONTH}\.? (\d{{1,2}})(?:st|nd|rd|th)?\b(?!:)", re.I), "md"),
    (re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)? (?:of )?{_MONTH}\b", re.I), "dm"),
)


def days_in(text: str) -> frozenset[tuple[int, int]]:
    """Return (month, day) of every date in a text that names a day."""
    found = set()
    for pattern, order in _DAYS:
        for one, two in pattern.findall(text):
            month, day = (one, two) if order == "md" else (two, one)
            number = (
                int(month)
                if month.isdigit()
                else 1 + next(index for index, name in enumerate(_MONTHS) if name.startswith(month.lower()[:3]))
            )
            if 1 <= number <= 12 and 1 <= int(day) <= 31:
                found.add((number, int(day)))
    return frozenset(found)


def within_days(days: frozenset[tuple[int, int]], asked: frozenset[tuple[int, int]]) -> bool:
    """Return whether every day lies among, or between the first and last of, those asked for (a night over is within)."""

    def ordinal(day: tuple[int, int]) -> int:
        return day[0] * 31 + day[1]

    allowed = sorted(map(ordinal, asked))
    return all(allowed[0] <= ordinal(day) <= allowed[-1] + 1 for day in days) if allowed else True
