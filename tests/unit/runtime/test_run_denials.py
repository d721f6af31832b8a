"""What `agentos run` says at its end of what was denied."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

from agent_os.effects.proxy.answers import PHRASE_CHARS_MAX, spoken
from agent_os.runtime.sandbox.run import DENIALS_SHOWN_MAX, _denials


def guard(denials: dict[str, int], *, observe: bool = False) -> Any:
    """A guard that has run."""
    return SimpleNamespace(parts=SimpleNamespace(denials=Counter(denials), observe=observe))


def test_the_most_frequent_come_first_and_the_rest_is_counted() -> None:
    """A line a kind, with how often; of more kinds than are shown, their number."""
    lines = _denials(guard({f"connect h{number}:443: no": number + 1 for number in range(DENIALS_SHOWN_MAX + 3)}))
    assert lines[0] == f"denied by policy: connect h{DENIALS_SHOWN_MAX + 2}:443: no ({DENIALS_SHOWN_MAX + 3} times)"
    assert lines[-1] == "and 3 other kinds of denials: the flow log has them"
    assert len(lines) == DENIALS_SHOWN_MAX + 1


def test_nothing_is_said_of_nothing_and_of_what_was_let_pass() -> None:
    """No denials, and observe mode: no line."""
    assert _denials(guard({})) == []
    assert _denials(guard({"connect x:1: no": 1}, observe=True)) == []


def test_what_a_program_named_cannot_write_to_the_terminal() -> None:
    """Control characters and more than one line of a name do not reach the person, nor a status line."""
    assert spoken("connect \x1b[2J\r\nx: no") == "connect ?[2J??x: no"
    assert len(spoken("x" * 1000)) == PHRASE_CHARS_MAX
