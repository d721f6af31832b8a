"""Values as conditions see them: JSON equality, one spelling of IBANs, addresses and hosts, and `data:` sets. Pure.

`None` as an answer means: cannot be judged (missing or of the wrong type). Threat: a number sent as a text, an IBAN
with spaces, a host behind userinfo or a backslash, full-width letters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from agent_os.core import canonical
from agent_os.core.errors import ActionError

MAX_SET_VALUES: Final = 1_000_000
MISSING: Final = object()
"""Stands for an argument that is not there."""

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
_DISPLAYED: Final = re.compile(r"[^@<>,;:/\\\x00-\x1f\x7f]*<([^@<>\s]+@[^@<>\s]+)>")
"""`Display Name <address>` with nothing in the name that could be an address of its own."""
_IP_TAIL: Final = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d{1,5})?|([^:\[\]]+)(?::\d{1,5})?")


def kind_of(value: Any) -> str:
    """Return the JSON type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, (int, float)):
        return "number"
    return "array" if isinstance(value, (list, tuple)) else "object"


def key_of(value: Any) -> Any:
    """Return a hashable form of a scalar in which 1 and 1.0 are one value and True is not 1; None for no scalar."""
    if isinstance(value, str):
        return value if value.isascii() else unicodedata.normalize("NFC", value)
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, (int, float)):
        return ("number", value)
    return ("null",) if value is None else None


def equals(value: Any, other: Any) -> bool:
    """Return whether two JSON values are the same."""
    kind = kind_of(value)
    if kind != kind_of(other):
        return False
    if kind == "array":
        return len(value) == len(other) and all(equals(one, two) for one, two in zip(value, other, strict=True))
    if kind == "object":
        return value.keys() == other.keys() and all(equals(item, other[key]) for key, item in value.items())
    return bool(key_of(value) == key_of(other))


def host_of(value: str) -> str | None:
    """Return the canonical host of a URL, an e-mail address, a `host:port` or a host name; None if there is none.

    Userinfo, backslashes, blanks and control characters have no host: two parsers would read them differently.
    """
    shown = _DISPLAYED.fullmatch(value)
    value = shown[1] if shown else value
    if not value or any(char <= " " or char in "\\\x7f<>,;" for char in value):
        return None
    found = _URL.match(value)
    if found:
        authority = found[1]
        if "@" in authority:
            return None
    elif value.count("@") == 1 and "<" not in value:
        authority = value.partition("@")[2]
        if not authority or any(char in "/:?#" for char in authority):
            return None
    elif any(char in "/?#@" for char in value):
        return None
    else:
        authority = value
    parts = _IP_TAIL.fullmatch(authority)
    if parts is None:
        return None
    try:
        return canonical.host(parts[1] or parts[2])
    except ActionError:
        return None


def host_glob(pattern: str) -> str:
    """Return a host pattern as the glob that matches canonical hosts with `/` for `.`: `*` is one label, `**` several.

    Labels outside ASCII become A-labels, as in the hosts they are compared with; addresses take their canonical form.
    """
    if not any(char in "*?[{" for char in pattern):
        pattern = host_of(pattern) or pattern
    labels = []
    for label in pattern.lower().rstrip(".").split("."):
        if not label.isascii():
            try:
                label = canonical.host(label)
            except ActionError:
                labels.append(label)
                continue
        labels.append(label)
    return "/".join(labels)


def _iban(value: str) -> str:
    return re.sub(r"[\s-]", "", unicodedata.normalize("NFKC", value)).upper()


def _email(value: str) -> str:
    value = unicodedata.normalize("NFKC", value).strip()
    shown = re.fullmatch(r"[^<>]*<([^<>@\s]+@[^<>@\s]+)>", value)
    return (shown[1] if shown else value).casefold()


def _path(value: str) -> str | None:
    try:
        return canonical.path(value, root="")
    except ActionError:
        return None


NORMAL: Final[Mapping[str, Callable[[str], str | None]]] = {
    "text": lambda value: unicodedata.normalize("NFC", value),
    "lower": lambda value: unicodedata.normalize("NFKC", value).casefold(),
    "iban": _iban,
    "email": _email,
    "host": host_of,
    "path": _path,
    "digits": lambda value: "".join(char for char in unicodedata.normalize("NFKC", value) if char.isdigit()),
}


def pluck(data: Any, fields: Iterable[str]) -> list[Any] | None:
    """Return the scalars a reference names in a data set, or None if it names nothing.

    A list is looked through item by item, a mapping by key; where a mapping lacks the key, its values are looked into
    (`suppliers: {acme: {iban: …}}` and `[{name: acme, iban: …}]` both answer `data.suppliers.iban`).
    """
    current = [data]
    for field in fields:
        found: list[Any] = []
        for item in current:
            found.extend(_step(item, field))
        if not found:
            return None
        current = found
    scalars: list[Any] = []
    for item in current:
        for value in item if isinstance(item, (list, tuple)) else (item,):
            if not isinstance(value, (str, int, float, bool)):
                return None
            scalars.append(value)
    return scalars if len(scalars) <= MAX_SET_VALUES else None


def _step(item: Any, field: str) -> list[Any]:
    if isinstance(item, Mapping):
        if field in item:
            return [item[field]]
        return [value[field] for value in item.values() if isinstance(value, Mapping) and field in value]
    if isinstance(item, (list, tuple)):
        return [value[field] for value in item if isinstance(value, Mapping) and field in value]
    return []


class ValueSet:
    """A set of scalars for `in` and `not_in`, with one spelling if a normal form is given."""

    __slots__ = ("_keys", "_kinds", "_normal", "size")

    def __init__(self, values: Iterable[Any], normal: Callable[[str], str | None] | None) -> None:
        self._normal = normal
        keys, kinds = set(), set()
        for value in values:
            if isinstance(value, str) and normal is not None:
                value = normal(value)
            keys.add(key_of(value))
            kinds.add(kind_of(value))
        self._keys, self._kinds = frozenset(keys), frozenset(kinds)
        self.size = len(self._keys)

    def holds(self, value: Any) -> bool | None:
        """Return whether a value is in the set; None if the set has no value of its type, or it has no normal form."""
        if isinstance(value, str) and self._normal is not None:
            value = self._normal(value)
            if value is None:
                return None
        key = key_of(value)
        if key in self._keys:
            return True
        return False if kind_of(value) in self._kinds else None
