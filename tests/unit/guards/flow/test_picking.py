"""What bounds, exceptions and lacks in the user's words leave of several rows."""

from __future__ import annotations

from typing import Any

import pytest

from agent_os.guards.flow.picking import BOUNDS_MAX, ROWS_MAX, Kept, kept, wish_of
from agent_os.guards.flow.select import Choice, is_extreme

ORDERS = [
    {"id": "C1", "amount": 4200, "quantity": 3, "submitted": "2026-02-10", "seats": 20, "days": 3, "note": None},
    {"id": "C2", "amount": 5000, "quantity": 90, "submitted": "2026-02-17", "seats": 35, "days": 4, "note": "x"},
    {"id": "C3", "amount": 15800, "quantity": 5, "submitted": "2026-03-01", "seats": 60, "days": 6, "note": ""},
]


def picked(
    prompt: str, rows: list[dict[str, Any]] = ORDERS, untrusted: frozenset[str] = frozenset()
) -> tuple[str, str]:
    """The last characters of the ids meant and excluded."""
    found = kept(wish_of(prompt), {row["id"]: (row, frozenset(row) - untrusted) for row in rows})
    return tuple("".join(sorted(key[-1] for key in keys)) for keys in (found.meant, found.excluded))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("prompt", "meant", "excluded"),
    [
        ("Approve those under 5,000 euros", "1", "23"),
        ("Approve those up to 5,000 euros", "12", "3"),
        ("approve everything of at most 5k EUR", "12", "3"),
        ("Reject whatever is over $5000", "3", "12"),
        ("Bitte alle mit mehr als 5000 Euro ablehnen", "3", "12"),
        ("the ones with a quantity of at least 5", "23", "1"),
        ("those with five or more in quantity", "23", "1"),
        ("that takes at most four days", "12", "3"),
        ("the room for at least 35 people", "23", "1"),
        ("all that were submitted before 17 February 2026", "1", "23"),
        ("all that were submitted since February 2026", "3", "12"),
        ("those submitted after 2026-02-17", "3", "12"),
        ("all orders that have no note", "13", "2"),
        ("alle ohne note", "13", "2"),
        ("delete all except C2", "13", "2"),
        ("I want all of them but not C2", "13", "2"),
        ("the current one, not C2's", "13", "2"),
        ("do not forget it", "", ""),
        ("approve them", "", ""),
        ("approve it if none of the amounts is below 5000 euros", "", ""),
        ("only if the amount isn't more than 5000 euros", "", ""),
        ("no more than that, please", "", ""),
        ("call me within the hour", "", ""),
    ],
)
def test_words_keep_rows(prompt: str, meant: str, excluded: str) -> None:
    """A bound speaks of the field that its unit, its noun or its kind names; words without one say nothing."""
    assert picked(prompt) == (meant, excluded)


@pytest.mark.parametrize(
    "prompt", ["those under 5,000 widgets", "anything below 40 degrees", "at most three lines, please"]
)
def test_a_bound_on_no_field_of_the_rows_says_nothing(prompt: str) -> None:
    """What a bound speaks of is not guessed where several fields could be meant."""
    assert picked(prompt) == ("", "")


def test_a_strangers_field_moves_no_bound() -> None:
    """ATTACK: the amount is written by whoever sent the row; the bound is not evaluated on it, so it chooses nothing."""
    assert picked("Approve those under 5,000 euros", untrusted=frozenset({"amount"})) == ("", "")


def test_an_exception_of_every_row_or_none_is_no_exception() -> None:
    """Words that fit all the rows, or none, leave them as they are."""
    assert picked("delete all but the nice ones") == ("", "")
    assert picked("I want all of it but not that") == ("", "")


def test_a_number_is_said_with_its_field() -> None:
    """`take 2` is the row whose take is 2, and not one of size 2."""
    rows = [{"id": "R1", "take": 1, "size": 2}, {"id": "R2", "take": 2, "size": 7}, {"id": "R3", "take": 3, "size": 9}]
    assert picked("delete every recording except take 2", rows) == ("13", "2") or picked(
        "delete every recording except take 2", rows
    ) == ("3", "12")


def test_many_bounds_are_bounded() -> None:
    """A prompt of bounds alone is read up to a number."""
    wish = wish_of(" and ".join(f"under {number} euros" for number in range(10, 60)))
    assert len(wish.bounds) == BOUNDS_MAX
    assert kept(wish, {}) == Kept()


def test_more_rows_than_are_compared_are_all_asked_about() -> None:
    """ATTACK: a list too long to be compared is not let through unread; without a bound it is nobody's business here."""
    rows = {key: ({"amount": 9000}, frozenset({"amount"})) for key in range(ROWS_MAX + 1)}
    assert kept(wish_of("those under 5,000 euros"), rows).excluded == rows.keys()
    assert kept(wish_of("approve them"), rows) == Kept()


def test_a_long_prompt_keeps_its_bounds() -> None:
    """Words after the bound, however many, do not take it away."""
    assert picked("Approve those under 5,000 euros. " + "Thank you. " * 5_000) == ("1", "23")


TABLE = {
    "price": {"a": 1.0, "b": 2.0, "c": 3.0},
    "days": {"a": 9.0, "b": 2.0, "c": 1.0},
    "rating": {"a": 4.0, "b": 5.0, "c": 3.0},
}


@pytest.mark.parametrize(
    ("prompt", "best", "other"),
    [
        ("the cheapest quote with at most four days", "a", "c"),
        ("the one with the least days", "c", "a"),
        ("the lowest priced offer", "a", "c"),
        ("the highest rating", "b", "c"),
    ],
)
def test_a_word_of_choice_asks_for_the_field_beside_it(prompt: str, best: str, other: str) -> None:
    """The extreme of another field than the one named is no answer; `at most` and `later than` choose nothing."""
    choice = Choice(tuple(prompt.split()))
    assert is_extreme(best, TABLE, choice)
    assert not is_extreme(other, TABLE, choice)


def test_a_bound_is_no_choice() -> None:
    """ATTACK: `at most` would have let the row with the most of anything through."""
    for words in ("at most four days", "not later than noon", "cheaper than 5", "at least three"):
        assert not Choice(tuple(words.split())).directions()
