"""The hash chain: how a record becomes a line, and how a line is read back. Pure: no clock, no I/O.

A line is `{"hash":"<64 hex>","record":<canonical JSON>}` and a newline, so each line is canonical JSON itself. The
hash is SHA-256 over the previous record's hash (32 bytes) and the record's RFC 8785 bytes; the first record's
predecessor is derived from the writer's name, so that no line of one writer's log fits into another's. Threat: a log
edited, thinned out, reordered or extended after the fact. A chain alone does not stop whoever can rewrite all of it:
that takes checkpoints (`audit.checkpoint`) kept elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent_os.core.canonical import json_bytes

LINE_BYTES_MAX: Final = 1 << 20
"""A longer record is refused by the sink and reported as edited by `verify`."""
_HEAD: Final = b'{"hash":"'
_MIDDLE: Final = b'","record":'
_HEX_START: Final = len(_HEAD)
_HEX_END: Final = _HEX_START + 64
_BODY_START: Final = _HEX_END + len(_MIDDLE)
RESERVED: Final = frozenset({"seq", "writer"})
"""Keys of a record that belong to the sink."""


def genesis(writer: str) -> bytes:
    """Return the 32 bytes that stand before a writer's first record."""
    return hashlib.sha256(b"agent-os audit 1\0" + writer.encode()).digest()


def seal(previous: bytes, record: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """Return (line with its newline, hash) of a record that follows `previous`.

    Raises ActionError when the record is not plain JSON.
    """
    body = json_bytes(record)
    digest = hashlib.sha256(previous + body).digest()
    return b"".join((_HEAD, digest.hex().encode(), _MIDDLE, body, b"}\n")), digest


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a log taken apart; nothing about it is proven yet. `hash` is what it states."""

    hash: bytes
    body: bytes
    record: Mapping[str, Any]

    @property
    def seq(self) -> int:
        """The stated sequence number."""
        seq: int = self.record["seq"]
        return seq

    def follows(self, previous: bytes) -> bool:
        """Return whether the stated hash is that of this record after `previous`."""
        return hashlib.sha256(previous + self.body).digest() == self.hash


def parse_line(line: bytes) -> Line | None:
    """Return a line taken apart, or None when it is not exactly one line as `seal` writes it.

    Strict: newline at the end and nowhere else, lower-case hex, an object with an integer `seq` and a text `writer`.
    """
    if len(line) > LINE_BYTES_MAX or not line.endswith(b"}\n") or not line.startswith(_HEAD):
        return None
    if line[_HEX_END:_BODY_START] != _MIDDLE or line.find(b"\n") != len(line) - 1:
        return None
    stated, body = line[_HEX_START:_HEX_END], line[_BODY_START:-2]
    try:
        digest = bytes.fromhex(stated.decode("ascii"))
        record = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if digest.hex().encode() != stated or not isinstance(record, dict):
        return None
    seq = record.get("seq")
    if type(seq) is not int or seq < 0 or not isinstance(record.get("writer"), str):
        return None
    return Line(digest, body, record)
