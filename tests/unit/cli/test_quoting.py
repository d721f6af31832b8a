"""Names and texts of programs nobody trusts, as a person is shown them."""

from __future__ import annotations

import os

import pytest

from agent_os.cli.quoting import escaped, quoted


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("notes.txt", "notes.txt"),
        ("Über uns/résumé 1.txt", "Über uns/résumé 1.txt"),
        ("a\nM README.md", '"a\\nM README.md"'),
        ("\x1b[2Jx", '"\\x1b[2Jx"'),
        ("x\x9b31m", '"x\\x9b31m"'),
        ("txt.\u202ecod", '"txt.\\u202ecod"'),
        ('"quoted"', '"\\"quoted\\""'),
        ("tab\tback\\slash", '"tab\\tback\\\\slash"'),
        (os.fsdecode(b"bad\xff"), '"bad\\xff"'),
        ("tag\U000e0041", '"tag\\U000e0041"'),
    ],
)
def test_a_name_stays_on_its_line_and_drives_nothing(name: str, shown: str) -> None:
    """What prints is left alone; anything else is escaped and quoted, and can be written as UTF-8."""
    assert quoted(name) == shown
    assert shown.encode()


def test_text_keeps_what_it_may() -> None:
    """Line breaks and tabs stay in a text that has them; everything else that does not print is escaped."""
    assert escaped("a\n\tb\x07\r", keep="\n\t") == "a\n\tb\\x07\\r"
