"""Statements from the audit: which calls a period has, how they add up, what has no outcome."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agent_os.audit.statement import stated
from agent_os.core.budget import Budget, millionths, period
from agent_os.core.errors import ActionError, PolicyError
from agent_os.core.principal import Principal
from agent_os.policy import Policy


def call(ref: str, at: float, usd: float = 0.1, tenant: str = "acme", **outcome: Any) -> list[dict[str, Any]]:
    """Return a call's intent and outcome as the audit has them."""
    action = {"kind": "model.call", "provider": "p", "model": "m", "input_tokens": 7}
    usage = {"input_tokens": 10.0, "output_tokens": 5.0, "tokens": 15.0, "usd": usd}
    return [
        {"type": "intent", "ref": ref, "time": at, "tenant": tenant, "user": "u", "agent": "a", "action": action, "tier": "high",
         "most": {"tokens": 50.0, "usd": 0.25}},
        {"type": "outcome", "ref": ref, "time": at + 5, "ok": True, "usage": usage, **outcome},
    ]  # fmt: skip


def test_a_call_belongs_to_the_period_of_its_intent() -> None:
    """A call that begins before midnight and ends after it is in the old month alone; the boundary itself is in the new one."""
    log = [*call("before", 99.9), *call("on", 100.0), *call("after", 150.0), *call("end", 200.0)]
    whole = [stated(log, begins=begin, ends=end).total("calls") for begin, end in ((0, 100), (100, 200), (200, 300))]
    assert whole == [1, 2, 1]


def test_a_million_tenths_of_a_cent_add_up() -> None:
    """Sums are of whole millionths: no rounding error however many calls."""
    log = [record for number in range(10_000) for record in call(str(number), 1.0, 0.001)]
    (row,) = stated(log, begins=0, ends=2).rows()
    assert (row["usd"], row["calls"], row["input"], row["tier"]) == ("10.000000", 10_000, 100_000, "high")


def test_what_has_no_outcome_is_said_and_not_summed() -> None:
    """A call cut off by a crash is counted apart, with what was reserved for it; one that nobody reported is billed as it was
    reserved, and said; one that was taken back before it began used nothing.
    """
    silent = {"input_tokens": 7.0, "output_tokens": 43.0, "tokens": 50.0, "usd": 0.25, "estimated": 1.0}
    log = [call("cut", 1.0)[0], *call("silent", 1.0, usage=silent), *call("other", 1.0, tenant="bolt")]
    log += call("old", 1.0, usage={}) + call("back", 1.0, usage={}, ok=False, error="cancelled")
    found = stated(log, begins=0, ends=2, only={"tenant": "acme"})
    assert (found.open, found.open_micro_usd, found.unreported) == (1, 250_000, 2)
    assert (found.total("calls"), found.total("input"), found.total("micro_usd")) == (3, 14, 250_000)


def test_each_call_is_rounded_up_as_budgets_are() -> None:
    """A thousand calls of a tenth of a millionth are no gift, and are what a budget was charged."""
    log = [record for number in range(1000) for record in call(str(number), 1.0, 1e-7)]
    assert stated(log, begins=0, ends=2).total("micro_usd") == 1000 == sum(millionths(1e-7) for _ in range(1000))


def test_a_second_outcome_of_one_call_bills_nothing() -> None:
    """A record repeated, or one whose intent nobody wrote, is not billed."""
    log = [*call("a", 1.0), call("a", 1.0)[1], call("forged", 1.0)[1]]
    assert stated(log, begins=0, ends=2).total("calls") == 1


@pytest.mark.parametrize(
    ("window", "moment", "zone", "name"),
    [
        ("month", "2026-10-31T23:30:00+00:00", "UTC", "2026-10"),
        ("month", "2026-10-31T23:30:00+00:00", "Europe/Berlin", "2026-11"),
        ("month", "2026-11-01T03:00:00+00:00", "America/New_York", "2026-10"),
        ("day", "2026-03-29T22:30:00+00:00", "Europe/Berlin", "2026-03-30"),
        ("hour", "2026-10-25T00:30:00+00:00", "Europe/Berlin", "2026-10-25T02"),
        ("hour", "2026-10-25T01:30:00+00:00", "Europe/Berlin", "2026-10-25T02+0100"),
        ("week", "2027-01-03T23:30:00+00:00", "Europe/Berlin", "2027-W01"),
        ("year", "2026-12-31T12:00:00+00:00", "Pacific/Kiritimati", "2027"),
    ],
)
def test_periods_begin_where_the_budgets_zone_says(window: str, moment: str, zone: str, name: str) -> None:
    """Months, weeks and years turn at the zone's midnight; the hour that a clock set back repeats is two."""
    assert period(window, datetime.fromisoformat(moment).timestamp(), zone=zone) == name


def test_a_budget_s_account_is_of_its_zone() -> None:
    """The same moment is counted on two accounts by two zones; a budget without one is in UTC."""
    at = datetime(2026, 10, 31, 23, 30, tzinfo=UTC).timestamp()
    plain, berlin = Budget("m", "tenant", "month"), Budget("m", "tenant", "month", zone="Europe/Berlin")
    assert plain.account(Principal(tenant="t"), at).endswith("|2026-10")
    assert berlin.account(Principal(tenant="t"), at).endswith("|2026-11")


def test_a_zone_nobody_knows_is_an_error_of_the_file() -> None:
    """A mistyped zone is refused when the policy is read, with the field's name."""
    Policy.parse("version: 1\nbudgets: [{per: tenant, window: month, zone: Europe/Berlin, usd: 1}]")
    for bad in ("Europe/Berln", "../../etc/passwd", "''"):
        with pytest.raises(PolicyError, match="zone"):
            Policy.parse(f"version: 1\nbudgets: [{{per: tenant, window: month, zone: {bad}, usd: 1}}]")
    with pytest.raises(ActionError, match="zone"):
        period("month", 0.0, zone="Mars/Base")
