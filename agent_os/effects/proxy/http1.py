"""HTTP/1.1 on a stream: heads (read by `guards.egress`), bodies pulled with back-pressure, heads written anew.

What two parsers could read differently is refused, never repaired: bare CR or LF, folded fields, white space before a
colon, Content-Length beside Transfer-Encoding, repeated single-valued fields, chunk extensions, other codings than
`chunked`. What is sent on is written anew from the parsed values, so that the bytes judged and the bytes sent have
one meaning (RFC 9112, 3 to 7; RFC 9110, 5). h11 is the oracle of the tests: whatever passes here, h11 reads the same
way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from agent_os.effects.proxy.stream import Stream, StreamClosedError
from agent_os.guards import egress
from agent_os.guards.egress.http1 import MAX_CHUNK_LINE_BYTES, MAX_TRAILER_BYTES, check_trailer, chunk_size

HttpError = egress.HttpError
"""A message that is refused; `status` is what the sender is told."""
CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2
HOP: Final = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade", "content-length", "expect", "http2-settings", "alt-svc"),
    }
)
"""Fields of one hop: written anew or dropped. `alt-svc` would invite clients to QUIC, past the guard."""

Fields = tuple[tuple[str, str], ...]
"""Lower-case name and value (latin-1), in order."""


@dataclass(frozen=True, slots=True)
class Head:
    """A request or response head (`status` 0: a request). `length` is a byte count, CHUNKED or UNTIL_CLOSE."""

    method: str
    target: str
    status: int
    fields: Fields
    length: int
    keep_alive: bool
    minor: int = 1

    def get(self, name: str) -> str:
        """Return the value of a field (joined with a comma when repeated), or an empty string."""
        found = [value for key, value in self.fields if key == name]
        return found[0] if len(found) == 1 else ", ".join(found)

    def has(self, name: str) -> bool:
        """Return whether the field is there."""
        return any(key == name for key, _ in self.fields)


def parse_request(raw: bytes) -> Head:
    """Return the head of a request: `raw` ends with the empty line. Raises HttpError."""
    read = egress.parse_request(raw)
    hosts = [value for name, value in read.fields if name == "host"]
    if (read.minor == 1 and not hosts) or "" in hosts:
        raise HttpError("no Host field")
    length = CHUNKED if read.chunked else read.length or 0
    return Head(read.method, read.target, 0, read.fields, length, _keep_alive(read), read.minor)


def parse_response(raw: bytes, request_method: str) -> Head:
    """Return the head of a response to a request with this method. Raises HttpError (502)."""
    try:
        read = egress.parse_response(raw, method=request_method)
    except HttpError as error:
        raise HttpError(str(error), 502) from None
    length = CHUNKED if read.chunked else UNTIL_CLOSE if read.until_close else read.length or 0
    if request_method == "HEAD" or read.status < 200 or read.status in (204, 304):
        length = 0
    keep = _keep_alive(read) and length != UNTIL_CLOSE
    return Head("", "", read.status, read.fields, length, keep, read.minor)


def _keep_alive(read: egress.RequestHead | egress.ResponseHead) -> bool:
    options = {option.strip().lower() for option in read.get("connection").split(",")}
    return "close" not in options and (read.minor == 1 or "keep-alive" in options)


def forwarded(head: Head, extra_drop: Iterable[str] = ()) -> list[tuple[str, str]]:
    """Return the end-to-end fields: without those of one hop, named in Connection, or in `extra_drop`."""
    drop = {*HOP, *extra_drop}
    for key, value in head.fields:
        if key == "connection":
            drop.update(option.strip().lower() for option in value.split(","))
    return [(key, value) for key, value in head.fields if key not in drop]


def write_head(start: str, fields: Iterable[tuple[str, str]]) -> bytes:
    """Return a head as bytes. `start` is the request or status line without its end."""
    parts = [start]
    parts.extend(f"{name}: {value}" for name, value in fields)
    parts.append("\r\n")
    return "\r\n".join(parts).encode("latin-1")


def framing(length: int) -> list[tuple[str, str]]:
    """Return the fields that announce a body of `length`."""
    if length == CHUNKED:
        return [("transfer-encoding", "chunked")]
    return [] if length == UNTIL_CLOSE else [("content-length", str(length))]


def chunk(data: bytes) -> bytes:
    """Return one chunk, or the last one for no data."""
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b"0\r\n\r\n"


async def read_head(stream: Stream, most: int) -> bytes | None:
    """Return the bytes of the next head, or None when the peer ended between messages.

    Raises HttpError for more than `most` bytes or a bare LF that ends the head, StreamClosedError when it ends inside.
    """
    start = 0
    while True:
        buffer = stream.buffer
        if start == 0 and buffer[:2] == b"\r\n":
            raise HttpError("an empty line before the message")
        end = buffer.find(b"\r\n\r\n", max(0, start - 3))
        if end >= 0:
            if end + 4 > most:
                raise HttpError("head is too large", 431)
            return stream.take(end + 4)
        if buffer.find(b"\n\n", max(0, start - 1)) >= 0:
            raise HttpError("bare LF ends a line")
        if len(buffer) > most:
            raise HttpError("head is too large", 431)
        start = len(buffer)
        if not await stream.more():
            if start == 0:
                return None
            raise StreamClosedError("peer closed inside a head")


class Body:
    """Pulls the body of one message off a stream; `done` once its last byte was read."""

    __slots__ = ("_first", "_left", "_length", "_stream", "done", "size")

    def __init__(self, stream: Stream, length: int) -> None:
        self._stream, self._length, self._left = stream, length, length if length > 0 else 0
        self._first = True
        self.done = length == 0
        self.size = 0

    def ready(self) -> bytes:
        """Return body bytes that are here already, without waiting (fixed lengths only)."""
        if self.done or self._length <= 0 or not self._stream.buffer:
            return b""
        return self._took(self._stream.take(self._left))

    async def read(self) -> bytes:
        """Return the next bytes; empty when the body is complete. Raises StreamClosedError, HttpError."""
        if self.done:
            return b""
        if self._length == CHUNKED:
            return await self._read_chunked()
        data = await self._stream.some(self._left if self._length >= 0 else 65536)
        if not data:
            if self._length != UNTIL_CLOSE or self._stream.truncated:
                raise StreamClosedError("peer closed inside a body")
            self.done = True
        return self._took(data)

    def _took(self, data: bytes) -> bytes:
        self.size += len(data)
        if self._length >= 0:
            self._left -= len(data)
            self.done = self._left == 0
        return data

    async def _read_chunked(self) -> bytes:
        if self._left == 0:
            if not self._first and await self._stream.exactly(2) != b"\r\n":
                raise HttpError("malformed chunk end")
            self._first = False
            line = await self._line(MAX_CHUNK_LINE_BYTES)
            self._left = chunk_size(line)
            if self._left == 0:
                await self._trailers()
                self.done = True
                return b""
        data = await self._stream.some(self._left)
        if not data:
            raise StreamClosedError("peer closed inside a chunk")
        self._left -= len(data)
        self.size += len(data)
        return data

    async def _line(self, most: int) -> bytes:
        while True:
            at = self._stream.buffer.find(b"\n", 0, most + 2)
            if at >= 0:
                line = self._stream.take(at + 1)
                if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
                    raise HttpError("bare CR or LF in chunked framing")
                return line[:-2]
            if len(self._stream.buffer) > most:
                raise HttpError("line of chunked framing is too long")
            if not await self._stream.more():
                raise StreamClosedError("peer closed inside chunked framing")

    async def _trailers(self) -> None:
        """Read and drop the trailer section: nothing judged it, so nothing of it is passed on."""
        total = 0
        while line := await self._line(MAX_TRAILER_BYTES):
            total = check_trailer(line, total)

    async def whole(self, most: int) -> bytes:
        """Return the whole body. Raises HttpError (413) for more than `most` bytes."""
        if self._length > most:
            raise HttpError("body is larger than policy can inspect", 413)
        whole = bytearray()  # chunks of two bytes as objects would take twenty times their size
        while piece := await self.read():
            if len(whole) + len(piece) > most:
                raise HttpError("body is larger than policy can inspect", 413)
            whole += piece
        return bytes(whole)
