"""When a schedule is due: zones and clock changes, leap days, intervals, missed runs, and what is no schedule."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_os.core.errors import ActionError
from agent_os.core.principal import Principal
from agent_os.core.schedule import Schedule, due_runs, next_after, parse_schedule, parse_trigger, upcoming

pytest.importorskip("croniter", reason="extra [durable] is not installed")
BERLIN = ZoneInfo("Europe/Berlin")


def runs(cron: str, start: str, count: int, zone: str = "Europe/Berlin") -> list[str]:
    """Return the next due times as local time with offset."""
    trigger = parse_trigger({"cron": cron, "zone": zone})
    moment = datetime.fromisoformat(start).replace(tzinfo=ZoneInfo(zone)).timestamp()
    return [
        datetime.fromtimestamp(due, ZoneInfo(zone)).isoformat(timespec="minutes")
        for due in upcoming(trigger, moment, count)
    ]


def test_a_time_that_does_not_exist_is_run_that_much_later() -> None:
    """In the night the clocks go forward 02:30 is 03:30, and the next day it is 02:30 again."""
    assert runs("30 2 * * *", "2027-03-27T12:00", 2) == ["2027-03-28T03:30+02:00", "2027-03-29T02:30+02:00"]


def test_a_time_that_exists_twice_is_run_once() -> None:
    """In the night the clocks go back 02:30 runs the first time only."""
    assert runs("30 2 * * *", "2026-10-24T12:00", 2) == ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]


def test_a_wildcard_hour_runs_through_the_repeated_hour() -> None:
    """Every half hour means every half hour, through both nights."""
    assert runs("*/30 * * * *", "2026-10-25T01:35", 4) == [
        "2026-10-25T02:00+02:00", "2026-10-25T02:30+02:00", "2026-10-25T02:00+01:00", "2026-10-25T02:30+01:00",
    ]  # fmt: skip
    assert runs("*/30 * * * *", "2027-03-28T01:35", 2) == ["2027-03-28T03:00+02:00", "2027-03-28T03:30+02:00"]


def test_leap_days_come_every_four_years() -> None:
    """29 February is found over the years between."""
    assert runs("0 0 29 2 *", "2026-10-25T00:00", 2, "UTC") == ["2028-02-29T00:00+00:00", "2032-02-29T00:00+00:00"]


@given(
    st.integers(1_760_000_000, 1_900_000_000), st.sampled_from(["* * * * *", "*/7 * * * *", "0 2 * * *", "30 2 * * 0"])
)
def test_due_times_go_forward_and_fit_the_expression(moment: int, cron: str) -> None:
    """Each next time is later than the one asked from, none is skipped back to, minutes are those of the expression."""
    trigger = parse_trigger({"cron": cron, "zone": "Europe/Berlin"})
    times = upcoming(trigger, float(moment), 4)
    assert times == sorted(set(times))
    assert times[0] > moment
    for due in times:
        assert next_after(trigger, due - 1) == due
        minute = datetime.fromtimestamp(due, BERLIN).minute
        assert minute % 7 == 0 if cron.startswith("*/7") else cron[0] == "*" or minute == int(cron.split(maxsplit=1)[0])


@given(st.floats(1, 1e6), st.floats(0, 2e9), st.floats(0, 1e6))
def test_intervals_keep_their_beat(every: float, started: float, gone: float) -> None:
    """The next run is within one interval and later than now."""
    due = next_after(parse_trigger({"every": every}), started + gone, started)
    assert due is not None
    assert started + gone < due <= started + gone + 2 * every


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": "* * *"}, "five fields"),
        ({"cron": "* * * * * *"}, "five fields"),
        ({"cron": "0 0 31 2 *"}, "cron"),
        ({"cron": ""}, "five fields"),
        ({"cron": "0 0 * * *", "zone": "Mars/Olympus"}, "zone"),
        ({"cron": "0 0 * * *", "zone": "../../etc/passwd"}, "zone"),
        ({"every": 0}, "every"),
        ({"every": -5}, "every"),
        ({"every": True}, "every"),
        ({"every": float("nan")}, "every"),
        ({"at": "9999-12-31T00:00+00:00"}, "decades"),
        ({"at": "2026-12-24T18:00"}, "offset"),
        ({"at": "tomorrow"}, "at"),
        ({"at": 1e30}, "at"),
        ({}, "exactly one"),
        ({"cron": "* * * * *", "every": 5}, "exactly one"),
        ({"every": 5, "often": True}, "exactly one"),
    ],
)
def test_what_is_no_trigger_is_named(when: dict[str, Any], said: str) -> None:
    """Malformed cron, unknown zones, zero intervals and far-off years are clear errors."""
    with pytest.raises(ActionError, match=said):
        parse_trigger(when)


def schedule(**changes: Any) -> Schedule:
    """Return a schedule due every minute since 1000 s."""
    values: dict[str, Any] = {
        "name": "s", "trigger": parse_trigger({"every": 60.0}), "program": "actions", "input": {},
        "owner": Principal(), "workspace": "/w", "created": 1000.0, "next_due": 1060.0,
    }  # fmt: skip
    return Schedule(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "due", "left_out"),
    [
        ({"missed": "once"}, [1300.0], 4),
        ({"missed": "skip"}, [1300.0], 4),
        ({"missed": "catch_up"}, [1060.0, 1120.0, 1180.0, 1240.0, 1300.0], 0),
        ({"missed": "catch_up", "catch_up_max": 2}, [1180.0, 1240.0, 1300.0], 2),
    ],
)
def test_missed_runs(changes: dict[str, Any], due: list[float], left_out: int) -> None:
    """After five due times the last is in time; of the older ones as many are run as the schedule says."""
    assert due_runs(schedule(**changes), 1301.0) == (due, 1360.0, left_out)


def test_one_run_makes_up_for_all_that_were_missed() -> None:
    """With nothing in time, `once` runs the last one missed, `skip` none."""
    late = schedule(trigger=parse_trigger({"every": 3600.0}), next_due=4600.0)
    assert due_runs(late, 4600.0 + 3 * 3600 + 600)[0] == [4600.0 + 3 * 3600]
    assert due_runs(schedule(trigger=late.trigger, next_due=4600.0, missed="skip"), 4600.0 + 600)[0] == []


def test_years_of_missed_seconds_are_bounded() -> None:
    """A schedule that slept for years starts anew from now instead of counting for ever."""
    due, following, _ = due_runs(schedule(trigger=parse_trigger({"every": 1.0})), 2e8)
    assert len(due) <= 10
    assert following is not None
    assert 2e8 < following <= 2e8 + 2


def test_jitter_is_the_same_for_the_same_run_and_within_bounds() -> None:
    """Two workers delay one run alike; different runs differ."""
    jittered = schedule(jitter=30.0)
    delays = [jittered.delay(1000.0 + 60 * n) for n in range(50)]
    assert delays == [jittered.delay(1000.0 + 60 * n) for n in range(50)]
    assert all(0 <= delay < 30 for delay in delays)
    assert len(set(delays)) == 50


def test_the_wire_form_comes_back() -> None:
    """A schedule is what it was after a round trip, and malformed ones are named."""
    made = schedule(trigger=parse_trigger({"cron": "0 2 * * *", "zone": "Europe/Berlin"}), jitter=5.0)
    assert parse_schedule(made.to_json()) == made
    for field, value in (("name", ""), ("missed", "all"), ("overlap", "x"), ("jitter", -1), ("catch_up_max", 0)):
        with pytest.raises(ActionError, match=field):
            parse_schedule({**made.to_json(), field: value})
