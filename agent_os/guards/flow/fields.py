"""What a draft says of the fields of a result: which are ids, names of a directory, identities, secrets. Pure.

For tools nobody described. A field that does not read like an id, a number or a directory's address is untrusted. Threat: a
field that strangers fill and that is called like one of the service's own would vouch for what they wrote.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from agent_os.core.manifest import Effect, Result, ToolSpec
from agent_os.guards.flow import draft_words as draft
from agent_os.guards.flow import lexicon, shapes
from agent_os.guards.flow.naming import name_words
from agent_os.guards.flow.select import DATE_TEXT

_TRUSTED: Final = Result(integrity="trusted")
_HANDLE: Final = Result(integrity="trusted", handle=True)
_IDENTITY: Final = Result(integrity="known", identity=True)
_ADDRESSED: Final = Result(integrity="known", mine_if="sender|from|author|from_email|sender_email")
"""Whom a message went to: known when the principal sent it, anybody's choice otherwise."""
_SECRET: Final = Result(integrity="trusted", confidentiality="secret")
_SECRET_TEXT: Final = Result(integrity="untrusted", confidentiality="secret")


KEYED_ROWS_MAX: Final = 5000
"""Rows of one result among which the fields that are keys are looked for; further ones are labelled by their names alone."""
_CODE: Final = re.compile(r"(?=.*\d)[A-Za-z0-9][\w./#:-]{0,31}|[A-Z]{2,6}")
"""What a service calls its records by: one short word with a digit or in capitals."""
_CLOCK: Final = re.compile(r"\d{1,2}:\d{2}(?::\d{2})?")


def is_code(value: Any) -> bool:
    """Return whether a value has the shape of a key (`LR-208`, `1911.44`, `HAL`), and not that of an address or a date."""
    return (
        isinstance(value, str)
        and _CODE.fullmatch(value) is not None
        and not (DATE_TEXT.match(value) or _CLOCK.fullmatch(value) or shapes.is_address(value))
    )


def keys_in(value: Any) -> frozenset[str]:
    """Return the paths of the fields by which a result calls its records: `$.loans[*].loan`, `$.crew.code`.

    Such a field is called a key, or stands first; its values are codes, and no two records share one. What it is called, and
    in which language, does not matter.
    """
    found: set[str] = set()
    stack: list[tuple[str, Any, int]] = [("$", value, 0)]
    rows_left = KEYED_ROWS_MAX
    while stack and rows_left > 0:
        path, item, depth = stack.pop()
        if isinstance(item, list):
            rows = [row for row in item[:rows_left] if isinstance(row, dict) and row]
            rows_left -= len(rows)
            if rows:
                found |= {f"{path}[*].{name}" for name in _key_names(rows)}
            inner = [(f"{path}[*].{name}", part) for row in rows for name, part in row.items()]
        elif isinstance(item, dict):
            rows_left -= 1
            found |= {f"{path}.{name}" for name in _key_names([item])}
            inner = [(f"{path}.{name}", part) for name, part in item.items()]
        else:
            continue
        if depth < KEY_DEPTH_MAX:
            stack += [(at, part, depth + 1) for at, part in inner if isinstance(part, (dict, list))]
    return frozenset(found)


KEY_DEPTH_MAX: Final = 6
"""Nesting in which keys are looked for."""


def _key_names(rows: list[dict[Any, Any]]) -> set[str]:
    first = str(next(iter(rows[0]), ""))
    names = {str(name) for name in rows[0] if set(name_words(str(name))[-1:]) & draft.KEYS} | {first}
    return {name for name in names if _is_key_column([row.get(name) for row in rows], name)}


def _is_key_column(values: list[Any], name: str) -> bool:
    words = {*name_words(name), name.lower()}
    if words & (draft.NO_KEYS | draft.TEXT_ARGS | draft.IDENTITY_FIELDS | draft.PEOPLE_FIELDS - {"user", "member"}):
        return False
    return all(map(is_code, values)) and len(set(values)) == len(values)


def result(tool: ToolSpec, path: str, name: str, value: Any, keys: frozenset[str] = frozenset()) -> Result | None:
    """Return the draft label of one leaf of a result, or None for untrusted; `keys` are the paths of `keys_in`."""
    if keys and tool.effect is Effect.READ and path in keys and is_code(value):
        return _HANDLE
    if path.endswith("~"):  # an object keyed by people (`shared_with: {address: right}`)
        parent = path.removesuffix(".*~").rsplit(".", 1)[-1]
        keyed = not parent.endswith("]") and _field(parent) & draft.PEOPLE_FIELDS  # an entry of a list is a record
        return _TRUSTED if tool.effect is Effect.READ and keyed else None
    if isinstance(value, (bool, int, float)) or value is None:
        return _HANDLE if names_id(name) else _SECRET if _is_secret(name) else _TRUSTED
    found = _field(name)
    if _is_secret(name):
        return _SECRET_TEXT
    if shapes.is_address(value) and (
        name.lower() in draft.PERMALINKS or (tool.effect is not Effect.READ and found & draft.LINKS)
    ):
        return _HANDLE
    if names_id(name):
        return _HANDLE
    if DATE_TEXT.match(value) or _CLOCK.fullmatch(value):
        return _TRUSTED
    if found & draft.IDENTITY_FIELDS:
        return _IDENTITY
    words = set(name_words(tool.name))
    reads = tool.effect is Effect.READ
    if found & {"to", "cc", "bcc", "recipient", "recipients"} and reads:
        return _ADDRESSED
    if found & draft.PEOPLE_FIELDS and reads and " " not in value:
        return _TRUSTED
    if reads and found & draft.ADDRESS_FIELDS and words & draft.DIRECTORY:
        return _TRUSTED
    if reads and path == "$[*]" and words & (draft.DIRECTORY | draft.LISTS) and value.count(" ") < 3:
        return _HANDLE
    if reads and _is_key(tool.name, name, value):
        return _HANDLE
    if found & draft.TRUSTED_FIELDS and " " not in value and len(value) <= 40:
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
def names_id(name: str) -> bool:
    """Return whether a field or an argument is called an id (`parentId`, `order_uuid`)."""
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
