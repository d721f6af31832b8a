"""Asks and their answers in `state.db`: implements `core.ports.ApprovalStore`.

An answer is bound to the action's digest, the policy's digest and an expiry, discharges its ask once, and is recorded
under who gave it. What is shown to the approver (action, preview, notes) is sealed at rest. Threats: an approval
taken from the caller, used twice, used for another action or another policy, given by the agent itself or by its
requester, or by one person twice where two are asked for; a double click; an ask that outlives its meaning.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from agent_os.core.canonical import json_bytes
from agent_os.core.decision import Grant
from agent_os.core.errors import ActionError
from agent_os.core.ports import Approval
from agent_os.effects.stores.database import Database
from agent_os.effects.stores.keys import Sealer

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS approval(
  id TEXT PRIMARY KEY, action_digest TEXT NOT NULL, policy_digest TEXT NOT NULL, rules TEXT NOT NULL,
  reason TEXT NOT NULL, requested_at REAL NOT NULL, expires_at REAL NOT NULL, state TEXT NOT NULL,
  needed INTEGER NOT NULL, requester TEXT NOT NULL, separate INTEGER NOT NULL, approvers TEXT NOT NULL,
  shown BLOB NOT NULL, decided_at REAL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS approval_digest ON approval(action_digest, policy_digest, state);
CREATE INDEX IF NOT EXISTS approval_state ON approval(state, requested_at);
CREATE TABLE IF NOT EXISTS answer(
  approval TEXT NOT NULL REFERENCES approval(id) ON DELETE CASCADE, approver TEXT NOT NULL, approve INTEGER NOT NULL,
  at REAL NOT NULL, note BLOB NOT NULL, PRIMARY KEY(approval, approver)
) WITHOUT ROWID
"""
WAITING_MAX: Final = 100_000
NOTE_CHARS_MAX: Final = 4_000
KEEP_SECONDS: Final = 90 * 86_400.0
"""How long answered, used and expired asks stay readable; the audit keeps its own record."""
STATES: Final = ("waiting", "approved", "denied", "expired", "used")
_COLUMNS: Final = (
    "id, action_digest, policy_digest, rules, reason, requested_at, expires_at, state, needed, requester, separate,"
    " approvers, shown"
)
_SELECT: Final = "SELECT " + _COLUMNS + " FROM approval "  # noqa: S608


