"""A stated scope: which later actions a person's answer covers beyond the one that was shown. Pure values.

A scope is made from one action that was asked about and never reaches further than a person could read there: the same
agent, kind, target and tool code; every argument equal, save those stated as free (text that is carried) or as a number of
at most what was shown. Threats: "always allow" that is reused through a wrapper or another tool; an argument that nobody
looked at; a tool that changed since; an agent or a sub-agent that was not the one asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from agent_os.core.action import Action, ToolCall
from agent_os.core.canonical import json_bytes
from agent_os.core.errors import ActionError
from agent_os.core.manifest import Effect, Role, ToolSpec

WIDTHS: Final = ("exact", "same")
"""`exact`: every argument equal. `same`: the same authority, numbers at most as shown, carried text free."""
LASTING: Final = ("once", "session", "always")
"""From narrowest to widest."""

_FREE: Final[Mapping[str, frozenset[str]]] = {
    "fs.write": frozenset({"size", "content_digest"}),
    "message.send": frozenset({"body"}),
    "memory.write": frozenset({"value"}),
    "model.call": frozenset({"messages", "input_tokens"}),
}
"""Arguments that are carried, by kind of action; a tool's manifest says it for tools."""
_LASTING_KINDS: Final = frozenset(
    {
        "tool.call", "fs.read", "fs.list", "fs.write", "fs.delete", "net.connect", "net.request", "model.call",
        "message.send", "memory.read", "memory.write",
    }
)  # fmt: skip
"""Programs, sub-agents, schedules and secrets are approved one at a time: what they do is not all in their arguments."""
_ONCE_EFFECTS: Final = frozenset({Effect.EXECUTE, Effect.CREDENTIAL})


@dataclass(frozen=True, slots=True)
class Scope:
    """What a lasting grant covers. `session` empty: any session of that user and agent."""

    kind: str
    target: str
    tenant: str
    user: str
    agent: tuple[str, ...]
    """The agent and its parents, the root first."""
    tool_digest: str = ""
    session: str = ""
    equal: Mapping[str, Any] = field(default_factory=dict)
    at_most: Mapping[str, float] = field(default_factory=dict)
    free: frozenset[str] = frozenset()

    def covers(self, action: Action) -> bool:
        """Return whether an action lies within this scope; an argument the scope does not name is outside."""
        who = action.principal
        if (self.kind, self.target, self.tool_digest) != (action.kind, action.target, action.tool_digest):
            return False
        if (self.tenant, self.user, self.agent) != (who.tenant, who.user, (*who.parents, who.agent)):
            return False
        if self.session and self.session != who.session:
            return False
        given = _parts(action)
        if set(given) - set(self.equal) - set(self.at_most) - self.free:
            return False
        if self.kind == "tool.call" and not all(isinstance(given.get(name, ""), str) for name in self.free):
            return False
        return all(name in given and _same(given[name], value) for name, value in self.equal.items()) and all(
            _within(given.get(name), most) for name, most in self.at_most.items()
        )

    def for_session(self, session: str) -> Scope:
        """Return this scope held to one session."""
        return replace(self, session=session)

    def to_json(self) -> dict[str, Any]:
        """Return the wire form; `Scope.parse` reads it."""
        data: dict[str, Any] = {
            "kind": self.kind,
            "target": self.target,
            "who": {"tenant": self.tenant, "user": self.user, "agent": list(self.agent)},
            "equal": dict(self.equal),
        }
        if self.tool_digest:
            data["tool_digest"] = self.tool_digest
        if self.session:
            data["session"] = self.session
        if self.at_most:
            data["at_most"] = dict(self.at_most)
        if self.free:
            data["free"] = sorted(self.free)
        return data

    @staticmethod
    def parse(data: Any) -> Scope:
        """Return the scope of its wire form. Raises ActionError for anything else: a scope is never guessed."""
        known = {"kind", "target", "who", "equal", "tool_digest", "session", "at_most", "free"}
        try:
            if set(data) - known or set(data["who"]) != {"tenant", "user", "agent"}:
                raise ValueError
            scope = Scope(
                kind=_text(data["kind"]),
                target=_text(data["target"]),
                tenant=_text(data["who"]["tenant"]),
                user=_text(data["who"]["user"]),
                agent=tuple(_text(name) for name in data["who"]["agent"]),
                tool_digest=_text(data.get("tool_digest", "")),
                session=_text(data.get("session", "")),
                equal=dict(data["equal"]),
                at_most={_text(name): _number(most) for name, most in data.get("at_most", {}).items()},
                free=frozenset(_text(name) for name in data.get("free", ())),
            )
        except (TypeError, KeyError, ValueError, AttributeError):
            raise ActionError("is no scope", field="scope") from None
        if not scope.agent or scope.kind not in _LASTING_KINDS:
            raise ActionError("names no agent, or a kind that is approved one at a time", field="scope")
        return scope


def scopes_of(action: Action, spec: ToolSpec | None = None) -> dict[str, Scope]:
    """Return what a lasting answer to this ask may cover, by width; empty where it is approved one at a time.

    `spec` is the tool's manifest as registered; a tool without one is treated as the worst case.
    """
    if action.kind not in _LASTING_KINDS:
        return {}
    if isinstance(action, ToolCall) and (spec is None or spec.effect in _ONCE_EFFECTS):
        return {}
    who, given = action.principal, _parts(action)
    exact = Scope(
        kind=action.kind,
        target=action.target,
        tenant=who.tenant,
        user=who.user,
        agent=(*who.parents, who.agent),
        tool_digest=action.tool_digest,
        equal=given,
    )
    free = {name for name, value in given.items() if _carried(action, spec, name) and _is_text(spec, name, value)}
    most = {
        name: float(value)
        for name, value in given.items()
        if _carried(action, spec, name) and _number_or_none(value) is not None and value >= 0
    }
    if action.kind in _FREE:
        free, most = set(_FREE[action.kind]), {}
    if not free and not most:
        return {"exact": exact}
    pinned = {name: value for name, value in given.items() if name not in free and name not in most}
    return {"exact": exact, "same": replace(exact, equal=pinned, at_most=most, free=frozenset(free))}


def narrowest(first: str, second: str, order: tuple[str, ...]) -> str:
    """Return the narrower of two answers."""
    return min(first, second, key=order.index)


def _parts(action: Action) -> dict[str, Any]:
    """Return the arguments a scope speaks of: those of the tool for a tool call (its name is the target)."""
    return dict(action.args) if isinstance(action, ToolCall) else action.arguments


def _carried(action: Action, spec: ToolSpec | None, name: str) -> bool:
    return isinstance(action, ToolCall) and spec is not None and spec.argument(name).role is Role.PAYLOAD


def _same(one: Any, other: Any) -> bool:
    return json_bytes(one) == json_bytes(other)


def _number_or_none(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _within(value: Any, most: float) -> bool:
    number = _number_or_none(value)
    return number is not None and 0 <= number <= most


def _is_text(spec: ToolSpec | None, name: str, value: Any) -> bool:
    """Whether a carried argument is prose: an amount, a date or an address written as text is never free."""
    kind = spec.argument(name).type if spec is not None else "any"
    return kind in ("any", "text") and isinstance(value, str) and any(char.isalpha() for char in value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _number(value: Any) -> float:
    number = _number_or_none(value)
    if number is None or number < 0:
        raise ValueError
    return number
