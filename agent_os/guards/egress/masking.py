"""Echoes of secrets in what comes back: replaced by asterisks, over any cut of the stream. Pure.

A secret is found as it is, in any letter case, with any of its characters spelt as URLs, JSON, HTML and programs spell them
(`%2F`, encoded twice too, `\\u002b`, `\\/`, `&#43;`), in UTF-16, in hexadecimal, and in Base64 at each of its three
alignments. The text is brought to one spelling to be searched, and what is found there is masked in the text as it came.
Threat: an agent that makes a server repeat the credential the guard put in, and reads it there.
"""

from __future__ import annotations

import base64
import re
from bisect import bisect_right
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from agent_os.guards.egress.spellings import ESCAPE, meant_by

_KEPT: Final = 256
"""Sets of secrets of which the forms are remembered."""
_CUT: Final = re.compile(rb"(?:%(?:25)*[0-9A-Fa-f]?|\\+(?:[ux]\{?[0-9A-Fa-f]{0,6})?|&(?:amp;)*#?[0-9A-Za-z]{0,8})\Z")
"""A spelling at the end of a piece of which more may come."""
_CUT_BYTES_MAX: Final = 64


class Masker:
    """Replaces echoes of secrets in a response by asterisks of the same length, over any cut of the stream."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._forms = _forms(frozenset(values.values()))
        self._held = b""
        self.masked = 0

    def feed(self, data: bytes, *, last: bool = False) -> bytes:
        """Return what can go on now; the same number of bytes comes out in the end as went in.

        Only what may be the start of an echo waits: a record of a stream that ends otherwise goes on whole.
        """
        if not self._forms:
            return data
        data = self._held + data
        whole = data if last else data[: _unfinished(data)]
        text = _Normal(whole)
        out = self._masked(whole, text)
        cut = len(whole) if last else text.raw(self._begun(text.text))
        self._held = data[cut:]
        return out[:cut]

    def _masked(self, data: bytes, text: _Normal) -> bytes:
        out: bytearray | None = None
        for form in self._forms:
            at = text.text.find(form)
            while at >= 0:
                self.masked += 1
                out = bytearray(data) if out is None else out
                start, end = text.raw(at), text.raw(at + len(form))
                out[start:end] = b"*" * (end - start)
                text.text[at : at + len(form)] = b"*" * len(form)
                at = text.text.find(form, at + len(form))
        return data if out is None else bytes(out)

    def _begun(self, text: bytearray) -> int:
        """Where what may be the first part of a form begins, at the end of a text; its length where nothing does."""
        tail = bytes(text[-len(self._forms[0]) :])
        for at in range(len(tail)):
            rest = tail[at:]
            if any(form.startswith(rest) for form in self._forms):
                return len(text) - len(rest)
        return len(text)

    def text(self, value: str) -> str:
        """Return a header value with echoes masked."""
        data = value.encode("latin-1")
        return self._masked(data, _Normal(data)).decode("latin-1")


class _Normal:
    """Bytes in one spelling, and where each of them stood."""

    __slots__ = ("_from", "_plain", "_to", "text")

    def __init__(self, data: bytes) -> None:
        self._from, self._to, self._plain = [0], [0], [True]
        """From each of these places of the text on, the bytes stood at this place: one by one, or (not plain) all at it."""
        self.text = bytearray()
        done = 0
        if b"%" in data or b"\\" in data or b"&" in data:
            for escape in ESCAPE.finditer(data):
                meant = meant_by(escape)
                if meant is None:
                    continue
                self.text += data[done : escape.start()]
                self._place(escape.start(), plain=False)
                self.text += meant
                done = escape.end()
                self._place(done, plain=True)
        self.text += data[done:]
        self.text = self.text.lower()

    def _place(self, raw: int, *, plain: bool) -> None:
        self._from.append(len(self.text))
        self._to.append(raw)
        self._plain.append(plain)

    def raw(self, at: int) -> int:
        """Return where the byte at this place of the text stood."""
        part = bisect_right(self._from, at) - 1
        return self._to[part] + (at - self._from[part] if self._plain[part] else 0)


def _unfinished(data: bytes) -> int:
    cut = _CUT.search(data, max(0, len(data) - _CUT_BYTES_MAX))
    return len(data) if cut is None else cut.start()


@lru_cache(_KEPT)
def _forms(values: frozenset[str]) -> tuple[bytes, ...]:
    """Return what to look for, the longest first, in the spelling of `_Normal`."""
    forms: set[bytes] = set()
    for value in values:
        raw = value.encode()
        forms |= {raw, value.lower().encode(), value.upper().encode(), raw.replace(b" ", b"+"), raw.hex().encode()}
        forms |= {value.encode("utf-16-le"), value.encode("utf-16-be")}
        for core in _base64_cores(raw):
            forms |= {core, core.replace(b"+", b"-").replace(b"/", b"_")}
    spelt = {form.lower() for form in forms} | {bytes(_Normal(form).text) for form in forms}
    return tuple(sorted(spelt, key=len, reverse=True))


def _base64_cores(raw: bytes) -> list[bytes]:
    """The parts of Base64 texts that a secret inside fixes, at each of the three alignments."""
    cores = []
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw)
        start = (0, 2, 3)[shift]
        end = len(encoded) - (0, 4, 4)[(shift + len(raw)) % 3] if (shift + len(raw)) % 3 else len(encoded)
        core = encoded[start:end].rstrip(b"=")
        if len(core) >= 8:
            cores.append(core)
    return cores
