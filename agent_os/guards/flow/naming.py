"""What a tool's name says it does, and to what: its verb and its nouns, in whatever order and spelling. Pure.

`send_email`, `sendEmail`, `email.send` and `mail_send` name the same thing. A word before a dot, and a first word that the
lexicon does not know as a noun (`dms_share`, `cal_create`), say whose tool it is and not what it is done to; what it is
done to is then read from its arguments. A manifest's `verbs` and `objects` go before all of this. Errs towards a
question: a verb that is not found here is asked for by nobody.
"""

from __future__ import annotations

import itertools
import re
from functools import lru_cache
from typing import Final, NamedTuple

from agent_os.core.manifest import Effect, ToolSpec
from agent_os.guards.flow import draft_words, identifiers, lexicon
from agent_os.guards.flow.lexicon import bag
from agent_os.guards.flow.synonyms import shared_groups


class Profile(NamedTuple):
    """What a tool does and to what, in the words of the lexicon."""

    verbs: frozenset[str]
    leading: frozenset[str]
    """Those of its verbs that lend it their groups; the others are meant as they stand."""
    objects: frozenset[str]
    kinds: frozenset[str]
    """The groups of its objects."""
    says: bool = False
    """A verb that may mean anything, done to a message: who asks for an answer asks for `add_comment`."""


BRANDS: Final = bag(
    "git github gitlab gmail slack jira notion google outlook microsoft aws azure gcp salesforce hubspot stripe shopify"
    " spotify twitter linkedin facebook mcp"
)
"""Words that stand before a tool's own name: whose it is."""
_HOUSES: Final = bag("server client service api tool")
"""The same, where the name begins with them."""
FILLERS: Final = BRANDS | bag(
    "to from in of the a an for by with on or and at new all my id is no number direct scheduled batch bulk multiple multi mass"
)
GENERIC: Final = bag("set create add make send update give submit post put write do")
"""Verbs that mean whatever their noun means: `set_grade` grades."""
_LIGHT: Final = bag("place perform process initiate issue take request")
"""Verbs that say nothing beside another: `place_order` orders."""
_COMMERCIAL: Final = bag("order purchase refund booking reservation transfer")
_NOMINALS: Final = bag("booking reservation checkin checkout")
"""Verbs of the lexicon that are only nouns where another verb stands."""
_HOLDERS: Final = bag("mail email message order review ticket comment text chat post request invoice book label")
"""Nouns that are verbs as well: before another verb they are the noun (`mail_reply`, `ticket_comment`)."""
PEOPLE: Final = (
    frozenset(lexicon.OBJECTS["user"].split())
    | bag(
        "participant attendee student teacher patient tenant resident citizen staff supplier vendor applicant candidate"
        " passenger parent volunteer visitor driver nurse doctor owner reader borrower crew personnel"
    )
) - bag("profile info information address account phone settings details data record name lead contact team personal")
"""Words for people, by what they are to somebody."""
_ENGLISH: Final = (
    lexicon.VERB_GROUPS.keys()
    | lexicon.OBJECT_GROUPS.keys()
    | {word for words in vars(draft_words).values() if isinstance(words, frozenset) for word in words}
)
"""Words of identifiers that are what they are, in whatever other language they stand as well."""
VAGUE: Final = "*"
"""Stands among a tool's nouns where they are only those of its arguments: its verb then says enough."""
_MESSAGES: Final = bag("comment message reply answer note mail email dm sms text")
_DECIDING: Final = {
    "decide": "approve reject accept decline deny grant confirm validate refuse",
    "trigger": "start run rerun trigger launch", "respond": "respond reply answer",
    "scale": "scale resize", "assign": "assign give hand put allocate", "ack": "acknowledge confirm",
    "enrol": "enrol enroll register",
    "block": "block lock freeze stop suspend",
}  # fmt: skip
"""Verbs of tools that a person asks for by other verbs."""


def profile(spec: ToolSpec) -> Profile:
    """Return a tool's verbs, its object words and their groups, from its manifest or else its name."""
    return _profile(spec.name.rsplit("/", 1)[-1], spec.verbs, spec.objects, tuple(spec.arguments))


def verb_groups(spec: ToolSpec, verb: str, clause: frozenset[str]) -> frozenset[str]:
    """Return the groups of effects that a tool shares with a verb of the user's.

    A verb that does one thing to what it is done to (`restart`, `approve`) shares them with its synonyms alone; what a manifest
    lists beside its first verb is meant as it stands.
    """
    own = profile(spec)
    shared = frozenset(group for way in own.leading for group in shared_groups(verb, way, clause))
    if own.says and spec.effect is Effect.SEND and "send" in lexicon.VERB_GROUPS.get(verb, lexicon.NONE):
        shared |= {"send"}
    return shared - ({"read"} if spec.effect is Effect.PAY else {"read", "pay"})


