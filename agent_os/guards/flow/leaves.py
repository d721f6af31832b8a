"""Results, leaf by leaf: labels by the manifest's paths, and the records the leaves stand in. Pure.

A result is walked once, iteratively and within bounds; text that is a structure is read as what it stands for (`forms.py`).
Text that only looks like one gains nothing by it: where a manifest declares no path, a leaf is untrusted whatever its shape.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from agent_os.core.label import UNTRUSTED, Confidentiality, Integrity, Label
from agent_os.core.manifest import Result, ToolSpec
from agent_os.guards.flow import fields, normal

LEAVES_MAX: Final = 200_000
"""Leaves of one result that are labelled one by one; the rest is indexed as one untrusted text."""
DEPTH_MAX: Final = 64
"""Nesting that is walked; deeper parts are indexed as untrusted text."""
PARTS_MAX: Final = 20
"""Objects inside one object that describe it; further ones describe themselves alone."""
NAME_CHARS_MAX: Final = 96
"""A trusted or handle leaf longer than this, or with a line break, is prose and loses its trust."""
NAME_WORDS_MAX: Final = 8
HANDLE_WORDS_MAX: Final = 4
"""A handle of more words is prose: the names of channels and folders are short."""
_CLAUSE: Final = re.compile(r"[.!?:;](?:\s|$)(?<!\b[A-Z]\.\s)(?<!\b(?:Dr|Mr|St|Jr)\.\s)(?<!\bMrs\.\s)")
"""Punctuation that ends a clause, other than in a title or an initial."""

TRUNCATED: Final = "\x00truncated"
"""Stands for a part too large even to be indexed as text: whoever takes it must count every value as tainted."""

Scalar = str | int | float | bool | None


@dataclass(slots=True)
class Record:
    """One object of a result (or one entry of a list): what a row is to a table."""

    call: int
    group: str
    fields: dict[str, Scalar] = field(default_factory=dict)
    trusted: set[str] = field(default_factory=set)
    lists: dict[str, int] = field(default_factory=dict)
    numbers: dict[str, float] | None = None
    """What its trusted fields can be ordered by, once somebody asked."""
    row: Record | None = None
    """The record whose part it is: an object inside an object (`{id, attributes: {…}}`) says of it what it says."""
    parts: list[Record] = field(default_factory=list)

    def family(self) -> list[Record]:
        """Return the record with what belongs to it: its row and the objects inside that, those of lists aside."""
        row = self.row or self
        return [row, *row.parts]


@dataclass(slots=True)
class Leaf:
    """One scalar of a result, with its label and where it stands."""

    pointer: str
    column: str
    name: str
    value: Scalar
    label: Label
    result: Result | None
    record: Record
    in_list: bool = False


def walk(value: Any, spec: ToolSpec, call: int, source: str) -> Iterator[Leaf | str]:
    """Yield the labelled leaves of a result; a plain string stands for a part too deep or too large to walk."""
    find = rule_finder(spec, value)
    root = Record(call, "$")
    stack: list[tuple[Any, str, str, str, Record, bool, int]] = [(value, "", "$", "", root, False, 0)]
    seen: set[int] = set()
    left = LEAVES_MAX
    while stack:
        item, pointer, path, name, record, in_list, depth = stack.pop()
        if isinstance(item, (dict, list, tuple)):
            if depth >= DEPTH_MAX or left <= 0 or id(item) in seen:
                yield _flat(item)
                continue
            seen.add(id(item))
        if isinstance(item, dict):
            keyed = find(f"{path}.*~", "~", None)
            own = record if keyed else _record(call, path, record)
            for key, child in reversed(item.items()):
                text = str(key)
                at = own
                if keyed is not None:
                    at = Record(call, path)
                    left -= 1
                    yield _leaf(pointer + "/" + _escape(text), f"{path}.*~", "", text, keyed, at, source, False)
                elif not _identifier(text):
                    yield text  # an object's keys can be written by an attacker too
                step = f"{path}.*" if keyed else f"{path}.{text if text.isidentifier() else '?'}"
                stack.append((child, f"{pointer}/{_escape(text)}", step, text, at, False, depth + 1))
        elif isinstance(item, (list, tuple)):
            record.lists[name] = len(item)
            for index in range(len(item) - 1, -1, -1):
                child = item[index]
                at = Record(call, f"{path}[*]") if not isinstance(child, dict) and path == "$" else record
                stack.append((child, f"{pointer}/{index}", f"{path}[*]", name, at, path != "$", depth + 1))
        else:
            left -= 1
            yield _leaf(pointer, path, name, item, find(path, name, item), record, source, in_list)


def _record(call: int, path: str, around: Record) -> Record:
    """Return the record of an object, which is a part of the one around it unless it is an entry of a list."""
    made = Record(call, path)
    row = around.row or around
    if path != "$" and not path.endswith("]") and len(row.parts) < PARTS_MAX:
        made.row = row
        row.parts.append(made)
    return made


def _leaf(
    pointer: str, path: str, name: str, item: Any, rule: Result | None, record: Record, source: str, in_list: bool
) -> Leaf:
    value: Scalar = item if item is None or isinstance(item, (str, int, float, bool)) else str(item)
    label = label_of(rule, value, source)
    field_name = name or "~"
    if not in_list:
        record.fields[field_name] = value
        if label.integrity is Integrity.TRUSTED:
            record.trusted.add(field_name)
    return Leaf(pointer, path, field_name, value, label, rule, record, in_list)


@lru_cache(maxsize=512)
def _label(rule: Result, source: str, trusted: bool) -> Label:
    integrity = Integrity[rule.integrity.upper()] if trusted else Integrity.UNTRUSTED
    confidentiality = Confidentiality[rule.confidentiality.upper()]
    tags = frozenset({"secret"}) if confidentiality is Confidentiality.SECRET else frozenset()
    return Label(integrity, confidentiality, frozenset(rule.readers), tags, (source,))


@lru_cache(maxsize=512)
def _untrusted(source: str) -> Label:
    return UNTRUSTED.join(Label(Integrity.UNTRUSTED, sources=(source,)))


def label_of(rule: Result | None, value: Scalar, source: str) -> Label:
    """Return a leaf's label: the manifest's, unless a name turns out to be prose, which is untrusted."""
    if rule is None:
        return _untrusted(source)
    return _label(rule, source, not isinstance(value, str) or (is_handle(value) if rule.handle else is_name(value)))


def is_name(value: str) -> bool:
    """Return whether a text has the shape of a name, an address or an id, and not that of prose."""
    if len(value) > NAME_CHARS_MAX or "\n" in value or value.count(" ") >= NAME_WORDS_MAX:
        return False
    if " " in value and (_CLAUSE.search(value) or "@" in value):
        return normal.mailbox(value) != value
    return not (("." in value or "://" in value) and _mixed_with_address(value))


def is_handle(value: str) -> bool:
    """Return whether a text has the shape of a short id or of the name of a channel or a folder."""
    return value.count(" ") < HANDLE_WORDS_MAX and is_name(value)


def _mixed_with_address(value: str) -> bool:
    """Return whether a web address stands in a text beside something else: a name is one thing."""
    found = normal.urls(value)
    return bool(found) and not any(len(url) >= len(value) - 1 for url in found) and "@" not in value


def _identifier(text: str) -> bool:
    return len(text) <= 40 and text.replace("_", "").replace("-", "").replace(" ", "").isalnum()


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _flat(item: Any) -> str:
    """Return the keys and scalars of a structure as one text, each container once: linear, also where it is shared."""
    texts: list[str] = []
    stack, seen = [item], set()
    while stack and len(texts) < LEAVES_MAX:
        part = stack.pop()
        if isinstance(part, (dict, list, tuple)):
            if id(part) not in seen:
                seen.add(id(part))
                stack.extend(part.values() if isinstance(part, dict) else part)
                texts.extend(map(str, part) if isinstance(part, dict) else ())
        else:
            texts.append(str(part))
    return TRUNCATED if stack else "\n".join(texts)


Finder = Callable[[str, str, Any], Result | None]


@lru_cache(maxsize=4096)
def _compiled(paths: tuple[str, ...]) -> tuple[tuple[re.Pattern[str], str], ...]:
    """Return patterns for paths, the most specific first."""

    def specific(path: str) -> tuple[int, int]:
        return (-path.count("*"), len(path))

    compiled = []
    for path in sorted(paths, key=specific, reverse=True):
        compiled.append((re.compile(re.escape(path).replace(r"\.\*", r"\.[^.\[~]+")), path))
    return tuple(compiled)


def rule_finder(spec: ToolSpec, value: Any = None) -> Finder:
    """Return what finds the rule of a leaf by its path, name and value; for a drafted manifest, the draft's guess."""
    if spec.derived:
        keys = fields.keys_in(value)
        return lambda path, name, item: fields.result(spec, path, name, item, keys)
    if not spec.results:
        return lambda path, name, value: None
    rules = tuple((pattern, spec.results[path]) for pattern, path in _compiled(tuple(spec.results)))
    known: dict[str, Result | None] = {}

    def find(path: str, _name: str, _value: Any) -> Result | None:
        if path not in known:
            known[path] = next((result for pattern, result in rules if pattern.fullmatch(path)), None)
        return known[path]

    return find
