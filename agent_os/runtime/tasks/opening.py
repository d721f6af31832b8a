"""Opening the ledger of durable tasks: the one beside the state, or the PostgreSQL that `AGENTOS_TASKS` names.

Nothing but a way in: whoever works, looks or starts a run opens it here. Threat: two places that disagree on where tasks stand.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from agent_os.core.errors import EffectError
from agent_os.effects.durable.ledger import Ledger
from agent_os.effects.durable.postgres import PostgresDatabase
from agent_os.effects.durable.schedules import SCHEMA as SCHEDULES
from agent_os.effects.durable.schema import SCHEMA, prepare
from agent_os.effects.stores.database import Database
from agent_os.effects.stores.keys import Keys, Sealer


def open_ledger(path: Path, keys: Keys, environment: Mapping[str, str]) -> Ledger:
    """Return the ledger of a state directory, or the one that `AGENTOS_TASKS` names. Raises EffectError."""
    sealer, tables = Sealer(keys, "payload"), f"{SCHEMA};{SCHEDULES}"
    given = environment.get("AGENTOS_TASKS", "")
    if given:
        if not given.startswith("postgresql://"):
            raise EffectError("AGENTOS_TASKS: must be a postgresql:// URL")
        shared = PostgresDatabase(given, tables).open()
        prepare(shared, shared=True)
        return Ledger(shared, sealer, shared.now, shared=True)
    own = Database(path / "agents.db", tables).open()
    prepare(own, shared=False)
    return Ledger(own, sealer, time.time)
