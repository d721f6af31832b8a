"""What `agentos run` says at its end of what was denied."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

from agent_os.effects.proxy.answers import PHRASE_CHARS_MAX, spoken
from agent_os.runtime.sandbox.told import DENIALS_SHOWN_MAX, of_guard


def guard(denials: dict[str, int], *, observe: bool = False, unreached: dict[str, int] | None = None) -> Any:
    """A guard that has run."""
    return SimpleNamespace(
        parts=SimpleNamespace(denials=Counter(denials), unreached=Counter(unreached or {}), observe=observe)
    )


def test_the_most_frequent_come_first_and_the_rest_is_counted() -> None:
    """A line a kind, with how often; of more kinds than are shown, their number."""
    lines = of_guard(guard({f"connect h{number}:443: no": number + 1 for number in range(DENIALS_SHOWN_MAX + 3)}), ())
    assert lines[0] == f"denied by policy: connect h{DENIALS_SHOWN_MAX + 2}:443: no ({DENIALS_SHOWN_MAX + 3} times)"
    assert lines[-2] == "and 3 other kinds of denials: the flow log has them"
    assert "--observe" in lines[-1]
    assert len(lines) == DENIALS_SHOWN_MAX + 2


def test_what_was_observed_leads_to_the_rules_for_it() -> None:
    """In observe mode it is said what the policy does not allow, and the command that proposes rules."""
    lines = of_guard(guard({"connect x:1: no": 1}, observe=True), ["a.yaml", "my policy.yaml"])
    assert lines[0] == "not allowed by the policy: connect x:1: no"
    assert lines[1].endswith("agentos policy learn a.yaml 'my policy.yaml' --observed")


def test_what_could_not_be_reached_is_no_denial() -> None:
    """A name that does not resolve is said as that; of a run in which nothing went wrong nothing is said."""
    assert of_guard(guard({}, unreached={"x:443: the name does not resolve": 2}), ()) == [
        "not reached: x:443: the name does not resolve (2 times)"
    ]
    assert of_guard(guard({}), ()) == []


def test_what_a_program_named_cannot_write_to_the_terminal() -> None:
    """Control characters and more than one line of a name do not reach the person, nor a status line."""
    assert spoken("connect \x1b[2J\r\nx: no") == "connect ?[2J??x: no"
    assert len(spoken("x" * 1000)) == PHRASE_CHARS_MAX
