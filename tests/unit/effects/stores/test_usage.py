"""The sums of what models used: added by call, shown by any key and period, folded after a while."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent_os.effects.meter import OPEN_MAX, Meter
from agent_os.effects.stores.usage import UsageStore

NOW = datetime.now(UTC).timestamp()
TODAY = datetime.now(UTC).strftime("%Y-%m-%d")


class Sink:
    """An audit sink that keeps records in a list."""

    def __init__(self) -> None:
        self.records: list[Any] = []

    def append(self, record: Any) -> Any:
        self.records.append(record)
        return "written"


def meter(folder: Path) -> tuple[Meter, UsageStore, Sink]:
    sink, store = Sink(), UsageStore(folder)
    return Meter(sink, store, tier={"p": "high"}.get, team=lambda user: "blue"), store, sink  # type: ignore[arg-type]


def intent(ref: str, kind: str = "model.call", **more: Any) -> dict[str, Any]:
    action = {"kind": kind, "provider": "p", "model": "m", "input_tokens": 7}
    who = {"tenant": "t", "user": "ana", "agent": "sub", "parents": ["main"], "session": "task-1"}
    return {"type": "intent", "ref": ref, "time": NOW, "action": action, **who, **more}


def test_a_call_is_counted_with_its_outcome_and_records_pass_unchanged(tmp_path: Path) -> None:
    """Tokens by kind, dollars, principal, team and tier; the sink gets every record as it was and answers itself."""
    counting, store, sink = meter(tmp_path)
    usage = {
        "tokens": 15.0,
        "input_tokens": 10.0,
        "output_tokens": 5.0,
        "cached_tokens": 4.0,
        "reasoning_tokens": 2.0,
        "usd": 0.25,
    }
    outcome = {"type": "outcome", "ref": "a", "ok": True, "usage": usage}
    assert counting.append(intent("a")) == "written"
    counting.append(outcome)
    counting.append({"type": "outcome", "ref": "a", "ok": True, "usage": usage})
    counting.append(intent("b", kind="tool.call"))
    counting.append({"type": "outcome", "ref": "b", "ok": True})
    store.close()
    assert sink.records[1] is outcome
    (row,) = store.sums("agent", "day")
    counts = {"calls": 1, "input": 10, "output": 5, "cached": 4, "reasoning": 2, "unreported": 0}
    assert row == {"period": TODAY, "agent": "main/sub", **counts, "tokens": 15, "usd": 0.25}
    for key, value in (("tier", "high"), ("team", "blue"), ("task", "task-1"), ("tenant", "t")):
        assert store.sums(key, "year")[0][key] == value
    assert store.sums("user", "total", where={"user": "bo"}) == []


def test_what_is_not_reported_is_estimated_and_said_so(tmp_path: Path) -> None:
    """A call whose provider reports nothing counts its estimated input and as unreported."""
    counting, store, _ = meter(tmp_path)
    counting.append(intent("a"))
    counting.append({"type": "outcome", "ref": "a", "ok": True})
    store.close()
    (row,) = store.sums("model", "total")
    assert (row["input"], row["unreported"]) == (7, 1)


def test_the_memory_of_calls_under_way_is_bounded(tmp_path: Path) -> None:
    """Intents whose outcome never comes do not pile up."""
    counting, store, _ = meter(tmp_path)
    for number in range(OPEN_MAX + 10):
        counting.append(intent(str(number)))
    assert len(counting._open) == OPEN_MAX
    store.close()


def test_old_tasks_become_one_row_a_day_and_sums_stay(tmp_path: Path) -> None:
    """After TASK_DAYS a day's tasks are told apart no more; nothing is lost from the sums."""
    store = UsageStore(tmp_path)
    for task in ("one", "two"):
        store.add({"day": "2020-02-03", "user": "ana", "task": task, "model": "m"}, {"calls": 1, "input": 5})
    store.close()
    store.add({"day": TODAY, "user": "ana", "task": "three", "model": "m"}, {"calls": 1, "input": 1})
    store.close()
    assert [(row["task"], row["calls"], row["input"]) for row in store.sums("task", "year")] == [
        ("-", 2, 10),
        ("three", 1, 1),
    ]


def test_unknown_columns_and_periods_are_refused(tmp_path: Path) -> None:
    """Names go into SQL: only known ones do."""
    store = UsageStore(tmp_path)
    for by, per, where in (("x", "day", {}), ("user", "week", {}), ("user", "day", {"1=1; --": "x"})):
        with pytest.raises(ValueError, match="no such"):
            store.sums(by, per, where=where)
    assert store.sums("user", "day") == []
