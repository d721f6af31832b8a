"""Counts what models used, where the audit is written: every path to a model ends in an outcome there.

Stands in front of an audit sink and sees its records: an intent says who calls which model, its outcome what that used.
The intent of a call is given its price tier and its user's team as they are then, so that a statement
(audit/statement.py) needs nothing but the audit. Nothing is delayed or kept back. A report that says nothing (`usage`
without tokens) is counted as what was reserved for it, and as `unreported`. Threat: a path to a model that
no meter sees.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from agent_os.audit.statement import tokens_of
from agent_os.core.ports import AuditSink
from agent_os.effects.stores.usage import UsageStore

OPEN_MAX: Final = 65_536
"""Calls under way that are remembered; of more, the oldest are not counted (they are in the audit)."""


class Meter:
    """An audit sink that counts. `tier` maps a provider to its price tier, `team` a user to its team."""

    def __init__(
        self, audit: AuditSink, usage: UsageStore, *, tier: Callable[[str], str], team: Callable[[str], str]
    ) -> None:
        self._audit, self._usage, self._tier, self._team = audit, usage, tier, team
        self._open: OrderedDict[str, tuple[dict[str, str], int]] = OrderedDict()

    def reconfigure(self, *, tier: Callable[[str], str], team: Callable[[str], str]) -> None:
        """Count calls that begin from here on by other tiers and teams."""
        self._tier, self._team = tier, team

    def append(self, record: Mapping[str, Any]) -> Awaitable[None]:
        """Queue the record, then count it. Raises as the sink does."""
        kind = record.get("type")
        called = kind == "intent" and record.get("action", {}).get("kind") == "model.call"
        if called:
            terms = {
                "tier": self._tier(str(record["action"].get("provider", ""))),
                "team": self._team(str(record["user"])),
            }
            record = {**record, **{name: value for name, value in terms.items() if value}}
        written = self._audit.append(record)
        if called:
            self._begin(record)
        elif kind == "outcome" and self._open:
            self._end(record)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._audit, name)

    def _begin(self, record: Mapping[str, Any]) -> None:
        action = record["action"]
        provider = str(action.get("provider", ""))
        keys = {
            "day": datetime.fromtimestamp(float(record["time"]), UTC).strftime("%Y-%m-%d"),
            "tenant": str(record["tenant"]),
            "user": str(record["user"]),
            "team": str(record.get("team", "")),
            "agent": "/".join([*record.get("parents", ()), record["agent"]]),
            "task": str(record["session"]),
            "provider": provider,
            "model": str(action.get("model", "")),
            "tier": str(record.get("tier", "")),
        }
        self._open[str(record["ref"])] = (keys, int(action.get("input_tokens", 0)))
        while len(self._open) > OPEN_MAX:
            self._open.popitem(last=False)

    def _end(self, record: Mapping[str, Any]) -> None:
        begun = self._open.pop(str(record.get("ref")), None)
        if begun is None:
            return
        keys, estimated = begun
        used, unreported = tokens_of(record, estimated)
        counts = {**used, "calls": 1, "unreported": int(unreported)}
        self._usage.add(keys, counts)
