"""The budgets' accounts for reading."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from agent_os.core.budget import tenant_of
from agent_os.core.errors import EffectError
from agent_os.effects.stores.budgets import Budgets
from agent_os.effects.stores.database import Database, Storage
from agent_os.effects.stores.directory import state_path
from agent_os.effects.stores.shared import open_counters
from agent_os.runtime.state import shared_limits


def accounts(prefix: str = "", *, environment: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Return the accounts of budgets whose name begins with `prefix`, without opening anything for writing.

    Each has budget, for (`user=default/alice`), tenant, period, unit, used, reserved, limit and left. Raises EffectError.
    """
    env = os.environ if environment is None else environment
    file = state_path(env) / "state.db"
    if not file.exists():
        raise EffectError(f"no state here yet: {file} (set AGENTOS_STATE, or let an agent act first)")
    shared = shared_limits(env)
    database: Storage = open_counters(shared) if shared else Database(file, "")
    rows = account_rows(Budgets(database, "").accounts(prefix))
    database.close()
    return rows


def account_rows(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return accounts as the store has them with their names taken apart, and what is left."""
    rows = []
    for row in found:
        rest, _, period = row["account"].rpartition("|")
        budget, _, subject = rest.rpartition("|")
        left = max(0.0, row["limit"] - row["used"] - row["reserved"])
        tenant = tenant_of(row["account"])
        rows.append({"budget": budget, "for": subject, "tenant": tenant, "period": period, **row, "left": left})
    return rows
