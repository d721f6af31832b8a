"""Credential placeholders: an agent holds names, values are put in on the way out. Pure: values are handed in.

Forms read: `agentos-secret:NAME`, and those of OpenShell (`openshell:resolve:env:NAME`, and aliases shaped like a
provider's token, `xoxb-OPENSHELL-RESOLVE-ENV-NAME`), percent-encoded ones in targets and forms. A value is spelt as the
place it stands in needs; one that does not fit there (a line break in a header, a slash in a path), a name that cannot be
resolved and, in heads, a malformed placeholder fail the request: it is never sent as it is. What stands around a placeholder
keeps its meaning: a target is never left decoded. The action that is judged and recorded holds the placeholder. Threats:
header injection and path traversal by a stored value or by the text beside it; a placeholder that reaches the other side
and names secrets; one that is cut in two by chunks.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import quote, quote_plus, unquote

from agent_os.guards.egress.spellings import decoded

MAX_NAME_CHARS: Final = 128
MAX_ALIAS_CHARS: Final = 64
"""Characters of a provider's prefix before an OpenShell alias."""
_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]{0,127}"
_COLON: Final = r"(?::|%3[Aa])"
_CORE: Final = re.compile(
    rf"(?:(?i:agentos-secret){_COLON}|(?i:openshell){_COLON}(?i:resolve){_COLON}(?i:env){_COLON})({_NAME})"
    rf"|OPENSHELL-RESOLVE-ENV-({_NAME})"
)
_MARKS: Final = ("agentos-secret:", "openshell:resolve:env:", "OPENSHELL-RESOLVE-ENV-")
_HINTS: Final = (b"gentos-secret", b"GENTOS-SECRET", b"penshell", b"PENSHELL")
_ALIAS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
_BASIC: Final = re.compile(r"(?i)(basic) +([A-Za-z0-9+/=_-]+) *")
_LAST_WORD: Final = re.compile(rb"[A-Za-z0-9._%:\\&#;-]+\Z")
_HOLD: Final = MAX_ALIAS_CHARS + 24 + MAX_NAME_CHARS + 8
"""Bytes at the end of a piece that could be the start of a placeholder."""
_FIELD_SAFE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_SEGMENT: Final = "-._~!$&'()*+,;=:@"
_QUERY: Final = "-._~!$'()*+,;:@/?="
_CREDENTIAL_FIELDS: Final = frozenset({"authorization", "proxy-authorization"})
Fields = Sequence[tuple[str, str]]
Fit = Callable[[str, str], str]


class PlaceholderError(ValueError):
    """A placeholder that cannot be resolved or does not fit; names the placeholder (`name`, if it has one), never a value."""

    def __init__(self, message: str, name: str = "") -> None:
        self.name = name
        super().__init__(message)


# ---- finding --------------------------------------------------------------------------------------------------------


def has_placeholder(text: str) -> bool:
    """Return whether a text (or its percent-decoded form) holds the mark of a placeholder."""
    plain = unquote(text) if "%" in text else text
    return any(mark in plain for mark in _MARKS) or _CORE.search(plain) is not None


def names_in(data: bytes) -> list[str]:
    """Return the names of the placeholders in some bytes, Basic credentials not opened."""
    if not any(hint in data for hint in _HINTS) and _CORE.search(data.decode("latin-1")) is None:
        return []
    return [name for _, name in _pieces(data.decode("latin-1")) if name]


def names_spelt(data: bytes) -> list[str]:
    """Return the names of placeholders that only stand there once characters spelt otherwise are read: they are never filled."""
    plain = decoded(data)
    if plain is data:
        return []
    known = set(names_in(data))
    return [name for name in names_in(plain) if name not in known]


def whole_placeholder(text: str) -> str:
    """Return the name of the one placeholder that a text is from end to end, or an empty text."""
    pieces = [(plain, name) for plain, name in _pieces(text) if plain or name]
    return pieces[0][1] if len(pieces) == 1 else ""


def names_in_target(target: str) -> tuple[list[str], list[str]]:
    """Return the names of the placeholders in (path, query) of a request target, however they are percent-encoded."""
    path, _, query = target.partition("?")
    return names_in(_decoded(path).encode("latin-1")), names_in(_decoded(query).encode("latin-1"))


def names_in_field(name: str, value: str) -> tuple[list[str], list[str]]:
    """Return the names of the placeholders in (the value of a field as it stands, its Basic credentials)."""
    opened = _basic(name, value)
    return names_in(value.encode("latin-1")), names_in(opened[1].encode()) if opened else []


# ---- filling --------------------------------------------------------------------------------------------------------


def fill_field(name: str, value: str, values: Mapping[str, str]) -> str:
    """Return the value of a header field with secrets for placeholders, also inside Basic credentials."""
    opened = _basic(name, value)
    if opened is not None and has_placeholder(opened[1]):
        filled = base64.b64encode(_filled(opened[1], values, _plain).encode()).decode()
        return f"{opened[0]} {filled}"
    return _filled(value, values, _field)


