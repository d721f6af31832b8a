"""Asks and their answers in `state.db` or a shared PostgreSQL: implements `core.approval.ApprovalStore`.

An answer is bound to the action's digest, the policy's digest and an expiry, discharges its ask once, and is recorded
under who gave it. What is shown to the approver (action, preview, notes, changed arguments) is sealed at rest. Threats: an
approval taken from the caller, used twice, used for another action or another policy, given by the agent itself or by its
requester, or by one person twice where two are asked for; a double click on two machines; an ask that outlives its
meaning; an answer that covers more than was offered.

Every method is one transaction; `stores/database.py` begins it IMMEDIATE, the PostgreSQL face takes one lock for them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from agent_os.core.approval import Answer, Approval, StandingGrant
from agent_os.core.canonical import json_bytes
from agent_os.core.errors import ActionError
from agent_os.core.grant import Grant
from agent_os.core.scope import LASTING, WIDTHS, Scope, narrowest
from agent_os.effects.stores import standing
from agent_os.effects.stores.asks import COLUMNS, GRANT, SELECT, grant_of, plain, refusal_of, texts
from agent_os.effects.stores.database import Storage
from agent_os.effects.stores.keys import Sealer

WAITING_MAX: Final = 100_000
TENANT_WAITING_MAX: Final = 20_000
"""Of one tenant, where the policy's `max_waiting` says nothing: one that floods leaves the others room."""
NOTE_CHARS_MAX: Final = 4_000
EDIT_BYTES_MAX: Final = 1 << 20
KEEP_SECONDS: Final = 90 * 86_400.0
"""How long answered, used and expired asks stay readable; the audit keeps its own record."""
STATES: Final = ("waiting", "approved", "edited", "denied", "expired", "used")
_SHOWN: Final = ("action", "preview", "agent", "session", "offers", "scopes", "rules_digest")


