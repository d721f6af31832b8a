"""What a policy's `schedules` section says of every schedule: how many, missed runs, overlap, each run's allowance. Pure.

A file that states `missed`, `overlap` or `catch_up` sets the most that is let happen: a schedule may ask for less. Over
several files the strictest holds. Threat: a schedule that makes up for a week of payments in one night.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent_os.core.action import Action
from agent_os.core.principal import Principal
from agent_os.core.schedule import CATCH_UP_MAX, Schedule, parse_schedule
from agent_os.policy import Policy
from agent_os.policy.agents import BUDGET_UNITS

_MISSED: Final = ("skip", "once", "catch_up")
"""From the strictest on."""
_OVERLAP: Final = ("skip", "cancel", "queue")


@dataclass(frozen=True, slots=True)
class Terms:
    """The strictest of what the files of a policy say. Empty texts: nobody said."""

    active_max: int = 0
    missed: str = ""
    overlap: str = ""
    catch_up: int = CATCH_UP_MAX
    limits: Mapping[str, float] = field(default_factory=dict)

    def agreed(self, data: Mapping[str, Any]) -> tuple[Schedule, int]:
        """Return a schedule of its wire form on these terms, and how many of its owner may be active (0: any).

        Raises ActionError.
        """
        given = dict(data)
        for name, said, order in (("missed", self.missed, _MISSED), ("overlap", self.overlap, _OVERLAP)):
            if said and given.get(name, said) in order:
                given[name] = min(given.get(name, said), said, key=order.index)
        schedule = parse_schedule({"catch_up_max": min(10, self.catch_up), **given})
        if schedule.catch_up_max > self.catch_up:
            schedule = parse_schedule({**given, "catch_up_max": self.catch_up})
        return schedule, self.active_max

    def within(self, limits: Mapping[str, float]) -> dict[str, float]:
        """Return the limits of one run: its schedule's and these, the smaller of each unit."""
        units = {*limits, *self.limits}
        return {unit: min(limits.get(unit, float("inf")), self.limits.get(unit, float("inf"))) for unit in units}


def terms_of(policy: Policy) -> Terms:
    """Return what a policy says of its schedules."""
    active, catch_up = 0, CATCH_UP_MAX
    missed: list[str] = []
    overlap: list[str] = []
    limits: dict[str, float] = {}
    for section, _, _ in policy.sections("schedules"):
        said = section.model_fields_set
        if section.max_active is not None:
            active = min(active or section.max_active, section.max_active)
        if "missed" in said:
            missed.append("catch_up" if section.missed == "all" else section.missed)
        if "overlap" in said:
            overlap.append(section.overlap)
        if "catch_up" in said:
            catch_up = max(1, min(catch_up, section.catch_up))
        for unit in BUDGET_UNITS if section.budgets is not None else ():
            most = getattr(section.budgets, unit)
            if most is not None:
                limits[unit] = min(float(most), limits.get(unit, float(most)))
    return Terms(
        active,
        min(missed, key=_MISSED.index, default=""),
        min(overlap, key=_OVERLAP.index, default=""),
        catch_up,
        limits,
    )


def scheduled(name: str, when: Any, given: Mapping[str, Any], principal: Principal) -> Action:
    """Return the action of making a schedule that runs `given`: what a policy's `schedules` judges."""
    text = given.get("task")
    data = {key: value for key, value in given.items() if key not in ("task", "model")}
    said = {"task": text if isinstance(text, str) else "", **({"given": data} if data else {})}
    return Action.parse(
        {"kind": "task.schedule", "name": name, "when": when, **said},
        principal=principal,
    )
