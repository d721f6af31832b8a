"""A draft of a tool's semantics from its name, schema and the names of arguments and fields. Pure.

For tools nobody described. The draft is the worst case wherever names say nothing: an unknown verb is an effect, an
argument that does not read like a text or a date is authority, a field that does not read like an id, a number or a
directory's address is untrusted. Annotations of the server (`readOnlyHint`) are not believed: they are its own words.
A person accepts a draft (`agentos tools approve`) before its publisher's wishes count for more.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from agent_os.core.manifest import Argument, ArgumentType, Effect, Result, Role, ToolSpec
from agent_os.guards.flow import lexicon, shapes
from agent_os.guards.flow.lexicon import bag
from agent_os.guards.flow.naming import name_words, own_words

_READ: Final = bag(
    "get list search read fetch find check query view show lookup count describe look browse retrieve inspect calculate"
    " compute verify validate analyze analyse summarize summarise download is has estimate recommend compare preview"
    " translate convert extract scan monitor track explain filter ls cat grep head tail stat"
    " detect locate load parse who whoami today current"
)
_PAY: Final = bag(
    "pay transfer refund reimburse wire buy purchase order donate withdraw deposit invest trade sell"
    " checkout payment money transaction transactions payout remit"
)
_SEND: Final = bag(
    "send email mail message dm reply respond post publish tweet notify forward broadcast invite sms"
    " share announce comment chat call submit push slack"
)
_SPOKEN: Final = bag(lexicon.PRIMARY["send"])
_EXECUTE: Final = bag(
    "run execute exec eval shell bash python command install deploy spawn terminal script code launch"
)
_CREDENTIAL: Final = bag(
    "password passphrase credential credentials token key secret login mfa 2fa permission permissions role access pin"
)
_SHARED: Final = bag(
    "calendar event meeting channel member user participant participants wiki page public team group"
    " issue pull merge repo repository branch workspace webpage website blog"
)

_TEXT_ARGS: Final = bag(
    "body content text message subject title description summary comment note notes reason details caption bio"
    " abstract label question answer prompt instructions remark memo markdown html template feedback review"
    " agenda topic heading tags tag category priority status type kind mood"
    " color colour format language unit units"
    " data_ reference memo snippet paragraph signature greeting purpose symptoms transcript changes body_text"
)
_NUMBER_ARGS: Final = bag(
    "amount quantity count number_of num limit size price duration minutes hours days n page offset top k rating"
    " score weight height temperature level volume percent percentage capacity guests nights adults max min"
    " quantity_ length width brightness speed value amount_cents total budget age year month"
)
_DATE_ARGS: Final = bag(
    "date time start end day datetime when deadline due until from_date to_date check checkin"
    " checkout timestamp begin birthday schedule_time week quarter period"
)
_SELECTOR_ARGS: Final = bag(
    "query q search keyword keywords filter sort order_by fields pattern term city country location currency symbol"
)

_TRUSTED_FIELDS: Final = bag("id ids uuid status state type kind permission currency read all_day recurring")
_PEOPLE_FIELDS: Final = bag(
    "guests guest invitees invitee participants participant attendees attendee members member recipients recipient cc bcc"
    " owner shared assignee assignees to users user"
)
_IDENTITY_FIELDS: Final = bag("sender from author creator organizer organiser reporter username posted_by")
_DIRECTORY: Final = bag(
    "contact contacts user users employee employees customer customers directory people person"
    " member members supplier suppliers vendor vendors profile account accounts client clients"
    " channel channels payee payees beneficiary beneficiaries team teams friend friends agent agents staff doctor doctors"
    " patient patients student students teacher teachers nurse nurses physician physicians tenant tenants colleague"
    " colleagues collaborator collaborators reviewer reviewers manager managers agents"
)
_ADDRESS_FIELDS: Final = bag("email mail iban account phone name username handle user address account_number")
_SECRET_FIELDS: Final = bag(
    "password passphrase secret token api_key apikey credential credentials ssn passport"
    " credit_card card_number cvv pin private_key access_key otp"
)
_NO_NUMBER: Final = bag(
    "id number no nr num account ref reference code pin phone key card iban chat user port zip postcode serial"
)
"""Words in the name of a number that stands for something instead of measuring it."""
_ENTRIES: Final = bag("items item ingredients ingredient entries entry lines line todos")
"""What lists of one's own are made of."""
_THINGS: Final = bag(
    "service server host machine cluster device container job pipeline workflow environment region room zone"
)
"""What an execution is done to, and not the code that it runs."""
_LISTS: Final = bag("channels users members names contacts folders labels categories groups teams projects rooms")

