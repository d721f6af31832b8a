"""Rates counted for every process on one `state.db`, or on one PostgreSQL: calls in sliding windows, by rule and subject.

A call is counted in one transaction with the look at how many there were, so that together no more happen than the rule says;
in a PostgreSQL under a lock of rule and subject, by the database's clock. What is left is known without asking only for rules
this process has counted. Threat: a limit that each of several processes has for itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from agent_os.core.decision import Obligation
from agent_os.core.errors import EffectError
from agent_os.core.principal import Principal
from agent_os.core.rate import limit_of, subject
from agent_os.effects.stores.database import Storage

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS rate_call(
  id TEXT PRIMARY KEY, rule TEXT NOT NULL, subject TEXT NOT NULL, at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS rate_call_subject ON rate_call(rule, subject, at)
"""
SWEEP_EVERY: Final = 256
"""Calls of one process between two looks for those of a rule that are over, whoever made them."""
_NOTHING: Final[Mapping[str, float]] = {}


class StoredRates:
    """Implements `core.ports.RateStore`. `clock`: the database's own, where several machines share it."""

    def __init__(self, database: Storage, clock: Callable[[], float] | None = None) -> None:
        self._database, self._clock = database, clock
        self._limits: dict[str, tuple[int, float, str]] = {}
        self._calls = 0

    def left(self, principal: Principal, now: float) -> Mapping[str, float]:
        """Return calls left by rule, for those counted here before; nothing where the database is on another machine."""
        if not self._limits or self._clock is not None:
            return _NOTHING
        asked = [
            (rule, calls, subject(principal, per), now - window) for rule, (calls, window, per) in self._limits.items()
        ]

        def work(session: Any) -> dict[str, float]:
            return {rule: float(calls - _counted(session, rule, who, since)) for rule, calls, who, since in asked}

        try:
            return self._database.read(work)
        except EffectError:
            return _NOTHING  # `take` decides, and denies then

    async def take(self, obligations: Sequence[Obligation], principal: Principal, now: float) -> bool:
        """Count one call under every `rate` obligation, or none and return False when one has no call left."""
        limits = sorted((*limit_of(each)[:3], subject(principal, limit_of(each)[3])) for each in _rates(obligations))
        if not limits:
            return True
        for each in _rates(obligations):
            rule, calls, window, per = limit_of(each)
            self._limits[rule] = (calls, window, per)
        sweep, self._calls = self._calls % SWEEP_EVERY == 0, self._calls + 1

        def work(session: Any) -> bool:
            moment = now if self._clock is None else self._clock()
            for rule, calls, window, who in limits:
                if self._clock is not None:
                    session.execute("SELECT pg_advisory_xact_lock(hashtextextended(?, 0))", (f"rate {rule} {who}",))
                if sweep:
                    session.execute("DELETE FROM rate_call WHERE rule=? AND at<=?", (rule, moment - window))
                if _counted(session, rule, who, moment - window) >= calls:
                    return False
            for rule, _, _, who in limits:
                session.execute(
                    "INSERT INTO rate_call VALUES(?,?,?,?)", ("rtc_" + secrets.token_hex(10), rule, who, moment)
                )
            return True

        return await self._database.run(work)

    async def give_back(self, obligations: Sequence[Obligation], principal: Principal, now: float) -> None:
        """Take back the call that was counted last under every `rate` obligation."""
        named = sorted((limit_of(each)[0], subject(principal, limit_of(each)[3])) for each in _rates(obligations))

        def work(session: Any) -> None:
            for rule, who in named:
                session.execute(
                    "DELETE FROM rate_call WHERE id=(SELECT id FROM rate_call WHERE rule=? AND subject=?"
                    " ORDER BY at DESC, id LIMIT 1)",
                    (rule, who),
                )

        if named:
            await self._database.run(work)


def _counted(session: Any, rule: str, who: str, since: float) -> int:
    asked = "SELECT count(*) FROM rate_call WHERE rule=? AND subject=? AND at>?"
    return int(session.execute(asked, (rule, who, since)).fetchone()[0])


def _rates(obligations: Sequence[Obligation]) -> list[Obligation]:
    return [each for each in obligations if each.kind == "rate"]
