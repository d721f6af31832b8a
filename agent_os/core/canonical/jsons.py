"""Canonical JSON after RFC 8785, and bounded plain-JSON trees. Pure."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from typing import Any, Final

import rfc8785

from agent_os.core.errors import ActionError

MAX_DEPTH: Final = 64
MAX_NODES: Final = 1_000_000
_SAFE_INTEGER: Final = 2**53 - 1
_standard = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def _encode_standard(value: Any) -> bytes:
    return _standard(value).encode()


def _fastest() -> Callable[[Any], bytes]:
    """Return orjson's encoder where it is installed (the same bytes for plain values, ten times faster)."""
    try:
        import orjson  # noqa: PLC0415 - optional
    except ImportError:
        return _encode_standard
    dumps, option = orjson.dumps, orjson.OPT_SORT_KEYS
    return lambda value: dumps(value, option=option)


_encode = _fastest()


def json_bytes(value: Any) -> bytes:
    """Return the RFC 8785 form of plain JSON. Raises ActionError for NaN, infinities and lone surrogates.

    The C encoder gives the same bytes except for floats that ECMAScript writes differently (whole, tiny or huge ones),
    integers over 2**53 and keys outside the Basic Multilingual Plane (RFC 8785 sorts by UTF-16 units); those take the
    slower library path.
    """
    try:
        if _plain(value):
            return _encode(value)
        return rfc8785.dumps(_integers_as_text(value))
    except (ValueError, TypeError, UnicodeEncodeError, RecursionError) as error:
        raise ActionError(f"cannot be made canonical JSON: {type(error).__name__}") from None


def foreign_json(data: bytes | str) -> Any:
    """Return what a stranger's JSON says, halves of characters in it replaced: nobody could encode them again.

    Raises ValueError or RecursionError where it is none.
    """
    value = json.loads(data)
    halves = (b"\\ud" in data.lower()) if isinstance(data, bytes) else ("\\ud" in data.lower())
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")) if halves else value


def json_digest(value: Any) -> str:
    """Return `sha256:` and the hex digest of the canonical form."""
    return "sha256:" + hashlib.sha256(json_bytes(value)).hexdigest()


def _plain(value: Any) -> bool:
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return True
    if kind is int:
        return bool(-_SAFE_INTEGER <= value <= _SAFE_INTEGER)
    if kind is float:  # between these both languages write the shortest fixed notation
        return bool(1e-4 <= abs(value) < 1e16 and not value.is_integer())
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str or not key.isascii():
                return False
            if type(item) is not str and not _plain(item):
                return False
        return True
    if kind is list or kind is tuple:
        return all(type(item) is str or _plain(item) for item in value)
    return False


def _integers_as_text(value: Any) -> Any:
    """Tag integers that IEEE 754 cannot hold, so that two different ones never share a digest."""
    if isinstance(value, bool) or value is None or isinstance(value, (str, float)):
        return value
    if isinstance(value, int):
        return value if -_SAFE_INTEGER <= value <= _SAFE_INTEGER else {"$integer": str(value)}
    if isinstance(value, dict):
        return {key: _integers_as_text(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_integers_as_text(item) for item in value]
    raise ValueError(f"not JSON: {type(value).__name__}")


def json_value(value: Any, *, field: str = "value") -> Any:
    """Return a plain, bounded copy of a JSON tree (tuples become lists).

    Raises ActionError for anything that is not JSON, deeper than MAX_DEPTH or of more than MAX_NODES nodes, so that
    cyclic structures end too.
    """
    budget = [MAX_NODES]

    def copy(item: Any, depth: int) -> Any:
        budget[0] -= 1
        if depth > MAX_DEPTH or budget[0] < 0:
            raise ActionError("too deep or too large", field=field, hint=f"at most {MAX_DEPTH} levels")
        kind = type(item)
        if kind is str or kind is int or kind is bool or item is None:
            return item
        if isinstance(item, str):  # INVARIANT: a subclass could answer checks with something else than what is sent
            return str.__str__(item)
        if isinstance(item, int):
            return int.__int__(item)
        if isinstance(item, float):
            number = float.__float__(item)
            if not math.isfinite(number):
                raise ActionError("must be a finite number", field=field)
            return number
        if isinstance(item, (list, tuple)):
            return [copy(child, depth + 1) for child in item]
        if isinstance(item, dict) or hasattr(item, "keys"):
            made = {}
            for key in item:
                if not isinstance(key, str):
                    raise ActionError("object keys must be strings", field=field)
                made[str.__str__(key)] = copy(item[key], depth + 1)
            return made
        raise ActionError(f"is not JSON ({type(item).__name__})", field=field)

    return copy(value, 0)
