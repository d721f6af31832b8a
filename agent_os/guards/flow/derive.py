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

from agent_os.core.manifest import Argument, ArgumentType, Effect, Role, ToolSpec
from agent_os.guards.flow import draft_words as draft
from agent_os.guards.flow import lexicon, shapes
from agent_os.guards.flow.naming import name_words, own_words
from agent_os.guards.flow.select import DATE_TEXT

PLURAL_CHARS_MIN: Final = 3
DESCRIPTION_CHARS_MAX: Final = 4000
_DESCRIBED: Final = re.compile(r"[.;!\n]\s*|\band\b")


@lru_cache(maxsize=4096)
def spec(name: str, description: str = "") -> ToolSpec:
    """Return the draft for a tool known by its name (and description, which only ever makes it graver)."""
    return ToolSpec(name=name, description=description, effect=graver(effect_of(name), description), derived=True)


def from_schema(
    name: str, schema: Mapping[str, Any] | None, description: str = "", hints: Mapping[str, bool] | None = None
) -> ToolSpec:
    """Return the draft for a tool with a JSON Schema of its input, as an MCP server or a framework gives it.

    `hints` are MCP's annotations, the server's own word: one that it changes something makes a draft graver; one that it only
    reads, or may be repeated, makes nothing lighter (a person says so in a manifest).
    """
    drafted = spec(name, description)
    changes = (hints or {}).get("readOnlyHint") is False or (hints or {}).get("destructiveHint") is True
    if changes and drafted.effect is Effect.READ:
        drafted = drafted.model_copy(update={"effect": Effect.WRITE_SHARED})
    properties = (schema or {}).get("properties", {})
    if not isinstance(properties, Mapping):
        return drafted
    arguments = {str(key): _typed(drafted.effect, str(key), value) for key, value in properties.items()}
    return drafted.model_copy(update={"arguments": arguments, "input_schema": dict(schema or {})})


@lru_cache(maxsize=4096)
def effect_of(name: str) -> Effect:
    """Return the effect class that a tool's name speaks of; the gravest class its words allow."""
    found = own_words(name)
    words = set(found)
    last = own_words(name.rpartition(".")[2])
    if last and last[0] in draft.READ:
        found = last  # `wire.search`, `leave.request.list`: what stands before the dot says whose it is
    known = [word for word in found if word in draft.READ or word in lexicon.VERB_GROUPS]
    verb = next(
        (word for word in known if lexicon.singular(word) not in lexicon.OBJECT_GROUPS), known[0] if known else ""
    )
    if found and found[0] in draft.READ:
        verb = found[0]
        if _joined(found) or (words & draft.MINTS and words & {"link", "url", "links", "urls"}):
            return Effect.WRITE_SHARED
        if words & draft.LOADED and found[0] in ("load", "get", "fetch", "download"):
            return Effect.EXECUTE
        if (
            words & draft.SECRETS
            or {"api", "key"} <= words
            or {"access", "token"} <= words
            or {"private", "key"} <= words
        ):
            return Effect.CREDENTIAL
    if verb == "check" and words & {"in", "out"}:
        return Effect.WRITE_SHARED  # `check_in`, `check_out`
    reads = verb in draft.READ and not words & (draft.EXECUTE - {"code", "command", "script", "key"})
    if reads and (found[0] == verb or verb not in ("check", "current", "is", "has", "today")):
        return Effect.READ if not set(found[found.index(verb) + 1 :]) & draft.CHANGES else Effect.WRITE_SHARED
    if _is_noun(found):
        return Effect.READ
    if found and found[0] in draft.OPENS and set(map(lexicon.singular, found[1:])) & draft.CONTENT:
        return Effect.READ  # `open_document`
    if words & draft.EXECUTE and not words & draft.PAY:
        return Effect.EXECUTE
    if words & (draft.CREDENTIAL - {"key", "access", "pin"}) or (
        "key" in words and words & {"api", "ssh", "create", "add"}
    ):
        return Effect.CREDENTIAL
    if words & draft.PAY:
        return Effect.PAY
    if words & draft.SEND or (verb in draft.SPOKEN and verb not in ("write", "submit", "push")):
        return Effect.SEND
    if not verb and len(found) == 1:
        return Effect.EXECUTE  # a program's own name (`psql`)
    if not verb:
        return Effect.WRITE_SHARED
    return Effect.WRITE_SHARED if words & draft.SHARED else Effect.WRITE_OWN


def _is_noun(found: list[str]) -> bool:
    """Return whether a name has no verb and says what it returns: a view (`order_detail`), or things in the plural."""
    while len(found) > 1 and found[-1] in draft.TRAILING:
        found = found[:-1]
    words = set(found)
    if not found or words & (draft.EXECUTE | draft.CHANGES) or words & lexicon.VERB_GROUPS.keys() - draft.NOUNS:
        return False
    before = {lexicon.singular(word) for word in found[:-1]}
    if lexicon.singular(found[-1]) in draft.VIEWS:
        return found[-1] not in draft.STORES or before <= (draft.NOUNS | draft.OF_THINGS) - draft.LETS_GO
    return before <= draft.OF_THINGS and _are_things(found)


