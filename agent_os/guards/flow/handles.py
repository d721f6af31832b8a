"""Values by reference: what a tool returned is kept here, and the model gets a handle that it can pass on unread.

With `flow.by_reference` a result is shown to the model with its trusted leaves as they are and every untrusted text as a
handle (`ref:3#/0/body`). An argument that is a handle, or a text with `{ref:3#/0/body}` in it, is filled in before the call
is judged, so that policy, approval and audit see the value itself, and its provenance is exact: no text has to be searched.
What the model has not read cannot have spoken to it. Pure. Threats: a handle of another session (unknown here, refused);
a text that looks like a handle (only what the model writes as an argument is filled in, once, never what a value holds).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent_os.core.errors import ActionError
from agent_os.core.label import TRUSTED, Integrity, Label, Labeled
from agent_os.guards.flow.leaves import Leaf

HANDLES_MAX: Final = 1000
"""Results kept in one session; the oldest goes, and its handle is then unknown."""
HANDLE_DEPTH_MAX: Final = 64
"""Nesting that is shown; deeper parts are one handle."""
FILLED_CHARS_MAX: Final = 2_000_000
"""Characters that handles may fill into the arguments of one call; more is an error."""
WHOLE: Final = re.compile(r"ref:(\d{1,9})(#?(?:/[^{}\s]*)?)(?: \([\w ]{1,40}, untrusted: [^()]{1,80}\))?")
"""A handle, also with the remark it was shown with: models copy both."""
INSIDE: Final = re.compile(r"\{ref:(\d{1,9})(#?(?:/[^{}\s]*)?)\}")


@dataclass(frozen=True, slots=True)
class Held:
    """One result: its value, the label of the whole, and the labels of its leaves by RFC 6901 pointer."""

    value: Any
    label: Label
    leaves: Mapping[str, Label]

    def label_at(self, pointer: str) -> Label:
        """Return the label of a part: the join of the leaves in it."""
        if pointer in self.leaves:
            return self.leaves[pointer]
        inside = [label for name, label in self.leaves.items() if name.startswith(pointer + "/")] if pointer else []
        return Label.join_all(inside) if inside else self.label


@dataclass(frozen=True, slots=True)
class Filled:
    """Where an argument's value came from: the pointer of the argument, the value, and the value's label."""

    argument: str
    value: str
    label: Label


class Handles:
    """The results of one session that are known by handle."""

    def __init__(self) -> None:
        self._held: OrderedDict[int, Held] = OrderedDict()
        self._count = 0

    def begin(self, number: int) -> None:
        """Let the handles of this session begin after a number, so that those of another one mean nothing here."""
        self._count = max(self._count, number)

    def keep(self, value: Any, label: Label, leaves: Mapping[str, Label], number: int = 0) -> str:
        """Keep a result, under the number it had before if it had one; return its handle."""
        self._count = max(self._count, number) if number else self._count + 1
        number = number or self._count
        self._held[number] = Held(value, label, leaves)
        while len(self._held) > HANDLES_MAX:
            self._held.popitem(last=False)
        return f"ref:{number}"

    def held(self, handle: str) -> tuple[int, Held]:
        """Return the number and the value of a handle that `keep` has just given out."""
        number = int(handle.removeprefix("ref:"))
        return number, self._held[number]

    def get(self, handle: str) -> tuple[Any, Label, Held, str]:
        """Return the value of a handle, its label, the result it is part of and where. Raises ActionError."""
        match = WHOLE.fullmatch(handle.strip())
        if match is None:
            raise ActionError("is no handle", field="ref", hint="a handle looks like ref:3 or ref:3#/0/name")
        held = self._held.get(int(match[1]))
        if held is None:
            raise ActionError(f"ref:{match[1]} is not known in this session", field="ref", hint="read it again")
        pointer = match[2].lstrip("#")
        return _part(held.value, pointer), held.label_at(pointer), held, pointer

    def fill(self, args: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Filled, ...]]:
        """Return arguments with every handle in them filled in, and what was filled. Raises ActionError."""
        filled: list[Filled] = []
        left = [FILLED_CHARS_MAX]

        def one(value: Any, pointer: str, depth: int) -> Any:
            if depth > HANDLE_DEPTH_MAX:
                return value
            if isinstance(value, Mapping):
                return {key: one(item, f"{pointer}/{key}", depth + 1) for key, item in value.items()}
            if isinstance(value, (list, tuple)):
                return [one(item, f"{pointer}/{index}", depth + 1) for index, item in enumerate(value)]
            if not isinstance(value, str) or "ref:" not in value:
                return value
            if WHOLE.fullmatch(value.strip()):
                part, label, _, _ = self.get(value)
                filled.append(Filled(pointer, text_of(part), label))
                left[0] -= len(filled[-1].value)
                return part
            return INSIDE.sub(lambda match: self._inside(match, pointer, filled, left), value)

        done = {name: one(value, f"/{name}", 1) for name, value in args.items()}
        if left[0] < 0:
            raise ActionError(f"handles fill in more than {FILLED_CHARS_MAX} characters", field="args")
        return done, tuple(filled)

    def _inside(self, match: re.Match[str], pointer: str, filled: list[Filled], left: list[int]) -> str:
        part, label, _, _ = self.get(f"ref:{match[1]}{match[2]}")
        text = text_of(part)
        filled.append(Filled(pointer, text, label))
        left[0] -= len(text)
        return text if left[0] >= 0 else ""


def shown(value: Any, handle: str, leaves: list[Leaf], *, drafted: bool = False) -> tuple[Any, Label]:
    """Return what the model sees of a result, and its label: trusted leaves as they are, everything else as handles.

    `leaves` are those of the value; a part that has none (a key nobody vouches for, a text too deep) becomes a handle too.
    What only a draft calls trusted is shown if it is one word: a sentence could have spoken.
    """
    trusted = {
        leaf.pointer: leaf.label
        for leaf in leaves
        if leaf.label.integrity is not Integrity.UNTRUSTED and not (drafted and " " in str(leaf.value).strip())
    }
    seen = [TRUSTED]

    def one(part: Any, pointer: str, depth: int) -> Any:
        if isinstance(part, (Mapping, list, tuple)) and depth > HANDLE_DEPTH_MAX:
            return reference(handle, pointer, part)
        if isinstance(part, Mapping):
            return {
                _key(str(key)): one(item, f"{pointer}/{_escape(str(key))}", depth + 1) for key, item in part.items()
            }
        if isinstance(part, (list, tuple)):
            return [one(item, f"{pointer}/{index}", depth + 1) for index, item in enumerate(part)]
        if pointer in trusted:
            seen.append(trusted[pointer])
            return part
        return part if isinstance(part, bool) or part is None or part == "" else reference(handle, pointer, part)

    return one(value, "", 0), Label.join_all(seen)


def reference(handle: str, pointer: str, part: Any) -> str:
    """Return what stands for an unread part: its handle, and how large it is."""
    size = f"{len(part)} characters" if isinstance(part, str) else type(part).__name__
    return f"{handle}#{pointer} ({size}, untrusted: pass the handle on, or use ref_read or ref_extract)"


def shown_row(handle: str, index: int, row: Mapping[str, Labeled[Any]]) -> dict[str, Any]:
    """Return what the model sees of one labelled record."""
    return {
        _key(name): cell.value
        if cell.label.integrity is not Integrity.UNTRUSTED
        else reference(handle, f"/{index}/{_escape(name)}", cell.value)
        for name, cell in row.items()
    }


def _key(key: str) -> str:
    return key if len(key) <= 40 and key.replace("_", "").replace("-", "").isalnum() else "(a name)"


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _part(value: Any, pointer: str) -> Any:
    for step in pointer.split("/")[1:] if pointer else []:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping) and name in value:
            value = value[name]
        elif isinstance(value, (list, tuple)) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            raise ActionError("the handle points to nothing", field="ref", hint=f"no part {pointer}")
    return value


def text_of(part: Any) -> str:
    """Return what a part of a result is in the middle of a text: its scalars, one a line."""
    if isinstance(part, str):
        return part
    if isinstance(part, bool) or part is None:
        return "" if part is None else str(part).lower()
    if isinstance(part, (int, float)):
        return str(part)
    return "\n".join(text_of(item) for item in (part.values() if isinstance(part, Mapping) else part))
