"""What one agent may use of its own, carved out of what its parent has. Pure: counting only.

An allowance is a chain: what a child uses counts against every ancestor, so children together can never use more than
their parent had, and what a child did not use is there again the moment it ends. Amounts are reserved at the worst case
before an action and replaced by what was really used after it. Units: core/budget.py (UNITS).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agent_os.core.action import Action, ModelCall, NetRequest, ToolCall
from agent_os.core.budget import UNITS
from agent_os.core.errors import ActionError

ANSWER_TOKENS_MAX: Final = 1024
"""What an answer is reserved at when the call states no `max_tokens`."""


class Allowance:
    """Limits by unit, and what of them is used or reserved, here and in every ancestor (`core.ports.AgentAllowance`)."""

    def __init__(self, limits: Mapping[str, float], parent: Allowance | None = None) -> None:
        for unit, limit in limits.items():
            if unit not in UNITS or isinstance(limit, bool) or not isinstance(limit, int | float) or limit < 0:
                raise ActionError("must be a unit of a budget with a number of at least 0", field=f"budgets.{unit}")
        self.limits = dict(limits)
        self.used: dict[str, float] = {}
        self.parent = parent

    def left(self) -> dict[str, float]:
        """Return what is left by unit, the smallest along the chain."""
        found = self.parent.left() if self.parent is not None else {}
        for unit, limit in self.limits.items():
            mine = max(0.0, limit - self.used.get(unit, 0.0))
            found[unit] = min(mine, found.get(unit, mine))
        return found

    def take(self, amounts: Mapping[str, float]) -> bool:
        """Reserve amounts here and in every ancestor, or nothing and return False."""
        left = self.left()
        if any(amount > left[unit] for unit, amount in amounts.items() if unit in left):
            return False
        self._add(amounts, 1.0)
        return True

    def settle(self, reserved: Mapping[str, float], used: Mapping[str, float]) -> None:
        """Replace what was reserved by what was used; a unit nobody measured counts as reserved."""
        self._add({unit: used.get(unit, amount) - amount for unit, amount in reserved.items()}, 1.0)

    async def reserve(self, amounts: Mapping[str, float]) -> bool:
        """Reserve amounts, as the port wants it."""
        return self.take(amounts)

    async def charge(self, reserved: Mapping[str, float], used: Mapping[str, float]) -> None:
        """Replace what was reserved, as the port wants it."""
        self.settle(reserved, used)

    def _add(self, amounts: Mapping[str, float], sign: float) -> None:
        for unit, amount in amounts.items():
            self.used[unit] = max(0.0, self.used.get(unit, 0.0) + sign * amount)
        if self.parent is not None:
            self.parent._add(amounts, sign)


def needs(action: Action) -> dict[str, float]:
    """Return what an action may use at most, by unit."""
    if isinstance(action, ModelCall):
        tokens = action.input_tokens + (action.max_tokens or ANSWER_TOKENS_MAX)
        return {"tokens": float(tokens), "calls": 1.0, "steps": 1.0}
    if isinstance(action, ToolCall):
        return {"calls": 1.0}
    if isinstance(action, NetRequest):
        return {"bytes": float(action.size)}
    return {}
