"""What an ask is as rows, and who may answer one. Pure: SQL text and values; `approvals.py` has the transactions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from agent_os.core.approval import Answer, Approval
from agent_os.core.grant import Grant
from agent_os.core.who import names_one_of, person

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS ask(
  id TEXT PRIMARY KEY, tenant TEXT NOT NULL, action_digest TEXT NOT NULL, policy_digest TEXT NOT NULL,
  rules TEXT NOT NULL, reason TEXT NOT NULL, requested_at REAL NOT NULL, expires_at REAL NOT NULL, state TEXT NOT NULL,
  needed INTEGER NOT NULL, requester TEXT NOT NULL, separate INTEGER NOT NULL, approvers TEXT NOT NULL,
  shown BLOB NOT NULL, edited BLOB, spent_by TEXT NOT NULL, decided_at REAL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ask_digest ON ask(action_digest, policy_digest, state);
CREATE INDEX IF NOT EXISTS ask_state ON ask(state, tenant, requested_at);
CREATE TABLE IF NOT EXISTS ask_answer(
  ask TEXT NOT NULL REFERENCES ask(id) ON DELETE CASCADE, approver TEXT NOT NULL, approve INTEGER NOT NULL,
  at REAL NOT NULL, said BLOB NOT NULL, PRIMARY KEY(ask, approver)
) WITHOUT ROWID
"""
COLUMNS: Final = (
    "id, tenant, action_digest, policy_digest, rules, reason, requested_at, expires_at, state, needed, requester,"
    " separate, approvers, shown, edited"
)
SELECT: Final = "SELECT " + COLUMNS + " FROM ask "  # noqa: S608
GRANT: Final = "grt_"
"""Before an ask's id: the grant that its answer is."""


def refusal_of(approval: Approval, answer: Answer) -> str:
    """Return why an answer does not count, or an empty string."""
    if approval.state != "waiting":
        return "it expired unanswered" if approval.state == "expired" else f"it was answered before: {approval.state}"
    who = person(answer.approver)
    if who in map(person, approval.approvals):
        return "one person answers once"
    if answer.approve and approval.separate and who == person(approval.requester):
        return "the policy wants another person than the one who asked"
    if approval.approvers and not names_one_of(approval.approvers, answer.approver, answer.groups):
        return "not among those who may answer: " + ", ".join(approval.approvers)
    if answer.arguments is not None and not (answer.approve and "edit" in approval.offers):
        return "the policy does not let an approver change the arguments"
    if answer.lasting != "once" and (answer.lasting not in approval.offers or answer.arguments is not None):
        return f"an answer for {answer.lasting} is not offered here"
    if answer.lasting != "once" and answer.width not in approval.scopes:
        return f"a scope {answer.width!r} is not offered here"
    return ""


def grant_of(approval: Approval) -> Grant:
    """Return the single-use grant of an ask that was approved."""
    return Grant(
        id=GRANT + approval.id,
        rules=approval.rules,
        action_digest=approval.action_digest,
        policy_digest=approval.policy_digest,
        expires_at=approval.expires_at,
        approver=approval.approvals[-1],
        approvers=approval.approvals,
    )


def texts(values: Sequence[str]) -> str:
    """Return texts as one column."""
    return json.dumps(list(values), ensure_ascii=False)


def plain(value: Any) -> Any:
    """Return mappings as plain objects, so that frozen ones can be written too."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
