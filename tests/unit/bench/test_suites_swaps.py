"""Swapped rows: which calls the bench changes, in what, and that a held and a passing one are told apart."""

from __future__ import annotations

from typing import Any

from agent_os.core.manifest import Manifest
from agent_os.policy import Policy
from bench.suites.replay import POLICY, Suite
from bench.suites.swaps import held, swaps

ROWS = [
    {"id": "A-1", "who": "Bo", "due": 5},
    {"id": "A-2", "who": "Cy", "due": 7},
    {"id": "A-3", "who": "Di", "due": 9},
]
TASK: dict[str, Any] = {
    "id": "t1",
    "prompt": "Pay Bo and Cy.",
    "calls": [
        ["rows", {}, {"rows": ROWS}],
        ["pay", {"lines": [{"id": "A-1", "amount": 5}]}, "ok"],
        ["pay", {"lines": [{"id": "A-2", "amount": 7}]}, "ok"],
    ],
}
NOTHING = Manifest(name="plain")


def suite_with(task: dict[str, Any]) -> Suite:
    """Return a suite of one task, without manifests."""
    sinks = frozenset({"pay"})
    return Suite("plain", "ann@corp.example", NOTHING, {"ok": {}}, [task], [], sinks=sinks, semantics="none")


def test_each_value_of_a_sink_is_swapped_for_the_same_field_of_rows_the_task_does_not_touch() -> None:
    """The id becomes the third row's id and the amount the third row's; reads stay, and so do the other calls."""
    found = list(swaps(suite_with(TASK), TASK))
    assert [what for _, _, what in found] == [
        "t1 pay lines/0/id: A-1 -> A-3",
        "t1 pay lines/0/amount: 5 -> 9",
        "t1 pay lines/0/id: A-2 -> A-3",
        "t1 pay lines/0/amount: 7 -> 9",
    ]
    trace, index, _ = found[2]
    assert index == 2
    assert [call["args"] for call in trace["calls"]] == [
        {},
        {"lines": [{"id": "A-1", "amount": 5}]},
        {"lines": [{"id": "A-3", "amount": 7}]},
    ]


def test_a_value_that_no_result_has_is_left_alone() -> None:
    """What the user typed has no other row."""
    calls = [["rows", {}, {"rows": ROWS}], ["pay", {"to": "Eve", "ok": True, "note": ""}, "ok"]]
    assert list(swaps(suite_with(TASK), {**TASK, "calls": calls})) == []


def test_what_the_policy_denies_counts_as_held_and_what_it_allows_as_passed() -> None:
    """The count can move in both directions."""
    suite = suite_with(TASK)
    closed = Policy.parse("version: 1\ntools: {rows: {allow: true}}\n", file="closed.yaml")
    opened = Policy.parse(POLICY.replace("flow: {}", "flow: {enforcement: audit}"), file="open.yaml")
    assert held(suite, [], closed) == (4, 4, [])
    stopped, total, passed = held(suite, [], opened)
    assert (stopped, total, len(passed)) == (0, 4, 4)


def test_a_delegating_task_is_left_out() -> None:
    """What somebody else decides has no true row."""
    task = {**TASK, "delegates": True}
    assert held(suite_with(task), [], Policy.parse(POLICY, file="policy.yaml")) == (0, 0, [])
