"""A ledger in SQLite at a time of its own, and workers of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent_os.core.principal import Principal
from agent_os.core.task import Task, TaskRequest, WorkerView
from agent_os.effects.durable.dispatch import Dispatch
from agent_os.effects.durable.leases import Leases
from agent_os.effects.durable.ledger import Ledger
from agent_os.effects.durable.schedules import SCHEMA as SCHEDULES
from agent_os.effects.durable.schema import SCHEMA, prepare
from agent_os.effects.stores.database import Database
from agent_os.effects.stores.keys import Keys, Sealer

NOW = [1000.0]
"""The ledger's clock."""


@contextmanager
def opened(folder: Path) -> Iterator[Ledger]:
    """Open a ledger whose clock is NOW, and close it."""
    NOW[0] = 1000.0
    keys = Keys.open(folder / "keys", environment={})
    database = Database(folder / "agents.db", f"{SCHEMA};{SCHEDULES}").open()
    prepare(database, shared=False)
    yield Ledger(database, Sealer(keys, "payload"), lambda: NOW[0])
    database.close()


def request(*, tenant: str = "default", agent: str = "main", **changes: Any) -> TaskRequest:
    """Return a task request."""
    values: dict[str, Any] = {
        "program": "p", "input": {}, "principal": Principal(tenant=tenant, user="ana", agent=agent), "workspace": "/w",
    }  # fmt: skip
    return TaskRequest(**{**values, **changes})


async def worker(ledger: Ledger, name: str) -> Dispatch:
    """Enter a live worker and return its turns."""
    await Leases(ledger).enter(WorkerView(name, "host", 1, 0.0, 0.0, "live"))
    return Dispatch(ledger, name, ["default"])


async def taken(turns: Dispatch, most: int = 100) -> list[str]:
    """Return the ids of what a worker takes, in order."""
    tasks: list[Task] = list(await turns.take(most))
    return [task.id for task in tasks]