class SqliteApprovals:
    """The asks of one installation. `now` is used where a port method is not given the time."""

    def __init__(self, database: Database, sealer: Sealer, *, now: Callable[[], float] = time.time) -> None:
        self._database, self._sealer, self._now = database, sealer, now

    async def request(self, approval: Approval) -> Approval:
        """Store an ask, or return the one that already waits for the same action, rules and policy.

        Raises ActionError when it is malformed or too many wait.
        """
        if approval.state != "waiting" or approval.needed < 1 or approval.expires_at <= approval.requested_at:
            raise ActionError("an ask waits for at least one person and expires after it was made", field="approval")
        shown = self._seal(approval.id, {"action": approval.action, "preview": approval.preview})
        return await self._database.run(lambda connection: self._request(connection, approval, shown))

    def _request(self, connection: sqlite3.Connection, approval: Approval, shown: bytes) -> Approval:
        self._expire(connection, approval.requested_at)
        rules = _texts(sorted(approval.rules))
        row = connection.execute(
            _SELECT + "WHERE state='waiting' AND action_digest=? AND policy_digest=? AND rules=?",
            (approval.action_digest, approval.policy_digest, rules),
        ).fetchone()
        if row is not None:
            return self._approval(connection, row)
        waiting = connection.execute("SELECT count(*) FROM approval WHERE state='waiting'").fetchone()[0]
        if waiting >= WAITING_MAX:
            raise ActionError(f"{WAITING_MAX} asks wait already", field="approval")
        connection.execute(
            "INSERT INTO approval(" + _COLUMNS + ") VALUES(?,?,?,?,?,?,?,'waiting',?,?,?,?,?)",
            (
                approval.id, approval.action_digest, approval.policy_digest, rules, approval.reason,
                approval.requested_at, approval.expires_at, approval.needed, approval.requester,
                int(approval.separate), _texts(approval.approvers), shown,
            ),
        )  # fmt: skip
        return approval

    async def get(self, approval_id: str) -> Approval | None:
        """Return an ask, or None."""

        def work(connection: sqlite3.Connection) -> Approval | None:
            self._expire(connection, self._now())
            row = self._row(connection, approval_id)
            return self._approval(connection, row) if row is not None else None

        return await self._database.run(work)

    async def list(self, state: str | None = "waiting") -> Sequence[Approval]:
        """Return asks in a state (None: all), oldest first."""
        if state is not None and state not in STATES:
            raise ActionError(f"unknown state {state!r}", field="state", hint="one of " + ", ".join(STATES))

        def work(connection: sqlite3.Connection) -> Sequence[Approval]:
            self._expire(connection, self._now())
            where, values = ("WHERE state=?", (state,)) if state is not None else ("", ())
            rows = connection.execute(
                _SELECT + f"{where} ORDER BY requested_at, id",
                values,
            ).fetchall()
            return [self._approval(connection, row) for row in rows]

        return await self._database.run(work)

    async def answer(
        self,
        approval_id: str,
        *,
        approve: bool,
        approver: str,
        now: float,
        note: str = "",
        groups: frozenset[str] = frozenset(),
    ) -> Approval:
        """Record one person's answer and return the ask as it then stands; one denial denies.

        Raises ActionError if unknown, expired, answered already, given twice by one person, or not theirs to give.
        """
        if not approver or approver.startswith("agent:"):
            raise ActionError("an approver is a person", field="approver")
        sealed = self._seal(f"{approval_id} {approver}", note[:NOTE_CHARS_MAX])
        found = await self._database.run(
            lambda connection: self._answer(
                connection, approval_id, approve=approve, approver=approver, now=now, note=sealed, groups=groups
            )
        )
        if isinstance(found, Approval):
            return found
        raise ActionError(found, field="approval")

    def _answer(
        self,
        connection: sqlite3.Connection,
        approval_id: str,
        *,
        approve: bool,
        approver: str,
        now: float,
        note: bytes,
        groups: frozenset[str],
    ) -> Approval | str:
        """Return the ask, or why not (returned and not raised, so that an expiry noticed here is kept)."""
        self._expire(connection, now)
        row = self._row(connection, approval_id)
        if row is None:
            return f"no ask has the id {approval_id}"
        approval = self._approval(connection, row)
        if approval.state != "waiting":
            return (
                "it expired unanswered" if approval.state == "expired" else f"it was answered before: {approval.state}"
            )
        if approver in approval.approvals:
            return "one person answers once"
        if approve and approval.separate and approver == approval.requester:
            return "the policy wants another person than the one who asked"
        if approval.approvers and not ({approver} | groups) & set(approval.approvers):
            return "not among those who may answer: " + ", ".join(approval.approvers)
        connection.execute("INSERT INTO answer VALUES(?,?,?,?,?)", (approval_id, approver, int(approve), now, note))
        given = len(approval.approvals) + 1
        state = "denied" if not approve else "approved" if given >= approval.needed else "waiting"
        connection.execute("UPDATE approval SET state=?, decided_at=? WHERE id=?", (state, now, approval_id))
        return self._approval(connection, self._row(connection, approval_id))

    async def grants(self, action_digest: str, policy_digest: str, now: float) -> tuple[Grant, ...]:
        """Return the live grants for exactly this action under exactly this policy."""

        def work(connection: sqlite3.Connection) -> tuple[Grant, ...]:
            rows = connection.execute(
                _SELECT + "WHERE action_digest=? AND policy_digest=?"
                " AND state='approved' AND expires_at>? ORDER BY requested_at",
                (action_digest, policy_digest, now),
            ).fetchall()
            return tuple(_grant(self._approval(connection, row)) for row in rows)

        return await self._database.run(work)

    async def use(self, grant_id: str, now: float) -> bool:
        """Spend a grant; False if it was spent, expired or never given."""

        def work(connection: sqlite3.Connection) -> bool:
            changed = connection.execute(
                "UPDATE approval SET state='used' WHERE id=? AND state='approved' AND expires_at>?",
                (grant_id.removeprefix(_GRANT), now),
            ).rowcount
            return changed == 1

        return grant_id.startswith(_GRANT) and await self._database.run(work)

    async def revoke(self, approval_id: str) -> bool:
        """Take back an approval that was not used yet; False when there is none."""

        def work(connection: sqlite3.Connection) -> bool:
            return (
                connection.execute(
                    "UPDATE approval SET state='denied' WHERE id=? AND state='approved'", (approval_id,)
                ).rowcount
                == 1
            )

        return await self._database.run(work)

    # ---- rows ------------------------------------------------------------------------------------------------------

    def _expire(self, connection: sqlite3.Connection, now: float) -> None:
        connection.execute(
            "UPDATE approval SET state='expired' WHERE state IN ('waiting','approved') AND expires_at<=?", (now,)
        )
        connection.execute(
            "DELETE FROM approval WHERE state NOT IN ('waiting','approved') AND expires_at<?", (now - KEEP_SECONDS,)
        )

    def _row(self, connection: sqlite3.Connection, approval_id: str) -> Any:
        return connection.execute(
            _SELECT + "WHERE id=?",
            (approval_id,),
        ).fetchone()

    def _approval(self, connection: sqlite3.Connection, row: Any) -> Approval:
        answers = connection.execute(
            "SELECT approver, approve, note FROM answer WHERE approval=? ORDER BY at", (row[0],)
        ).fetchall()
        shown = json.loads(self._sealer.open(row[12], row[0].encode()))
        notes = [json.loads(self._sealer.open(note, f"{row[0]} {who}".encode())) for who, _, note in answers]
        return Approval(
            id=row[0],
            action=shown["action"],
            action_digest=row[1],
            policy_digest=row[2],
            rules=tuple(json.loads(row[3])),
            reason=row[4],
            requested_at=row[5],
            expires_at=row[6],
            state=row[7],
            approvals=tuple(who for who, approve, _ in answers if approve),
            needed=row[8],
            answer="; ".join(note for note in notes if note),
            preview=shown["preview"],
            requester=row[9],
            separate=bool(row[10]),
            approvers=tuple(json.loads(row[11])),
        )

    def _seal(self, context: str, value: Any) -> bytes:
        return self._sealer.seal(json_bytes(_plain(value)), context.encode())


_GRANT: Final = "grt_"


def _grant(approval: Approval) -> Grant:
    return Grant(
        id=_GRANT + approval.id,
        rules=approval.rules,
        action_digest=approval.action_digest,
        policy_digest=approval.policy_digest,
        expires_at=approval.expires_at,
        approver=approval.approvals[-1],
        approvers=approval.approvals,
    )


def _texts(values: Sequence[str]) -> str:
    return json.dumps(list(values), ensure_ascii=False)


def _plain(value: Any) -> Any:
    """Return mappings as plain objects, so that frozen ones can be written too."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
