"""Schedules: when a task is due, in its owner's time zone, and what becomes of runs that were missed. Pure.

Cron expressions are read by croniter (extra `[durable]`), walked in wall-clock time and mapped to instants here: a
time that does not exist in the night the clocks go forward is run that much later, one that exists twice is run once,
the first time; where the hours are a wildcard every instant counts. Threat: a nightly payment that runs twice or not
at all in October.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from agent_os.core.budget import UNITS
from agent_os.core.errors import ActionError, MissingPartError
from agent_os.core.principal import ANONYMOUS, Principal, part
from agent_os.core.zone import zone_of

EVERY_SECONDS_MIN: Final = 1.0
YEARS_AHEAD_MAX: Final = 50
CATCH_UP_MAX: Final = 100
DUE_MAX: Final = 10_000
"""Missed occurrences that are counted; a schedule that missed more starts anew from now."""
EVENTS: Final = ("file", "message", "webhook")
EVENT_NAME_CHARS_MAX: Final = 1_000
GRACE_SECONDS: Final = 60.0
"""A run this late is late, a run later than this was missed."""
_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_WINDOW: Final = timedelta(hours=3)
"""No zone shifts its clock by more."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """When: `cron` (five fields in `zone`), `every` (seconds), `at` (Unix seconds), or an `event`: a file that appears, a
    message to a mailbox, a call of a webhook; `name` says which. Build one with `parse_trigger`.
    """

    kind: Literal["cron", "every", "at", "event"]
    cron: str = ""
    zone: str = "UTC"
    every: float = 0.0
    at: float = 0.0
    event: str = ""
    name: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the wire form, as `parse_trigger` takes it."""
        if self.kind == "event":
            return {"event": {self.event: self.name}}
        if self.kind == "cron":
            return {"cron": self.cron, "zone": self.zone}
        return {"every": self.every} if self.kind == "every" else {"at": self.at}


def parse_trigger(data: Mapping[str, Any] | str) -> Trigger:
    """Return the trigger of `{"cron": "0 2 * * *", "zone": "Europe/Berlin"}`, `{"every": 900}` or `{"at": <time>}`.

    A text is a cron expression in UTC. `every` is seconds or a text such as `15m`; `at` is Unix seconds or ISO 8601 with
    its offset. Raises ActionError naming the field, MissingPartError for cron.
    """
    if isinstance(data, str):
        data = {"cron": data}
    if not isinstance(data, Mapping):
        raise ActionError("needs exactly one of cron, every, at, event", field="when", hint="zone goes with cron")
    kinds = [kind for kind in ("cron", "every", "at", "event") if kind in data]
    unknown = sorted(set(data) - {"cron", "every", "at", "event", "zone"})
    if unknown or len(kinds) != 1:
        raise ActionError("needs exactly one of cron, every, at, event", field="when", hint="zone goes with cron")
    if kinds == ["event"]:
        return _event(data["event"])
    if kinds == ["every"]:
        every = _seconds(data["every"])
        if isinstance(every, bool) or not isinstance(every, (int, float)) or not EVERY_SECONDS_MIN <= every <= 4e9:
            raise ActionError(f"must be at least {EVERY_SECONDS_MIN:g} second", field="every")
        return Trigger("every", every=float(every))
    if kinds == ["at"]:
        return Trigger("at", at=_instant(data["at"]))
    zone = data.get("zone", "UTC")
    zone_of(zone)
    trigger = Trigger("cron", cron=" ".join(str(data["cron"]).split()), zone=zone)
    _cron(trigger, datetime(2026, 1, 1))
    return trigger


def _event(given: Any) -> Trigger:
    """Return the trigger of `{"file": "inbox/*.pdf"}`, `{"message": "mailbox"}` or `{"webhook": "orders"}`."""
    if not isinstance(given, Mapping) or len(given) != 1 or set(given) - set(EVENTS):
        raise ActionError("must name one of " + ", ".join(EVENTS), field="event", hint='{"file": "inbox/*.pdf"}')
    ((event, name),) = given.items()
    if not isinstance(name, str) or not 0 < len(name) <= EVENT_NAME_CHARS_MAX or "\0" in name:
        raise ActionError(f"must be a text of 1 to {EVENT_NAME_CHARS_MAX} characters", field=f"event.{event}")
    folder, _, last = name.rpartition("/")
    if event == "file" and (not last or ".." in name.split("/") or any(char in folder for char in "*?[")):
        raise ActionError("must be a folder and a pattern in it", field="event.file", hint="inbox/*.pdf")
    return Trigger("event", event=event, name=name)


def _seconds(given: Any) -> Any:
    """Return a text such as `90s`, `15m`, `2h` or `1d` in seconds, and anything else as it is."""
    if isinstance(given, str) and given[-1:] in _UNITS and given[:-1].isdecimal():
        return float(given[:-1]) * _UNITS[given[-1]]
    return given


