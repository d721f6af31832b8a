"""Bounded YAML 1.2 (JSON included) to plain values and the place of every key. Pure.

PyYAML's C parser gives events; everything above them is ours: the core schema of YAML 1.2.2 (`no` is a text, `0o17` is
octal), no duplicate keys, no tags but the core ones, no merge keys, aliases counted at their full size, and bounds on
bytes, depth and nodes. Threats: alias bombs, duplicate keys that two readers resolve differently, tags that build
objects, `no` read as false, a file of 100 MB.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import yaml

from agent_os.core.errors import Place, PolicyError, Problem

MAX_BYTES: Final = 8 * 2**20
MAX_DEPTH: Final = 48
MAX_NODES: Final = 1_000_000
MAX_INTEGER_DIGITS: Final = 30
MAX_KEY_CHARS: Final = 1024

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS: Final = {word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
_INTEGER: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_NUMERIC_START: Final = frozenset("+-.0123456789")
_TAG: Final = "tag:yaml.org,2002:"
_CORE_TAGS: Final = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null", "map", "seq"))

Positions = Mapping[str, tuple[int, int]]
"""Path of a key (`tools.send_payment.deny[0]`) -> line and column, both from 1."""


@dataclass(frozen=True, slots=True)
class Document:
    """A loaded text: plain values (dict, list, str, int, float, bool, None) and where each key stands."""

    value: Any
    positions: Positions
    file: str

    def place(self, path: str) -> Place:
        """Return the place of a key path, or of the nearest key above it."""
        while path and path not in self.positions:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        line, column = self.positions.get(path, (0, 0))
        return Place(self.file, line, column)

    def at(self, path: str) -> tuple[bool, Any]:
        """Return whether something stands at a key path, and what."""
        return value_at(self.value, path)


def value_at(value: Any, path: str) -> tuple[bool, Any]:
    """Return whether something stands at a key path of a value, and what."""
    for part in re.findall(r"[^.\[\]]+|\[\d+\]", path):
        key: Any = int(part[1:-1]) if part.startswith("[") else part
        if not leads_on(value, key):
            return False, None
        value = value[key]
    return bool(path), value


def leads_on(value: Any, key: int | str) -> bool:
    """Return whether a key or index stands in a value."""
    if isinstance(value, Mapping):
        return isinstance(key, str) and key in value
    return isinstance(value, list) and isinstance(key, int) and key < len(value)


def join(path: str, key: str | int) -> str:
    """Return the path of a key below another."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def read(text: str, *, file: str = "<policy>") -> Document:
    """Return the document in a text. Raises PolicyError with the place of what is malformed or out of bounds."""
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise PolicyError(Problem(f"is larger than {MAX_BYTES} bytes", Place(file), "split it, or use data files"))
    events = yaml.parse(text, Loader=yaml.CSafeLoader)
    builder = _Builder(events, file)
    try:
        value = builder.stream()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file)
        line = text.split("\n")[mark.line] if mark and mark.line < text.count("\n") + 1 else ""
        said = str(error.problem or error.context)
        raise PolicyError(
            Problem(
                f"is not YAML: {said}",
                place,
                _slip(said, line, mark.column if mark else 0) or _slip_above(said, text, mark),
            )
        ) from None
    except yaml.YAMLError as error:
        raise PolicyError(Problem(f"is not YAML: {str(error).splitlines()[0]}", Place(file))) from None
    except UnicodeEncodeError:
        raise PolicyError(Problem("holds a lone surrogate", Place(file))) from None
    return Document(value, builder.positions, file)


def _slip(said: str, line: str, column: int) -> str:
    """Return the usual slip behind what the parser says of a line, or an empty text."""
    if "\t" in line[: len(line) - len(line.lstrip())] or line[column : column + 1] == "\t":
        return "indent with spaces: YAML takes no tabs"
    if "alphabetic or numeric character" in said:
        return "put a text that begins with `*` or `&` in quotes"
    if "cannot start any token" in said:
        return "put a text that begins with this character in quotes"
    if "',' or '}'" in said or "',' or ']'" in said:
        return "a bracket that was opened above is not closed, or a comma is missing"
    if line[column : column + 1] in ("}", "]"):
        return "a bracket that nothing opened"
    if "expected key" in said or "block end" in said:
        return "this line is indented otherwise than the lines it belongs to"
    if "quoted scalar" in said or "end of stream" in said:
        return "a quote that was opened above is not closed"
    return ""


