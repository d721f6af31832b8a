"""Echoes of secrets in what comes back: replaced by asterisks, over any cut of the stream. Pure.

Forms that are known: plain, percent-encoded, escaped as JSON does, and Base64 at each of its three alignments. Threat: an
agent that makes a server repeat the credential the guard put in, and reads it there.
"""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Mapping


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
