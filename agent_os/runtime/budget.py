"""The budgets' accounts for reading."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from agent_os.core.errors import EffectError
from agent_os.effects.stores.budgets import SqliteBudgets
from agent_os.effects.stores.database import Database
from agent_os.effects.stores.directory import state_path


def accounts(prefix: str = "", *, environment: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Return the accounts of budgets whose name begins with `prefix`, without opening anything for writing.

    Each has budget, for (`user=default/alice`), period, unit, used, reserved, limit and left. Raises EffectError.
    """
    file = state_path(os.environ if environment is None else environment) / "state.db"
    if not file.exists():
        raise EffectError(f"no state here yet: {file} (set AGENTOS_STATE, or let an agent act first)")
    rows = []
    for row in SqliteBudgets(Database(file, ""), "").accounts(prefix):
        rest, _, period = row["account"].rpartition("|")
        budget, _, subject = rest.rpartition("|")
        left = max(0.0, row["limit"] - row["used"] - row["reserved"])
        rows.append({"budget": budget, "for": subject, "period": period, **row, "left": left})
    return rows
