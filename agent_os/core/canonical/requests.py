"""Parts of an HTTP request: method, target, path, query, headers. Pure.

Threat: the path that is judged is not the path the server dispatches on (`..`, `%2e%2e`, `//`, `;params`, `%2F`,
backslashes, overlong UTF-8), the same parameter read by two rules of decoding, a header field twice or folded.
The canonical path is judged *and* sent. Sources: RFC 9110, RFC 9112, RFC 3986 3.3 and 5.2.4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from agent_os.core.errors import ActionError

MAX_TARGET_CHARS: Final = 65_536
MAX_PATH_CHARS: Final = 4096
"""The longest request path judged; longer ones are refused."""
MAX_QUERY_PARAMETERS: Final = 1024
MAX_HEADERS: Final = 256
MAX_HEADER_CHARS: Final = 65_536
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SAFE_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9._~!$&'()*+,=:@-]*)+/?|/")
_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@")
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/]*)(.*)", re.DOTALL)
_SLASH: Final = 0x01
"""Stands for an encoded slash while segments are resolved; control bytes are refused before."""


class Target(NamedTuple):
    """A request target: canonical `path`, raw `query` (None: no `?`), and the authority of an absolute form."""

    path: str
    query: str | None
    authority: str = ""


def method(value: Any, *, field: str = "method") -> str:
    """Return an HTTP method token; methods are case-sensitive (RFC 9110, 9.1) and left as they are."""
    if not isinstance(value, str) or not _TOKEN.fullmatch(value) or len(value) > 64:
        raise ActionError("must be a method token", field=field)
    return value


def request_path(value: Any, *, field: str = "path", allow_encoded_slash: bool = True) -> str:
    """Return a canonical request path, without query.

    Dot segments and doubled slashes are resolved, `;params` dropped, needless percent-encoding decoded and the rest in
    upper case; characters beyond ASCII are percent-encoded UTF-8. An encoded slash stays `%2F` (whether an endpoint
    takes it is for the policy), unless `allow_encoded_slash` is false. Raises ActionError for control characters,
    backslashes, fragments, climbing above the root, invalid percent-encoding and invalid UTF-8.
    """
    if not isinstance(value, str):
        raise ActionError("must be a string", field=field)
    if _SAFE_PATH.fullmatch(value) and len(value) <= MAX_PATH_CHARS:
        return value
    if "?" in value:
        raise ActionError("holds a query", field=field, hint="give parameters in 'query'")
    if not value.isascii():
        try:
            value = "".join(c if c < "\x80" else "".join(f"%{b:02X}" for b in c.encode()) for c in value)
        except UnicodeEncodeError:
            raise ActionError("holds a lone surrogate", field=field) from None
    return _canonical_path(value, field, allow_encoded_slash)


def request_target(value: Any, *, field: str = "target", allow_encoded_slash: bool = False) -> Target:
    """Return the parts of a request target off the wire (origin-form or absolute-form).

    Stricter than `request_path`: raw bytes beyond ASCII are refused. The query is returned as it was sent.
    """
    if not isinstance(value, str):
        raise ActionError("must be a string", field=field)
    if len(value) > MAX_TARGET_CHARS:
        raise ActionError(f"longer than {MAX_TARGET_CHARS} characters", field=field)
    for char in value:
        if not "!" <= char <= "~":
            raise ActionError("holds a control, space or non-ASCII character", field=field)
    if "#" in value:
        raise ActionError("holds a fragment", field=field)
    path, mark, query = value.partition("?")
    authority = ""
    absolute = _ABSOLUTE.fullmatch(path)
    if absolute:
        authority, path = absolute[1], absolute[2]
    return Target(_canonical_path(path, field, allow_encoded_slash), query if mark else None, authority)


def _canonical_path(value: str, field: str, allow_encoded_slash: bool) -> str:
    if not value:
        return "/"
    if not value.startswith("/"):
        raise ActionError("must start with '/'", field=field)
    if len(value) > MAX_PATH_CHARS:
        raise ActionError(f"longer than {MAX_PATH_CHARS} characters", field=field)
    if "#" in value:
        raise ActionError("holds a fragment", field=field)
    segments = [segment.split(b";", 1)[0] for segment in _decoded(value, field, allow_encoded_slash).split(b"/")[1:]]
    resolved: list[bytes] = []
    last = len(segments) - 1
    for index, segment in enumerate(segments):
        if segment in (b".", b".."):
            if segment == b".." and not resolved:
                raise ActionError("climbs above the root", field=field)
            if segment == b"..":
                resolved.pop()
            if index == last:
                resolved.append(b"")
        elif segment or index == last:
            resolved.append(segment)
    for segment in resolved:
        if _SLASH in segment and any(part in (b".", b"..") for part in segment.split(bytes((_SLASH,)))):
            raise ActionError("hides a dot segment behind an encoded slash", field=field)
    return "/" + "/".join(map(_encoded, resolved))


def _decoded(value: str, field: str, allow_encoded_slash: bool) -> bytes:
    out = bytearray()
    index, length = 0, len(value)
    while index < length:
        char = value[index]
        if char == "%":
            digits = value[index + 1 : index + 3]
            if len(digits) != 2 or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
                raise ActionError("has invalid percent-encoding", field=field)
            byte = int(digits, 16)
            if byte == 0x2F:
                if not allow_encoded_slash:
                    raise ActionError("has an encoded slash", field=field, hint="see allow_encoded_slash")
                byte = _SLASH
            elif byte < 0x20 or byte == 0x7F:
                raise ActionError("holds an encoded control character", field=field)
            elif byte == 0x5C:
                raise ActionError("holds an encoded backslash", field=field)
            out.append(byte)
            index += 3
            continue
        if char < " " or char >= "\x7f":
            raise ActionError("holds a control or non-ASCII character", field=field)
        if char == "\\":
            raise ActionError("holds a backslash", field=field, hint="servers read it as '/'")
        out.append(ord(char))
        index += 1
    try:
        out.decode()
    except UnicodeDecodeError:
        raise ActionError("is not valid UTF-8", field=field) from None
    return bytes(out)


def _encoded(segment: bytes) -> str:
    return "".join(chr(b) if b in _PLAIN else "%2F" if b == _SLASH else f"%{b:02X}" for b in segment)


def query(value: Any, *, field: str = "query") -> dict[str, list[str]]:
    """Return decoded query parameters, name -> values in order, from such a mapping or from a raw query string."""
    if isinstance(value, str):
        return parse_query(value, field=field)
    if not isinstance(value, Mapping):
        raise ActionError("must be an object of lists of strings", field=field)
    if len(value) > MAX_QUERY_PARAMETERS:
        raise ActionError(f"has more than {MAX_QUERY_PARAMETERS} parameters", field=field)
    result: dict[str, list[str]] = {}
    for key, items in value.items():
        values = list(items) if isinstance(items, (list, tuple)) else [items]
        if not isinstance(key, str) or not all(isinstance(item, str) for item in values):
            raise ActionError("must be an object of lists of strings", field=field)
        for text in (key, *values):
            _encodable(text, field)
        result[key] = values
    return result


def parse_query(raw: str, *, field: str = "query") -> dict[str, list[str]]:
    """Return the parameters of a raw query string: `&` separates, `+` is a space, `%HH` is decoded once.

    Raises ActionError for invalid percent-encoding, invalid UTF-8 and NUL: what cannot be read one way only is refused.
    """
    result: dict[str, list[str]] = {}
    parts = [part for part in raw.split("&") if part]
    if len(parts) > MAX_QUERY_PARAMETERS:
        raise ActionError(f"has more than {MAX_QUERY_PARAMETERS} parameters", field=field)
    for part in parts:
        name, _, text = part.partition("=")
        result.setdefault(_component(name, field), []).append(_component(text, field))
    return result


def _component(text: str, field: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise ActionError("has invalid percent-encoding", field=field)
    try:
        decoded = unquote_to_bytes(text.replace("+", " ")).decode()
    except (UnicodeDecodeError, UnicodeEncodeError):
        raise ActionError("is not valid UTF-8", field=field) from None
    if "\0" in decoded:
        raise ActionError("holds a NUL", field=field)
    return decoded


def _encodable(text: str, field: str) -> None:
    if "\0" in text:
        raise ActionError("holds a NUL", field=field)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ActionError("holds a lone surrogate", field=field) from None


def headers(value: Any, *, field: str = "headers") -> dict[str, str]:
    """Return header fields with lower-case names and trimmed values; malformed or double ones raise ActionError."""
    if not isinstance(value, Mapping):
        raise ActionError("must be an object of strings", field=field)
    if len(value) > MAX_HEADERS:
        raise ActionError(f"has more than {MAX_HEADERS} fields", field=field)
    result: dict[str, str] = {}
    for name, text in value.items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise ActionError("holds a malformed name", field=field)
        if not isinstance(text, str) or len(text) > MAX_HEADER_CHARS:
            raise ActionError("must be a string", field=f"{field}.{name.lower()}")
        if any((char < " " and char != "\t") or char == "\x7f" for char in text):
            raise ActionError("holds a control character", field=f"{field}.{name.lower()}")
        _encodable(text, f"{field}.{name.lower()}")
        if name.lower() in result:
            raise ActionError("is given twice", field=f"{field}.{name.lower()}")
        result[name.lower()] = text.strip(" \t")
    return result