def _instant(given: Any) -> float:
    try:
        if isinstance(given, str):
            moment = datetime.fromisoformat(given)
            if moment.tzinfo is None:
                raise ActionError("must say its offset, for example 2026-12-24T18:00+01:00", field="at")
            given = moment.timestamp()
        if isinstance(given, bool) or not isinstance(given, (int, float)):
            raise ValueError
        if datetime.fromtimestamp(given, UTC).year > datetime.fromtimestamp(0, UTC).year + 200:
            raise ValueError
    except (ValueError, OverflowError, OSError):
        raise ActionError("must be a time within the next decades", field="at") from None
    return float(given)


def _cron(trigger: Trigger, start: datetime) -> Iterator[datetime]:
    """Return the wall-clock times after `start`, without zone. Raises ActionError for an expression that is none."""
    try:
        croniter: Any = importlib.import_module("croniter").croniter
    except ImportError:
        raise MissingPartError("cron schedules (croniter)", "durable") from None
    if len(trigger.cron.split()) != 5:
        raise ActionError("must have five fields: minute hour day month weekday", field="cron")
    try:
        times = croniter(trigger.cron, start, ret_type=datetime, max_years_between_matches=YEARS_AHEAD_MAX)
        first: datetime = times.get_next()
    except (ValueError, KeyError, TypeError, OverflowError):
        raise ActionError(
            f"cannot be understood: {trigger.cron!r}", field="cron", hint="for example 0 2 * * 1-5"
        ) from None

    def walk() -> Iterator[datetime]:
        yield first
        while True:
            try:
                yield times.get_next()
            except (ValueError, OverflowError):
                return

    return walk()


def next_after(trigger: Trigger, after: float, started: float = 0.0) -> float | None:
    """Return the first due time after `after`, or None when there is none (an event has none). `every` counts from
    `started`.
    """
    if trigger.kind == "event":
        return None
    if trigger.kind == "at":
        return trigger.at if trigger.at > after else None
    if trigger.kind == "every":
        gone = max(0.0, after - started)
        due = started + (int(gone / trigger.every) + 1) * trigger.every
        return due if due > after else due + trigger.every
    zone = ZoneInfo(trigger.zone)
    moment = datetime.fromtimestamp(after, UTC)
    local = moment.astimezone(zone).replace(tzinfo=None)
    first = next(_cron(trigger, local), None)
    if first is None:
        return None
    offsets = {
        each.utcoffset()
        for each in (
            (moment - _WINDOW).astimezone(zone),
            moment.astimezone(zone),
            first.replace(tzinfo=zone),
            (first.replace(tzinfo=zone).astimezone(UTC) + _WINDOW).astimezone(zone),
        )
    }
    if len(offsets) == 1:
        return first.replace(tzinfo=zone).timestamp()
    return _across_a_shift(trigger, zone, after, local)


def _across_a_shift(trigger: Trigger, zone: ZoneInfo, after: float, local: datetime) -> float | None:
    """Return the next due instant where the zone's offset changes nearby: the earliest of all candidates."""
    wild = trigger.cron.split()[1].startswith("*")
    best: float | None = None
    for wall in _cron(trigger, local - 2 * _WINDOW):
        twice = wall.replace(tzinfo=zone, fold=0).utcoffset() != wall.replace(tzinfo=zone, fold=1).utcoffset()
        instants = [wall.replace(tzinfo=zone, fold=0).timestamp()]
        exists = datetime.fromtimestamp(instants[0], zone).replace(tzinfo=None) == wall
        if twice and exists and wild:
            instants.append(wall.replace(tzinfo=zone, fold=1).timestamp())
        for instant in instants:
            if instant > after and (best is None or instant < best):
                best = instant
        if best is not None and wall > datetime.fromtimestamp(best, zone).replace(tzinfo=None) + 2 * _WINDOW:
            break
    return best


