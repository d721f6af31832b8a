"""Budgets in `state.db` or a shared PostgreSQL: reserved before, settled after, never overspent by what two processes did at
once.

Amounts are kept as whole millionths, rounded up, so that sums are exact. A reservation counts in full until it is
settled; `settle` replaces it by what was really used, which may be more (it is then recorded, and nothing further
fits). **A holder that died:** its reservations are settled at the full amount, because the effect may have happened.
That is done when a reservation does not fit, at open, and by `sweep`. Threat: an agent that runs many calls at once,
or crashes on purpose, to spend more than it was given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from agent_os.core.budget import SCALE, STATED, Budget, Warned, millionths
from agent_os.core.errors import ActionError
from agent_os.core.facts import BudgetLeft
from agent_os.core.principal import Principal
from agent_os.effects.stores.database import Storage
from agent_os.effects.stores.holders import Holders

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS account(
  account TEXT NOT NULL, unit TEXT NOT NULL, used INTEGER NOT NULL DEFAULT 0, reserved INTEGER NOT NULL DEFAULT 0,
  most INTEGER NOT NULL DEFAULT 0, at REAL NOT NULL, PRIMARY KEY(account, unit)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reservation(
  id TEXT NOT NULL, account TEXT NOT NULL, unit TEXT NOT NULL, budget TEXT NOT NULL, amount INTEGER NOT NULL,
  holder TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY(id, account, unit)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS reservation_holder ON reservation(holder)
"""
SWEEP_SECONDS: Final = 1.0
"""A reservation that does not fit looks for dead holders at most this often."""