class Approvals:
    """The asks of one installation. `now` is used where a port method is not given the time.

    `shared` stores judge every expiry by the clock of the database: the machines that share it may disagree.
    """

    def __init__(
        self, database: Storage, sealer: Sealer, *, now: Callable[[], float] = time.time, shared: bool = False
    ) -> None:
        self._database, self._sealer, self._now, self._shared = database, sealer, now, shared

    def _at(self, now: float) -> float:
        return self._now() if self._shared else now

    async def request(self, approval: Approval) -> Approval:
        """Store an ask, or return the one that already waits for the same action, rules and policy.

        Raises ActionError when it is malformed or too many wait.
        """
        if approval.state != "waiting" or approval.needed < 1 or approval.expires_at <= approval.requested_at:
            raise ActionError("an ask waits for at least one person and expires after it was made", field="approval")
        shown = self._seal(approval.id, {name: getattr(approval, name) for name in _SHOWN})
        return await self._database.run(lambda connection: self._request(connection, approval, shown))

    def _request(self, connection: Any, approval: Approval, shown: bytes) -> Approval:
        asked = self._at(approval.requested_at)
        self._expire(connection, asked)
        rules = texts(sorted(approval.rules))
        row = connection.execute(
            SELECT + "WHERE state='waiting' AND action_digest=? AND policy_digest=? AND rules=?",
            (approval.action_digest, approval.policy_digest, rules),
        ).fetchone()
        if row is not None:
            return self._approval(connection, row)
        self._room(connection, approval)
        values = (
            approval.id, approval.tenant, approval.action_digest, approval.policy_digest, rules, approval.reason, asked,
            asked + (approval.expires_at - approval.requested_at), approval.needed, approval.requester,
            int(approval.separate), texts(approval.approvers), shown,
        )  # fmt: skip
        connection.execute(
            "INSERT INTO ask(" + COLUMNS + ", spent_by) VALUES(?,?,?,?,?,?,?,?,'waiting',?,?,?,?,?,NULL,'')", values
        )
        return self._approval(connection, self._row(connection, approval.id))

    def _room(self, connection: Any, approval: Approval) -> None:
        waiting = connection.execute("SELECT count(*) FROM ask WHERE state='waiting'").fetchone()[0]
        if waiting >= WAITING_MAX:
            raise ActionError(f"{WAITING_MAX} asks wait already", field="approval")
        own = connection.execute(
            "SELECT count(*) FROM ask WHERE state='waiting' AND tenant=?", (approval.tenant,)
        ).fetchone()[0]
        if own >= (approval.waiting_max or TENANT_WAITING_MAX):
            raise ActionError(f"{own} asks of this tenant wait already", field="approvals.max_waiting")

    async def get(self, approval_id: str) -> Approval | None:
        """Return an ask, or None."""

        def work(connection: Any) -> Approval | None:
            self._expire(connection, self._now())
            row = self._row(connection, approval_id)
            return self._approval(connection, row) if row is not None else None

        return await self._database.run(work)

    async def list(self, state: str | None = "waiting", tenant: str | None = None) -> Sequence[Approval]:
        """Return asks in a state (None: all) of a tenant (None: every), oldest first."""
        if state is not None and state not in STATES:
            raise ActionError(f"unknown state {state!r}", field="state", hint="one of " + ", ".join(STATES))
        chosen = {name: value for name, value in (("state", state), ("tenant", tenant)) if value is not None}
        where = "WHERE " + " AND ".join(f"{name}=?" for name in chosen) if chosen else ""

        def work(connection: Any) -> Sequence[Approval]:
            self._expire(connection, self._now())
            rows = connection.execute(SELECT + where + " ORDER BY requested_at, id", tuple(chosen.values())).fetchall()
            return [self._approval(connection, row) for row in rows]

        return await self._database.run(work)

    async def waiting_ids(self) -> frozenset[str]:
        """Return the ids of the asks nobody has answered, and nothing of what they ask."""

        def work(connection: Any) -> frozenset[str]:
            self._expire(connection, self._now())
            return frozenset(
                row[0] for row in connection.execute("SELECT id FROM ask WHERE state='waiting'").fetchall()
            )

        return await self._database.run(work)

    # ---- answering -------------------------------------------------------------------------------------------------

    async def answer(self, approval_id: str, answer: Answer, now: float) -> Approval:
        """Record one person's answer and return the ask as it then stands; one denial denies.

        Raises ActionError if unknown, expired, answered already, given twice by one person, not theirs to give, or more
        than was offered.
        """
        if not answer.approver or answer.approver.startswith("agent:"):
            raise ActionError("an approver is a person", field="approver")
        if answer.lasting not in LASTING or answer.width not in WIDTHS:
            raise ActionError("is no answer", field="lasting", hint=f"{', '.join(LASTING)}; {', '.join(WIDTHS)}")
        if answer.arguments is not None and len(json_bytes(plain(answer.arguments))) > EDIT_BYTES_MAX:
            raise ActionError(f"more than {EDIT_BYTES_MAX} bytes", field="arguments")
        found = await self._database.run(
            lambda connection: self._answer(connection, approval_id, answer, self._at(now))
        )
        if isinstance(found, Approval):
            return found
        raise ActionError(found, field="approval")

    def _answer(self, connection: Any, approval_id: str, answer: Answer, now: float) -> Approval | str:
        """Return the ask, or why not (returned and not raised, so that an expiry noticed here is kept)."""
        self._expire(connection, now)
        row = self._row(connection, approval_id)
        if row is None:
            return f"no ask has the id {approval_id}"
        approval = self._approval(connection, row)
        refusal = refusal_of(approval, answer)
        if refusal:
            return refusal
        said = {"note": answer.note[:NOTE_CHARS_MAX], "lasting": answer.lasting, "width": answer.width}
        sealed = self._seal(f"{approval_id} {answer.approver}", said)
        connection.execute(
            "INSERT INTO ask_answer VALUES(?,?,?,?,?)",
            (approval_id, answer.approver, int(answer.approve), now, sealed),
        )
        given = len(approval.approvals) + 1
        if not answer.approve:
            state = "denied"
        elif answer.arguments is not None:
            state = "edited"
            changed = self._seal(f"{approval_id} edited", {"arguments": answer.arguments, "by": answer.approver})
            connection.execute("UPDATE ask SET edited=? WHERE id=?", (changed, approval_id))
        else:
            state = "approved" if given >= approval.needed else "waiting"
        connection.execute("UPDATE ask SET state=?, decided_at=? WHERE id=?", (state, now, approval_id))
        answered = self._approval(connection, self._row(connection, approval_id))
        self._tell(connection)
        if state == "approved":
            self._make_standing(connection, answered, now)
        return answered

    def _make_standing(self, connection: Any, approval: Approval, now: float) -> None:
        """Keep a lasting grant where every yes asked for one: the narrowest of what the people said holds."""
        rows = connection.execute("SELECT approver, said FROM ask_answer WHERE ask=?", (approval.id,)).fetchall()
        said = [self._open(f"{approval.id} {who}", sealed) for who, sealed in rows]
        lasting, width = "always", "same"
        for each in said:
            lasting, width = narrowest(lasting, each["lasting"], LASTING), narrowest(width, each["width"], WIDTHS)
        if lasting == "once" or width not in approval.scopes:
            return
        scope = Scope.parse(approval.scopes[width])
        if lasting == "session":
            scope = scope.for_session(approval.session)
        standing.add(connection, self._sealer, approval, scope, lasting, now)

    # ---- grants ----------------------------------------------------------------------------------------------------

    async def grants(self, action_digest: str, policy_digest: str, now: float) -> tuple[Grant, ...]:
        """Return the live single-use grants for exactly this action under exactly this policy."""

        def work(connection: Any) -> tuple[Grant, ...]:
            rows = self._live(connection, "approved", action_digest, policy_digest, now)
            return tuple(grant_of(self._approval(connection, row)) for row in rows)

        return await self._database.run(work)

    async def edited(self, action_digest: str, policy_digest: str, now: float) -> Approval | None:
        """Return the live ask for exactly this action whose arguments a person changed, or None."""

        def work(connection: Any) -> Approval | None:
            rows = self._live(connection, "edited", action_digest, policy_digest, now)
            return self._approval(connection, rows[-1]) if rows else None

        return await self._database.run(work)

    def _live(self, connection: Any, state: str, action_digest: str, policy_digest: str, now: float) -> Sequence[Any]:
        rows: Sequence[Any] = connection.execute(
            SELECT + "WHERE action_digest=? AND policy_digest=? AND state=? AND expires_at>? ORDER BY requested_at",
            (action_digest, policy_digest, state, self._at(now)),
        ).fetchall()
        return rows

    async def standing(self, tenant: str, user: str, now: float) -> tuple[Grant, ...]:
        """Return the live lasting grants of a user; the caller checks what they cover."""
        rows = await self._database.run(
            lambda connection: standing.live(connection, self._sealer, tenant, user, self._at(now))
        )
        return tuple(row.grant for row in rows)

    async def list_standing(self, tenant: str | None = None) -> Sequence[StandingGrant]:
        """Return every lasting grant of a tenant (None: every), newest first, ended ones too."""
        return await self._database.run(
            lambda connection: standing.every(connection, self._sealer, tenant, self._now())
        )

    async def revoke_standing(self, grant_id: str) -> bool:
        """End a lasting grant at once; False when there is none that lives."""
        return await self._database.run(lambda connection: standing.revoke(connection, grant_id))

    async def spend(self, grants: Sequence[str], now: float, *, by: str) -> bool:
        """Spend grants and edits by id: all or none. False if one was spent, expired, revoked or never given."""

        def work(connection: Any) -> None:
            for grant in grants:
                if not self._spend(connection, grant, self._at(now), by):
                    raise _SpentError

        try:
            await self._database.run(work)
        except _SpentError:
            return False
        return True

    def _spend(self, connection: Any, grant: str, now: float, by: str) -> bool:
        if grant.startswith(standing.PREFIX):
            return standing.use(connection, grant, now)
        state = "approved" if grant.startswith(GRANT) else "edited"
        changed: int = connection.execute(
            "UPDATE ask SET state='used', spent_by=? WHERE id=? AND state=? AND expires_at>?",
            (by, grant.removeprefix(GRANT), state, now),
        ).rowcount
        return changed == 1

    async def unspend(self, grants: Sequence[str], *, by: str) -> None:
        """Give back what was spent by a passage that then did nothing; an expiry meanwhile stands."""

        def work(connection: Any) -> None:
            for grant in grants:
                if not grant.startswith(standing.PREFIX):
                    connection.execute(
                        "UPDATE ask SET state=CASE WHEN edited IS NULL THEN 'approved' ELSE 'edited' END, spent_by=''"
                        " WHERE id=? AND state='used' AND spent_by=?",
                        (grant.removeprefix(GRANT), by),
                    )

        await self._database.run(work)

    async def revoke(self, approval_id: str) -> bool:
        """Take back an approval that was not used yet; False when there is none."""

        def work(connection: Any) -> bool:
            changed: int = connection.execute(
                "UPDATE ask SET state='denied' WHERE id=? AND state IN ('approved','edited')", (approval_id,)
            ).rowcount
            return changed == 1

        return await self._database.run(work)

    # ---- rows ------------------------------------------------------------------------------------------------------

    def _tell(self, connection: Any) -> None:
        """Wake the workers whose tasks wait for an answer; SQLite's file tells by itself (durable/changes.py)."""
        if self._shared:
            connection.notify()

    def _expire(self, connection: Any, now: float) -> None:
        sql = "UPDATE ask SET state='expired' WHERE state IN ('waiting','approved','edited') AND expires_at<=?"
        if connection.execute(sql, (now,)).rowcount:
            self._tell(connection)
        connection.execute(
            "DELETE FROM ask WHERE state IN ('denied','expired','used') AND expires_at<?", (now - KEEP_SECONDS,)
        )

    def _row(self, connection: Any, approval_id: str) -> Any:
        return connection.execute(SELECT + "WHERE id=?", (approval_id,)).fetchone()

    def _approval(self, connection: Any, row: Any) -> Approval:
        answers = connection.execute(
            "SELECT approver, approve, said FROM ask_answer WHERE ask=? ORDER BY at, approver", (row[0],)
        ).fetchall()
        shown = self._open(row[0], row[13])
        said = [self._open(f"{row[0]} {who}", sealed) for who, _, sealed in answers]
        edited = self._open(f"{row[0]} edited", row[14]) if row[14] is not None else {}
        return Approval(
            id=row[0],
            tenant=row[1],
            action=shown["action"],
            action_digest=row[2],
            policy_digest=row[3],
            rules=tuple(json.loads(row[4])),
            reason=row[5],
            requested_at=row[6],
            expires_at=row[7],
            state=row[8],
            approvals=tuple(who for who, approve, _ in answers if approve),
            needed=row[9],
            answer="; ".join(each["note"] for each in said if each["note"]),
            preview=shown["preview"],
            requester=row[10],
            separate=bool(row[11]),
            approvers=tuple(json.loads(row[12])),
            agent=shown["agent"],
            session=shown["session"],
            offers=tuple(shown["offers"]),
            scopes=shown["scopes"],
            rules_digest=shown["rules_digest"],
            edited=edited.get("arguments"),
            edited_by=edited.get("by", ""),
        )

    def _seal(self, context: str, value: Any) -> bytes:
        return self._sealer.seal(json_bytes(plain(value)), context.encode())

    def _open(self, context: str, sealed: bytes) -> Any:
        return json.loads(self._sealer.open(bytes(sealed), context.encode()))


class _SpentError(Exception):
    """One of several grants is no longer there: the whole transaction is undone."""
