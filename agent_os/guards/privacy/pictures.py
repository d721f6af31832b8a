"""Pictures and documents of an action: their bytes, what was read in them, and the places a rewrite paints over. Pure.

A part can be read if its bytes stand in it, once: an address is fetched by somebody else, and a second blob beside the first
would be one that nobody looked at. Offsets of findings are those of `Reading.text`; the place on the page is made of the
characters' own. Threats: a number of which one digit was read wrongly (in a picture its form counts, its check digit does
not), a strip of digits left at the edge of a bar, a part that holds something beside the picture.
"""

from __future__ import annotations

import base64
import binascii
import bisect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent_os.core.action import Action
from agent_os.core.errors import EffectError
from agent_os.core.facts import Finding
from agent_os.core.reading import READ, Line, Quad, Reading
from agent_os.guards.privacy.accounts import IBAN_LENGTHS
from agent_os.guards.privacy.checks import compact
from agent_os.guards.privacy.content import FIELDS, escape
from agent_os.policy.media import media

SEARCH_DEPTH_MAX: Final = 6
BESIDE_CHARS_MAX: Final = 2048
"""Characters of any other text in a part: longer, and it may be a second picture that nobody reads."""
SHAPE_SCORE: Final = 0.6
_DATA_URL: Final = re.compile(r"data:[\w.+-]*/?[\w.+-]*(?:;[\w.+-]+=[\w.+-]*)*;base64,", re.ASCII | re.IGNORECASE)
_MEMBERS: Final = frozenset({"data", "base64", "bytes", "file_data", "blob"})
_DIGITS: Final = re.compile(r"(?<![\w.])\d(?:[ .\n-]{0,2}\d){12,18}(?![\w.])", re.ASCII)
_MAIL: Final = re.compile(r"[\w.+-]{1,64}(?: \d{1,6})? ?@ ?[\w-]{1,63}(?:\. ?[\w-]{2,63}){1,4}")
"""A reader puts blanks where letters turn into digits, and behind dots."""
_IBAN: Final = re.compile(r"(?<!\w)[A-Z]{2}[0-9OIlSB]{2}(?:[ .\n-]{0,2}[0-9A-Za-z]){11,30}(?!\w)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Payload:
    """The bytes of one part, where their text stands (a pointer), and how it begins (`data:…,` or nothing)."""

    data: bytes
    pointer: str
    head: str = ""
    written: bool = True
    """Whether they are written in Base64; False where the action holds bytes as they are."""


def payloads(action: Action) -> dict[str, Payload]:
    """Return the bytes of every picture and document of an action that can be read, by the pointer of the part."""
    found: dict[str, Payload] = {}
    for medium in media(action):
        if medium.addresses:
            continue
        held = list(_held(_at(action, medium.pointer), medium.pointer, 0, ""))
        if len(held) == 1 and held[0] is not None:
            found[medium.pointer] = held[0]
    return found


def _held(value: Any, pointer: str, depth: int, name: str) -> Iterator[Payload | None]:
    """Yield what a part holds; None for a text of which nobody can say what it is."""
    if depth > SEARCH_DEPTH_MAX:
        yield None
    elif isinstance(value, (bytes, bytearray)):
        yield Payload(bytes(value), pointer, written=False)
    elif isinstance(value, str):
        head = _DATA_URL.match(value)
        if head is not None or name in _MEMBERS:
            start = head.end() if head is not None else 0
            data = _decoded(value[start:])
            yield Payload(data, pointer, value[:start]) if data is not None else None
        elif len(value) > BESIDE_CHARS_MAX or value[:5].lower() == "data:":
            yield None
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _held(item, f"{pointer}/{escape(str(key))}", depth + 1, str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _held(item, f"{pointer}/{index}", depth + 1, name)


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode("".join(text.split()).replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        return None


def _at(action: Action, pointer: str) -> Any:
    _, name, *rest = pointer.split("/")
    value: Any = getattr(action, name)
    for token in rest:
        key = token.replace("~1", "/").replace("~0", "~")
        value = value[key] if isinstance(value, Mapping) else value[int(key)]
    return value


def with_payloads(action: Action, made: Mapping[str, tuple[Payload, bytes]]) -> Action:
    """Return the action with other bytes in the place of payloads."""
    new: dict[str, Any] = {}
    for payload, data in made.values():
        text = payload.head + base64.b64encode(data).decode() if payload.written else data
        new[payload.pointer] = text
    changes = {}
    for name in FIELDS.get(type(action), ()):
        before = getattr(action, name)
        after = _rebuilt(before, "/" + name, new)
        if after is not before:
            changes[name] = after
    if not changes:
        raise EffectError("a picture stands where nothing can be put")
    return action.rewritten(**changes)


def _rebuilt(value: Any, pointer: str, new: Mapping[str, Any]) -> Any:
    if pointer in new:
        return new[pointer]
    if not any(place.startswith(pointer + "/") for place in new):
        return value
    if isinstance(value, Mapping):
        return {key: _rebuilt(item, f"{pointer}/{escape(key)}", new) for key, item in value.items()}
    return [_rebuilt(item, f"{pointer}/{index}", new) for index, item in enumerate(value)]


# ---- what was read --------------------------------------------------------------------------------------------------


def shapes(text: str, pointer: str) -> list[Finding]:
    """Return long numbers, account numbers and addresses of a reading by their form alone: a character may be read wrongly."""
    found = [
        Finding(kind, *match.span(), SHAPE_SCORE, "picture", pointer)
        for kind, form in (("CREDIT_CARD", _DIGITS), ("EMAIL_ADDRESS", _MAIL))
        for match in form.finditer(text)
    ]
    for match in _IBAN.finditer(text):
        wanted = IBAN_LENGTHS.get(match.group()[:2])
        solid, end = 0, match.start()
        for offset, char in enumerate(match.group()):
            solid += bool(compact(char).strip())
            if wanted is not None and solid == int(wanted):
                end = match.start() + offset + 1
                break
        if end > match.start() and sum(char.isdigit() for char in match.group()) >= 10:
            found.append(Finding("IBAN_CODE", match.start(), end, SHAPE_SCORE, "picture", pointer))
    return found


def in_pictures(findings: Sequence[Finding]) -> tuple[list[Finding], list[Finding]]:
    """Return the findings in pictures, and the others."""
    seen = [item for item in findings if item.pointer.endswith(READ)]
    return seen, [item for item in findings if not item.pointer.endswith(READ)] if seen else list(findings)


def places(findings: Sequence[Finding], reading: Reading) -> list[tuple[int, Quad]]:
    """Return (page, place) of everything that findings in a reading's text cover; whole lines where characters have none."""
    starts = [line.start for line in reading.lines]
    covered = []
    for item in findings:
        first = max(bisect.bisect_right(starts, item.start) - 1, 0)
        for line in reading.lines[first:]:
            if line.start >= item.end:
                break
            begin, end = max(item.start - line.start, 0), min(item.end - line.start, len(line.text))
            if begin < end:
                covered.append((line.page, _place(line, begin, end)))
    return covered


def _place(line: Line, begin: int, end: int) -> Quad:
    """Return the place of some characters of a line, with a margin around it."""
    solid = [index for index, char in enumerate(line.text) if char != " "]
    chosen = [place for index, place in zip(solid, line.places, strict=False) if begin <= index < end]
    if not chosen or any(len(place) != 4 for place in chosen):
        return line.place
    (ax, ay), (bx, by) = chosen[0][0], chosen[-1][1]
    (cx, cy), (dx, dy) = chosen[-1][2], chosen[0][3]
    along, down = _unit(ax, ay, bx, by), _unit(ax, ay, dx, dy)
    if along is None or down is None:
        return line.place
    high = max(abs(dx - ax) + abs(dy - ay), 4)
    side, above = high * 0.35, high * 0.15

    def moved(x: int, y: int, right: float, below: float) -> tuple[int, int]:
        return (
            round(x + right * side * along[0] + below * above * down[0]),
            round(y + right * side * along[1] + below * above * down[1]),
        )

    return moved(ax, ay, -1, -1), moved(bx, by, 1, -1), moved(cx, cy, 1, 1), moved(dx, dy, -1, 1)


def _unit(ax: int, ay: int, bx: int, by: int) -> tuple[float, float] | None:
    length = float(((bx - ax) ** 2 + (by - ay) ** 2) ** 0.5)
    return ((bx - ax) / length, (by - ay) / length) if length else None