class Budgets:
    """The counters. A session sees them through `view`, which implements `core.ports.BudgetStore`."""

    def __init__(
        self, database: Storage, holder: str, *, holders: Holders | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self.database, self.holder, self.now, self.holders = database, holder, now, holders or Holders()
        self._swept_at = 0.0

    def view(self, budgets: Sequence[Budget], principal: Principal, *, run: str = "") -> BudgetView:
        """Return the store as one session sees it: the policy's budgets, counted for this principal and run."""
        return BudgetView(self, {budget.name: budget for budget in budgets}, principal, run)

    def sweep(self, connection: Any) -> int:
        """Settle what dead holders reserved, at the full amount; return how many reservations that were."""
        owing = {row[0] for row in connection.execute("SELECT DISTINCT holder FROM reservation").fetchall()}
        known = {row[0] for row in connection.execute("SELECT id FROM holder").fetchall()}
        dead = self.holders.gone(connection)
        count = sum(self.settle_fully(connection, holder) for holder in sorted({*dead, *(owing - known)}))
        for holder in dead:
            self.holders.leave(connection, holder)
        return count

    def settle_fully(self, connection: Any, holder: str) -> int:
        """Charge everything a holder has reserved; return how many rows that were."""
        # Deleting is what claims a row: of two processes that find the same dead holder, one charges it.
        rows = connection.execute(
            "DELETE FROM reservation WHERE holder=? RETURNING account, unit, amount", (holder,)
        ).fetchall()
        for account, unit, amount in sorted(rows):
            connection.execute(
                "UPDATE account SET reserved=reserved-?, used=used+?, at=? WHERE account=? AND unit=?",
                (amount, amount, self.now(), account, unit),
            )
        return len(rows)

    def reserve(self, connection: Any, reservation: str, wanted: Sequence[tuple[str, str, str, int, int]]) -> bool:
        """Reserve (account, unit, budget, amount, limit) all or none, inside the caller's transaction."""
        known = connection.execute("SELECT 1 FROM reservation WHERE id=? LIMIT 1", (reservation,)).fetchone()
        if known is not None:
            raise ActionError("is in use already", field="reservation")
        if self._take(connection, reservation, wanted):
            return True
        if time.monotonic() - self._swept_at < SWEEP_SECONDS:
            return False
        self._swept_at = time.monotonic()
        return bool(self.sweep(connection)) and self._take(connection, reservation, wanted)

    def _take(self, connection: Any, reservation: str, wanted: Sequence[tuple[str, str, str, int, int]]) -> bool:
        now = self.now()
        wanted = sorted(
            wanted
        )  # one order for everybody: two processes that reserve the same accounts never lock crosswise
        for position, (account, unit, budget, amount, most) in enumerate(wanted):
            if not self._fit(connection, account, unit, amount, most, now):
                for back_account, back_unit, _, back, _ in wanted[:position]:
                    connection.execute(
                        "UPDATE account SET reserved=reserved-? WHERE account=? AND unit=?",
                        (back, back_account, back_unit),
                    )
                connection.execute("DELETE FROM reservation WHERE id=?", (reservation,))
                return False
            connection.execute(
                "INSERT INTO reservation VALUES(?,?,?,?,?,?,?)",
                (reservation, account, unit, budget, amount, self.holder, now),
            )
        return True

    def _fit(self, connection: Any, account: str, unit: str, amount: int, most: int, now: float) -> bool:
        """Count an amount as reserved if it fits: one statement that reads and writes, so that nobody comes between."""
        for _ in range(2):
            fitted: int = connection.execute(
                "UPDATE account SET reserved=reserved+?, most=?, at=? WHERE account=? AND unit=? AND used+reserved+?<=?",
                (amount, most, now, account, unit, amount, most),
            ).rowcount
            if fitted:
                return True
            connection.execute(
                "INSERT INTO account VALUES(?,?,0,0,?,?) ON CONFLICT DO NOTHING", (account, unit, most, now)
            )
        return False

    def settle(
        self,
        connection: Any,
        reservation: str,
        used: Mapping[str, Mapping[str, float]],
        warn_at: Callable[[str], float] = lambda _: 0.0,
    ) -> list[Warned]:
        """Replace a reservation by what was used; what cannot be a usage is charged as the whole reservation.

        Returns the accounts that passed the share that `warn_at` has for their budget: each once, whoever settles.
        """
        warned = []
        rows = connection.execute(
            "DELETE FROM reservation WHERE id=? RETURNING account, unit, budget, amount", (reservation,)
        ).fetchall()
        for account, unit, budget, amount in sorted(rows):
            try:
                spent = millionths(used.get(budget, {}).get(unit, 0.0))
            except ActionError:
                spent = amount
            row = connection.execute(
                "UPDATE account SET reserved=reserved-?, used=used+?, at=? WHERE account=? AND unit=? RETURNING used, most",
                (amount, spent, self.now(), account, unit),
            ).fetchone()
            share = warn_at(budget)
            if row is not None and share and row[0] - spent < share * row[1] <= row[0]:
                warned.append(Warned(account, unit, row[0] / SCALE, row[1] / SCALE))
        return warned

    def accounts(self, prefix: str = "") -> list[dict[str, Any]]:
        """Return every account whose name begins with `prefix`: account, unit, used, reserved, limit, at."""
        rows = self.database.read(
            lambda connection: connection.execute(
                "SELECT account, unit, used, reserved, most, at FROM account ORDER BY account, unit"
            ).fetchall()
        )
        return [
            {
                "account": account,
                "unit": unit,
                "used": used / SCALE,
                "reserved": reserved / SCALE,
                "limit": most / SCALE,
                "at": at,
            }
            for account, unit, used, reserved, most, at in rows
            if account.startswith(prefix)
        ]


class BudgetView:
    """One session's budgets: implements `core.ports.BudgetStore`. Names are the policy's (`user/year`,
    `model/day:x`).
    """

    def __init__(self, store: Budgets, budgets: Mapping[str, Budget], principal: Principal, run: str) -> None:
        self._store, self._budgets, self._principal, self._run = store, budgets, principal, run

    def under(self, budgets: Sequence[Budget]) -> BudgetView:
        """Return the same session's view under another policy's budgets; what was reserved through this one can be settled
        through both."""
        return BudgetView(self._store, {budget.name: budget for budget in budgets}, self._principal, self._run)

    def _find(self, name: str) -> tuple[Budget, str]:
        budget, stated = self._budgets.get(name), ""
        if budget is None:
            base, _, stated = name.partition(":")
            budget = self._budgets.get(base)
            if budget is None or budget.per not in STATED:
                raise ActionError(f"no budget is called {name!r}", field="budget")
        return budget, budget.account(self._principal, self._store.now(), run=self._run, stated=stated)

    async def left(self, budgets: Sequence[str]) -> tuple[BudgetLeft, ...]:
        """Return what is left of each budget by unit, reservations counted as used. Raises ActionError, EffectError."""
        found = [(name, *self._find(name)) for name in budgets]

        def read(connection: Any) -> tuple[BudgetLeft, ...]:
            answers = []
            for name, budget, account in found:
                spent = dict(
                    connection.execute("SELECT unit, used+reserved FROM account WHERE account=?", (account,)).fetchall()
                )
                left = {unit: max(0.0, most - spent.get(unit, 0) / SCALE) for unit, most in budget.limits.items()}
                answers.append(BudgetLeft(name, left))
            return tuple(answers)

        return await self._store.database.look(read)

    async def reserve(self, reservation: str, amounts: Mapping[str, Mapping[str, float]]) -> bool:
        """Reserve all amounts (budget -> unit -> amount) or none; units without a limit are not counted.

        False when one does not fit. Raises ActionError for an unknown budget, a bad amount or a reservation in use.
        """
        wanted = []
        for name, units in amounts.items():
            budget, account = self._find(name)
            for unit, amount in units.items():
                counted = millionths(amount, field=f"{name}.{unit}")
                if unit in budget.limits:
                    wanted.append((account, unit, name, counted, millionths(budget.limits[unit])))
        if not wanted:
            return True
        return await self._store.database.run(lambda connection: self._store.reserve(connection, reservation, wanted))

    async def settle(self, reservation: str, amounts: Mapping[str, Mapping[str, float]]) -> Sequence[Warned]:
        """Replace a reservation by what was really used ({} releases it); unknown or settled ones are passed over.

        Returns what passed its budget's `warn_at` by it.
        """
        return await self._store.database.run(
            lambda connection: self._store.settle(connection, reservation, amounts, self._warn_at)
        )

    def _warn_at(self, name: str) -> float:
        budget = self._budgets.get(name) or self._budgets.get(name.partition(":")[0])
        return budget.warn_at if budget is not None else 0.0