def _slip_above(said: str, text: str, mark: Any) -> str:
    """Return the slip behind a `: ` that is one too many: most often the line above lacks the space after its colon."""
    if "mapping values are not allowed" not in said or mark is None:
        return ""
    above = text.split("\n")[mark.line - 1] if mark.line else ""
    if re.fullmatch(r"\s*(?:- )?[\w.-]+:[^\s/].*", above):
        return f"line {mark.line}: a space must follow the colon"
    return "put a text that holds `: ` in quotes, or check the indentation of this line and the one above"


def _position(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


class _Builder:
    """Builds values from events; `positions` fills as it goes."""

    def __init__(self, events: Iterator[Any], file: str) -> None:
        self._events = events
        self._file = file
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._left = MAX_NODES
        self.positions: dict[str, tuple[int, int]] = {}

    def stream(self) -> Any:
        value: Any = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._fail(event, "holds more than one document", "keep one policy a file")
                if event.tags:
                    self._fail(event, "declares tag handles", "remove the %TAG line")
                value = self._node(next(self._events), "", 0)
        return value

    def _fail(self, event: Any, message: str, hint: str = "") -> NoReturn:
        raise PolicyError(Problem(message, Place(self._file, *_position(event)), hint))

    def _node(self, event: Any, path: str, depth: int) -> Any:
        self._left -= 1
        if self._left < 0:
            self._fail(event, f"has more than {MAX_NODES} values", "aliases count at their full size")
        if depth > MAX_DEPTH:
            self._fail(event, f"is nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            anchored = self._anchors.get(event.anchor or "")
            if anchored is None:
                self._fail(event, "names an anchor that is not complete here")
            value, size = anchored
            self._left -= size
            if self._left < 0:
                self._fail(event, f"has more than {MAX_NODES} values", "aliases count at their full size")
            return value
        if event.tag is not None and event.tag not in ("!", *_CORE_TAGS):
            self._fail(event, "has a tag that is not known", "remove the tag")
        before = self._left
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(event, path, depth)
        else:
            value = self._mapping(event, path, depth)
        if event.anchor:
            self._anchors[event.anchor] = (value, before - self._left)
        return value

    def _sequence(self, start: Any, path: str, depth: int) -> list[Any]:
        if start.tag not in (None, "!", _TAG + "seq"):
            self._fail(start, "has a tag of another type")
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            below = f"{path}[{len(items)}]"
            self.positions[below] = _position(event)
            items.append(self._node(event, below, depth + 1))
        return items

    def _mapping(self, start: Any, path: str, depth: int) -> dict[str, Any]:
        if start.tag not in (None, "!", _TAG + "map"):
            self._fail(start, "has a tag of another type")
        items: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self._fail(event, "has a key that is not a plain text")
            key = event.value
            if key == "<<" and event.implicit[0]:
                self._fail(event, "uses a merge key", "YAML 1.2 has none; use `extends`, or write the keys out")
            if key.startswith("\u00a0") and event.implicit[0]:
                self._fail(event, "is indented with no-break spaces", "indent with ordinary spaces")
            if len(key) > MAX_KEY_CHARS:
                self._fail(event, f"has a key longer than {MAX_KEY_CHARS} characters")
            if key in items:
                self._fail(event, f"has the key {key!r} twice", "keep one of them")
            below = f"{path}.{key}" if path else key
            self.positions[below] = _position(event)
            self._left -= 1
            items[key] = self._node(next(self._events), below, depth + 1)
        return items

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if event.tag is None:
            return text if not event.implicit[0] else self._plain(event, text)
        if event.tag in ("!", _TAG + "str"):
            return text
        value = self._plain(event, text)
        kinds: dict[str, tuple[type, ...]] = {
            "int": (int,),
            "float": (int, float),
            "bool": (bool,),
            "null": (type(None),),
        }
        if type(value) not in kinds.get(event.tag.removeprefix(_TAG), ()):
            self._fail(event, "has a tag of another type")
        return value

    def _plain(self, event: Any, text: str) -> Any:
        """Resolve a plain scalar by the core schema of YAML 1.2.2, 10.3.2."""
        if text in _NULLS:
            return None
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if text[0] not in _NUMERIC_START:
            return text
        if _INTEGER.fullmatch(text):
            if len(text) > MAX_INTEGER_DIGITS:
                self._fail(event, "is a number with too many digits", "put it in quotes if it is an id")
            return int(text, 8) if text.startswith("0o") else int(text, 16) if text.startswith("0x") else int(text)
        if _FLOAT.fullmatch(text):
            number = float(text)
            if number in (float("inf"), float("-inf")):
                self._fail(event, "is a number out of range")
            return number
        if _SPECIAL.fullmatch(text):
            self._fail(event, "is not a finite number")
        return text