_CONTENT: Final = bag(
    "file page webpage website url web content document attachment text body html ocr transcript log logs pdf"
    " note notes wiki article image clipboard stdout output"
)
_WEB: Final = bag("web google bing duckduckgo internet http browse browser online crawl scrape")
_CHANGES: Final = bag(
    "delete remove send forward pay update create write transfer approve merge upload replace post publish save set"
    " archive execute run apply install insert edit modify submit buy purchase cancel"
)
"""Words that make an effect of a tool whose name begins with a reading verb (`fetch_and_send`)."""
_VIEWS: Final = bag(
    "detail history log status info level quote summary overview balance statistic stat metric catalog catalogue availability"
    " freebusy timeline preview count content profile inventory forecast calendar directory roster"
)
"""What a name without any verb says it returns (`orderDetail`, `channel_history`)."""
_NOUNS: Final = _VIEWS | lexicon.OBJECT_GROUPS.keys() | bag("log logs stock levels details quotes contents stats")
_PERMALINKS: Final = bag("html_url permalink web_url weburl viewurl view_url share_url shareurl")
"""Fields in which a service itself says where a record is shown."""
_LINKS: Final = bag("url link href uri permalink")
_JOINS: Final = bag("and or then")
_NEVER_JOINED: Final = _READ | bag("all any with status id by")
_MINTS: Final = bag("share sharing public invite invitation presigned signed sas magic temporary shareable")
"""With `link` or `url` after it: what the tool hands out opens a door (`get_share_link`)."""
_LOADED: Final = bag("plugin module extension library package macro skill addon driver")
"""What is loaded, imported or fetched to be run."""
_SECRETS: Final = bag("password passphrase secret credential credentials apikey")

DESCRIPTION_CHARS_MAX: Final = 4000
_DESCRIBED: Final = re.compile(r"[.;!\n]\s*|\band\b")

_TRUSTED: Final = Result(integrity="trusted")
_HANDLE: Final = Result(integrity="trusted", handle=True)
_IDENTITY: Final = Result(integrity="known", identity=True)
_ADDRESSED: Final = Result(integrity="known", mine_if="sender|from|author|from_email|sender_email")
"""Whom a message went to: known when the principal sent it, anybody's choice otherwise."""
_SECRET: Final = Result(integrity="trusted", confidentiality="secret")
_SECRET_TEXT: Final = Result(integrity="untrusted", confidentiality="secret")


@lru_cache(maxsize=4096)
def spec(name: str, description: str = "") -> ToolSpec:
    """Return the draft for a tool known by its name (and description, which only ever makes it graver)."""
    return ToolSpec(name=name, description=description, effect=graver(effect_of(name), description), derived=True)


def from_schema(name: str, schema: Mapping[str, Any] | None, description: str = "") -> ToolSpec:
    """Return the draft for a tool with a JSON Schema of its input, as an MCP server or a framework gives it."""
    draft = spec(name, description)
    properties = (schema or {}).get("properties", {})
    if not isinstance(properties, Mapping):
        return draft
    arguments = {str(key): _typed(draft.effect, str(key), value) for key, value in properties.items()}
    return draft.model_copy(update={"arguments": arguments, "input_schema": dict(schema or {})})


@lru_cache(maxsize=4096)
def effect_of(name: str) -> Effect:
    """Return the effect class that a tool's name speaks of; the gravest class its words allow."""
    found = own_words(name)
    words = set(found)
    known = [word for word in found if word in _READ or word in lexicon.VERB_GROUPS]
    verb = next(
        (word for word in known if lexicon.singular(word) not in lexicon.OBJECT_GROUPS), known[0] if known else ""
    )
    if found and found[0] in _READ:
        verb = found[0]
        if _joined(found) or (words & _MINTS and words & {"link", "url", "links", "urls"}):
            return Effect.WRITE_SHARED
        if words & _LOADED and found[0] in ("load", "get", "fetch", "download"):
            return Effect.EXECUTE
        if words & _SECRETS or {"api", "key"} <= words or {"access", "token"} <= words or {"private", "key"} <= words:
            return Effect.CREDENTIAL
    if verb == "check" and words & {"in", "out"}:
        return Effect.WRITE_SHARED  # `check_in`, `check_out`
    reads = verb in _READ and not words & (_EXECUTE - {"code", "command", "script", "key"})
    if reads and (found[0] == verb or verb not in ("check", "current", "is", "has", "today")):
        return Effect.READ if not set(found[found.index(verb) + 1 :]) & _CHANGES else Effect.WRITE_SHARED
    if (
        found
        and lexicon.singular(found[-1]) in _VIEWS
        and not words & (_EXECUTE | _CHANGES)
        and not words & lexicon.VERB_GROUPS.keys() - _NOUNS
    ):
        return Effect.READ
    if words & _EXECUTE and not words & _PAY:
        return Effect.EXECUTE
    if words & (_CREDENTIAL - {"key", "access", "pin"}) or ("key" in words and words & {"api", "ssh", "create", "add"}):
        return Effect.CREDENTIAL
    if words & _PAY:
        return Effect.PAY
    if words & _SEND or (verb in _SPOKEN and verb not in ("write", "submit", "push")):
        return Effect.SEND
    if not verb:
        return Effect.EXECUTE
    return Effect.WRITE_SHARED if words & _SHARED else Effect.WRITE_OWN


