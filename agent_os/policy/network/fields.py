"""Header and body fields of a REST request, as rules over them see it. Pure.

What two servers could read differently counts in every reading: header names with `_` for `-` (CGI and WSGI put both under one
name), the members of a list, body keys in any letter case (some decoders take `ROLE` for `role`), dotted keys, objects in lists.
An allow rule needs every reading to match, a deny rule fires on one. A body that cannot be read as JSON or as a form has no
fields for an allow rule and all of them for a deny rule. Threat: a field that is judged beside the one that counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from agent_os.core.action import NetRequest
from agent_os.policy.network.globs import Predicate
from agent_os.policy.network.jsonrpc import BodyError, parse_json

UNREADABLE: Final = object()
"""What stands for a body that nobody here can read."""
NEVER_JUDGED: Final = frozenset(
    {
        *("host", "authorization", "cookie", "x-api-key", "api-key", "proxy-authorization"),
        *("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-length", "expect"),
    }
)
"""Fields no rule can be about: credentials never enter an action, the others are of one hop and written anew."""
_WHOLE: Final = frozenset(
    {"user-agent", "referer", "origin", "content-type", "content-encoding", "content-location", "range", "if-range", "date",
     "from", "if-modified-since", "if-unmodified-since", "content-disposition"}
)  # fmt: skip
"""Fields with one value, in which a comma is text."""
_FIELDS_MAX: Final = 4096
"""Fields of one form body."""
_FORM: Final = re.compile(r"[!-~ ]*")


def header_name(name: str) -> str:
    """Return a field's name as rules compare it."""
    return name.lower().replace("_", "-")


def header_values(headers: Mapping[str, str], name: str, *, every: bool) -> list[str]:
    """Return the values of a field (`name` as `header_name` gives it): members of lists one by one, and `every` form of them."""
    found: list[str] = []
    for key, value in headers.items():
        if header_name(key) != name:
            continue
        members = [value] if name in _WHOLE else [member.strip() for member in str(value).split(",")]
        found += members
        if every and members != [value]:
            found.append(value)
    return found


def document(action: NetRequest) -> Any:
    """Return a request's body as plain JSON, a form as the lists of its values, None for no body, else UNREADABLE."""
    body = action.body
    if body is None:
        return UNREADABLE if action.size or action.body_digest else None
    if not isinstance(body, str):
        return body
    if not body:
        return None
    kind = str(action.headers.get("content-type", "")).partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        return _form(body)
    try:
        return parse_json(body)
    except BodyError:
        return UNREADABLE


def _form(body: str) -> Any:
    if not _FORM.fullmatch(body):
        return UNREADABLE
    try:
        pairs = parse_qsl(
            body, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=_FIELDS_MAX
        )
    except (ValueError, UnicodeDecodeError):
        return UNREADABLE
    result: dict[str, list[str]] = {}
    for name, value in pairs:
        result.setdefault(name, []).append(value)
    return result


def field_values(value: Any, path: str) -> list[str | None]:
    """Return every value that a dotted path can mean in a JSON value, as text; None stands for what is no scalar, or lacking.

    Lists are walked at every level, each member by itself. Empty: the field is nowhere.
    """
    if isinstance(value, list):
        found = [field_values(item, path) for item in value]
        if not any(found):
            return []
        return [text for texts in found for text in (texts or [None])]
    if not isinstance(value, dict):
        return []
    texts: list[str | None] = []
    wanted = path.casefold()
    for key, child in value.items():
        name = key.casefold()
        if name == wanted:
            texts += _scalars(child)
        elif wanted.startswith(f"{name}."):
            texts += field_values(child, path[len(key) + 1 :])
    return texts


def _scalars(value: Any) -> list[str | None]:
    if isinstance(value, str):
        return [value]
    if value is None:
        return ["null"]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, (int, float)):
        return [repr(value)]
    if isinstance(value, list):
        return [text for child in value for text in _scalars(child)] or [None]
    return [None]


def allowed_headers(action: NetRequest, wanted: list[tuple[str, Predicate]]) -> bool:
    """Whether each named field is there and all of its values match."""
    for name, match in wanted:
        values = header_values(action.headers, name, every=False)
        if not values or not all(match(value) for value in values):
            return False
    return True


def denied_headers(action: NetRequest, wanted: list[tuple[str, Predicate]]) -> bool:
    """Whether each named field has a value that matches."""
    return all(any(match(value) for value in header_values(action.headers, name, every=True)) for name, match in wanted)


def allowed_body(action: NetRequest, wanted: list[tuple[str, Predicate]]) -> bool:
    """Whether each named field of the body is there, in every object of a list, and all of its values match."""
    body = document(action)
    if body is UNREADABLE:
        return False
    for path, match in wanted:
        values = field_values(body, path)
        if not values or not all(value is not None and match(value) for value in values):
            return False
    return True


def denied_body(action: NetRequest, wanted: list[tuple[str, Predicate]]) -> bool:
    """Whether each named field of the body has a value that matches; a body that cannot be read has."""
    body = document(action)
    if body is UNREADABLE:
        return True
    return all(any(value is not None and match(value) for value in field_values(body, path)) for path, match in wanted)
