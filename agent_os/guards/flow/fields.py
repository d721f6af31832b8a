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

_TRUSTED: Final = Result(integrity="trusted")
_HANDLE: Final = Result(integrity="trusted", handle=True)
_IDENTITY: Final = Result(integrity="known", identity=True)
_ADDRESSED: Final = Result(integrity="known", mine_if="sender|from|author|from_email|sender_email")
"""Whom a message went to: known when the principal sent it, anybody's choice otherwise."""
_SECRET: Final = Result(integrity="trusted", confidentiality="secret")
_SECRET_TEXT: Final = Result(integrity="untrusted", confidentiality="secret")
_NUMERIC_TEXT: Final = re.compile(r"^-?\d+(?:\.\d+)?$")
_DATE_TEXT: Final = re.compile(r"^\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?(?:\.\d+)?(?:Z|[+-]\d{2}:\d{2})?)?$")


def result(tool: ToolSpec, path: str, name: str, value: Any) -> Result | None:
    """Return the draft label of one leaf of a result, or None for untrusted."""
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
    if _DATE_TEXT.match(value):
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
