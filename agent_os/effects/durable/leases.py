"""Workers and their leases: who lives, who was declared dead, and whose tasks become somebody else's.

A worker's lease is its heartbeat. What a dead worker ran is ready again in the transaction that declares it dead, under a
new token: there is no moment in which two may act, and none in which nobody will.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from agent_os.core.task import WorkerView
from agent_os.effects.durable.ledger import Ledger
from agent_os.effects.durable.rows import TOKEN_MAX

_LIVE: Final = (
    "SELECT id, host, pid, started, beat, state, queues FROM agentos_worker WHERE state='live' ORDER BY started"
)

_ORPHANS: Final = "worker NOT IN (SELECT id FROM agentos_worker WHERE state='live')"


class Leases:
    """The workers of one ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def enter(self, worker: WorkerView, *, alone: bool = False) -> None:
        """Enter a worker as live; `alone`: nobody else can be (it holds the lock of the SQLite file)."""
        now, queues = self._ledger.now(), json.dumps(list(worker.queues))

        def work(session: Any) -> None:
            if alone:
                for (other,) in session.execute("SELECT id FROM agentos_worker").fetchall():
                    self._take_away(session, other)
                session.execute("DELETE FROM agentos_worker")
            session.execute(
                "INSERT INTO agentos_worker VALUES(?,?,?,?,?,'live',?)",
                (worker.id, worker.host, worker.pid, now, now, queues),
            )

        await self._ledger.storage.run(work)

    def beat(self, worker: str) -> bool:
        """Renew a worker's lease; blocks. False when it was declared dead: it must stop at once."""
        learn = getattr(self._ledger.storage, "learn_clock", None)
        if learn is not None:
            learn()
        now = self._ledger.now()

        def work(session: Any) -> bool:
            sql = "UPDATE agentos_worker SET beat=? WHERE id=? AND state='live'"
            return bool(session.execute(sql, (now, worker)).rowcount == 1)

        return self._ledger.storage.run_sync(work)

    async def leave(self, worker: str) -> None:
        """Take a worker out in good order; its running tasks become somebody else's."""

        def work(session: Any) -> None:
            session.execute("DELETE FROM agentos_worker WHERE id=?", (worker,))
            self._take_away(session, worker)

        await self._ledger.storage.run(work)

    async def declare_dead(self, lease_seconds: float, but: str) -> Sequence[str]:
        """Declare workers dead whose lease ran out, and make what they ran ready again; returns their ids.

        What is said to run on a worker that nobody knows is ready again too (an empty id is among those returned).
        """
        now = self._ledger.now()

        def work(session: Any) -> Sequence[str]:
            limit, declared = now - lease_seconds, []
            rows = session.execute(
                "SELECT id FROM agentos_worker WHERE state='live' AND beat<? AND id<>? ORDER BY id", (limit, but)
            ).fetchall()
            for (worker,) in rows:
                won = session.execute(
                    "UPDATE agentos_worker SET state='dead' WHERE id=? AND state='live' AND beat<?", (worker, limit)
                ).rowcount
                if won == 1:
                    self._take_away(session, worker)
                    declared.append(worker)
            session.execute("DELETE FROM agentos_worker WHERE state='dead' AND beat<?", (now - 100 * lease_seconds,))
            if self._set_free(session, _ORPHANS):
                declared.append("")
            return declared

        return await self._ledger.storage.run(work)

    def _take_away(self, session: Any, worker: str) -> None:
        self._set_free(session, "worker=?", worker)

    async def hand_back(self, worker: str, task_id: str) -> None:
        """Make a task ready again that stands as running on a live worker which does not run it."""
        await self._ledger.storage.run(lambda session: self._set_free(session, "worker=? AND id=?", worker, task_id))

    def _set_free(self, session: Any, where: str, *values: Any) -> bool:
        taken = session.execute(
            f"UPDATE agentos_task SET token=token+1, worker='', state='ready' WHERE state='running' AND token<? AND {where}",  # noqa: S608
            (TOKEN_MAX, *values),
        ).rowcount
        if taken:
            self._ledger.notify(session)
        return bool(taken)

    async def live(self) -> Sequence[WorkerView]:
        """Return every worker that was not declared dead."""
        rows = await self._ledger.rows_of(_LIVE)
        return [WorkerView(*row[:6], queues=tuple(_queues(row[6]))) for row in rows]  # type: ignore[misc]


def _queues(text: Any) -> list[str]:
    try:
        return [str(each) for each in json.loads(text)]
    except (ValueError, TypeError):
        return ["?"]
