"""Which sessions are open: the agents that live in an application's or a sandbox's process, for `agentos ps` and `agentos kill`.

A row is a session that a live holder opened; one whose process ended without closing it counts no more. Over PostgreSQL they
are those of every machine. A kill is a stop that names the session (core/stop.py); it goes when nothing is open under that
name any more, so that an application may open a session of the same name again. Threat: an agent that nobody sees, or that a
kill does not reach because it lives in another process.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

from agent_os.core.principal import Principal
from agent_os.core.stop import SESSION, StopStore
from agent_os.core.task import SessionView
from agent_os.effects.stores.database import Storage
from agent_os.effects.stores.holders import Holders

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS open_session(
  entry TEXT PRIMARY KEY, holder TEXT NOT NULL, id TEXT NOT NULL, tenant TEXT NOT NULL, owner TEXT NOT NULL,
  agent TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL, at REAL NOT NULL
) WITHOUT ROWID
"""
_SELECT: Final = "SELECT holder, id, tenant, owner, agent, host, pid, at FROM open_session ORDER BY at, entry"


class Sessions:
    """The open sessions of one state, or of all that share a PostgreSQL. `holder` is this process's."""

    def __init__(self, database: Storage, holder: str, holders: Holders, now: Callable[[], float]) -> None:
        self._database, self._holder, self._holders, self._now = database, holder, holders, now

    async def enter(self, principal: Principal) -> str:
        """Enter a session; returns what `leave` takes."""
        entry, who = "opn_" + secrets.token_hex(8), principal
        row = (
            entry, self._holder, who.session, who.tenant, who.user, who.agent, socket.gethostname(), os.getpid(), self._now(),
        )  # fmt: skip

        def work(session: Any) -> None:
            for dead in self._dead(session):
                session.execute("DELETE FROM open_session WHERE holder=?", (dead,))
            session.execute("INSERT INTO open_session VALUES(?,?,?,?,?,?,?,?,?)", row)

        await self._database.run(work)
        return entry

    async def leave(self, entry: str) -> None:
        """Take a session out that was closed."""
        sql = "DELETE FROM open_session WHERE entry=?"
        await self._database.run(lambda session: session.execute(sql, (entry,)).rowcount)

    async def live(self) -> Sequence[SessionView]:
        """Return every open session, oldest first."""
        return await self._database.look(self._live)

    def live_now(self) -> Sequence[SessionView]:
        """As `live`, for a caller without an event loop."""
        return self._database.read(self._live)

    async def forget_kills(self, stops: StopStore) -> None:
        """Lift the kills of sessions that are not open any more."""
        killed = {stop.name: stop.id for stop in stops.current().all if stop.scope == SESSION}
        if not killed:
            return
        still = {view.id for view in await self.live()}
        for name, stop in killed.items():
            if name not in still:
                await stops.lift(stop)

    def _live(self, session: Any) -> Sequence[SessionView]:
        dead = self._dead(session)
        return [SessionView(*row[1:]) for row in session.execute(_SELECT).fetchall() if row[0] not in dead]

    def _dead(self, session: Any) -> set[str]:
        """Return the holders of rows that live no more: gone, or taken out already."""
        known = {row[0] for row in session.execute("SELECT id FROM holder").fetchall()}
        named = {row[0] for row in session.execute("SELECT DISTINCT holder FROM open_session").fetchall()}
        return named & ({*self._holders.gone(session)} | (named - known))
