"""What may reach a person's terminal from a sandboxed program: text and harmless control sequences. Pure, a state machine.

The threat: output that makes the terminal *do* something: set the clipboard (OSC 52), answer with typed-in text (title and
status reports, DECRQSS), print, write files, change the palette, or hide what is shown. Allowed are cursor, colour, mode
and erase sequences that full-screen programs use, window titles and web links. Everything else is left out. C1 controls are
left out in both spellings (raw bytes and UTF-8). Source: ECMA-48, xterm ctlseqs.
"""

from __future__ import annotations

import re
from typing import Final

SEQUENCE_BYTES_MAX: Final = 8192
"""An unfinished sequence longer than this is given up: its introducer is dropped and the rest is text."""

_PLAIN: Final = re.compile(rb"[\x20-\x7e\n\r\t\x07\x08\x0b\x0c\x0e\x0f]*")
_TOKEN: Final = re.compile(
    rb"(?P<text>[\x20-\x7e\n\r\t\x07\x08\x0b\x0c\x0e\x0f]+|\xc2[\xa0-\xbf]|[\xc3-\xdf][\x80-\xbf]"
    rb"|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xef][\x80-\xbf]{2}|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf4][\x80-\xbf]{3})"
    rb"|\x1b\[(?P<csi>[\x30-\x3f]*[\x20-\x2f]*[\x40-\x7e])"
    rb"|\x1b\](?P<osc>[^\x07\x1b]{0,8000})(?:\x07|\x1b\\)"
    rb"|(?P<string>\x1b[PX^_][^\x1b\x07]{0,8000}(?:\x1b\\|\x07))"
    rb"|(?P<escape>\x1b[\x20-\x2f]*[\x30-\x4f\x51-\x57\x59-\x5a\x60-\x7e])"
)
_UNFINISHED: Final = re.compile(
    rb"(?:\x1b(?:\[[\x30-\x3f]*[\x20-\x2f]*|[\]PX^_][^\x07\x1b]*\x1b?|[\x20-\x2f]*)?"
    rb"|[\xc2-\xdf]|[\xe0-\xef][\x80-\xbf]?|[\xf0-\xf4][\x80-\xbf]{0,2})\Z"
)
_TITLES: Final = (b"0", b"1", b"2")
_LINK: Final = re.compile(rb"[^;]{0,256};(https?://[\x21-\x7e]{0,2048})?\Z")


class TerminalFilter:
    """Filters one stream. `interactive` lets status requests pass (their answers have a fixed, harmless form)."""

    def __init__(self, *, interactive: bool) -> None:
        self._interactive = interactive
        self._pending = b""

    def feed(self, data: bytes) -> bytes:
        """Return what may be shown of the next bytes; an unfinished sequence waits for its end."""
        if not self._pending and _PLAIN.fullmatch(data):
            return data
        data = self._pending + data
        self._pending = b""
        out = bytearray()
        position = 0
        while position < len(data):
            found = _TOKEN.match(data, position)
            if found is not None:
                out += self._judge(found)
                position = found.end()
                continue
            rest = data[position:]
            if len(rest) <= SEQUENCE_BYTES_MAX and _UNFINISHED.match(rest):
                self._pending = rest
                break
            if data[position] >= 0x80:
                out += b"\xef\xbf\xbd"
            position += 1
        return bytes(out)

    def close(self) -> bytes:
        """Return nothing: what is unfinished at the end is dropped."""
        self._pending = b""
        return b""

    def _judge(self, found: re.Match[bytes]) -> bytes:
        whole = found.group()
        if found["text"] is not None:
            return whole
        if found["csi"] is not None:
            return whole if self._csi(found["csi"]) else b""
        if found["osc"] is not None:
            return whole if _osc(found["osc"]) else b""
        if found["escape"] is not None:
            return b"" if whole == b"\x1bZ" else whole
        return b""

    def _csi(self, body: bytes) -> bool:
        final, parameters = body[-1:], body[:-1]
        if final == b"t":
            return parameters.split(b";")[0] in (b"22", b"23")
        if final == b"i":  # media copy: printing
            return False
        if (
            final in (b"n", b"c", b"x")
            or (final == b"p" and b"$" in parameters)
            or (final == b"q" and b">" in parameters)
        ):
            return self._interactive and final in (b"n", b"c")
        return b"*" not in parameters and final != b"y"


def _osc(body: bytes) -> bool:
    number, _, text = body.partition(b";")
    if any(byte < 0x20 or byte == 0x7F for byte in body):
        return False
    if number in _TITLES:
        return b"\xc2" not in text and len(text) <= 512
    if number == b"8":
        return _LINK.match(text) is not None
    return number == b"133"
