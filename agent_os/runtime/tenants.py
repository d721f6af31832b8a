"""A tenant as a whole: everything the state holds of it, written out; and taken out when it goes.

Erasing wants the tenant quarantined and nothing of it under way, is recorded in the audit first, and leaves the audit itself
alone: its chain is what bills and answers to regulators stand on. It holds names, digests and amounts, no values, and goes with
its retention. What was used stays as sums without users. Threats: an erasure that something under way fills again; one that an
agent asks for; an export that shows another tenant's rows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent_os.core.budget import tenant_of
from agent_os.core.errors import ActionError, EffectError
from agent_os.core.principal import Principal
from agent_os.effects.durable.ledger import Ledger
from agent_os.effects.durable.rows import SELECT
from agent_os.effects.durable.schedules import Schedules
from agent_os.effects.stores import tenants
from agent_os.effects.stores.identity import current_identity
from agent_os.effects.stores.state import StateDatabase
from agent_os.runtime.approvals import OPERATOR
from agent_os.runtime.audit import open_audit
from agent_os.runtime.budget import account_rows
from agent_os.runtime.post import post_keys
from agent_os.runtime.serving.approvals import shown
from agent_os.runtime.state import State, open_state
from agent_os.runtime.stopping import refuse_inside_agent
from agent_os.runtime.tasks.opening import open_ledger

FORM: Final = 1
_WRITTEN_BY: Final = ("intent", "denied", "asked")


@dataclass(slots=True)
class TenantDesk:
    """One tenant of an installation, as the operator sees it; close it."""

    tenant: str
    state: State
    ledger: Ledger

    @property
    def stores(self) -> StateDatabase:
        """The stores of the state directory."""
        return self.state.stores

    async def held(self) -> dict[str, int]:
        """Return how many rows of each kind the state holds of the tenant."""
        stores, found = self.stores, {}
        for database, tables in self._places():
            found.update(
                await database.look(lambda session, tables=tables: tenants.count(session, tables, self.tenant))
            )
        accounts = await stores.budgets.database.look(lambda session: tenants.accounts_of(session, self.tenant))
        payloads = len(self._payloads())
        return {**found, "accounts of budgets": len(accounts), "payloads": payloads}

    async def export(self) -> dict[str, Any]:
        """Return everything the state holds of the tenant, opened, as plain JSON. Raises EffectError, IntegrityError."""
        stores, tenant = self.stores, self.tenant
        rows = await self.ledger.rows_of(SELECT + "WHERE tenant=? ORDER BY created, id", tenant)
        accounts = [row for row in stores.budgets.accounts() if tenant_of(row["account"]) == tenant]
        scopes = [
            scope
            for what in tenants.OWN[1:3]
            for text in what.texts(tenant)
            for scope in await self._scopes(text, what.begins)
        ]
        return {
            "form": FORM,
            "tenant": tenant,
            "at": time.time(),
            "asks": [shown(each) for each in await stores.approvals.list(None, tenant)],
            "lasting_grants": [each.grant.id for each in await stores.approvals.list_standing(tenant)],
            "budgets": account_rows(accounts),
            "usage": self.state.usage.sums("user", "day", where={"tenant": tenant}),
            "memories": {scope: await stores.vault.load(scope) for scope in scopes},
            "messages": [each.shown() for each in await self._messages()],
            "tasks": [self.ledger.rows.shown(row).to_json() for row in rows],
            "schedules": [
                each.to_json() for each in await Schedules(self.ledger).list() if each.owner.tenant == tenant
            ],
            "payloads": self._payloads(),
            "audit": list(self._records()),
        }

    async def erase(self) -> dict[str, int]:
        """Delete everything but the audit's records and sums of use without users; returns how many rows of each kind.

        Raises EffectError while the tenant is not quarantined, or something of it is under way.
        """
        await self._refuse_at_work()
        found = await self.held()
        who = current_identity()
        record = {"type": "tenant.erased", "time": time.time(), "tenant": self.tenant, "user": who.user, "uid": who.uid}
        await self.state.audit.append({**record, "rows": found})
        payloads = list(self._payloads())
        for database, tables in self._places():
            await database.run(lambda session, tables=tables: tenants.erase(session, tables, self.tenant))
        await self.stores.budgets.database.run(lambda session: tenants.erase_accounts(session, self.tenant))
        if self.stores.payloads is not None:
            await self.stores.payloads.forget(payloads)
        await asyncio.to_thread(self.state.usage.forget_users, self.tenant)
        return found

    async def _refuse_at_work(self) -> None:
        stop = self.stores.stops.current().holding(Principal(tenant=self.tenant))
        if stop is None:
            raise EffectError(f"stop it first: agentos quarantine tenant {self.tenant} --kill")
        open_now = "SELECT count(*) FROM agentos_task WHERE tenant=? AND state='running'"
        ((running,),) = await self.ledger.rows_of(open_now, self.tenant)
        live = sum(view.tenant == self.tenant for view in await self.stores.sessions.live())
        if running or live:
            raise EffectError(f"it is still at work: {running} tasks and {live} sessions (agentos ps); end them first")

    def _places(self) -> list[tuple[Any, tuple[tenants.Rows, ...]]]:
        """Return each database with the tables of it that hold something of a tenant."""
        stores = self.stores
        shared = stores.shared
        counters, asks = (shared.counters, shared.asks) if shared is not None else (stores.database, stores.database)
        return [
            (counters, tenants.COUNTERS), (asks, tenants.ASKS), (stores.database, tenants.OWN),
            (self.ledger.storage, tenants.LEDGER),
        ]  # fmt: skip

    async def _scopes(self, text: str, begins: bool) -> list[str]:
        return [scope for scope in await self.stores.vault.scopes(text) if begins or scope == text]

    async def _messages(self) -> list[Any]:
        boxes = self.stores.boxes(self.state.keys, post_keys(self.state.keys))
        where, values = tenants.COUNTERS[0].where(self.tenant)
        sql = f"SELECT DISTINCT box FROM mail WHERE {where}"  # noqa: S608 - names of stores/tenants.py
        names = await self.stores.budgets.database.look(lambda session: session.execute(sql, values).fetchall())
        found: list[Any] = []
        for (name,) in names:
            after = ""
            while page := await boxes.read(name, after=after):
                found, after = found + page, page[-1].id
        return found

    def _records(self) -> Iterator[Mapping[str, Any]]:
        """Yield the audit's records of the tenant: those that name it, and those that end what these began."""
        references: set[str] = set()
        for record in open_audit(environment=self.state.environment).records():
            if record.get("tenant") == self.tenant:
                if record.get("type") in _WRITTEN_BY:
                    references.add(str(record.get("ref")))
                yield record
            elif record.get("type") == "outcome" and str(record.get("ref")) in references:
                yield record

    def _payloads(self) -> dict[str, Any]:
        """Return the kept arguments and results of the tenant's actions, by their reference."""
        store = self.stores.payloads
        if store is None:
            return {}
        names: set[str] = set()
        for record in self._records():
            if "ref" in record:
                names |= {str(record["ref"]), f"{record['ref']}.out"}
            if "session" in record:
                names.add(f"prompt/{record['session']}")
        return {name: held for name in sorted(names) if (held := store.look_up(name)) is not None}

    def close(self) -> None:
        """Close everything."""
        self.ledger.storage.close()
        self.state.close()


def open_tenant(tenant: str, environment: Mapping[str, str] | None = None) -> TenantDesk:
    """Open a tenant of the state directory, for the user this process runs as. Raises DeniedError inside an agent."""
    if not tenant:
        raise ActionError("must name a tenant", field="tenant")
    state = open_state(environment=environment, writer=OPERATOR)
    try:
        refuse_inside_agent(state)
        if (state.path / "payloads.db").exists():
            state.stores.open_payloads(state.path, state.keys)
        return TenantDesk(tenant, state, open_ledger(state.path, state.keys, state.environment))
    except BaseException:
        state.close()
        raise


__all__ = ["TenantDesk", "open_tenant"]
