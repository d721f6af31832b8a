"""Archives in bodies: told by their first bytes, opened within bounds, never written anywhere. Pure.

`archive_problem` opens zip, gzip, bzip2 and xz (and what is nested in them) and counts what really comes out, whatever the
headers claim. What cannot be opened is a problem too. Threat: a small body that fills the memory or disk of whoever
unpacks it; archives inside archives.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, Final

ARCHIVE_DEPTH_MAX: Final = 3
"""Archives inside archives that are opened; deeper ones are refused."""
ARCHIVE_MEMBERS_MAX: Final = 10_000
_RATIO_FROM_BYTES: Final = 1 << 20
"""Below this many bytes no ratio is held against a body."""
_PIECE: Final = 1 << 18
_MAGIC: Final = {
    b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"PK\x07\x08": "zip", b"\x1f\x8b": "gzip", b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a\x07": "rar",
}  # fmt: skip


class _GrowsError(Exception):
    """More comes out than may."""


def archive_kind(body: bytes) -> str:
    """Return which archive or compressed form a body begins as, or an empty text."""
    return next((kind for magic, kind in _MAGIC.items() if body.startswith(magic)), "")


def archive_problem(body: bytes, *, most: int, ratio: int) -> str:
    """Return why an archive is refused, or an empty text: `most` bytes and `ratio` times the body may come out."""
    meter = _Meter(most, max(len(body) * ratio, _RATIO_FROM_BYTES))
    try:
        return _opened(body, meter, 1)
    except _GrowsError:
        return "an archive grows beyond the limit"
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        OSError,
        EOFError,
        ValueError,
        NotImplementedError,
        RuntimeError,
    ):
        return "an archive cannot be opened"


class _Meter:
    def __init__(self, most: int, ratio: int) -> None:
        self._left = min(most, ratio)
        self.members = 0

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise _GrowsError


def _opened(body: bytes, meter: _Meter, depth: int) -> str:
    kind = archive_kind(body)
    if not kind:
        return ""
    if depth > ARCHIVE_DEPTH_MAX:
        return "archives are nested too deep"
    if kind not in ("zip", "gzip", "bzip2", "xz"):
        return f"a {kind} archive cannot be opened here"
    for inner in _members(body, kind, meter):
        meter.members += 1
        if meter.members > ARCHIVE_MEMBERS_MAX:
            return "an archive has too many members"
        if problem := _opened(inner, meter, depth + 1):
            return problem
    return ""


def _members(body: bytes, kind: str, meter: _Meter) -> Iterator[bytes]:
    if kind != "zip":
        yield _inflated(body, kind, meter)
        return
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        for item in archive.infolist():
            with archive.open(item) as member:
                pieces = []
                while piece := member.read(_PIECE):
                    meter.take(len(piece))
                    pieces.append(piece)
            yield b"".join(pieces)


def _inflated(body: bytes, kind: str, meter: _Meter) -> bytes:
    """Return what comes out of one compressed stream, several joined ones included."""
    pieces, data = [], body
    while data and archive_kind(data) == kind:
        opener: Any = {
            "gzip": lambda: zlib.decompressobj(31),
            "bzip2": bz2.BZ2Decompressor,
            "xz": lzma.LZMADecompressor,
        }[kind]()
        fed = data
        while not opener.eof:
            piece = opener.decompress(fed, _PIECE)
            meter.take(len(piece))
            pieces.append(piece)
            fed = opener.unconsumed_tail if kind == "gzip" else b""
            if not piece and not fed and not opener.eof and (kind == "gzip" or opener.needs_input):
                raise EOFError
        data = opener.unused_data
    return b"".join(pieces)
