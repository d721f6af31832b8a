"""HTTP/1.1 messages, read one way only: heads, body framing and chunks. Pure and sans-IO: bytes in, values out.

Whatever two parsers could read differently is refused, never repaired: bare CR or LF, folded fields, white space before
a colon, Content-Length beside Transfer-Encoding, differing lengths, codings other than a single `chunked`, chunk
extensions, an absolute target whose authority is not the Host. Threat: request smuggling, where the request that is
judged is not the one the server answers. Sources: RFC 9112 (2 to 7), RFC 9110 (5, 7.2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from agent_os.core import canonical
from agent_os.core.errors import ActionError

MAX_HEAD_BYTES: Final = 65_536
MAX_FIELDS: Final = 128
MAX_CHUNK_LINE_BYTES: Final = 64
MAX_TRAILER_BYTES: Final = 8192
_REQUEST: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}) ([!-~]{1,65536}) HTTP/1\.([01])")
_STATUS: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [\t -~\x80-\xff]*)?")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}):[ \t]*((?:[!-~\x80-\xff][\t -~\x80-\xff]*)?)")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")
_CHUNK: Final = re.compile(rb"[0-9A-Fa-f]{1,15}")
_ONCE: Final = frozenset(
    {"host", "transfer-encoding", "authorization", "content-encoding", "content-length", "content-location",
     "content-range", "content-type", "date", "expect", "from", "if-modified-since", "if-range",
     "if-unmodified-since", "location", "max-forwards", "origin", "proxy-authorization", "range", "referer",
     "sec-websocket-accept", "sec-websocket-key",
     "sec-websocket-version", "upgrade", "user-agent"}
)  # fmt: skip
"""Fields that may stand once: with two, recipients differ in which one counts."""


class HttpError(ValueError):
    """A message that cannot be read one way only; `status` is what a proxy answers."""

    def __init__(self, message: str, status: int = 400) -> None:
        self.status = status
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Head:
    """A message head. `fields` are (lower-case name, value) in order; `length` is None for no body or, in a response,
    one that lasts until the connection closes (`until_close`); `chunked` bodies have no length either."""

    fields: tuple[tuple[str, str], ...]
    minor: int
    length: int | None = None
    chunked: bool = False
    until_close: bool = False

    def get(self, name: str) -> str:
        """Return the value of a field, several joined by a comma, or an empty text."""
        return ", ".join(value for key, value in self.fields if key == name)


@dataclass(frozen=True, slots=True)
class RequestHead(Head):
    """A request head; `target` as sent, `authority` of an absolute target or the Host field."""

    method: str = ""
    target: str = ""
    authority: str = ""


@dataclass(frozen=True, slots=True)
class ResponseHead(Head):
    """A response head."""

    status: int = 0


def split_head(data: bytes) -> tuple[bytes, bytes] | None:
    """Return (head with its last blank line, rest), or None when more bytes are needed. Raises HttpError when too long."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if len(data) > MAX_HEAD_BYTES:
            raise HttpError("head is too long", 431)
        if b"\n\n" in data or b"\n\r\n" in data.replace(b"\r\n\r\n", b""):
            raise HttpError("head has bare line feeds")
        return None
    if end + 4 > MAX_HEAD_BYTES:
        raise HttpError("head is too long", 431)
    return data[: end + 4], data[end + 4 :]


def parse_request(head: bytes) -> RequestHead:
    """Return the head of a request (with its last blank line). Raises HttpError."""
    start, lines = _lines(head)
    line = _REQUEST.fullmatch(start)
    if line is None:
        raise HttpError("malformed request line")
    fields, seen = _fields(lines)
    length, chunked = _framing(seen, int(line[3]))
    method, target = line[1].decode(), line[2].decode()
    authority = _authority(method, target, seen.get("host", []))
    return RequestHead(fields, int(line[3]), length, chunked, method=method, target=target, authority=authority)


def parse_response(head: bytes, *, method: str = "GET") -> ResponseHead:
    """Return the head of a response to a request with `method`. Raises HttpError."""
    start, lines = _lines(head)
    line = _STATUS.fullmatch(start)
    if line is None:
        raise HttpError("malformed status line", 502)
    fields, seen = _fields(lines)
    status = int(line[2])
    length, chunked = _framing(seen, int(line[1]))
    if method == "HEAD" or status < 200 or status in (204, 304):
        if chunked and (status < 200 or status == 204):
            raise HttpError("a response without a body is chunked", 502)
        return ResponseHead(fields, int(line[1]), None, False, status=status)
    until_close = length is None and not chunked
    return ResponseHead(fields, int(line[1]), length, chunked, until_close, status=status)


def _lines(head: bytes) -> tuple[bytes, list[bytes]]:
    if len(head) > MAX_HEAD_BYTES:
        raise HttpError("head is too long", 431)
    if not head.endswith(b"\r\n\r\n"):
        raise HttpError("head has no end")
    start, *lines = head[:-4].split(b"\r\n")
    for line in (start, *lines):
        if b"\r" in line or b"\n" in line or b"\0" in line:
            raise HttpError("bare CR, LF or NUL in the head")
    return start, lines


