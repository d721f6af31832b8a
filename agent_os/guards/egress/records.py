"""Streams of records, read one way: server-sent events and JSON lines. Pure: text in, records out, and back.

A record is held until it is whole (a client acts on whole ones only) and written again as it came, or with other data in its
place. Sources: the HTML standard, 9.2.6 (event streams); ndjson, JSON Lines. Threat: a line end that the client sees and
the guard does not, JSON that two parsers read differently.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent_os.guards.egress.findings import rewritten, texts_in

EVENTS: Final = "text/event-stream"
LINES: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})
RECORD_CHARS_MAX: Final = 1 << 20
"""Characters of one record that is not whole yet; a longer one ends the stream."""
_END: Final = re.compile(r"\r\n|\n|\r(?!\n|\Z)")
"""A line end; a CR at the very end of what is here may be half of one."""
_BLANK: Final = re.compile(rf"(?:{_END.pattern}){{2}}")
_LINE: Final = re.compile(r"\r\n|\n|\r")


class RecordError(ValueError):
    """A record that cannot be read one way only, or is too long."""


@dataclass(slots=True)
class Record:
    """One record: its text as it came, the texts in it by pointer, and its data where that is JSON."""

    raw: str
    is_event: bool
    texts: Mapping[str, str] = field(default_factory=dict)
    value: Any = None
    lines: tuple[str, ...] = ()
    """The lines of an event that are no data."""
    data: str = ""
    is_json: bool = False

    def written(self, change: Callable[[str, str], str]) -> str:
        """Return the record with `change(pointer, text)` for its texts; as it came where nothing changed."""
        if all(change(pointer, text) == text for pointer, text in self.texts.items()):
            return self.raw
        if self.is_json:
            clean = rewritten(self.value, lambda pointer, text: change("/data" + pointer, text))
            data = json.dumps(clean, ensure_ascii=False, separators=(",", ":"))
        else:
            data = change("/data", self.data) if self.data else ""
        if not self.is_event:
            return data + "\n"
        kept = [change(f"/line/{number}", line) for number, line in enumerate(self.lines)]
        said = [f"data: {line}" for line in _LINE.split(data)] if self.data else []
        return "\n".join([*kept, *said, "", ""])


class Splitter:
    """Cuts a stream into records; `events` for server-sent events, else a record is a line."""

    def __init__(self, *, events: bool) -> None:
        self._events, self._held, self._looked = events, "", 0

    @property
    def holds(self) -> bool:
        """Whether a part of a record is held."""
        return bool(self._held)

    def feed(self, text: str, *, last: bool = False) -> Iterator[Record]:
        """Yield the records that are whole now. Raises RecordError."""
        self._held += text
        pattern, begun = _BLANK if self._events else _END, 0
        at = max(0, self._looked - 3)
        while (match := pattern.search(self._held, at)) is not None:
            yield self._record(self._held[begun : match.end()])
            begun = at = match.end()
        self._held = self._held[begun:]
        self._looked = len(self._held)
        if self._looked > RECORD_CHARS_MAX:
            raise RecordError("a record of the stream is longer than can be inspected")
        if last and self._held:
            raw, self._held = self._held, ""
            yield self._record(raw)

    def _record(self, raw: str) -> Record:
        if not self._events:
            return _with_data(Record(raw, False), raw.strip("\ufeff \t\r\n"))
        lines, data = [], []
        for line in _LINE.split(raw.lstrip("\ufeff")):
            name, _, value = line.partition(":")
            if name == "data":
                data.append(value.removeprefix(" "))
            elif line:
                lines.append(line)
        record = _with_data(Record(raw, True, lines=tuple(lines)), "\n".join(data))
        record.texts = {**record.texts, **{f"/line/{number}": line for number, line in enumerate(lines)}}
        return record


def _with_data(record: Record, data: str) -> Record:
    record.data = data
    if data[:1] in ("{", "[", '"'):
        try:
            record.value = json.loads(data, object_pairs_hook=_unique, parse_constant=_refused)
            record.is_json = True
        except RecursionError:
            raise RecordError("a record of the stream is nested too deep") from None
        except json.JSONDecodeError:  # no JSON: a text like any other
            record.is_json = False
    if record.is_json:
        record.texts = {"/data" + pointer: text for pointer, text in texts_in(record.value).items()}
    elif data:
        record.texts = {"/data": data}
    return record


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise RecordError("a record of the stream repeats a key")
    return result


def _refused(name: str) -> Any:
    raise RecordError(f"a record of the stream holds {name}, which is not json")
