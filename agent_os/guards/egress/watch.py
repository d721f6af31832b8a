"""Plain requests in a tunnel that is passed, not opened: each must name the judged host. Pure: bytes in, bytes out.

A tunnel is judged by its name; whoever speaks HTTP/1.1 through it may name another host in a later request, which a
shared server would answer (domain fronting). `HostWatch` follows the client's direction only: heads are read strictly
and held until they are whole, bodies are counted and pass as they come. What cannot be followed is refused: it raises,
and nothing of the request goes on. Which protocol a first flight speaks is told by `speaks_http`, generously: what a
lenient server could take for a request line must not pass as something else.
"""

from __future__ import annotations

import re
from typing import Final

from agent_os.core import canonical
from agent_os.core.errors import ActionError
from agent_os.guards.egress.http1 import MAX_HEAD_BYTES, ChunkedBody, HttpError, parse_request, split_head
from agent_os.guards.egress.overrides import check_hosts

MAX_LINE_BYTES: Final = 8300
"""A first line without an end is taken for HTTP no longer after this many bytes."""
_LINE: Final = re.compile(rb"[\r\n\t ]*[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}[\t ]+[^\r\n]*?HTTP/[0-9]", re.IGNORECASE)
_START: Final = re.compile(
    rb"[\r\n\t ]*(?:[!#$%&'*+.^_`|~0-9A-Za-z-]{0,64}|[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}[\t ][\t\x20-\x7e\x80-\xff]*)"
)
_BODY_BYTES: Final = 1 << 62
_ORIGIN: Final = re.compile(rb"(?!CONNECT |PRI )[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64} /[!-~]{0,65535} HTTP/1\.1")
"""A request line on which nothing of what the fields mean depends: `parse_request` takes each of these."""


def speaks_http(start: bytes | bytearray) -> bool | None:
    """Return whether a client's first bytes are a request line for anyone who reads leniently; None: more are needed."""
    if _LINE.match(start):
        return True
    return None if len(start) <= MAX_LINE_BYTES and _START.fullmatch(start) else False


class HostWatch:
    """Follows the requests of one client in a passed tunnel to `host`:`port`.

    `feed` returns what may go on now. Raises HttpError (421) for another host, (501) for an upgrade or HTTP/2 in
    mid-tunnel, (400, 431) for what two parsers could read differently.
    """

    __slots__ = (
        *("_chunks", "_fields", "_framed", "_held", "_host", "_last", "_left", "_part", "_plain", "_port"),
        *("again", "alike", "requests"),
    )

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._held = b""
        self._part = bytearray()
        self._left = 0
        self._chunks: ChunkedBody | None = None
        self._last: tuple[bytes, int, bool] = (b"", 0, False)
        self._fields, self._framed = b"", (0, False)
        """The fields of the last HTTP/1.1 head that was read, as they were sent, and the body they announce."""
        self._plain = False
        """Whether the last head has no body and a request line on which nothing else depends."""
        self.requests = 0
        self.again = b""
        """The head without a body that came last, while nothing of another request is here: equal bytes may pass unread."""
        self.alike = 0
        """Requests in a row that had no body, plain request lines, and the fields of the one before."""

    @property
    def shape(self) -> tuple[bytes, bytes] | None:
        """What stands before and behind the open part of `again`, which may be any visible ASCII; None: it has none.

        A whole head of this shape is judged as `again` was: only its target may differ, and on that nothing depends.
        """
        line, _, fields = self.again.partition(b"\r\n")
        if not self._plain or not self.again:
            return None
        return line[: line.index(b" /") + 2], b" HTTP/1.1\r\n" + fields

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the client; see the class."""
        if data == self.again and data:
            self.requests += 1
            self.alike += self._plain
            return data
        self.again = b""
        ready = []
        while data:
            if self._left:
                passed, data = data[: self._left], data[self._left :]
                self._left -= len(passed)
            elif self._chunks is not None:
                passed, data = self._chunk(self._chunks, data)
            else:
                passed, data = self._head(data)
            if passed:
                ready.append(passed)
        known, length, chunked = self._last
        if known and not (length or chunked or self._part):
            self.again = known
        return ready[0] if len(ready) == 1 else b"".join(ready)

    def _chunk(self, chunks: ChunkedBody, data: bytes) -> tuple[bytes, bytes]:
        """Return (what of a chunked body may go on, what comes after it); a line that is not whole is held."""
        held = self._held + data
        chunks.feed(data)
        if chunks.done:
            self._chunks, self._held = None, b""
            cut = len(held) - len(chunks.rest)
            return held[:cut], held[cut:]
        cut = len(held) - chunks.pending
        self._held = held[cut:]
        return held[:cut], b""

    def _head(self, data: bytes) -> tuple[bytes, bytes]:
        """Return (the next head, once it is whole and names the host; what follows it)."""
        if self._part:
            split = self._more(data)
        elif data[:1] in (b"\r", b"\n"):
            raise HttpError("an empty line before the request")
        else:
            split = split_head(data)
            if split is None:
                self._part += data
        if split is None:
            return b"", b""
        raw, rest = split
        self.requests += 1
        known, length, chunked = self._last
        if raw == known:  # a client that repeats itself is read once
            self.alike += self._plain
        else:
            length, chunked = self._judge(raw)
            self._last = (raw, length, chunked)
        self._left, self._chunks = length, ChunkedBody(_BODY_BYTES) if chunked else None
        return raw, rest

    def _more(self, data: bytes) -> tuple[bytes, bytes] | None:
        """Do as `split_head` for what is held of a head and what follows it, looking at no byte twice: heads may dribble."""
        part = self._part
        seen = max(0, len(part) - 3)
        part += data
        end = part.find(b"\r\n\r\n", seen)
        if end >= 0:
            whole = bytes(part)
            part.clear()
            return split_head(whole)
        split_head(bytes(part[seen:]))
        if len(part) > MAX_HEAD_BYTES:
            raise HttpError("head is too long", 431)
        return None

    def _judge(self, raw: bytes) -> tuple[int, bool]:
        """Return what body a head announces: by its request line alone where the fields are those of the one before."""
        line, _, fields = raw.partition(b"\r\n")
        plain = _ORIGIN.fullmatch(line) is not None
        if plain and fields == self._fields:
            self._plain = self._framed == (0, False)
            self.alike += self._plain
            return self._framed
        framed = self._read(raw)
        if plain:
            self._fields, self._framed = fields, framed
        self._plain, self.alike = plain and framed == (0, False), 0
        return framed

    def _read(self, raw: bytes) -> tuple[int, bool]:
        head = parse_request(raw)
        if head.get("upgrade") or head.method in ("CONNECT", "PRI"):
            raise HttpError("a passed tunnel carries no upgrade after its first request; open a new connection", 501)
        check_hosts(head.fields, host=self._host, port=self._port)
        if not head.authority:
            if head.minor == 1:
                raise HttpError("no Host field")
            return head.length or 0, head.chunked
        try:
            name, given = canonical.split_authority(head.authority, field="host")
        except ActionError as error:
            raise HttpError(str(error)) from None
        if name != self._host or given not in (0, self._port):
            raise HttpError("the Host field is not the host that was judged", 421)
        return head.length or 0, head.chunked
