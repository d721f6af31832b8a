"""What `agentos run` says at its end of what was denied."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from agent_os.effects.proxy.answers import PHRASE_CHARS_MAX, spoken
from agent_os.effects.sandbox.running import Ended
from agent_os.guards.confine.plan import Mount
from agent_os.runtime.sandbox.told import DENIALS_SHOWN_MAX, of_end, of_guard


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


HELD: Any = SimpleNamespace(workspace="/ws", mounts=(Mount("empty", "/ws/.git", hold="dir"),))
THERE: Any = SimpleNamespace(workspace="/ws", mounts=(Mount("bind", "/ws/.git"),))


@pytest.mark.parametrize(
    ("ended", "plan", "argv", "said"),
    [
        (Ended(137, 9, "memory limit"), HELD, ["make"], "process.limits.memory"),
        (Ended(143, 15, "wall-clock limit"), HELD, ["make"], "process.limits.wall_time"),
        (Ended(137, 9, "disk limit"), HELD, ["make"], "process.limits.disk"),
        (Ended(153), HELD, ["sh", "-c", "cc x"], "filesystem_policy.max_file_bytes"),
        (Ended(128), HELD, ["git", "init"], "protect_except: [.git]"),
        (Ended(1), HELD, ["sh", "-c", "mkdir a && git -C . init && make"], "protect_except: [.git]"),
        (Ended(0), HELD, ["sh", "-c", "git init below"], ""),
        (Ended(128), THERE, ["git", "init"], ""),
        (Ended(1), HELD, ["sh", "-c", "git status; npm init"], ""),
        (Ended(137, 9, "killed"), HELD, ["make"], ""),
    ],
)
def test_a_limit_or_a_held_name_is_told_with_the_line_that_changes_it(
    ended: Ended, plan: Any, argv: list[str], said: str
) -> None:
    """What a run met leads to the policy's own word for it; a run that met nothing of ours is told nothing."""
    found = of_end(ended, plan, argv)
    assert (said in found) if said else found == ""
