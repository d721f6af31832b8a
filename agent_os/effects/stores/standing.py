"""Lasting grants ("for this session", "always"): rows beside the asks they came from, inside the caller's transaction.

A lasting grant is a grant with a stated scope (core/scope.py), never a rule: it discharges the asks of the rules it
names, for the user and agent it was given for, until it expires, is revoked, or those rules are written differently. One for a
session is bound to the policy's digest as well. Threats: a grant that nobody finds again (they are listed, counted
and revoked), one that never ends, a row that was edited in the file (the scope is sealed with everything it hangs on).
"""

from __future__ import annotations

import json
import secrets
from typing import Any, Final

from agent_os.core.approval import Approval, StandingGrant
from agent_os.core.canonical import json_bytes
from agent_os.core.errors import ActionError
from agent_os.core.grant import Grant
from agent_os.core.scope import Scope
from agent_os.effects.stores.keys import Sealer

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS standing_grant(
  id TEXT PRIMARY KEY, tenant TEXT NOT NULL, owner TEXT NOT NULL, state TEXT NOT NULL, given_at REAL NOT NULL,
  expires_at REAL NOT NULL, uses INTEGER NOT NULL, sealed BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS standing_grant_owner ON standing_grant(tenant, owner, state)
"""
PREFIX: Final = "std_"
SESSION_SECONDS: Final = 12 * 3600.0
ALWAYS_SECONDS: Final = 90 * 86_400.0
GRANTS_MAX: Final = 1_000
"""Live lasting grants of one user; a further answer is refused, so that they are looked through."""
KEEP_SECONDS: Final = 90 * 86_400.0
_SELECT: Final = "SELECT id, tenant, owner, state, given_at, expires_at, uses, sealed FROM standing_grant "


def add(connection: Any, sealer: Sealer, approval: Approval, scope: Scope, lasting: str, now: float) -> str:
    """Store a lasting grant of an approved ask; returns its id. Raises ActionError when its user has too many."""
    held = connection.execute(
        "SELECT count(*) FROM standing_grant WHERE tenant=? AND owner=? AND state='live' AND expires_at>?",
        (scope.tenant, scope.user, now),
    ).fetchone()[0]
    if held >= GRANTS_MAX:
        raise ActionError(f"{GRANTS_MAX} lasting grants of this user live already", field="approvals")
    grant = PREFIX + secrets.token_hex(10)
    always = lasting == "always"
    bound = {
        "scope": scope.to_json(),
        "rules": list(approval.rules),
        "policy": approval.rules_digest if always else approval.policy_digest,
        "approvers": list(approval.approvals),
        "approval": approval.id,
    }
    expires = now + (ALWAYS_SECONDS if always else SESSION_SECONDS)
    sealed = sealer.seal(json_bytes(bound), _context(grant, scope.tenant, scope.user, now, expires))
    connection.execute("DELETE FROM standing_grant WHERE expires_at<?", (now - KEEP_SECONDS,))
    connection.execute(
        "INSERT INTO standing_grant VALUES(?,?,?,'live',?,?,0,?)",
        (grant, scope.tenant, scope.user, now, expires, sealed),
    )
    return grant


def live(connection: Any, sealer: Sealer, tenant: str, user: str, now: float) -> list[StandingGrant]:
    """Return the grants of a user that may be used now."""
    rows = connection.execute(
        _SELECT + "WHERE tenant=? AND owner=? AND state='live' AND expires_at>? ORDER BY given_at",
        (tenant, user, now),
    ).fetchall()
    return [_read(sealer, row, now) for row in rows]


def every(connection: Any, sealer: Sealer, tenant: str | None, now: float) -> list[StandingGrant]:
    """Return every grant, newest first."""
    where, values = ("WHERE tenant=? ", (tenant,)) if tenant is not None else ("", ())
    rows = connection.execute(_SELECT + where + "ORDER BY given_at DESC, id", values).fetchall()
    return [_read(sealer, row, now) for row in rows]


def use(connection: Any, grant: str, now: float) -> bool:
    """Count one use; False when it was revoked or has expired."""
    changed: int = connection.execute(
        "UPDATE standing_grant SET uses=uses+1 WHERE id=? AND state='live' AND expires_at>?", (grant, now)
    ).rowcount
    return changed == 1


def revoke(connection: Any, grant: str) -> bool:
    """End a grant."""
    changed: int = connection.execute(
        "UPDATE standing_grant SET state='revoked' WHERE id=? AND state='live'", (grant,)
    ).rowcount
    return changed == 1


def _read(sealer: Sealer, row: Any, now: float) -> StandingGrant:
    grant, tenant, owner, state, given, expires, uses, sealed = row
    bound = json.loads(sealer.open(bytes(sealed), _context(grant, tenant, owner, given, expires)))
    scope = Scope.parse(bound["scope"])
    return StandingGrant(
        Grant(
            id=grant,
            rules=tuple(bound["rules"]),
            action_digest="",
            policy_digest=bound["policy"],
            expires_at=expires,
            approver=bound["approvers"][-1],
            approvers=tuple(bound["approvers"]),
            scope=scope,
        ),
        tenant=tenant,
        user=owner,
        session=scope.session,
        given_at=given,
        state="expired" if state == "live" and expires <= now else state,
        uses=uses,
        approval=bound["approval"],
    )


def _context(grant: str, tenant: str, owner: str, given: float, expires: float) -> bytes:
    return json_bytes(["standing", grant, tenant, owner, given, expires])
