"""Numbers as people write them, in five languages, and what is no number."""

from __future__ import annotations

import pytest

from agent_os.guards.flow.numerals import in_digits, pointed_numbers, spoken_numbers
from agent_os.guards.flow.stated import numbers_in


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("Order twenty bottles", {20}),
        ("thirty-five copies", {35}),
        ("a dozen eggs", {12}),
        ("sechs Stunden", {6}),
        ("einundzwanzig oder fünfundzwanzig Stück", {21, 25}),
        ("trois cartons", {3}),
        ("tres copias", {3}),
        ("dodici pezzi", {12}),
    ],
)
def test_a_number_in_words_is_read(text: str, numbers: set[float]) -> None:
    """Units, tens, tens with units, German compounds."""
    assert spoken_numbers(text) == numbers


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("pay 3.200 € in advance", {3200}),
        ("1.234.567,50 EUR", {1234567.5}),
        ("12,5 kg", {12.5}),
        ("10.0.0.1 v1.2.3", set()),
    ],
)
def test_a_point_for_thousands_and_a_comma_for_the_fraction_are_read(text: str, numbers: set[float]) -> None:
    """The way most of Europe writes; addresses and versions are no numbers."""
    assert pointed_numbers(text) == numbers


@pytest.mark.parametrize(
    "text", ["once it is due", "un café", "version 10.0.0.1", "on 3.5.2026", "v1.2.3", "someone alone", ""]
)
def test_what_is_no_number_vouches_for_none(text: str) -> None:
    """Articles, adverbs that are numbers elsewhere, addresses, versions, dates, and words that only contain one."""
    assert spoken_numbers(text) == frozenset()


def test_a_prompt_has_both_readings_of_a_point() -> None:
    """`3.200` is three point two in one language and three thousand two hundred in another: either is the user's number."""
    assert {3.2, 3200.0} <= numbers_in("pay 3.200 now")
    assert 32000.0 not in numbers_in("pay 3.200 now")


def test_a_word_that_counts_states_no_amount() -> None:
    """`one` in a prompt is no amount that a payment could contradict; digits are."""
    assert numbers_in("pay the one that is open, in two steps") == frozenset()
    assert numbers_in("pay 12 now") == {12.0}


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("forty thousand euros", "40000 euros"), ("two hundred and fifty people", "250 people"), ("one of them", "one of them"),
        ("twenty-five thousand", "25000"), ("order one and two", "order one and two"),
    ],
)  # fmt: skip
def test_numbers_of_several_words(text: str, digits: str) -> None:
    """Hundreds and thousands are one number with what stands before and after; a word alone stays a word."""
    assert in_digits(text) == digits