def _are_things(found: list[str]) -> bool:
    """Return whether a noun stands in the plural, and no word before it may be a verb (`order_items` orders)."""
    last = found[-1]
    if set(found[:-1]) & lexicon.VERB_GROUPS.keys():
        return False
    if last in draft.SPANS:
        return True
    if len(last) <= PLURAL_CHARS_MIN or last == lexicon.singular(last):
        return False
    return not {last, lexicon.singular(last)} & (draft.CREDENTIAL | draft.SECRETS | draft.RIGHTS)


@lru_cache(maxsize=4096)
def names_things(name: str) -> bool:
    """Return whether a name is only of things in the plural (`technicians`): listing them reads, unless it is told more."""
    found = own_words(name)
    return _is_noun(found) and lexicon.singular(found[-1]) not in draft.VIEWS


def is_told_more(name: str, arguments: list[str]) -> bool:
    """Return whether a tool that is named by things is called with something to be done to them (`orders` with a quantity)."""
    return names_things(name) and any(set(name_words(argument)) & draft.TOLD for argument in arguments)


def _joined(found: list[str]) -> bool:
    """Return whether a name that begins with reading goes on with something else (`read_and_archive`, `get_or_create`)."""
    return any(
        word in draft.JOINS and following not in draft.NEVER_JOINED
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
        first, following = [*re.findall(r"[^\W\d_]+", sentence.lower())[:2], "", ""][:2]
        verb = first if first in lexicon.VERB_GROUPS else lexicon.singular(first)
        if verb in lexicon.OBJECT_GROUPS or verb == "return":
            continue
        if first in draft.ADJECTIVES and following not in draft.DETERMINERS:
            continue  # `Open issues of a project`
        if verb in lexicon.VERB_GROUPS and verb not in draft.READ and not lexicon.VERB_GROUPS[verb] & {"read"}:
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
    return isinstance(result, str) and bool(set(name_words(name)) & draft.CONTENT)


@lru_cache(maxsize=4096)
def _names_content(value: str) -> bool:
    """Return whether a value is a path or an address: what stands there is whatever somebody wrote there."""
    return shapes.is_address(value) or bool(_PATH.match(value))


_PATH: Final = re.compile(r"^\S*(?:/\S*|[\w-]\.[A-Za-z][A-Za-z0-9]{1,4})$")


@lru_cache(maxsize=4096)
def asks_the_web(name: str) -> bool:
    """Return whether a reading tool carries its arguments to the open web."""
    return bool(set(name_words(name)) & draft.WEB)


def argument(effect: Effect, name: str, value: Any) -> Argument:
    """Return the draft of one argument: payload only where its name says text, number or date, else authority."""
    if isinstance(value, bool) or value is None:
        return Argument(role=Role.PAYLOAD)
    if effect is not Effect.READ and is_date(value):
        return Argument(role=Role.PAYLOAD, type="date")
    return _argument(effect, name, isinstance(value, (int, float)))


def is_date(value: Any) -> bool:
    """Return whether a value is a day, or a day and a time, whatever the argument is called."""
    return isinstance(value, str) and DATE_TEXT.match(value) is not None


def _typed(effect: Effect, name: str, schema: Any) -> Argument:
    schema = schema if isinstance(schema, Mapping) else {}
    kind, items = schema.get("type"), schema.get("items")
    if kind == "array" and isinstance(items, Mapping):
        return _typed(effect, name, items)
    if kind == "boolean":
        return Argument(role=Role.PAYLOAD)
    form = _FORMATS.get(str(schema.get("format", "")))
    if form is not None and effect is not Effect.READ:
        return form
    choices = schema.get("enum")
    if effect is not Effect.READ and isinstance(choices, list) and not set(name_words(name)) & draft.RIGHTS:
        return Argument(role=Role.PAYLOAD)  # the service's own words: nobody else's text fits there
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
    if is_number and not found & draft.NO_NUMBER:
        return Argument(role=Role.PAYLOAD, type="number")
    if effect is Effect.EXECUTE or found & draft.PROGRAMS:
        return Argument(role=Role.AUTHORITY, type="name" if last in draft.THINGS else "code")
    if effect is Effect.WRITE_OWN and last in draft.ENTRIES:
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
    if last in draft.DATE_ARGS or found & {"date", "datetime", "time", "checkin", "checkout"}:
        return Argument(role=Role.PAYLOAD, type="date")
    if {last, lexicon.singular(last)} & draft.TEXT_ARGS or found & {"description", "content", "body"}:
        return Argument(role=Role.PAYLOAD, type="text")
    if is_number and (found & draft.NUMBER_ARGS or words[:1] == ["num"]):
        return Argument(role=Role.PAYLOAD, type="number")
    if last in draft.SELECTOR_ARGS and effect is not Effect.PAY:
        return Argument(role=Role.PAYLOAD, type="text")
    if found & {"filename", "file"}:
        return Argument(role=Role.AUTHORITY, type="path")
    return Argument(role=Role.AUTHORITY)


_FORMATS: Final[dict[str, Argument]] = {
    "date": Argument(role=Role.PAYLOAD, type="date"), "date-time": Argument(role=Role.PAYLOAD, type="date"),
    "time": Argument(role=Role.PAYLOAD, type="date"), "email": Argument(role=Role.AUTHORITY, type="email"),
    "uri": Argument(role=Role.AUTHORITY, type="url"), "uuid": Argument(role=Role.HANDLE, type="id"),
}  # fmt: skip
"""JSON Schema's formats of strings."""
_TYPES: Final[dict[str, ArgumentType]] = {"email": "email", "iban": "iban", "password": "password", "path": "path"}
