"""Several machines' logs side by side: an approval carries one effect."""

from __future__ import annotations

from typing import Any

from agent_os.audit.together import Together


def intent(reference: str, *approvals: str, writer: str = "tasks") -> dict[str, Any]:
    """Return the record of an intent."""
    return {"type": "intent", "ref": reference, "writer": writer, "seq": 7, "approvals": list(approvals)}


def test_an_approval_used_on_two_machines_is_named() -> None:
    """Both places are told; a lasting grant may be used again, and an intent without outcome used nothing."""
    both = Together()
    for where, reference in (("a", "r1"), ("b", "r2")):
        both.add(where, intent(reference, "grt_apr_1", "std_1"))
        both.add(where, {"type": "outcome", "ref": reference})
    both.add("a", intent("r3", "grt_apr_2"))
    both.add("b", intent("r4", "grt_apr_2"))
    both.add("b", {"type": "outcome", "ref": "r4"})
    assert both.faults() == ["approval grt_apr_1 was used 2 times: a/tasks:7, b/tasks:7"]
    assert both.approvals == 2


def test_records_that_say_nothing_of_approvals() -> None:
    """Other records, and malformed ones, are passed over."""
    both = Together()
    for record in ({}, {"type": "intent"}, {"type": "intent", "approvals": "x"}, {"type": "intent", "approvals": [5]}):
        both.add("a", record)
    assert both.faults() == []