def upcoming(trigger: Trigger, after: float, count: int, started: float = 0.0) -> list[float]:
    """Return the next `count` due times."""
    times: list[float] = []
    moment: float | None = after
    while len(times) < count and moment is not None:
        moment = next_after(trigger, moment, started)
        if moment is not None:
            times.append(moment)
    return times


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A task that is due again and again. `owner` is whose rights its runs have, as they are when they run."""

    name: str
    trigger: Trigger
    program: str
    input: Mapping[str, Any]
    owner: Principal
    workspace: str
    policies: tuple[str, ...] = ()
    queue: str = "default"
    missed: Literal["skip", "once", "catch_up"] = "once"
    """What becomes of runs whose time passed while nobody worked: none, one for all, or each up to `catch_up_max`."""
    catch_up_max: int = 10
    overlap: Literal["skip", "queue", "cancel"] = "skip"
    """What happens when the run before is not done: leave this one out, let it wait, or kill the old one."""
    jitter: float = 0.0
    """Each run starts up to this many seconds late, always the same for the same run."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """What each run may use of its own, by unit of a budget."""
    created: float = 0.0
    paused: bool = False
    next_due: float = field(default=0.0, compare=False)
    """The next due time; 0 when there is none any more."""

    @property
    def key(self) -> str:
        """What it is stored under."""
        return key_of(self.owner.tenant, self.name)

    def delay(self, due: float) -> float:
        """Return how late the run of this due time starts."""
        if self.jitter <= 0:
            return 0.0
        digest = hashlib.sha256(f"{self.key}\0{due:.3f}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64 * self.jitter

    def run_id(self, due: float) -> str:
        """Return the id of the task for a due time: two workers that both start it start one."""
        return f"sch_{hashlib.sha256(self.key.encode()).hexdigest()[:12]}_{int(due)}"

    def event_id(self, event: str) -> str:
        """Return the id of the task for one event: the same event twice starts one run."""
        return f"evt_{hashlib.sha256(f'{self.key}{chr(0)}{event}'.encode()).hexdigest()[:24]}"

    def to_json(self) -> dict[str, Any]:
        """Return the wire form."""
        return {
            "name": self.name,
            "when": self.trigger.to_json(),
            "program": self.program,
            "input": dict(self.input),
            "owner": self.owner.to_json(),
            "workspace": self.workspace,
            "policies": list(self.policies),
            "queue": self.queue,
            "missed": self.missed,
            "catch_up_max": self.catch_up_max,
            "overlap": self.overlap,
            "jitter": self.jitter,
            "budgets": dict(self.limits),
            "created": self.created,
            "paused": self.paused,
            "next": self.next_due,
        }


def key_of(tenant: str, name: str) -> str:
    """Return what a tenant's schedule of a name is stored under: the name, and of another tenant than `default` the tenant's
    before it (`acme//nightly`). Names of two tenants never meet, whatever characters they have.
    """
    return name if tenant == ANONYMOUS.tenant and "//" not in name else f"{part(tenant)}//{name}"


def parse_schedule(data: Mapping[str, Any]) -> Schedule:
    """Return the schedule of its wire form. Raises ActionError naming the field."""
    name = data.get("name")
    if not isinstance(name, str) or not name or len(name) > 200:
        raise ActionError("must be a text of 1 to 200 characters", field="name")
    for key, allowed in (("missed", ("skip", "once", "catch_up")), ("overlap", ("skip", "queue", "cancel"))):
        if data.get(key, allowed[0]) not in allowed:
            raise ActionError("must be one of " + ", ".join(allowed), field=key)
    most = data.get("catch_up_max", 10)
    if type(most) is not int or not 1 <= most <= CATCH_UP_MAX:
        raise ActionError(f"must be 1 to {CATCH_UP_MAX}", field="catch_up_max")
    jitter = data.get("jitter", 0.0)
    if isinstance(jitter, bool) or not isinstance(jitter, (int, float)) or not 0 <= jitter <= 86_400:
        raise ActionError("must be 0 to 86400 seconds", field="jitter")
    limits = data.get("budgets", {})
    if not isinstance(limits, Mapping):
        raise ActionError("must be amounts by unit", field="budgets")
    for unit, amount in limits.items():
        if (
            unit not in UNITS
            or isinstance(amount, bool)
            or not isinstance(amount, (int, float))
            or not 0 <= amount < 1e18
        ):
            raise ActionError("must be one of " + ", ".join(UNITS) + " with an amount", field=f"budgets.{unit}")
    return Schedule(
        name=name,
        trigger=parse_trigger(data["when"]),
        program=data["program"],
        input=data["input"],
        owner=Principal.parse(data["owner"]),
        workspace=data["workspace"],
        policies=tuple(data.get("policies", ())),
        queue=data.get("queue", "default"),
        missed=data.get("missed", "once"),
        catch_up_max=most,
        overlap=data.get("overlap", "skip"),
        jitter=float(jitter),
        limits={unit: float(amount) for unit, amount in limits.items()},
        created=float(data.get("created", 0.0)),
        paused=bool(data.get("paused", False)),
        next_due=float(data.get("next", 0.0)),
    )


def due_runs(schedule: Schedule, now: float) -> tuple[list[float], float | None, int]:
    """Return (due times to run now, the next due time, how many were missed and are left out).

    Times up to GRACE_SECONDS late are run; older ones were missed and follow the schedule's `missed`.
    """
    due: list[float] = []
    moment: float | None = schedule.next_due
    while moment is not None and moment <= now and len(due) < DUE_MAX:
        due.append(moment)
        moment = next_after(schedule.trigger, moment, schedule.created)
    if len(due) >= DUE_MAX:
        moment = next_after(schedule.trigger, now, schedule.created)
    fresh = [each for each in due if now - each <= GRACE_SECONDS]
    missed = [each for each in due if now - each > GRACE_SECONDS]
    if schedule.missed == "skip":
        kept: list[float] = []
    elif schedule.missed == "once":
        kept = missed[-1:] if not fresh else []
    else:
        kept = missed[-schedule.catch_up_max :]
    return [*kept, *fresh], moment, len(missed) - len(kept)
