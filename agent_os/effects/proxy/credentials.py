"""Placeholders in, secrets out: only towards the destination a secret is bound to; echoes masked on the way back.
Pure.

The agent holds `agentos-secret:NAME` (OpenShell's `openshell:resolve:env:NAME` is read too). The guard replaces it
after the request was judged, in the head, the path, the query, Basic credentials and bodies, also where it is cut in
two by chunks. Towards any other destination it is a denial and an alert. The action that is judged and recorded holds
the placeholder, never the secret. Threat: an agent, or whoever talks it into something, that sends a credential
elsewhere, or reads it back from an echo.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

NAME_CHARS_MAX: Final = 128
SECRET_BYTES_MIN: Final = 6
"""Shorter secrets cannot be masked in responses without destroying them, and are not accepted."""
_NAME: Final = "[A-Za-z_][A-Za-z0-9_]{0,127}"
PLACEHOLDER: Final = re.compile(
    rb"(?i:agentos-secret(?::|%3a)|openshell(?::|%3a)resolve(?::|%3a)env(?::|%3a))([A-Za-z_][A-Za-z0-9_]{0,127})"
    rb"|[A-Za-z0-9._]{1,32}-OPENSHELL-RESOLVE-ENV-([A-Za-z_][A-Za-z0-9_]{0,127})"
)
_HINTS: Final = (b"gentos-secret", b"penshell", b"PENSHELL-RESOLVE", b"GENTOS-SECRET")
_HOLD: Final = 32 + 24 + NAME_CHARS_MAX + 8
"""Bytes at the end of a piece that could be the start of a placeholder."""
_LAST_WORD: Final = re.compile(rb"[A-Za-z0-9._%:-]+\Z")
_PATH_SAFE: Final = re.compile(r"[A-Za-z0-9._~:@!$&'()*+,;=-]+")
_FIELD_SAFE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


class CredentialError(Exception):
    """A placeholder cannot be resolved here: unknown, bound elsewhere, or unfit for where it stands."""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(f"secret {name}: {reason}")


@dataclass(frozen=True, slots=True)
class Secret:
    """A stored secret. `destinations` are `host` or `host:port`, canonical and exact."""

    name: str
    value: str = field(repr=False)
    destinations: tuple[str, ...] = ()

    def bound_to(self, host: str, port: int) -> bool:
        """Whether it may be used towards a destination."""
        return host in self.destinations or f"{host}:{port}" in self.destinations


class SecretStore(Protocol):
    """Where secrets are kept."""

    async def get(self, name: str) -> Secret | None:
        """Return a secret, or None. Raises EffectError when the store cannot be read."""
        ...


def names_in(data: bytes) -> list[str]:
    """Return the names of the placeholders in some bytes, Basic credentials not opened."""
    if not any(hint in data for hint in _HINTS):
        return []
    return [(match[1] or match[2]).decode() for match in PLACEHOLDER.finditer(data)]


def _basic(value: str) -> tuple[str, bytes] | None:
    scheme, _, encoded = value.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return scheme, base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None


def names_in_fields(fields: list[tuple[str, str]]) -> list[str]:
    """Return the names of the placeholders in header fields, Basic credentials opened."""
    found: list[str] = []
    for key, value in fields:
        found += names_in(value.encode("latin-1"))
        if key == "authorization" and (basic := _basic(value)) is not None:
            found += names_in(basic[1])
    return found


class Filler:
    """Puts resolved secrets in for one request. `values` are those already found to be bound here."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def _fill(self, data: bytes, fit: Callable[[str, str], str]) -> bytes:
        def value(match: re.Match[bytes]) -> bytes:
            name = (match[1] or match[2]).decode()
            secret = self._values.get(name)
            if secret is None:
                raise CredentialError(name, "is not available towards this destination")
            return fit(name, secret).encode()

        return PLACEHOLDER.sub(value, data)

    def target(self, target: str) -> str:
        """Return a request target with secrets in, percent-encoded; raises CredentialError where they do not fit."""
        path, mark, query = target.partition("?")
        path = self._fill(path.encode("latin-1"), _fit_path).decode("latin-1")
        query = self._fill(query.encode("latin-1"), lambda _, secret: urllib.parse.quote(secret, safe="")).decode(
            "latin-1"
        )
        return path + mark + query

    def fields(self, fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return header fields with secrets in."""
        result = []
        for key, value in fields:
            basic = _basic(value) if key == "authorization" else None
            if basic is not None and names_in(basic[1]):
                opened = self._fill(basic[1], _fit_field)
                result.append((key, f"{basic[0]} {base64.b64encode(opened).decode()}"))
            else:
                result.append((key, self._fill(value.encode("latin-1"), _fit_field).decode("latin-1")))
        return result

    def body(self, body: bytes, content_type: str) -> bytes:
        """Return a whole body with secrets in, escaped as its content type needs."""
        return self._fill(body, _fit_body(content_type))


class BodyFiller:
    """The same for a streamed body: holds back what could be the start of a placeholder."""

    def __init__(self, filler: Filler, content_type: str) -> None:
        self._filler, self._type, self._held = filler, content_type, b""

    def ready(self, data: bytes, *, last: bool = False) -> bytes:
        """Take a piece and return what is complete now, placeholders still in it."""
        data = self._held + data
        cut = len(data) if last else _safe_end(data)
        self._held = data[cut:]
        return data[:cut]

    def fill(self, ready: bytes) -> bytes:
        """Return complete bytes with secrets in."""
        return self._filler.body(ready, self._type)


def _safe_end(data: bytes) -> int:
    """Return how much of `data` can be sent: its last word could be the beginning of a placeholder, in any form."""
    tail = max(0, len(data) - _HOLD)
    word = _LAST_WORD.search(data, tail)
    return word.start() if word is not None else len(data)


class Masker:
    """Replaces echoes of secrets in a response by asterisks of the same length, over any cut of the stream."""

    def __init__(self, values: Mapping[str, str]) -> None:
        forms: set[bytes] = set()
        for value in values.values():
            raw = value.encode()
            quoted = urllib.parse.quote(value, safe="").encode()
            forms |= {raw, quoted, json.dumps(value)[1:-1].encode()}
            forms |= _base64_cores(raw)
        ordered = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(re.escape(form) for form in ordered)) if ordered else None
        self._longest = max((len(form) for form in ordered), default=1)
        self._held = b""
        self.masked = 0

    def feed(self, data: bytes, *, last: bool = False) -> bytes:
        """Return what can go on now; the same number of bytes comes out in the end as went in."""
        if self._pattern is None:
            return data
        data = self._pattern.sub(self._mask, self._held + data)
        if last:
            self._held = b""
            return data
        keep = min(len(data), self._longest - 1)
        cut = len(data) - keep
        self._held = data[cut:]
        return data[:cut]

    def _mask(self, match: re.Match[bytes]) -> bytes:
        self.masked += 1
        return b"*" * len(match[0])

    def text(self, value: str) -> str:
        """Return a header value with echoes masked."""
        if self._pattern is None:
            return value
        return self._pattern.sub(self._mask, value.encode("latin-1")).decode("latin-1")


def _base64_cores(raw: bytes) -> set[bytes]:
    """The parts of Base64 texts that a secret inside fixes, at each of the three alignments."""
    cores = set()
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw)
        start = (0, 2, 3)[shift]
        end = len(encoded) - (0, 4, 4)[(shift + len(raw)) % 3] if (shift + len(raw)) % 3 else len(encoded)
        core = encoded[start:end].rstrip(b"=")
        if len(core) >= 8:
            cores |= {core, core.replace(b"+", b"-").replace(b"/", b"_")}
    return cores


def _fit_path(name: str, secret: str) -> str:
    if not _PATH_SAFE.fullmatch(secret) or ".." in secret:
        raise CredentialError(name, "has characters that cannot stand in a path")
    return secret


def _fit_field(name: str, secret: str) -> str:
    if not _FIELD_SAFE.fullmatch(secret):
        raise CredentialError(name, "has characters that cannot stand in a header")
    return secret


def _fit_body(content_type: str) -> Callable[[str, str], str]:
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        return lambda _, secret: json.dumps(secret)[1:-1]
    if kind == "application/x-www-form-urlencoded":
        return lambda _, secret: urllib.parse.quote_plus(secret)
    return lambda _, secret: secret