def fill_fields(fields: Fields, values: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return header fields with secrets for placeholders."""
    return [(name, fill_field(name, value, values)) for name, value in fields]


def fill_header(line: str, values: Mapping[str, str]) -> str:
    """Return a header line with secrets for placeholders."""
    name, colon, value = line.partition(":")
    bare = value.lstrip(" \t")
    return name + colon + value[: len(value) - len(bare)] + fill_field(name.strip(), bare, values)


def fill_target(target: str, values: Mapping[str, str]) -> str:
    """Return a request target with secrets for placeholders, percent-encoded as path segments and parameters need."""
    path, mark, query = target.partition("?")
    segments = [_fill_part(segment, values, _segment, _SEGMENT) for segment in path.split("/")]
    parameters = [_fill_parameter(part, values) for part in query.split("&")] if mark else []
    return "/".join(segments) + mark + "&".join(parameters)


def fill_text(text: str, values: Mapping[str, str]) -> str:
    """Return a text or message with secrets for placeholders."""
    return _filled(text, values, _plain)


def fill_body(body: bytes, content_type: str, values: Mapping[str, str]) -> bytes:
    """Return a body (or a complete piece of one) with secrets in, escaped as its content type needs."""
    if not names_in(body):
        return body
    fit, out = _body_fit(content_type), []
    for plain, name in _pieces(body.decode("latin-1")):
        out.append(fit(name, _value(name, values)).encode() if name else plain.encode("latin-1"))
    return b"".join(out)


class BodyFiller:
    """The same for a streamed body: holds back what could be the start of a placeholder. `values` may grow meanwhile."""

    def __init__(self, values: Mapping[str, str], content_type: str) -> None:
        self._values, self._type, self._held = values, content_type, b""

    def ready(self, data: bytes, *, last: bool = False) -> bytes:
        """Take a piece and return what is complete now, placeholders still in it."""
        data = self._held + data
        word = None if last else _LAST_WORD.search(data, max(0, len(data) - _HOLD))
        cut = len(data) if word is None else word.start()
        self._held = data[cut:]
        return data[:cut]

    def fill(self, ready: bytes) -> bytes:
        """Return complete bytes with secrets in."""
        return fill_body(ready, self._type, self._values)


# ---- the parts ------------------------------------------------------------------------------------------------------


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """Yield (plain text, "") and ("", name of a placeholder) in order. Linear, whatever the text."""
    edge = 0
    for match in _CORE.finditer(text):
        start = match.start()
        if match[2]:  # an alias goes with the prefix of its provider
            least = max(edge, start - MAX_ALIAS_CHARS)
            while start > least and text[start - 1] in _ALIAS:
                start -= 1
        yield text[edge:start], ""
        yield "", match[1] or match[2]
        edge = match.end()
    yield text[edge:], ""


def _value(name: str, values: Mapping[str, str]) -> str:
    if name not in values:
        raise PlaceholderError(f"no value for {name} towards this destination", name)
    secret = values[name]
    if any(char < " " or char == "\x7f" for char in secret):
        raise PlaceholderError(f"the value of {name} holds a control character", name)
    return secret


def _filled(text: str, values: Mapping[str, str], fit: Fit, around: Callable[[str], str] = str) -> str:
    """Return a text with `fit(name, value)` for each placeholder and `around(piece)` for what stands beside them."""
    if not has_placeholder(text):
        return text
    out = []
    for plain, name in _pieces(text):
        if any(mark in plain for mark in _MARKS):
            raise PlaceholderError("malformed placeholder")
        out.append(fit(name, _value(name, values)) if name else around(plain))
    return "".join(out)


def _fill_parameter(part: str, values: Mapping[str, str]) -> str:
    name, equals, value = part.partition("=")
    if has_placeholder(_decoded(name)):
        raise PlaceholderError("a placeholder stands in the name of a parameter")
    return name + equals + _fill_part(value, values, _parameter, _QUERY)


def _fill_part(part: str, values: Mapping[str, str], fit: Fit, safe: str) -> str:
    plain = _decoded(part)
    if not has_placeholder(plain):
        return part
    # INVARIANT: what was decoded to be read is encoded again: `%0d%0a` beside a placeholder must not become a line end.
    return _filled(plain, values, fit, lambda text: quote(text, safe=safe, encoding="latin-1"))


def _decoded(text: str) -> str:
    return unquote(text, encoding="latin-1") if "%" in text else text


def _basic(name: str, value: str) -> tuple[str, str] | None:
    """Return (scheme, opened credentials) of a Basic field, or None."""
    match = _BASIC.fullmatch(value.strip()) if name.lower() in _CREDENTIAL_FIELDS else None
    if match is None:
        return None
    try:
        return match[1], base64.b64decode(match[2], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None


def _plain(_name: str, value: str) -> str:
    return value


def _field(name: str, value: str) -> str:
    if not _FIELD_SAFE.fullmatch(value):
        raise PlaceholderError(f"the value of {name} cannot stand in a header", name)
    return value


def _parameter(_name: str, value: str) -> str:
    return quote(value, safe="")


def _segment(name: str, value: str) -> str:
    if not value or "/" in value or "\\" in value or ".." in value or "?" in value or "#" in value:
        raise PlaceholderError(f"the value of {name} cannot stand in a path", name)
    return quote(value, safe=_SEGMENT)


def _body_fit(content_type: str) -> Fit:
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        return lambda _, secret: json.dumps(secret)[1:-1]
    if kind == "application/x-www-form-urlencoded":
        return lambda _, secret: quote_plus(secret)
    return _plain