def _fields(lines: list[bytes]) -> tuple[tuple[tuple[str, str], ...], dict[str, list[str]]]:
    if len(lines) > MAX_FIELDS:
        raise HttpError("too many header fields", 431)
    fields: list[tuple[str, str]] = []
    seen: dict[str, list[str]] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise HttpError("folded header field" if line[:1] in (b" ", b"\t") else "malformed header field")
        name, value = match[1].decode().lower(), match[2].decode("latin-1").rstrip(" \t")
        fields.append((name, value))
        seen.setdefault(name, []).append(value)
    for name in _ONCE & seen.keys():
        if len(seen[name]) > 1:
            raise HttpError(f"{name} is given twice")
    return tuple(fields), seen


def _framing(seen: dict[str, list[str]], minor: int) -> tuple[int | None, bool]:
    lengths = seen.get("content-length", [])
    codings = seen.get("transfer-encoding", [])
    if codings:
        if lengths:
            raise HttpError("both content-length and transfer-encoding")
        if minor == 0:
            raise HttpError("transfer-encoding in HTTP/1.0")
        if codings[0].lower() != "chunked":
            raise HttpError("transfer-encoding other than chunked", 501)
        return None, True
    if not lengths:
        return None, False
    if len(set(lengths)) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise HttpError("content-length is not one number")
    return int(lengths[0]), False


def _authority(method: str, target: str, hosts: list[str]) -> str:
    host = hosts[0] if hosts else ""
    if method == "CONNECT":
        return target
    if target.startswith("/") or target == "*":
        return host
    try:
        authority = canonical.request_target(target, allow_encoded_slash=True).authority
        if not authority:
            raise HttpError("target is neither a path nor absolute")
        if host and canonical.split_authority(host)[0] != canonical.split_authority(authority)[0]:
            raise HttpError("target and Host name different authorities")
        default = 443 if target[:5].lower() in ("https", "wss:/") else 80
        if host and (canonical.split_authority(host)[1] or default) != (
            canonical.split_authority(authority)[1] or default
        ):
            raise HttpError("target and Host name different authorities")
    except ActionError as error:
        raise HttpError(str(error)) from None
    return authority


def chunk_size(line: bytes) -> int:
    """Return the size that a chunk line (without its end) gives. Raises HttpError for extensions and anything else."""
    if not _CHUNK.fullmatch(line):
        raise HttpError("chunk extension or malformed chunk size")
    return int(line, 16)


def check_trailer(line: bytes, total: int) -> int:
    """Check one trailer line and return the bytes of all of them so far. Raises HttpError."""
    total += len(line) + 2
    if total > MAX_TRAILER_BYTES or not _FIELD.fullmatch(line):
        raise HttpError("malformed or too many trailer fields")
    return total


class ChunkedBody:
    """Reads a chunked body: `feed` returns what is decoded so far; `done` when the last chunk came, `rest` after it.

    Chunk extensions and malformed sizes are refused; trailer fields are checked and dropped.
    """

    __slots__ = ("_buffer", "_left", "_limit", "_state", "_taken", "_trailer", "done", "rest")

    def __init__(self, limit: int) -> None:
        self._buffer = b""
        self._left = 0
        self._limit = limit
        self._state = "size"
        self._taken = 0
        self._trailer = 0
        self.done = False
        self.rest = b""

    @property
    def pending(self) -> int:
        """Bytes fed that belong to a line which is not whole yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> bytes:
        """Return newly decoded bytes. Raises HttpError for malformed framing and for more than `limit` bytes in all."""
        self._buffer += data
        out = bytearray()
        while not self.done:
            if self._state == "data":
                piece = self._buffer[: self._left]
                out += piece
                self._left -= len(piece)
                self._buffer = self._buffer[len(piece) :]
                if self._left:
                    break
                self._state = "end"
            if self._state == "end":
                if len(self._buffer) < 2:
                    if self._buffer and self._buffer != b"\r":
                        raise HttpError("chunk has no end")
                    break
                if self._buffer[:2] != b"\r\n":
                    raise HttpError("chunk has no end")
                self._buffer = self._buffer[2:]
                self._state = "size"
            line = self._line()
            if line is None:
                break
            self._take(line)
        return bytes(out)

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n")
        longest = MAX_CHUNK_LINE_BYTES if self._state == "size" else MAX_TRAILER_BYTES
        if end > longest or (end < 0 and len(self._buffer) > longest):
            raise HttpError("chunk line is too long")
        if end < 0:
            if b"\n" in self._buffer:
                raise HttpError("bare line feed in chunk framing")
            return None
        line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
        if b"\n" in line or b"\r" in line:
            raise HttpError("bare CR or LF in chunk framing")
        return line

    def _take(self, line: bytes) -> None:
        if self._state == "size":
            self._left = chunk_size(line)
            self._taken += self._left
            if self._taken > self._limit:
                raise HttpError("body is too long", 413)
            self._state = "data" if self._left else "trailer"
            return
        if not line:
            self.done, self.rest, self._buffer = True, self._buffer, b""
            return
        self._trailer = check_trailer(line, self._trailer)
