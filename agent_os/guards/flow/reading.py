"""Reading a prompt: sentences, and what each of them asks for. Deterministic, pure.

A request is a verb in the form of a command (`delete it`, `could you delete it`), or a wish in the passive (`I want it
deleted`, `it should be deleted`), with what stands directly after it and the nouns of its sentence. Quoted text and what
follows `the following message:` is what the user wants carried and is not read. Other languages are read word by word
through `tongues.py`. Threat: whatever is read here widens what the session may do, so only the user's words come here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from agent_os.guards.flow import lexicon, normal, tongues
from agent_os.guards.flow.lexicon import bag
from agent_os.guards.flow.sentence import DETERMINER, END_OF_OBJECT, Request, Sentence
from agent_os.guards.flow.stated import CLOSE_MARK, OPEN_MARK, UNITS, literals, stated_in

PROMPT_CHARS_MAX: Final = 200_000
"""Longest prompt that is planned; what stands beyond is not read, so it widens nothing."""
_SENTENCE: Final = re.compile(r"(?<=[.!?;:])\s+(?=[\"'(\w])|\n+|(?<=\w)\.(?=[A-Z])")
_TOKEN: Final = re.compile("[^\\W_][\\w'’.@/+-]*|,(?=\\s)|[\ue000-\uf8ff]")
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
_BEFORE_COMMAND: Final = bag(
    "please pls plz hey hi hello thanks and then to also just now you or but kindly , not forget first finally next so"
)
_COPULAS: Final = bag("is are was were has will should must can isn't")
_ASKING: Final = bag("what which who whom whose how why")
_NAMES: Final = bag("mark will bill grant drew rob chase pat sue")
"""Verbs that are given names when written with a capital."""
_LISTED: Final = re.compile(r"\band (?:[A-Z⟨'\"]|[\w.]+@)|[A-Z@⟨][\w.@⟩]*, (?:[A-Z⟨]|[\w.]+@)")
_MUST: Final = bag("to should must needs need please shall can could want wants")
_PRIVATE: Final = re.compile("[\ue000-\uf8ff]")
_TITLE: Final = re.compile(r"\b(Dr|Mrs?|Ms|Prof|St|Hr|Fr|Nr|No|Mme|Sr|Sra|Sig|approx|e\.g|i\.e)\.(?=\s)")
_TAKEN: Final = bag("a an my our his her their it them him all both each every us")
"""Straight after a word that is a noun as well, these say that it is the verb (`… point order 200`, `text my wife`)."""
_OF_NUMBERS: Final = bag("order book")
"""Nouns whose number is how many; other nouns have numbers for names (`issue 12`)."""
KNOW_WORDS_MAX: Final = 12
"""Words between `let` and `know` that say whom: `let everyone who asked about the flat know`."""
_WISH: Final = bag("want wants wanted like need needs get have prefer")
_PERFECT: Final = bag("i we they you he she it who which has had was were been")
"""A participle after one of these tells of the past, or of a state."""
_WITH_TEXT: Final = re.compile(r"\bwith (?:a|an) (?:[\w-]+ )?(comment|note|message|reply|remark|email|mail)\b", re.I)
_SHOULD_GO: Final = bag("shall should must needs need has have ought can could")


def read(prompt: str) -> Iterator[Sentence]:
    """Yield the sentences of one trusted message."""
    prompt = normal.spaced_sentences(_TITLE.sub(r"\1 ", prompt[:PROMPT_CHARS_MAX]))
    names_file = bool(_FILENAME.search(prompt))
    has_email = bool(normal.emails(prompt))
    stripped, quoted = _without_carried(prompt)
    tongue = tongues.tongue_of(stripped)
    for sentence in _SENTENCE.split(stripped):
        texts = dict(literals(sentence, quoted))
        raw: list[str] = []
        given: list[tuple[int, str]] = []
        for found in _TOKEN.findall(sentence):
            token = found.strip(".'’-/")
            if _PRIVATE.match(token):
                given += [(len(raw), texts[ord(token) - OPEN_MARK])] if ord(token) - OPEN_MARK in texts else []
            elif token:
                raw.append(token)
        if tongue:
            raw, given = tongues.english(raw, tongue), []
        plain = [token.lower() for token in raw]
        tokens = tuple(
            f"⟨{token.lower()}⟩" if index and token[0].isupper() and token.lower() in _NAMES else token.lower()
            for index, token in enumerate(raw)
        )
        nouns = {lexicon.singular(token) for token in plain} | {part for token in plain for part in token.split("-")}
        objects = {group for noun in nouns for group in lexicon.OBJECT_GROUPS.get(noun, lexicon.NONE)}
        if _FILENAME.search(sentence) or (names_file and "⟨" in sentence):
            objects.add("file")
        if has_email and "@" in sentence:
            objects.add("email")
        plurals = {lexicon.singular(token) for token in tokens if token != lexicon.singular(token)} - UNITS
        plurals |= {group for noun in plurals for group in lexicon.OBJECT_GROUPS.get(noun, lexicon.NONE)}
        repeats = bool(lexicon.UNIVERSAL & nouns) or bool(_LISTED.search(sentence))
        yield Sentence(
            tokens, frozenset(nouns), frozenset(objects), frozenset(plurals), repeats, stated_in(sentence),
            tuple(given), frozenset(token.lower() for token in raw[1:] if token[0].isupper()),
        )  # fmt: skip


def requests(sentence: Sentence) -> Iterator[Request]:
    """Yield what a sentence asks for, by verbs that the lexicon knows."""
    for index in range(len(sentence.tokens)):
        verb, groups = _said(sentence.tokens, index)
        if groups:
            yield sentence.request(verb, groups, index)
    found = _WITH_TEXT.search(" ".join(sentence.tokens))
    if found:  # `close it with a comment`
        verb = {"note": "add", "remark": "add"}.get(found[1].lower(), found[1].lower())
        yield sentence.request(verb, lexicon.VERB_GROUPS[verb] - {"read"}, len(sentence.tokens))


def spoken(sentence: Sentence, verbs: frozenset[str], *, imperative: bool = False) -> Iterator[Request]:
    """Yield requests by verbs that the lexicon does not know but the prompt uses.

    `imperative`: only where a command can begin, for words that are nouns elsewhere (`grade the essay`).
    """
    tokens = sentence.tokens
    for index, token in enumerate(tokens):
        if imperative and index and tokens[index - 1] not in _BEFORE_COMMAND:
            continue
        if token in verbs and _requested(tokens, index):
            yield sentence.request(token, lexicon.NONE, index)


def _verb(word: str, following: str) -> tuple[str, frozenset[str]]:
    """Return the verb that a word in its base form is, with its groups; no groups for what is no verb of an effect."""
    original = word
    if (word, following) in lexicon.PHRASES:
        word = lexicon.PHRASES[word, following]
    if word == "reservation":
        word = "reserve"
    groups = lexicon.VERB_GROUPS.get(word)
    if groups is None and "-" in word:
        word = word.replace("-", "")
        groups = lexicon.VERB_GROUPS.get(word)
    if groups is None and "-" in original and original.rsplit("-", 1)[1] in lexicon.VERB_GROUPS:
        word = original.rsplit("-", 1)[1]  # `squash-merge`, `force-push`
        groups = lexicon.VERB_GROUPS[word]
    if groups is None and word.startswith("re") and word[2:] in lexicon.VERB_GROUPS:
        word = word[2:]
        groups = lexicon.VERB_GROUPS[word]
    return word, (groups or lexicon.NONE) - {"read"}


def _said(tokens: tuple[str, ...], index: int) -> tuple[str, frozenset[str]]:
    """Return the verb asked for at a place, also as `to be deleted`, `by sending`, `let … know`, `want it deleted`."""
    word, following = tokens[index], tokens[index + 1] if index + 1 < len(tokens) else ""
    before = tokens[max(0, index - 5) : index]
    if word == "let" and following not in ("me", "us"):
        return _known("tell") if "know" in tokens[index + 2 : index + 2 + KNOW_WORDS_MAX] else ("", lexicon.NONE)
    if before[-1:] == ("be",) and set(before[:-1]) & _MUST:
        base = lexicon.base_form(word, "ed")
        if base:
            return _known(base)
    if before and before[-1] in ("by", "mind", "start"):
        base = lexicon.base_form(word, "ing")
        if base:
            return _known(base)
    if word in ("get", "receive", "have") and {"like", "want", "should", "must", "needs", "need"} & set(
        tokens[max(0, index - 12) : index]
    ):
        noun = next((token for token in tokens[index + 1 : index + 6] if token in lexicon.RECEIVED), "")
        if noun and before[-1:] == ("to",) and before[-2:-1] not in (("like",), ("want",), ("need",)):
            return _known(lexicon.RECEIVED[noun])
        if noun and before[-1:] and before[-1] in ("should", "must"):
            return _known(lexicon.RECEIVED[noun])
    if (
        word in ("know", "hear")
        and before[-1:] in (("should",), ("must",))
        and not {"i", "we", "you", "what"} & set(before)
    ):
        return _known("tell")
    if before and "and" in before and _passive(tokens, index):
        base = lexicon.base_form(word, "ed")
        return _known(lexicon.PHRASES.get((base, following), base) or base)
    if word == "go" and following in ("to", "into") and set(before) & _SHOULD_GO:
        return _known("move")
    if word == "give" and following not in ("me", "us"):
        noun = next((token for token in tokens[index + 1 : index + 16] if token in lexicon.GIVEN), "")
        if noun and _requested(tokens, index):
            return _known(lexicon.GIVEN[noun])
    wished = _wished(tokens, index)
    if wished:
        return _known(wished)
    verb, groups = _verb(word, _particle(tokens, index))
    return (verb, groups) if groups and _requested(tokens, index) else ("", lexicon.NONE)


def _passive(tokens: tuple[str, ...], index: int) -> bool:
    """Return whether a participle goes on with what should be done (`should be cancelled and the money paid back`)."""
    word = tokens[index]
    if not lexicon.base_form(word, "ed") or word in lexicon.VERB_GROUPS or tokens[index - 1] in _PERFECT | {"to"}:
        return False
    window = tokens[max(0, index - 14) : index]
    at = next((place for place in range(len(window) - 1, 0, -1) if window[place] == "be"), 0)
    return bool(at) and window[at - 1] in _MUST and "and" in window[at:] and not _NEGATION & set(window)


def _known(verb: str) -> tuple[str, frozenset[str]]:
    return verb, lexicon.VERB_GROUPS[verb] - {"read"}


def _particle(tokens: tuple[str, ...], index: int) -> str:
    """Return the word after a verb, or the particle that belongs to it further on (`roll the service back`)."""
    following = tokens[index + 1] if index + 1 < len(tokens) else ""
    if (tokens[index], following) in lexicon.PHRASES or tokens[index] not in lexicon.SEPARABLE:
        return following
    for token in tokens[index + 2 : index + 9]:
        if (tokens[index], token) in lexicon.PHRASES:
            return token
        verb = token in lexicon.VERB_GROUPS and lexicon.singular(token) not in lexicon.OBJECT_GROUPS
        if verb or token in (",", "and", "then"):
            break
    return following


def _wished(tokens: tuple[str, ...], index: int) -> str:
    """Return the verb of a wish in the passive (`I'd like the order cancelled and the money given back`), or nothing."""
    word = tokens[index]
    base = lexicon.base_form(word, "ed")
    if not base or word in lexicon.VERB_GROUPS or tokens[index - 1 : index] == ("to",):
        return ""
    window = tokens[max(0, index - 20) : index]
    marks = [place for place, token in enumerate(window) if token in _WISH or token.endswith("'d")]
    if not marks or len(window) - marks[-1] < 2 or window[-1] in _PERFECT:
        return ""
    mark = marks[-1]
    if window[mark] in ("have", "get") and mark and window[mark - 1] in _PERFECT | {"already"} - {"it"}:
        return ""
    if window[mark] in ("need", "needs") and "be" in window[mark:]:
        return base if window[-1] in ("be", "and") else ""
    if _NEGATION & set(window[max(0, mark - 3) : mark + 1]) or {"who", "which", "that"} & set(window[mark + 1 :]):
        return ""
    following = tokens[index + 1] if index + 1 < len(tokens) else ""
    return lexicon.PHRASES.get((base, following), base) or ""


def _requested(tokens: tuple[str, ...], index: int) -> bool:
    """Return whether the base-form verb at a place is a request rather than a statement, a noun or a prohibition."""
    before = tokens[max(0, index - 4) : index]
    if _NEGATION & set(before[-3:]) and not _POSITIVE_AFTER_NEGATION & set(before):
        return False
    last = before[-1] if before else ""
    if last in lexicon.NO_EFFECT_BEFORE or {"did", "does"} & set(before[-3:]):
        return False
    if last == "you" and not {"can", "could", "would", "will", "please", "should", "if", "want", "need"} & set(before):
        return False
    asked = next((at for at in range(len(before) - 1, -1, -1) if before[at] in _ASKING), None)
    if asked is not None and asked < len(before) - 1 and not _BEFORE_COMMAND & set(before[asked:]):
        return False  # `what the others say`
    if tokens[index] == "like" and (last.endswith("'d") or last == "would"):
        return False
    if last == "usually" or ({"remind", "reminder"} & set(before[-3:]) and last == "to"):
        return False
    following = tokens[index + 1] if index + 1 < len(tokens) else ""
    if following in _COPULAS:
        return False  # `Tag is OVEN-3`
    takes = following in _TAKEN or (
        following[:1].isdigit() and tokens[index] in _OF_NUMBERS and last not in END_OF_OBJECT
    )
    if index and lexicon.singular(tokens[index]) in lexicon.OBJECT_GROUPS and last not in _BEFORE_COMMAND and not takes:
        return False  # "the minutes file": a noun wherever a command cannot begin
    if last in DETERMINER and tokens[index] != "reservation":
        return False  # "the message", "my order": a noun
    return not (last == "to" and len(before) > 1 and before[-2] in ("how", "link", "when", "where", "used", "going"))


def _without_carried(prompt: str) -> tuple[str, list[str]]:
    """Return a prompt without what the user only wants carried, and that: quoted, or after `the following message:`."""
    quoted: list[str] = []

    def kept(text: str) -> str:
        if len(quoted) > CLOSE_MARK - OPEN_MARK:
            return ""
        quoted.append(text)
        return chr(OPEN_MARK + len(quoted) - 1)

    def mark(match: re.Match[str]) -> str:
        inner = next(group for group in match.groups() if group)
        names = _FILENAME.findall(inner)
        return "⟨" + (" ".join(names) if names else " ".join(normal.emails(inner))) + "⟩" + kept(inner)

    prompt = _QUOTED.sub(mark, _PRIVATE.sub("", prompt))
    found = _COLON_TEXT.search(prompt)
    while found:
        end = prompt.find("\n", found.end())
        stop = len(prompt) if end < 0 else end
        if stop > found.end():
            prompt = prompt[: found.end()] + " " + kept(prompt[found.end() : stop]) + prompt[stop:]
        found = _COLON_TEXT.search(prompt, found.end() + 1)
    return prompt, quoted
