"""Selection: operators that refuse untrusted fields, and the check that a choice was the one asked for."""

from __future__ import annotations

import pytest

from agent_os.core.errors import ActionError
from agent_os.core.label import TRUSTED, UNTRUSTED, Labeled
from agent_os.guards.flow.select import Choice, argmax, argmin, count, filter_by, first, is_extreme, join_on, number_of


def row(name: str, price: object, label: object = TRUSTED) -> dict[str, Labeled[object]]:
    """Return a row with a trusted name and a price under a label."""
    return {"name": Labeled(name, TRUSTED), "price": Labeled(price, label)}  # type: ignore[arg-type]


ROWS = [row("a", 3), row("b", "2.50 EUR"), row("c", 9.0)]


def test_operators_choose_by_trusted_fields() -> None:
    """Amounts with a unit count as numbers."""
    assert argmin(ROWS, "price")["name"].value == "b"
    assert argmax(ROWS, "price")["name"].value == "c"
    assert [item["name"].value for item in filter_by(ROWS, "price", lambda price: price == 3)] == ["a"]
    assert first(ROWS)["name"].value == "a"
    assert count(ROWS).value == 3
    assert count(ROWS).label == TRUSTED
    joined = join_on(ROWS, [{"name": Labeled("a", TRUSTED), "size": Labeled(1, TRUSTED)}], "name")
    assert [sorted(item) for item in joined] == [["name", "price", "size"]]


def test_a_choice_by_an_untrusted_field_is_refused() -> None:
    """The text would choose, not the program."""
    with pytest.raises(ActionError, match="untrusted"):
        argmin([row("a", 1, UNTRUSTED)], "price")
    with pytest.raises(ActionError, match="lacks"):
        argmax(ROWS, "rating")
    with pytest.raises(ActionError, match="no rows"):
        argmax([], "price")
    with pytest.raises(ActionError, match="no rows"):
        first([])


@pytest.mark.parametrize(
    ("words", "attribute", "value", "found"),
    [
        ("delete the largest file", "size", "big", True),
        ("delete the largest file", "size", "small", False),
        ("delete the smallest file", "size", "small", True),
        ("book the cheapest one", "price", "small", True),
        ("book the cheapest one", "size", "small", False),
        ("book the most expensive one", "price", "big", True),
        ("book the least expensive one", "price", "small", True),
        ("the oldest backup", "created_at", "small", True),
        ("the latest backup", "created_at", "big", True),
        ("the best one", "rating", "big", True),
        ("the best one", "size", "big", False),
        ("the largest file", "id", "big", False),
        ("the file", "size", "big", False),
    ],
)
def test_words_of_choice(words: str, attribute: str, value: str, found: bool) -> None:
    """A word of choice points to an extreme of a number that can answer it."""
    numbers = {"small": 1.0, "middle": 2.0, "big": 3.0}
    assert is_extreme(value, {attribute: numbers}, Choice(tuple(words.split()))) is found


def test_where_all_are_alike_nothing_is_extreme() -> None:
    """No choice can be told from equal numbers."""
    assert not is_extreme("a", {"size": {"a": 1.0, "b": 1.0}}, Choice(("largest",)))


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3.0),
        ("$1,200.50", 1200.5),
        ("12 EUR", 12.0),
        ("1970-01-02", 86400.0),
        (True, None),
        ("abc", None),
        (None, None),
    ],
)
def test_what_can_be_ordered(value: object, number: float | None) -> None:
    """Numbers, amounts and dates; nothing else."""
    assert number_of(value) == number
