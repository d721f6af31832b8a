"""Server-sent events, as far as a stream of MCP messages needs them. Pure: bytes in, messages out.

Threat: a stream without end, an event without end, bytes that are no text. Only `data` of `message` events is taken; ids and
retry times are not used: a stream that breaks fails its call.
Source: WHATWG HTML, *Server-sent events*, 9.2.6 (interpreting an event stream).
"""

from __future__ import annotations

from typing import Final

from agent_os.core.errors import EffectError

EVENT_BYTES_MAX: Final = 8 * 1024 * 1024
_NEWLINES: Final = (b"\r\n", b"\n", b"\r")


class EventStream:
    """Takes pieces of a stream and returns the data of finished events."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._data: list[bytes] = []
        self._kind = b""
        self._size = 0
        self._first = True

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of every event that these bytes finish. Raises EffectError for an event that is too large."""
        self._buffer += data
        finished = []
        while (line := self._line()) is not None:
            if line:
                self._field(line)
                continue
            if self._data and self._kind in (b"", b"message"):
                finished.append(b"\n".join(self._data))
            self._data, self._kind, self._size = [], b"", 0
        if len(self._buffer) + self._size > EVENT_BYTES_MAX:
            raise EffectError(f"the tool server sent an event of more than {EVENT_BYTES_MAX} bytes")
        return finished

    def _line(self) -> bytes | None:
        """Return the next whole line without its end; a CR at the end of the bytes may be half of CR LF."""
        ends = [(at, mark) for mark in _NEWLINES if (at := self._buffer.find(mark)) >= 0]
        if not ends:
            return None
        at, mark = min(ends, key=lambda end: (end[0], -len(end[1])))
        if mark == b"\r" and at == len(self._buffer) - 1:
            return None
        line = bytes(self._buffer[:at])
        del self._buffer[: at + len(mark)]
        if self._first:
            self._first, line = False, line.removeprefix(b"\xef\xbb\xbf")
        return line

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value)
        elif name == b"event":
            self._kind = value
