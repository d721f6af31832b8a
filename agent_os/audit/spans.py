"""Records to spans, by the conventions of OpenTelemetry for generative AI: one span an action. Pure: records in, spans out.

A trace is a session, a span an intent with its outcome; what was denied or asked is a span without length. Names are those of
the audit: no prompt, no argument, no result ever stands in a span. Ids are digests of the session and of the action's reference,
so that a record that is sent twice is the same span. Threat: telemetry as a way around the audit's silence about values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent_os.audit.export import target

OPEN_MAX: Final = 10_000
"""Intents whose outcome is waited for; past it the oldest is sent as unfinished."""
_OPERATIONS: Final = {"model.call": "chat", "tool.call": "execute_tool", "agent.spawn": "invoke_agent"}
_OUTWARD: Final = frozenset({"model.call", "net.request", "net.connect", "message.send"})
_NAMED: Final = {
    "tenant": "agentos.tenant",
    "user": "user.id",
    "agent": "gen_ai.agent.name",
    "session": "gen_ai.conversation.id",
    "verdict": "agentos.verdict",
    "policy": "agentos.policy",
    "reason": "agentos.reason",
    "approval": "agentos.approval",
    "ref": "agentos.ref",
}
_OF_ACTION: Final = {
    "provider": "gen_ai.provider.name",
    "model": "gen_ai.request.model",
    "tool": "gen_ai.tool.name",
    "call": "gen_ai.tool.call.id",
    "host": "server.address",
    "port": "server.port",
    "method": "http.request.method",
    "path": "agentos.path",
    "program": "process.executable.path",
}


@dataclass(frozen=True, slots=True)
class Span:
    """One action: `trace` of 16 bytes, `id` of 8, times in nanoseconds since 1970; `error` is empty where all went well."""

    trace: bytes
    id: bytes
    name: str
    start: int
    end: int
    outward: bool
    error: str
    attributes: Mapping[str, str | int | float | bool | tuple[str, ...]]


@dataclass(slots=True)
class Assembler:
    """Puts intents and outcomes together. `open` is what waits for its outcome: kept by whoever goes on later."""

    open: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def add(self, record: Mapping[str, Any]) -> list[Span]:
        """Take one record, in the order of its log; return the spans that are whole now."""
        kind, reference = record.get("type"), f"{record.get('writer')}/{record.get('ref')}"
        if kind == "intent":
            self.open[reference] = record
            return [self._unfinished(next(iter(self.open)))] if len(self.open) > OPEN_MAX else []
        if kind in ("denied", "asked"):
            return [_span(record, None, str(record.get("reason") or kind) if kind == "denied" else "")]
        if kind == "outcome" and reference in self.open:
            intent = self.open.pop(reference)
            return [_span(intent, record, "" if record.get("ok") else str(record.get("error") or "failed"))]
        if kind == "audit.started":
            own = f"{record.get('writer')}/"
            return [self._unfinished(key) for key in [each for each in self.open if each.startswith(own)]]
        return []

    def _unfinished(self, key: str) -> Span:
        return _span(self.open.pop(key), None, "interrupted: no outcome is recorded")


def _span(record: Mapping[str, Any], outcome: Mapping[str, Any] | None, error: str) -> Span:
    given = record.get("action")
    action: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    kind, aim = str(action.get("kind", "")), target(record)
    operation = _OPERATIONS.get(kind, kind)
    attributes: dict[str, Any] = {"gen_ai.operation.name": operation} if kind in _OPERATIONS else {}
    attributes["agentos.action"] = kind
    for names, holder in ((_NAMED, record), (_OF_ACTION, action)):
        attributes.update({said: holder[name] for name, said in names.items() if holder.get(name) not in (None, "")})
    attributes["agentos.rules"] = tuple(map(str, record.get("rules", ())))
    for unit, amount in (outcome or {}).get("usage", {}).items():
        attributes[f"gen_ai.usage.{unit}" if unit.endswith("put_tokens") else f"agentos.usage.{unit}"] = amount
    if error:
        attributes["error.type"] = (
            "denied" if record.get("type") == "denied" else str((outcome or {}).get("error") or "interrupted")
        )
    start = _nanoseconds(record)
    return Span(
        trace=_digest(16, record, "session"),
        id=_digest(8, record, "ref", str(record.get("type"))),
        name=f"{operation} {aim}".strip() if kind in _OPERATIONS else kind,
        start=start,
        end=max(start, _nanoseconds(outcome)) if outcome is not None else start,
        outward=kind in _OUTWARD,
        error=error,
        attributes={
            name: value if isinstance(value, (bool, int, float, tuple)) else str(value)
            for name, value in attributes.items()
        },
    )


def _nanoseconds(record: Mapping[str, Any]) -> int:
    moment = record.get("time")
    return int(moment * 1_000_000_000) if isinstance(moment, (int, float)) and not isinstance(moment, bool) else 0


def _digest(size: int, record: Mapping[str, Any], name: str, salt: str = "") -> bytes:
    said = [str(record.get("tenant")), str(record.get("user")), str(record.get(name, "")), salt]
    return hashlib.sha256("\0".join(said).encode()).digest()[:size]
