"""Stops: a halt of everything, the quarantine of some (who may not perform any effect until a person lifts it), or the kill of
a session. Pure values, and the port of where they are kept.

A stop names a scope and who of it; an agent is stopped if it, its user, its tenant, its task or any of its ancestors is. It
allows nothing, ever: lifting one gives back what the policy gives. Threats: a sub-agent under another name that goes on for a
quarantined parent (every ancestor counts), one tenant's person who stops or frees another tenant's agents (`tenant`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from agent_os.core.errors import ActionError
from agent_os.core.principal import MAIN, Principal

HALT: Final = "all"
SESSION: Final = "session"
"""The scope of a kill: it ends a session for good, and goes when the session is closed."""
KILLED: Final = "runtime.killed"
SCOPES: Final = (HALT, "tenant", "user", "agent", "role", "task", SESSION)
STOPS_MAX: Final = 1_000
NAME_CHARS_MAX: Final = 200
REASON_CHARS_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class Stop:
    """A halt (`scope` all) or a quarantine, until it is lifted. `tenant` empty: of every tenant. `at` is Unix seconds.

    `ends` says that what runs is to end, not only to begin nothing new.
    """

    id: str
    scope: str
    name: str
    by: str
    reason: str
    at: float
    tenant: str = ""
    ends: bool = False

    def checked(self) -> Stop:
        """Return this stop. Raises ActionError naming the field that is out of range."""
        if self.scope not in SCOPES:
            raise ActionError("must be one of " + ", ".join(SCOPES), field="scope")
        if (self.scope == HALT) == bool(self.name):
            raise ActionError("name whom to quarantine; a halt names nobody", field="name")
        for name, text, most in (("name", self.name, NAME_CHARS_MAX), ("reason", self.reason, REASON_CHARS_MAX)):
            if len(text) > most or any(not char.isprintable() for char in text):
                raise ActionError(f"must be printable, of at most {most} characters", field=name)
        if not self.by:
            raise ActionError("somebody must answer for it", field="by")
        return self

    @property
    def rule(self) -> str:
        """The runtime's rule that a denial by this stop names."""
        return {HALT: "runtime.halted", SESSION: KILLED}.get(self.scope, "runtime.quarantined")

    @property
    def what(self) -> str:
        """Who is stopped, in words."""
        if self.scope == HALT:
            return f"everything of tenant {self.tenant}" if self.tenant else "everything"
        return f"{self.scope} {self.name}" + (f" of tenant {self.tenant}" if self.tenant else "")

    @property
    def said(self) -> str:
        """The reason of a denial: what is stopped, by whom, why."""
        return f"{self.what} is {self.state} by {self.by}" + (f": {self.reason}" if self.reason else "")

    @property
    def state(self) -> str:
        """What was done to whom it names, in a word."""
        return {HALT: "halted", SESSION: "killed"}.get(self.scope, "quarantined")

    @property
    def advice(self) -> str:
        """What would be allowed, in a denial."""
        return (
            "nothing: this session is over" if self.scope == SESSION else f"nothing until a person releases {self.id}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the wire form."""
        return {
            "id": self.id,
            "scope": self.scope,
            "name": self.name,
            "tenant": self.tenant,
            "by": self.by,
            "reason": self.reason,
            "at": self.at,
            "ends": self.ends,
        }

    @staticmethod
    def parse(data: Mapping[str, Any]) -> Stop:
        """Return the stop of its wire form. Raises ActionError, KeyError, TypeError for one that is none."""
        texts = {name: data[name] for name in ("id", "scope", "name", "tenant", "by", "reason")}
        if not all(isinstance(text, str) for text in texts.values()) or not isinstance(data["ends"], bool):
            raise ActionError("is no stop", field="stop")
        return Stop(**texts, at=float(data["at"]), ends=data["ends"]).checked()


@dataclass(frozen=True, slots=True)
class Stops:
    """Every stop that holds, found by whom it names."""

    all: tuple[Stop, ...] = ()
    _by_whom: Mapping[tuple[str, str], tuple[Stop, ...]] = field(default_factory=dict)

    @staticmethod
    def of(stops: Iterable[Stop]) -> Stops:
        """Return some stops, oldest first."""
        ordered = tuple(sorted(stops, key=lambda each: (each.at, each.id)))
        found: dict[tuple[str, str], tuple[Stop, ...]] = {}
        for stop in ordered:
            found[stop.scope, stop.name] = (*found.get((stop.scope, stop.name), ()), stop)
        return Stops(ordered, found)

    def __bool__(self) -> bool:
        return bool(self.all)

    def holding(self, principal: Principal, lineage: Sequence[str] = (), *, ends: bool = False) -> Stop | None:
        """Return a stop that holds this agent, the widest first, or None. `lineage` are the tasks above it; with `ends`
        only one that ends what runs.
        """
        if not self.all:
            return None
        for whom in subjects(principal, lineage):
            for stop in self._by_whom.get(whom, ()):
                if stop.tenant in ("", principal.tenant) and (stop.ends or not ends):
                    return stop
        return None

    def halted(self, tenant: str = "") -> Stop | None:
        """Return the halt of everything, or of everything of a tenant."""
        return next((stop for stop in self._by_whom.get((HALT, ""), ()) if stop.tenant in ("", tenant)), None)

    def names(self, scope: str, tenant: str) -> list[str]:
        """Return the names that stops of a scope have in a tenant."""
        return [stop.name for stop in self.all if stop.scope == scope and stop.tenant in ("", tenant)]


def subjects(principal: Principal, lineage: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """Yield whatever a stop of this agent could name, the widest first.

    An agent answers to its own name, to its path (`main/reader-1`) and to those of every ancestor; a sub-agent, whose name
    is made of its role, to the role; a schedule's run to the agent that made the schedule.
    """
    yield HALT, ""
    yield "tenant", principal.tenant
    yield "user", principal.user
    path = (*principal.parents, principal.agent)
    if principal.root not in (MAIN, path[0]):
        yield "agent", principal.root  # it made the schedule whose run this is
    for depth, agent in enumerate(path):
        yield "agent", agent
        if depth:
            yield "agent", "/".join(path[: depth + 1])
            yield "role", agent.rpartition("-")[0]
    yield "task", principal.session
    yield SESSION, principal.session
    for task in lineage:
        yield "task", task


NONE: Final = Stops()


class StopStore(Protocol):
    """Where stops are kept. `current` is asked before every effect: it costs microseconds and is never stale for long."""

    def current(self) -> Stops:
        """Return every stop that holds now. Raises EffectError when that cannot be known: then everything is stopped."""
        ...

    async def add(self, stop: Stop) -> None:
        """Store a stop durably. Raises ActionError, EffectError."""
        ...

    async def lift(self, stop_id: str) -> bool:
        """Take a stop away; False when there is none of that id. Raises EffectError."""
        ...