def _joined(found: list[str]) -> bool:
    """Return whether a name that begins with reading goes on with something else (`read_and_archive`, `get_or_create`)."""
    return any(
        word in _JOINS and following not in _NEVER_JOINED
        for word, following in itertools.pairwise(found[1:])
        if following in lexicon.VERB_GROUPS
    )


def graver(effect: Effect, description: str) -> Effect:
    """Return a draft's effect in the light of a description, which can only make it graver.

    A sentence that begins with a verb of an effect (`Deletes …`, `Send …`) is no description of a tool that reads.
    """
    if effect is not Effect.READ:
        return effect
    for sentence in _DESCRIBED.split(description[:DESCRIPTION_CHARS_MAX]):
        first = next(iter(re.findall(r"[^\W\d_]+", sentence.lower())), "")
        verb = first if first in lexicon.VERB_GROUPS else lexicon.singular(first)
        if verb in lexicon.OBJECT_GROUPS:
            continue
        if verb in lexicon.VERB_GROUPS and verb not in _READ and not lexicon.VERB_GROUPS[verb] & {"read"}:
            return Effect.WRITE_SHARED
    return effect


@lru_cache(maxsize=4096)
def opaque(name: str, effect: Effect) -> ToolSpec:
    """Return a draft under which nothing of a result is trusted."""
    return ToolSpec(name=name, effect=effect)


def carries_content(name: str, args: Mapping[str, Any], result: Any) -> bool:
    """Return whether a result is what somebody wrote (a page, a file), and not what the tool says of its records.

    Such a text is not read as a structure: an attacker can write JSON too.
    """
    if any(_argument(Effect.READ, key, False).type == "url" for key in args):
        return True
    if isinstance(result, str) and any(isinstance(item, str) and _names_content(item) for item in args.values()):
        return True
    return isinstance(result, str) and bool(set(name_words(name)) & _CONTENT)


@lru_cache(maxsize=4096)
def _names_content(value: str) -> bool:
    """Return whether a value is a path or an address: what stands there is whatever somebody wrote there."""
    return shapes.is_address(value) or bool(_PATH.match(value))


_PATH: Final = re.compile(r"^\S*(?:/\S*|[\w-]\.[A-Za-z][A-Za-z0-9]{1,4})$")


@lru_cache(maxsize=4096)
def asks_the_web(name: str) -> bool:
    """Return whether a reading tool carries its arguments to the open web."""
    return bool(set(name_words(name)) & _WEB)


def argument(effect: Effect, name: str, value: Any) -> Argument:
    """Return the draft of one argument: payload only where its name says text, number or date, else authority."""
    if isinstance(value, bool) or value is None:
        return Argument(role=Role.PAYLOAD)
    return _argument(effect, name, isinstance(value, (int, float)))


def _typed(effect: Effect, name: str, schema: Any) -> Argument:
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    if kind == "boolean":
        return Argument(role=Role.PAYLOAD)
    return _argument(effect, name, kind in ("number", "integer"))


