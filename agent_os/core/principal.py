"""Who acts and what they hold: principals and capabilities. Pure values.

A capability can only be narrowed. `attenuate` returns a capability that every check of the parent also
passes; there is no operation that widens one (law 11: a sub-agent can do nothing its parent could not do).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

from agent_os.core.canonical import json_bytes
from agent_os.core.errors import ActionError

MAIN: Final = "main"
RUN: Final = "schedule:"
"""Before a schedule's name: the agent of its runs."""


@dataclass(frozen=True, slots=True)
class Principal:
    """On whose behalf an action happens. `parents` is the chain of agent ids, the root agent first."""

    tenant: str = "default"
    user: str = "anonymous"
    agent: str = MAIN
    session: str = "-"
    parents: tuple[str, ...] = ()

    @property
    def canonical(self) -> bytes:
        """The RFC 8785 form of the wire form; computed once per principal."""
        return _canonical(self)

    @property
    def owner(self) -> str:
        """The tenant and user as one text: two pairs never have the same, whatever slashes their names hold."""
        return f"{part(self.tenant)}/{part(self.user)}"

    def child(self, agent: str) -> Principal:
        """Return the principal of a sub-agent of this one."""
        return replace(self, agent=agent, parents=(*self.parents, self.agent))

    @property
    def root(self) -> str:
        """The agent that somebody started: of a sub-agent the first of its parents, of a schedule's run who made it."""
        first = self.parents[0] if self.parents else self.agent
        return MAIN if first.startswith(RUN) else first.partition(f"/{RUN}")[0]

    def run_of(self, schedule: str) -> Principal:
        """Return on whose behalf this principal's schedule of that name runs: an agent that still answers to who made it."""
        return replace(self, agent=RUN + schedule if self.agent == MAIN else f"{self.agent}/{RUN}{schedule}")

    def to_json(self) -> dict[str, Any]:
        """Return the wire form."""
        return {
            "tenant": self.tenant,
            "user": self.user,
            "agent": self.agent,
            "session": self.session,
            "parents": list(self.parents),
        }

    @staticmethod
    def parse(data: Mapping[str, Any]) -> Principal:
        """Return the principal of its wire form. Raises ActionError for unknown keys or wrong types."""
        unknown = sorted(set(data) - {"tenant", "user", "agent", "session", "parents"})
        if unknown:
            raise ActionError(f"unknown key {unknown[0]!r}", field="principal")
        parents = data.get("parents", ())
        if not isinstance(parents, (list, tuple)) or not all(isinstance(parent, str) for parent in parents):
            raise ActionError("must be a list of strings", field="principal.parents")
        texts = {}
        for key in ("tenant", "user", "agent", "session"):
            value = data.get(key, getattr(ANONYMOUS, key))
            if not isinstance(value, str) or not value:
                raise ActionError("must be a non-empty string", field=f"principal.{key}")
            texts[key] = value
        return Principal(**texts, parents=tuple(parents))


def part(name: str) -> str:
    """Return a name as one part of a path of names: `a/b` and `c` are not `a` and `b/c`."""
    return name.replace("%", "%25").replace("/", "%2F")


@lru_cache(maxsize=4096)
def _canonical(principal: Principal) -> bytes:
    return json_bytes(principal.to_json())


ANONYMOUS: Final = Principal()


@dataclass(frozen=True, slots=True)
class Capability:
    """A right: a verb (an action kind, or `*`), a scope, and limits.

    `scope` is a set of exact targets (tool names, hosts, path prefixes ending in `/`); `None` means every
    target of the verb. `limits` are upper bounds by name (`tokens`, `usd`, `calls`, `seconds`).
    """

    verb: str
    scope: frozenset[str] | None = None
    limits: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the wire form."""
        scope = None if self.scope is None else sorted(self.scope)
        return {"verb": self.verb, "scope": scope, "limits": dict(self.limits)}

    @staticmethod
    def parse(data: Mapping[str, Any]) -> Capability:
        """Return the capability of its wire form. Raises ActionError for a scope that is no list of texts."""
        verb, scope, limits = data.get("verb"), data.get("scope"), data.get("limits") or {}
        texts = scope is None or (isinstance(scope, list) and all(isinstance(entry, str) for entry in scope))
        if not isinstance(verb, str) or not verb or not texts or not isinstance(limits, Mapping):
            raise ActionError("needs a verb, and a scope that is a list of texts", field="capability")
        return Capability(verb, None if scope is None else frozenset(scope), dict(limits))

    def covers(self, verb: str, target: str) -> bool:
        """Return whether the right extends to this verb and canonical target."""
        if self.verb not in ("*", verb):
            return False
        if self.scope is None or target in self.scope:
            return True
        return any(entry.endswith("/") and (target.startswith(entry) or target == entry[:-1]) for entry in self.scope)

    def contains(self, other: Capability) -> bool:
        """Return whether every target of the other right is a target of this one (limits are not compared)."""
        if self.verb not in ("*", other.verb):
            return False
        if self.scope is None:
            return True
        return other.scope is not None and all(self.covers(other.verb, target) for target in other.scope)

    def intersect(self, other: Capability) -> Capability | None:
        """Return what both grant, or None where they grant nothing together."""
        if self.verb != other.verb and "*" not in (self.verb, other.verb):
            return None
        verb = other.verb if self.verb == "*" else self.verb
        if self.scope is None or other.scope is None:
            scope = other.scope if self.scope is None else self.scope
        else:
            mine = {entry for entry in self.scope if other.covers(verb, entry)}
            scope = frozenset(mine | {entry for entry in other.scope if self.covers(verb, entry)})
            if not scope:
                return None
        limits = dict(self.limits)
        for name, value in other.limits.items():
            limits[name] = min(value, limits.get(name, value))
        return Capability(verb, scope, limits)

    def attenuate(
        self,
        verb: str | None = None,
        scope: frozenset[str] | None = None,
        limits: Mapping[str, float] | None = None,
    ) -> Capability:
        """Return a narrower capability; whatever asks for more raises ActionError."""
        if verb is not None and self.verb not in ("*", verb):
            raise ActionError(f"cannot widen {self.verb!r} to {verb!r}", field="capability.verb")
        chosen = verb or self.verb
        if scope is not None and any(not self.covers(chosen, entry) for entry in scope):
            raise ActionError("asks for targets the parent does not hold", field="capability.scope")
        merged = dict(self.limits)
        for name, value in (limits or {}).items():
            if value < 0:
                raise ActionError("a limit cannot be negative", field=f"capability.limits.{name}")
            merged[name] = min(value, merged.get(name, value))
        return Capability(chosen, self.scope if scope is None else scope, merged)


def common(first: Iterable[Capability], second: Iterable[Capability]) -> tuple[Capability, ...]:
    """Return the capabilities that both sets grant: every pair's intersection."""
    theirs = tuple(second)
    pairs = (mine.intersect(other) for mine in first for other in theirs)
    return tuple(found for found in pairs if found is not None)
