"""Findings in a stream of records, each record on its way as soon as no finding can grow out of it. Pure.

Each text of a record is looked at alone, and what continues from record to record (the answer of a language model, piece by
piece) joined to what went before it as well: an address in five pieces is one address. A record waits only while such a
text ends in the middle of something (`windows.open_tail`). Threat: a secret spelt over many events.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from agent_os.core.facts import Finding
from agent_os.guards.egress.findings import FindingRule
from agent_os.guards.egress.records import Record, Splitter
from agent_os.guards.egress.windows import Span, clipped, context, release_point, spans_of, without

RECORDS_HELD_MAX: Final = 512
"""Records that wait at one time; past it all that were looked at go on."""
JOINED_MAX: Final = 64
"""Texts of one stream that are followed from record to record; the one unused longest is forgotten."""
_CLEAN_KEPT: Final = 512
_CLEAN_CHARS_MAX: Final = 256
_PIECES: Final = frozenset(
    {"content", "text", "delta", "arguments", "partial_json", "thinking", "reasoning", "reasoning_content", "refusal",
     "completion", "response", "output", "input", "token", "transcript", "generated_text", "output_text", "data"}
)  # fmt: skip
"""Members of records that carry a piece of a text, in the APIs of language models."""


def continues(pointer: str) -> bool:
    """Whether the text at a pointer goes on in the next record."""
    names = [name for name in pointer.split("/") if name and not name.isdigit()]
    if pointer.endswith("#") or not names:
        return False
    return names[-1] in _PIECES or "delta" in names or pointer == "/data/body"


@dataclass(slots=True)
class _Entry:
    record: Record
    number: int
    spans: dict[str, list[Span]] = field(default_factory=dict)
    """What was found in each text alone."""
    looked: bool = False

    def changed(self, pointer: str, text: str) -> str:
        """Return a text of the record without what was found in it."""
        return without(text, self.spans.get(pointer, ()))


@dataclass(slots=True)
class _Joined:
    """One text over many records: what has gone on, and the parts of records that are held."""

    gone: str = ""
    parts: list[tuple[_Entry, str]] = field(default_factory=list)

    @property
    def view(self) -> str:
        return self.gone + "".join(text for _, text in self.parts)


class RecordWindow:
    """A stream of records: `add` pieces of text, look at `texts()`, `release` what may go on."""

    def __init__(self, rules: Sequence[FindingRule], *, events: bool) -> None:
        self._rules = rules
        self._splitter = Splitter(events=events)
        self._entries: deque[_Entry] = deque()
        self._joined: OrderedDict[str, _Joined] = OrderedDict()
        self._clean: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._numbers = 0

    @property
    def holds(self) -> bool:
        """Whether a whole record waits."""
        return bool(self._entries)

    def add(self, text: str, *, last: bool = False) -> None:
        """Take the next piece of the stream. Raises RecordError."""
        for record in self._splitter.feed(text, last=last):
            self._numbers += 1
            entry = _Entry(record, self._numbers)
            self._entries.append(entry)
            for pointer, piece in record.texts.items():
                if continues(pointer):
                    self._follow(pointer).parts.append((entry, piece))

    def _follow(self, pointer: str) -> _Joined:
        joined = self._joined.setdefault(pointer, _Joined())
        self._joined.move_to_end(pointer)
        if len(self._joined) > JOINED_MAX:
            self._joined.popitem(last=False)
        return joined

    def texts(self) -> Mapping[str, str]:
        """Return what is to be looked at, by pointer: records not looked at yet, and what they continue."""
        result: dict[str, str] = {}
        for entry in self._entries:
            if not entry.looked:
                for pointer, text in entry.record.texts.items():
                    if (pointer, text) not in self._clean:
                        result[f"/{entry.number}{pointer}"] = text
        for pointer, joined in self._joined.items():
            if joined.parts and (joined.gone or len(joined.parts) > 1):
                result["/joined" + pointer] = joined.view
        return result

    def release(self, found: Sequence[Finding], *, everything: bool) -> str:
        """Return the records that go on after a look. Raises HeldFindingError."""
        by_place: dict[str, list[Finding]] = {}
        for item in found:
            by_place.setdefault(item.pointer, []).append(item)
        for entry in self._entries:
            if not entry.looked:
                self._look(entry, by_place)
        waiting = self._across(by_place)
        everything = everything or len(self._entries) > RECORDS_HELD_MAX
        out = []
        while self._entries and (everything or self._entries[0].number not in waiting):
            entry = self._entries.popleft()
            out.append(entry.record.written(entry.changed))
            self._go(entry)
        return "".join(out)

    def _look(self, entry: _Entry, by_place: Mapping[str, list[Finding]]) -> None:
        """Keep what was found in the texts of one record alone."""
        entry.looked = True
        for pointer, text in entry.record.texts.items():
            items = by_place.get(f"/{entry.number}{pointer}", ())
            if items:
                entry.spans[pointer] = spans_of(items, text, self._rules)
            elif len(text) <= _CLEAN_CHARS_MAX:
                self._clean[pointer, text] = None
                if len(self._clean) > _CLEAN_KEPT:
                    self._clean.popitem(last=False)

    def _across(self, by_place: Mapping[str, list[Finding]]) -> set[int]:
        """Add what was found across records to their spans; return the numbers of the records that wait."""
        waiting: set[int] = set()
        for pointer, joined in self._joined.items():
            if not joined.parts:
                continue
            view, start = joined.view, len(joined.gone)
            items = by_place.get("/joined" + pointer, ())
            spans = spans_of(items, view, self._rules)
            cut = release_point(view, spans, [(item.start, item.end) for item in items])
            seen = start
            for entry, text in joined.parts:
                end = seen + len(text)
                if end > cut:
                    waiting.add(entry.number)
                cuts = [
                    # the mark stands where the finding begins, or where the part of it that is still here does
                    (begin, stop, kind if span[0] >= seen or seen == start else "")
                    for span in spans
                    for begin, stop, kind in clipped([span], seen, end)
                ]
                if cuts:
                    known = entry.spans.get(pointer, [])
                    entry.spans[pointer] = [*known, *(span for span in cuts if span not in known)]
                seen = end
        return waiting

    def _go(self, entry: _Entry) -> None:
        for joined in self._joined.values():
            while joined.parts and joined.parts[0][0] is entry:
                joined.gone = context(joined.gone + joined.parts.pop(0)[1])
