"""Plain copies of JSON trees: what is judged cannot answer differently from what is sent."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

import pytest

from agent_os.core.action import Action
from agent_os.core.canonical import json_value
from agent_os.core.errors import ActionError


class Liar(str):
    """A text that is equal to everything and shows something else."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("inbox")

    def __str__(self) -> str:
        return "inbox"


class Number(enum.IntEnum):
    """A number with a name."""

    MANY = 7


class Changing(dict[Any, Any]):
    """A mapping whose keys are other ones at the second look."""

    looks = 0

    def __iter__(self) -> Iterator[Any]:
        self.looks += 1
        return iter(["a"] if self.looks == 1 else [1])

    def __getitem__(self, key: Any) -> Any:
        return f"value of {key}"


def test_every_leaf_and_key_is_of_the_plain_type() -> None:
    """ATTACK: subclasses that lie to comparisons are copied by their own characters; plain values stay as they are."""
    copied = json_value({"to": Liar("evil"), Liar("key"): [Liar("x")], "count": Number.MANY, "flag": True, "rate": 0.5})
    assert [type(key) for key in copied] == [str] * 5
    assert copied == {"to": "evil", "key": ["x"], "count": 7, "flag": True, "rate": 0.5}
    assert {type(copied["to"]), type(copied["key"][0])} == {str}
    assert type(copied["count"]) is int
    action: Any = Action.parse({"kind": "tool.call", "tool": Liar("send"), "args": {"to": Liar("evil")}})
    assert (action.tool == "inbox", type(action.tool)) == (False, str)


def test_keys_are_looked_at_once() -> None:
    """ATTACK: a mapping that shows texts when it is checked and numbers when it is copied."""
    assert json_value(Changing()) == {"a": "value of a"}
    with pytest.raises(ActionError):
        json_value({1: "x"})