@lru_cache(maxsize=4096)
def _profile(
    name: str,
    own_verbs: tuple[str, ...],
    own_objects: tuple[str, ...],
    arguments: tuple[str, ...],
) -> Profile:
    space, named = _parts(name)
    verbs = set(own_verbs) or _verbs_of(named)
    # the other words of a manifest, and those that stand for a word of the name, are meant as they stand
    leading = own_verbs[:1] or tuple(
        verbs - {word for verb in verbs for word in _DECIDING.get(verb, "").split()} or verbs
    )
    says = verbs <= GENERIC | {"leave"} and bool(
        _MESSAGES & {lexicon.singular(word) for word in (*named, *own_objects)}
    )
    words = set(own_objects)
    if not words:
        light = _LIGHT & set(named[:1])  # a light word is one where the name begins with it: `issue_refund`
        light |= {
            word for word in named[-1:] if word in _LIGHT and named[0] in verbs and named[0] in lexicon.OBJECT_GROUPS
        }
        words = {lexicon.singular(word) for word in named if word not in verbs | FILLERS | light}
        if named and named[0] not in verbs and not _groups_of(words):
            words -= {lexicon.singular(named[0])}  # `dms_share`, `ads_budget_update`
        if not words:
            words = _groups_of({lexicon.singular(word) for word in space}) and {
                lexicon.singular(word) for word in space
            }
        if not words:
            words = {lexicon.singular(part) for argument in arguments for part in name_words(argument)} - FILLERS
            words = {word for word in words if word in lexicon.OBJECT_GROUPS} | {VAGUE}
            words |= {lexicon.singular(word) for word in space}
    return Profile(frozenset(verbs), frozenset(leading), frozenset(words), frozenset(_groups_of(words)), says)


def _groups_of(words: set[str]) -> set[str]:
    return {group for word in words for group in lexicon.OBJECT_GROUPS.get(word, lexicon.NONE)}


def _verbs_of(named: list[str]) -> set[str]:
    """Return the verb a tool's name speaks of, or what a light one is done with (`place_order` orders)."""
    bare = [word.removeprefix("re") if word not in lexicon.VERB_GROUPS else word for word in named]
    bare = [short if short in lexicon.VERB_GROUPS else word for short, word in zip(bare, named, strict=True)]
    if bare[:1] and bare[0] in _DECIDING:
        return {bare[0], *_DECIDING[bare[0]].split()}
    known = [word for word in bare if word in lexicon.VERB_GROUPS]
    heavy = [word for word in known if word not in _LIGHT]
    if known and known[0] in _LIGHT and bare[0] == known[0]:
        effects = [word for word in heavy if lexicon.VERB_GROUPS[word] - {"read"}]
        return {effects[-1] if effects else known[0]}
    known = heavy or known
    acts = [word for word in known if word not in _NOMINALS]
    known = acts or known  # `booking_cancel` cancels
    plain = [word for word in known if lexicon.singular(word) not in lexicon.OBJECT_GROUPS]
    if not plain and len(known) > 1 and known[0] in _HOLDERS and known[-1] == bare[-1]:
        known = known[-1:]
    joined = [
        word for before, word in itertools.pairwise(bare) if before in ("or", "and") and word in lexicon.VERB_GROUPS
    ]
    verbs = set((plain or known or [word for word in named if word in _DECIDING] or named)[:1])
    if verbs & GENERIC:
        verbs |= _COMMERCIAL & set(named)
    verbs |= set(joined)
    verbs |= {named[bare.index(verb)] for verb in verbs if verb in bare}
    return verbs | {word for verb in verbs for word in _DECIDING.get(verb, "").split()}


def _parts(name: str) -> tuple[list[str], list[str]]:
    """Return the words before the last dot of a name, and its own words."""
    space, _, last = name.rpartition(".")
    if not last or not name_words(last):
        return [], own_words(name)
    before = own_words(space) if space else []
    return before, own_words(last)


def own_words(name: str) -> list[str]:
    """Return the words of a tool's name without those that say whose tool it is (`slack_send_message`)."""
    found = name_words(name)
    own = [word for index, word in enumerate(found) if word not in BRANDS and (index or word not in _HOUSES)]
    return own or found


@lru_cache(maxsize=8192)
def _words(name: str) -> tuple[str, ...]:
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    found = [word.lower() for word in re.split(r"[\W_]+", spaced) if word]
    return tuple(word if word in _ENGLISH else identifiers.identifier_word(word) for word in found)


def name_words(name: str) -> list[str]:
    """Return the words of an identifier: `sendEmail`, `send_email`, `mail.send-email` alike."""
    return list(_words(name))


@lru_cache(maxsize=8192)
def field_words(name: str) -> frozenset[str]:
    """Return the words of the name of a field or an argument, as they stand and in the singular."""
    return frozenset(form for word in _words(name) for form in (word, lexicon.singular(word)))


_EVERYBODY: Final = bag("everyone everybody people anyone all broadcast newsletter bulletin")


@lru_cache(maxsize=4096)
def reaches(name: str) -> frozenset[str]:
    """Return the people whom a tool reaches all at once, by its name (`guests_notify`, `email_all`: anybody, `*`)."""
    found = name_words(name)
    many = _people(found)
    return many | {VAGUE} if not many and set(found) & _EVERYBODY else many


def speaks_of(text: str, people: frozenset[str]) -> bool:
    """Return whether a text speaks of these people in the plural; of anybody (`*`): of everybody."""
    found = re.findall(r"[^\W\d_]+", text.lower())
    return bool(_people(found) & people) or (VAGUE in people and bool(set(found) & _EVERYBODY))


def _people(found: list[str]) -> frozenset[str]:
    many = {lexicon.singular(word) for word in found if word != lexicon.singular(word)} & PEOPLE
    return frozenset(many | bag("staff crew personnel") & set(found))
