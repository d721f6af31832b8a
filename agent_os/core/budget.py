"""What a budget is: how much of which units may be used, by whom, in which window. Pure values.

A budget of the policy names whom it is counted for (`per`) and when it starts anew (`window`); an *account* is one
counter of it: budget, subject, period. Periods are calendar periods of the budget's time zone (UTC where it names none).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from agent_os.core.errors import ActionError
from agent_os.core.principal import Principal, part
from agent_os.core.zone import zone_of

UNITS: Final = ("tokens", "usd", "calls", "bytes", "seconds", "steps")
WINDOWS: Final = ("run", "hour", "day", "week", "month", "year", "total")
STATED: Final = frozenset({"team", "model", "tier", "tool"})
"""Subjects that a principal does not have: they stand after a colon in the budget's name (`model/day:gpt-5`)."""
SCALE: Final = 1_000_000
AMOUNT_MAX: Final = 2**62 // SCALE
ESTIMATED: Final = "estimated"
"""Marks a usage that is the whole reservation, because nobody reported a believable one."""


def millionths(amount: float, *, field: str = "amount") -> int:
    """Return an amount as whole millionths, rounded up: what a budget is charged and what a bill says of one call.

    Raises ActionError for a negative, infinite or huge one.
    """
    if not isinstance(amount, (int, float)) or isinstance(amount, bool) or not math.isfinite(amount):
        raise ActionError("must be a finite number", field=field)
    if amount < 0 or amount > AMOUNT_MAX:
        raise ActionError("must not be negative or beyond what is countable", field=field)
    return math.ceil(round(amount * SCALE, 3))


@dataclass(frozen=True, slots=True)
class Budget:
    """One budget of a policy: limits by unit, `per` a subject kind, `window` one of WINDOWS."""

    name: str
    per: str
    window: str
    limits: Mapping[str, float] = field(default_factory=dict)
    warn_at: float = 0.0
    """Share used from which a warning is due; 0: never."""
    zone: str = "UTC"
    """Where its hours, days, weeks, months and years begin."""

    def account(self, principal: Principal, now: float, *, run: str = "", stated: str = "") -> str:
        """Return the account that a use by this principal at this time (Unix seconds) is counted on.

        `run` names the run for `window: run`; `stated` the team, model, tier or tool. Raises ActionError without them.
        """
        if self.per in STATED:
            if not stated:
                raise ActionError(f"budget {self.name!r} is per {self.per} and none was stated", field="budget")
            parts: tuple[str, ...] = (principal.tenant, stated)
        elif self.per == "tenant":
            parts = (principal.tenant,)
        elif self.per == "user":
            parts = (principal.tenant, principal.user)
        elif self.per == "agent":
            parts = (principal.tenant, principal.user, principal.root)
        elif self.per in ("session", "task"):
            parts = (principal.tenant, principal.user, principal.session)
        else:
            raise ActionError(f"unknown subject {self.per!r}", field="budget.per")
        subject = "/".join(_part(part) for part in parts)
        return f"{self.name}|{self.per}={subject}|{period(self.window, now, run, self.zone)}"


def _part(text: str) -> str:
    """Return a name with what separates names in an account escaped, so that two subjects never share one."""
    return part(text).replace("|", "%7C")


@dataclass(frozen=True, slots=True)
class Warned:
    """An account whose use has just passed the share of its budget's `warn_at`; amounts in the budget's unit."""

    account: str
    unit: str
    used: float
    limit: float


def tenant_of(account: str) -> str:
    """Return the tenant that an account's use is counted for."""
    subject = account.rpartition("|")[0].rpartition("|")[2].partition("=")[2]
    return subject.partition("/")[0].replace("%7C", "|").replace("%2F", "/").replace("%25", "%")


def period(window: str, now: float, run: str = "", zone: str = "UTC") -> str:
    """Return the name of the period of a window at a time: `2026`, `2026-11`, `2026-W47`, `2026-11-21`, `…T10`.

    The hour that a clock set back shows twice is two periods (`…T02` and `…T02+0100`).
    """
    if window == "total":
        return "total"
    if window == "run":
        if not run:
            raise ActionError("a budget of a run needs the run's id", field="budget.window")
        return f"run={run}"
    moment = datetime.fromtimestamp(now, UTC if zone == "UTC" else zone_of(zone))
    if window == "week":
        year, week, _ = moment.isocalendar()
        return f"{year}-W{week:02d}"
    pattern = {"hour": "%Y-%m-%dT%H", "day": "%Y-%m-%d", "month": "%Y-%m", "year": "%Y"}.get(window)
    if pattern is None:
        raise ActionError(f"unknown window {window!r} (one of {', '.join(WINDOWS)})", field="budget.window")
    again = window == "hour" and moment.fold
    return moment.strftime(pattern + ("%z" if again else ""))
