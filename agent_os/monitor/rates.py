"""Rate limits: how many calls are left in a sliding window, by rule and subject. Pure: time is handed in.

What a monitor has that was given no store: the runtime counts on its database (effects/stores/rates.py), for every process of
one state. Memory is bounded: a subject nobody counted for during its window is forgotten first, and when SUBJECTS_MAX are live
a new one is denied.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from agent_os.core.decision import Obligation
from agent_os.core.principal import Principal
from agent_os.core.rate import limit_of, subject

SUBJECTS_MAX: Final = 100_000


class Rates:
    """Counts calls under `rate` obligations."""

    def __init__(self) -> None:
        self._limits: dict[str, tuple[int, float, str]] = {}
        self._taken: dict[tuple[str, str], deque[float]] = {}

    def left(self, principal: Principal, now: float) -> Mapping[str, float]:
        """Return calls left by rule id, for the rules seen so far; a rule not seen yet has all its calls left."""
        if not self._limits:
            return _NONE
        found = {}
        for rule, (calls, window, per) in self._limits.items():
            taken = self._taken.get((rule, subject(principal, per)))
            found[rule] = float(calls - _recent(taken, now - window) if taken else calls)
        return found

    async def take(self, obligations: Sequence[Obligation], principal: Principal, now: float) -> bool:
        """Count one call under every `rate` obligation, or none and return False when one has no call left."""
        counted: list[deque[float]] = []
        for obligation in obligations:
            if obligation.kind != "rate":
                continue
            rule, calls, window, per = limit_of(obligation)
            self._limits[rule] = (calls, window, per)
            key = (rule, subject(principal, per))
            taken = self._taken.get(key)
            if taken is None:
                if len(self._taken) >= SUBJECTS_MAX and not self._forget(now):
                    return False
                taken = self._taken[key] = deque()
            if _recent(taken, now - window) >= calls:
                return False
            counted.append(taken)
        for taken in counted:
            taken.append(now)
        return True

    async def give_back(self, obligations: Sequence[Obligation], principal: Principal, now: float) -> None:
        """Take back the call that was counted last under every `rate` obligation: it did not happen."""
        for obligation in obligations:
            if obligation.kind == "rate":
                rule, _, _, per = limit_of(obligation)
                taken = self._taken.get((rule, subject(principal, per)))
                if taken:
                    taken.pop()

    def _forget(self, now: float) -> bool:
        """Drop the subjects whose window is empty; return whether there is room again."""
        for key in [key for key, taken in self._taken.items() if not _recent(taken, now - self._limits[key[0]][1])]:
            del self._taken[key]
        return len(self._taken) < SUBJECTS_MAX


_NONE: Final[Mapping[str, float]] = {}


def _recent(taken: deque[float], since: float) -> int:
    while taken and taken[0] <= since:
        taken.popleft()
    return len(taken)
