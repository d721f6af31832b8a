"""Credential placeholders: an agent holds names, values are put in on the way out. Pure: values are handed in.

Forms read: `agentos-secret:NAME`, and those of OpenShell (`openshell:resolve:env:NAME`, and aliases shaped like a
provider's token, `xoxb-OPENSHELL-RESOLVE-ENV-NAME`). A placeholder that cannot be resolved, or whose value does not fit
where it stands (a line break in a header, a slash in a path), fails the request: it is never sent as it is. Threat:
header injection and path traversal by a stored value; a placeholder that reaches the other side and names secrets.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote, unquote

MAX_NAME_CHARS: Final = 128
_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]{0,127}"
PLACEHOLDER: Final = re.compile(
    rf"(?:agentos-secret:|openshell:resolve:env:)({_NAME})|[A-Za-z0-9._-]*?-?OPENSHELL-RESOLVE-ENV-({_NAME})"
)
_MARKS: Final = ("agentos-secret:", "openshell:resolve:env:", "OPENSHELL-RESOLVE-ENV-")
_BASIC: Final = re.compile(r"(?i)(basic) +([A-Za-z0-9+/=_-]+) *")


class PlaceholderError(ValueError):
    """A placeholder that cannot be resolved here; names the placeholder, never a value."""


def has_placeholder(text: str) -> bool:
    """Return whether a text (or its percent-decoded form) holds the mark of a placeholder."""
    plain = unquote(text) if "%" in text else text
    return any(mark in plain for mark in _MARKS)


def fill_header(line: str, values: Mapping[str, str]) -> str:
    """Return a header line with values for placeholders, also inside Basic credentials."""
    name, colon, value = line.partition(":")
    space = value[: len(value) - len(value.lstrip(" \t"))]
    basic = _BASIC.fullmatch(value.strip())
    if basic is not None and name.strip().lower() in ("authorization", "proxy-authorization"):
        opened = _decode(basic[2])
        if opened is not None and has_placeholder(opened):
            filled = base64.b64encode(_fill(opened, values, _plain).encode()).decode()
            return f"{name}{colon}{space}{basic[1]} {filled}"
    return name + colon + _fill(value, values, _plain)


def fill_target(target: str, values: Mapping[str, str]) -> str:
    """Return a request target with values for placeholders, percent-encoded as path segments and parameters need."""
    path, mark, query = target.partition("?")
    segments = [_fill_part(segment, values, _segment) for segment in path.split("/")]
    parameters = [_fill_parameter(part, values) for part in query.split("&")] if mark else []
    return "/".join(segments) + mark + "&".join(parameters)


def fill_text(text: str, values: Mapping[str, str]) -> str:
    """Return a body text or message with values for placeholders."""
    return _fill(text, values, lambda _name, value: value)


def _fill_parameter(part: str, values: Mapping[str, str]) -> str:
    name, equals, value = part.partition("=")
    if has_placeholder(name):
        raise PlaceholderError("a placeholder stands in the name of a parameter")
    return name + equals + _fill_part(value, values, _parameter)


def _fill_part(part: str, values: Mapping[str, str], fit: Callable[[str, str], str]) -> str:
    if not has_placeholder(part):
        return part
    return _fill(unquote(part) if "%" in part else part, values, fit)


def _fill(text: str, values: Mapping[str, str], fit: Callable[[str, str], str]) -> str:
    if not any(mark in text for mark in _MARKS):
        return text

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name not in values:
            raise PlaceholderError(f"no value for {name} towards this destination")
        secret = values[name]
        if any(char < " " or char == "\x7f" for char in secret):
            raise PlaceholderError(f"the value of {name} holds a control character")
        return fit(name, secret)

    result = PLACEHOLDER.sub(value, text)
    rest = PLACEHOLDER.sub("", text)
    if any(mark in rest for mark in _MARKS):
        raise PlaceholderError("malformed placeholder")
    return result


def _plain(_name: str, value: str) -> str:
    return value


def _parameter(_name: str, value: str) -> str:
    return quote(value, safe="")


def _segment(name: str, value: str) -> str:
    if not value or "/" in value or "\\" in value or ".." in value or "?" in value or "#" in value:
        raise PlaceholderError(f"the value of {name} cannot stand in a path")
    return quote(value, safe="-._~!$&'()*+,;=:@")


def _decode(text: str) -> str | None:
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