@lru_cache(maxsize=8192)
def _argument(effect: Effect, name: str, is_number: bool) -> Argument:
    words = name_words(name)
    found = {*words, name.lower(), "".join(words), *(lexicon.singular(word) for word in words)}
    last = words[-1] if words else ""
    if found & {"url", "uri", "link", "href", "website", "webhook", "endpoint", "domain", "host", "site"}:
        return Argument(role=Role.AUTHORITY, type="url")
    if effect is Effect.READ:
        return Argument(role=Role.SELECTOR)
    if last in ("id", "ids", "uuid", "guid") or name.lower() == "id" or name.endswith(("Id", "ID", "Ids", "id_")):
        return Argument(role=Role.HANDLE, type="id")
    if is_number and not found & _NO_NUMBER:
        return Argument(role=Role.PAYLOAD, type="number")
    if effect is Effect.EXECUTE:
        return Argument(role=Role.AUTHORITY, type="name" if last in _THINGS else "code")
    if effect is Effect.WRITE_OWN and last in _ENTRIES:
        return Argument(role=Role.PAYLOAD, type="text")
    for kind in ("email", "iban", "password", "path"):
        if kind in found:
            return Argument(role=Role.AUTHORITY, type=_TYPES[kind])
    if found & {
        "recipient",
        "to",
        "cc",
        "bcc",
        "participant",
        "attendee",
        "receiver",
        "payee",
        "beneficiary",
        "account",
    }:
        return Argument(role=Role.AUTHORITY, type="name")
    if last in _DATE_ARGS or found & {"date", "datetime", "time", "checkin", "checkout"}:
        return Argument(role=Role.PAYLOAD, type="date")
    if last in _TEXT_ARGS or found & {"description", "content", "body"}:
        return Argument(role=Role.PAYLOAD, type="text")
    if is_number and (found & _NUMBER_ARGS or words[:1] == ["num"]):
        return Argument(role=Role.PAYLOAD, type="number")
    if last in _SELECTOR_ARGS and effect is not Effect.PAY:
        return Argument(role=Role.PAYLOAD, type="text")
    if found & {"filename", "file"}:
        return Argument(role=Role.AUTHORITY, type="path")
    return Argument(role=Role.AUTHORITY)


_TYPES: Final[dict[str, ArgumentType]] = {"email": "email", "iban": "iban", "password": "password", "path": "path"}
_NUMERIC_TEXT: Final = re.compile(r"^-?\d+(?:\.\d+)?$")
_DATE_TEXT: Final = re.compile(r"^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?(?:\.\d+)?(?:Z|[+-]\d{2}:\d{2})?)?$")


def result(tool: ToolSpec, path: str, name: str, value: Any) -> Result | None:
    """Return the draft label of one leaf of a result, or None for untrusted."""
    if path.endswith("~"):  # an object keyed by people (`shared_with: {address: right}`)
        parent = path.removesuffix(".*~").rsplit(".", 1)[-1]
        keyed = not parent.endswith("]") and _field(parent) & _PEOPLE_FIELDS  # an entry of a list is a record
        return _TRUSTED if tool.effect is Effect.READ and keyed else None
    if isinstance(value, (bool, int, float)) or value is None:
        return _HANDLE if _is_id(name) else _SECRET if _is_secret(name) else _TRUSTED
    found = _field(name)
    if _is_secret(name):
        return _SECRET_TEXT
    if shapes.is_address(value) and (
        name.lower() in _PERMALINKS or (tool.effect is not Effect.READ and found & _LINKS)
    ):
        return _HANDLE
    if _is_id(name):
        return _HANDLE
    if _DATE_TEXT.match(value):
        return _TRUSTED
    if found & _IDENTITY_FIELDS:
        return _IDENTITY
    words = set(name_words(tool.name))
    reads = tool.effect is Effect.READ
    if found & {"to", "cc", "bcc", "recipient", "recipients"} and reads:
        return _ADDRESSED
    if found & _PEOPLE_FIELDS and reads and " " not in value:
        return _TRUSTED
    if reads and found & _ADDRESS_FIELDS and words & _DIRECTORY:
        return _TRUSTED
    if reads and path == "$[*]" and words & (_DIRECTORY | _LISTS) and value.count(" ") < 3:
        return _HANDLE
    if reads and _is_key(tool.name, name, value):
        return _HANDLE
    if found & _TRUSTED_FIELDS and " " not in value and len(value) <= 40:
        return _TRUSTED
    return None


def _is_key(tool: str, name: str, value: str) -> bool:
    """Return whether a field is what a listing tool lists, by its name (`service` of `list_services`), as a plain word."""
    words = name_words(tool)
    listed = {lexicon.singular(word) for word in words[1:] if word != lexicon.singular(word)}
    return words[:1] == ["list"] and name.lower() in listed and bool(_KEY.match(value))


_KEY: Final = re.compile(r"^[A-Za-z][A-Za-z0-9_-]{1,39}$")


@lru_cache(maxsize=4096)
def _field(name: str) -> frozenset[str]:
    return frozenset({*name_words(name), name.lower()})


@lru_cache(maxsize=4096)
def _is_id(name: str) -> bool:
    words = name_words(name)
    return bool(words) and words[-1] in ("id", "ids", "uuid", "guid", "iban_", "number_")


@lru_cache(maxsize=4096)
def _is_secret(name: str) -> bool:
    words = name_words(name)
    joined = "_".join(words)
    return bool(set(words) & {"password", "passphrase", "secret", "passport", "cvv", "ssn", "otp"}) or any(
        term in joined
        for term in ("api_key", "credit_card", "card_number", "private_key", "access_token", "social_security")
    )
