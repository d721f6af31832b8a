"""Which rows are a tenant's, in every table of a state: counted, and taken out when the tenant goes. SQL and names only.

A table that holds something of a tenant stands here, or says why not: the audit (its chain is what bills and answers to
regulators stand on; it holds names and digests, no values, and goes with its retention), labels of files and contents (they
are of paths and digests, not of a tenant), stops (a quarantine outlives whom it keeps out). Threat: a tenant that was erased and
is found again in a corner.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from agent_os.core.budget import tenant_of
from agent_os.core.canonical import json_bytes
from agent_os.core.principal import part

Texts = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True)
class Rows:
    """A tenant's rows of one table: those whose column is, or begins with, one of the texts."""

    what: str
    table: str
    column: str
    texts: Texts
    begins: bool = False
    also: str = ""
    """A further condition."""
    below: tuple[tuple[str, str, str], ...] = ()
    """(table, its column, our column) of rows that belong to these."""

    def where(self, tenant: str) -> tuple[str, tuple[str, ...]]:
        """Return the condition and its values."""
        texts = self.texts(tenant)
        one = f"substr({self.column}, 1, length(?))=?" if self.begins else f"{self.column}=?"
        values = tuple(value for text in texts for value in ((text, text) if self.begins else (text,)))
        return f"({' OR '.join([one] * len(texts))}){self.also}", values


def _named(tenant: str) -> list[str]:
    return [tenant]


def _owned(tenant: str) -> list[str]:
    return [part(tenant) + "/"]


COUNTERS: Final = (
    Rows("messages", "mail", "box", lambda tenant: [json_bytes([tenant])[:-1].decode() + ","], begins=True),
    Rows("sessions", "open_session", "tenant", _named),
)
"""Of `state.db`, or of the PostgreSQL that holds the limits; the accounts of budgets beside them."""
ASKS: Final = (
    Rows("asks", "ask", "tenant", _named, below=(("ask_answer", "ask", "id"),)),
    Rows("lasting grants", "standing_grant", "tenant", _named),
)
OWN: Final = (
    Rows("outcomes by key", "outcome", "key", _owned, begins=True),
    Rows(
        "memories and pseudonyms", "vault_scope", "scope",
        lambda tenant: [f"memory:{part(tenant)}/", f"privacy/user/{part(tenant)}/"], begins=True,
        below=(("vault_entry", "scope", "scope"),),
    ),
    Rows(
        "pseudonyms of all users", "vault_scope", "scope", lambda tenant: [f"privacy/tenant/{tenant}"],
        below=(("vault_entry", "scope", "scope"),),
    ),
    Rows("labels of memories", "label", "name", lambda tenant: [tenant + "\0"], begins=True, also=" AND kind='memory'"),
    Rows(
        "labels of sessions", "label", "name", lambda tenant: [json.dumps([tenant])[:-1] + ","], begins=True,
        also=" AND kind='session'",
    ),
)  # fmt: skip
"""Of this machine's `state.db`."""
LEDGER: Final = (
    Rows(
        "tasks", "agentos_task", "tenant", _named,
        below=(("agentos_outcome", "task", "id"), ("agentos_allowance", "task", "id")),
    ),
    Rows("schedules", "agentos_schedule", "owner", _owned, begins=True),
    Rows("limits", "agentos_limit", "name", _named, also=" AND scope='tenant'"),
    Rows("turns", "agentos_share", "tenant", _named),
)  # fmt: skip


def count(connection: Any, tables: tuple[Rows, ...], tenant: str) -> dict[str, int]:
    """Return how many rows a tenant has, by what they are."""
    found = {}
    for rows in tables:
        where, values = rows.where(tenant)
        sql = f"SELECT count(*) FROM {rows.table} WHERE {where}"  # noqa: S608 - names of this module
        found[rows.what] = int(connection.execute(sql, values).fetchone()[0])
    return found


def erase(connection: Any, tables: tuple[Rows, ...], tenant: str) -> dict[str, int]:
    """Delete a tenant's rows and what belongs to them; return how many of the first there were."""
    found = {}
    for rows in tables:
        where, values = rows.where(tenant)
        for table, column, ours in rows.below:
            held = f"SELECT {ours} FROM {rows.table} WHERE {where}"  # noqa: S608 - names of this module
            connection.execute(f"DELETE FROM {table} WHERE {column} IN ({held})", values)  # noqa: S608
        sql = f"DELETE FROM {rows.table} WHERE {where}"  # noqa: S608
        found[rows.what] = connection.execute(sql, values).rowcount
    return found


def accounts_of(connection: Any, tenant: str) -> list[str]:
    """Return the accounts of budgets that are a tenant's."""
    rows = connection.execute("SELECT DISTINCT account FROM account").fetchall()
    return [account for (account,) in rows if tenant_of(account) == tenant]


def erase_accounts(connection: Any, tenant: str) -> int:
    """Delete a tenant's accounts of budgets, with what is reserved of them; return how many."""
    found = accounts_of(connection, tenant)
    for account in found:
        connection.execute("DELETE FROM reservation WHERE account=?", (account,))
        connection.execute("DELETE FROM account WHERE account=?", (account,))
    return len(found)


__all__ = ["ASKS", "COUNTERS", "LEDGER", "OWN", "Rows", "accounts_of", "count", "erase", "erase_accounts"]
