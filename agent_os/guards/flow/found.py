"""What detectors found in a result, as labels of its parts: `secret`, and `pii` with those who may read it. Pure.

A manifest says what a tool's fields hold; nobody describes what a page, a mail or a log happens to hold. Where the policy
asks for it (`flow.find`, or a rule of another section that names one of the two tags) the privacy detectors look through each
result. What they find tags its leaf, and the very value is looked for in what leaves. Personal data may be read by the
principal, and an address by whoever it belongs to. What nobody could look at (a detector that failed, took too long, or was
given more than it takes) counts as secret as a whole. Threat: data that no manifest mentions, sent on unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from agent_os.core.facts import Finding
from agent_os.core.label import TRUSTED, Confidentiality, Integrity, Label

SECRET: Final = "secret"  # noqa: S105 - the name of a tag
PERSONAL: Final = "pii"
FOUND_MAX: Final = 5000
"""Findings of one result; of more, all of it counts as unseen."""
EXAMINED_TEXTS_MAX: Final = 20_000
"""Texts of one result that detectors look at; a result with more counts as unseen."""
GUARDED_CHARS_MIN: Final = 6
"""A shorter personal value is tagged and not looked for in what leaves: it would be found everywhere by chance."""
KEY: Final = "#"
"""Ends the pointer of a name of an object's key: a detector reads nothing into such a name (effects/detectors)."""

Span = tuple[str, int, int, str, bool]
"""Pointer, start, end, tag, and whether the value is looked for in what leaves."""
Found = Sequence[Span]
Tag = Callable[[str], tuple[str, bool]]
"""Entity name -> (tag, whether its values are looked for in what leaves); no tag: the policy does not ask for it."""


def spans_of(findings: Iterable[Finding], tag_of: Tag) -> Found | None:
    """Return findings as spans, those the policy asks for; None where a detector says that it could not read all of it."""
    spans: list[Span] = []
    for finding in findings:
        if finding.type == "UNREADABLE":
            return None
        tag, guarded = tag_of(finding.type)
        if tag:
            spans.append((finding.pointer, finding.start, finding.end, tag, guarded))
    return spans if len(spans) <= FOUND_MAX else None


def spans_again(said: Any) -> Found | None:
    """Return the spans a memo wrote down. Raises TypeError, ValueError for what are none."""
    if said is None:
        return None
    return [(str(name), int(start), int(end), str(tag), bool(guarded)) for name, start, end, tag, guarded in said]


class Marks:
    """The findings of one result, by the part they stand in."""

    def __init__(self, found: Found | None, source: str, reader: str) -> None:
        self._source, self._reader = source, reader
        self._spans: dict[str, list[Span]] = {}
        self.unseen = found is None
        for span in found or ():
            self._spans.setdefault(span[0], []).append(span)

    def __bool__(self) -> bool:
        return self.unseen or bool(self._spans)

    @property
    def worst(self) -> Label:
        """What nobody looked at: it may hold anything."""
        tags = frozenset({SECRET, PERSONAL})
        return Label(Integrity.TRUSTED, Confidentiality.SECRET, tags=tags, sources=(self._source,))

    def of(self, pointer: str, text: str) -> tuple[Label, list[tuple[str, Label]]]:
        """Return the label of what was found in a part, and the values to be looked for; its integrity says nothing."""
        label, values = TRUSTED, []
        for _, start, end, tag, guarded in self._spans.get(pointer, ()):
            value = text[start:end]
            own = self._label(tag, value)
            label = label.join(own)
            if guarded and (tag == SECRET or len(value) >= GUARDED_CHARS_MIN):
                values.append((value, own))
        return label, values

    def in_keys(self) -> list[tuple[Label, list[tuple[str, Label]]]]:
        """Return the same of what was found in the names of keys."""
        keys = [pointer for pointer in self._spans if pointer.endswith(KEY)]
        return [
            self.of(key, key.removesuffix(KEY).rpartition("/")[2].replace("~1", "/").replace("~0", "~")) for key in keys
        ]

    def _label(self, tag: str, value: str) -> Label:
        if tag == SECRET:
            return Label(Integrity.TRUSTED, Confidentiality.SECRET, tags=frozenset({SECRET}), sources=(self._source,))
        readers = {self._reader, value.strip().lower()} if "@" in value else {self._reader}
        return Label(
            Integrity.TRUSTED, Confidentiality.READERS, frozenset(readers), frozenset({PERSONAL}), (self._source,)
        )


def texts_in(value: Any) -> Mapping[str, str] | None:
    """Return the texts of a result by RFC 6901 pointer, and the names of its keys; None where there are too many.

    Numbers are read as they are written: a card's may stand as one. Iterative; what is shared or cyclic is looked at once.
    """
    texts: dict[str, str] = {}
    stack: list[tuple[str, Any]] = [("", value)]
    seen: set[int] = set()
    while stack:
        pointer, item = stack.pop()
        if isinstance(item, (dict, list, tuple)):
            if id(item) in seen:
                continue
            seen.add(id(item))
            if isinstance(item, dict):
                for name, part in item.items():
                    at = f"{pointer}/{_escape(str(name))}"
                    if not str(name).isidentifier() or any(map(str.isdigit, str(name))):
                        texts[at + KEY] = str(name)
                    stack.append((at, part))
            else:
                stack.extend((f"{pointer}/{place}", part) for place, part in enumerate(item))
        elif isinstance(item, bytes):
            texts[pointer] = item.decode("utf-8", "replace")
        elif isinstance(item, str) and item.strip():
            texts[pointer] = item
        elif isinstance(item, int) and not isinstance(item, bool) and abs(item) > 9_999_999:
            texts[pointer] = str(item)
        if len(texts) > EXAMINED_TEXTS_MAX or len(stack) > 10 * EXAMINED_TEXTS_MAX:
            return None
    return texts


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
