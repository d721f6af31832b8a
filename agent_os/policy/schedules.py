"""The `schedules` section: which schedules may be created, changed and removed. Pure.

A trigger is `{"every": "1h"}`, `{"cron": "0 3 * * *"}`, `{"at": …}` or `{"event": …}`, or a cron line as text. One
whose pace cannot be told counts as too fast where a least interval is set.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from agent_os.core.action import Action, TaskSchedule
from agent_os.core.decision import Verdict
from agent_os.core.facts import Facts
from agent_os.policy.globs import PatternError, compile_any
from agent_os.policy.lists import ListSection, Tell, list_rule, present
from agent_os.policy.rule import Context

if TYPE_CHECKING:
    from agent_os.policy.schema.agents import Schedules

KINDS: Final = frozenset({"task.schedule"})
_DAY_S: Final = 86_400.0


def least_interval(when: Any) -> float | None:
    """Return the least seconds between two runs of a trigger (infinite for one run), or None if it cannot be told."""
    from agent_os.policy.schema.base import parse_duration  # noqa: PLC0415

    if isinstance(when, str):
        when = {"cron": when}
    if not isinstance(when, Mapping) or len(set(when) & {"every", "cron", "at", "event"}) != 1:
        return None
    if "at" in when:
        return float("inf")
    if "event" in when:
        return 0.0
    if "every" in when:
        try:
            return parse_duration(when["every"])
        except ValueError:
            return None
    fields = str(when["cron"]).split()
    if len(fields) != 5:
        return None
    minutes, hours = _values(fields[0], 60), _values(fields[1], 24)
    if minutes is None or hours is None:
        return None
    if len(minutes) > 1:
        return 60.0 * _gap(minutes, 60)
    if len(hours) > 1:
        return 3600.0 * _gap(hours, 24)
    return _DAY_S


def _values(field: str, size: int) -> list[int] | None:
    """Return the values a cron field names, or None for a form that is not read here."""
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        if step and not step.isdecimal():
            return None
        first, _, last = span.partition("-")
        if span == "*":
            low, high = 0, size - 1
        elif first.isdecimal() and (not last or last.isdecimal()):
            low = int(first)
            high = int(last) if last else (size - 1 if step else low)
        else:
            return None
        if not 0 <= low <= high < size or (step and int(step) < 1):
            return None
        found.update(range(low, high + 1, int(step) if step else 1))
    return sorted(found)


def _gap(values: list[int], size: int) -> int:
    gaps = [two - one for one, two in pairwise(values)]
    return min([*gaps, values[0] + size - values[-1]])


def compile_schedules(schedules: Schedules, context: Context) -> ListSection:
    """Return the compiled section; what cannot be compiled is recorded in the context."""
    rules = []
    for effect in (Verdict.ALLOW, Verdict.ASK, Verdict.DENY):
        for index, entry in enumerate(getattr(schedules, effect.value)):
            path = f"schedules.{effect.value}[{index}]"
            try:
                test = _schedule(entry, wide=effect is not Verdict.ALLOW)
            except PatternError as error:
                context.problem(path, str(error))
                continue
            rules.append(list_rule(entry, effect, path, test, context, words=entry.name, what="the schedule"))
    if schedules.min_interval is not None:
        least = schedules.min_interval

        def too_fast(action: Action, _facts: Facts) -> bool | None:
            if not isinstance(action, TaskSchedule) or action.operation not in ("create", "change"):
                return False
            interval = least_interval(action.when)
            return None if interval is None else bool(interval < least)

        what = f"runs closer than {least:g} seconds"
        rules.append(list_rule(None, Verdict.DENY, "schedules.min_interval", too_fast, context, what=what))
    return ListSection("schedules", KINDS, present(rules), "schedule")


def _schedule(entry: Any, *, wide: bool) -> Tell:
    names = compile_any([entry.name], crossing=True)
    roles = compile_any(entry.roles) if entry.roles else None
    operations = frozenset(entry.operations)

    def test(action: Action, _facts: Facts) -> bool | None:
        if not isinstance(action, TaskSchedule) or not names(action.name):
            return False
        if operations and action.operation not in operations:
            return False
        if roles is not None and not roles(action.role):
            return False
        if entry.min_interval is None or action.operation not in ("create", "change"):
            return True
        interval = least_interval(action.when)
        if interval is None:
            return None
        return bool(interval < entry.min_interval if wide else interval >= entry.min_interval)

    return test
