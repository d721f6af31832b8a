"""Names, plain texts, integers, argument vectors and environments. Pure.

Threat: NUL bytes that cut a string short in C, bidirectional controls and zero-width characters that make a person
read something else than the machine (CVE-2021-42574), option smuggling through list-valued arguments.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, Final

from agent_os.core.errors import ActionError

MAX_NAME_CHARS: Final = 512
MAX_ARGV_ITEMS: Final = 4096
MAX_ARGV_CHARS: Final = 131_072
"""Linux refuses a single argument of 128 KiB or more (MAX_ARG_STRLEN)."""
INVISIBLE: Final = frozenset(
    "\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e"
    "\u2060\u2061\u2062\u2063\u2064\u2066\u2067\u2068\u2069\ufeff\u061c\u180e"
)


def text(value: Any, *, field: str) -> str:
    """Return a string in NFC. Raises ActionError for other types, NUL, control characters and lone surrogates."""
    if not isinstance(value, str):
        raise ActionError("must be a string", field=field)
    plain = str.__str__(value)  # INVARIANT: a subclass could answer checks with something else than is sent
    if plain.isascii():
        if not plain.isprintable() and any(char < " " or char == "\x7f" for char in plain):
            raise ActionError("holds a control character", field=field)
        return plain
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in plain):
        raise ActionError("holds a control character or a lone surrogate", field=field)
    return unicodedata.normalize("NFC", plain)


def name(value: Any, *, field: str) -> str:
    """Return an identifier: NFC text without invisible or bidirectional controls, at most MAX_NAME_CHARS long."""
    result = text(value, field=field)
    if len(result) > MAX_NAME_CHARS:
        raise ActionError(f"longer than {MAX_NAME_CHARS} characters", field=field)
    if not result.isascii() and any(char in INVISIBLE for char in result):
        raise ActionError("holds an invisible or bidirectional control character", field=field)
    return result


def integer(value: Any, *, field: str, minimum: int, maximum: int) -> int:
    """Return an integer in a closed range. Raises ActionError; a bool or a float is no integer."""
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        raise ActionError(f"must be an integer from {minimum} to {maximum}", field=field)
    return value


def argv(value: Any, *, field: str = "argv") -> tuple[str, ...]:
    """Return an argument vector: a non-empty list of strings without NUL. A single string is refused (no shell)."""
    if isinstance(value, str) or not isinstance(value, (list, tuple)):
        raise ActionError("must be a list of strings", field=field, hint="there is no shell: pass ['ls', '-l']")
    if not value or not value[0]:
        raise ActionError("must name a program", field=field)
    if len(value) > MAX_ARGV_ITEMS:
        raise ActionError(f"has more than {MAX_ARGV_ITEMS} arguments", field=field)
    for index, item in enumerate(value):
        if not isinstance(item, str):
            raise ActionError("must be a string", field=f"{field}[{index}]")
        if "\0" in item or len(item) >= MAX_ARGV_CHARS:
            raise ActionError("holds a NUL byte or is too long", field=f"{field}[{index}]")
        _encodable(item, f"{field}[{index}]")
    return tuple(value)


def environment(value: Any, *, field: str = "env") -> dict[str, str]:
    """Return an environment: names without `=` or NUL, values without NUL."""
    if not isinstance(value, Mapping):
        raise ActionError("must be an object of strings", field=field)
    result = {}
    for key in sorted(value, key=str):
        item = value[key]
        if not isinstance(key, str) or not key or "=" in key or "\0" in key:
            raise ActionError("holds a malformed name", field=field)
        if not isinstance(item, str) or "\0" in item:
            raise ActionError("must be a string without NUL", field=f"{field}.{key}")
        _encodable(item, f"{field}.{key}")
        result[key] = item
    return result


def _encodable(value: str, field: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ActionError("holds a lone surrogate", field=field) from None


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint `did you mean 'x'?`, or what is known, for a misspelt word."""
    names = sorted(set(known))
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(names)
