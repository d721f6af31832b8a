"""Children in the ledger: started within their bounds, and an allowance that is one with their ancestors'.

A child is a row under its parent. It is stored in the transaction that looks whether its parent may still act and how many
there are already, so that neither a fork bomb nor a killed parent gets one more. What an agent may use of its own is a row a
unit; what it uses is counted there and in every ancestor's, reserved at the worst case before an effect and replaced by what
was used. What a crash left reserved stays counted: it may have been spent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent_os.core.errors import EffectError, IntegrityError
from agent_os.core.task import OPEN_STATES, FencedError, Task, TaskRequest, TaskStopped
from agent_os.effects.durable.ledger import Ledger
from agent_os.effects.durable.rows import marks

_OPEN = tuple(state.value for state in OPEN_STATES)


class Family:
    """The tree below one run of a task."""

    def __init__(self, ledger: Ledger, task: Task) -> None:
        self._ledger, self._task = ledger, task

    async def live(self) -> int:
        """Return how many children are not over."""
        sql = f"SELECT count(*) FROM agentos_task WHERE parent=? AND state IN ({marks(_OPEN)})"  # noqa: S608
        ((count,),) = await self._ledger.rows_of(sql, self._task.id, *_OPEN)
        return int(count)

    async def start(self, request: TaskRequest, *, children_max: int, total_max: int) -> str:
        """Store a child (once, however often it is asked for); returns an empty string, or the bound that it is past.

        Raises FencedError and TaskStopped when the parent may not act any more, EffectError when the queue is full.
        """
        task, ledger = self._task, self._ledger
        values = ledger.rows.values(request, request.id, ledger.now())

        def work(session: Any) -> str:
            if task.root != task.id:
                ledger.hold(session, task.root)  # the tree's total is counted by one at a time
            stopped = ledger.fence(session, task.id, task.token)
            if stopped:
                return stopped
            if session.execute("SELECT 1 FROM agentos_task WHERE id=?", (request.id,)).fetchone() is not None:
                return ""
            live = f"SELECT count(*) FROM agentos_task WHERE parent=? AND state IN ({marks(_OPEN)})"  # noqa: S608
            if session.execute(live, (task.id, *_OPEN)).fetchone()[0] >= children_max:
                return "agents.max_children"
            total = "SELECT count(*) FROM agentos_task WHERE root=? AND id<>?"
            if session.execute(total, (task.root, task.root)).fetchone()[0] >= total_max:
                return "agents.max_total"
            ledger.insert(session, request, values)
            ledger.notify(session)
            return ""

        refused = await ledger.storage.run(work)
        if refused == "fenced":
            raise FencedError(f"task {task.id} was taken over: this run of it may do nothing more")
        if refused in ("kill", "suspend"):
            raise TaskStopped(refused)
        return refused

    async def results(self, ids: Sequence[str]) -> Sequence[Task]:
        """Return children in the order asked for. Raises EffectError for one that is none of this task's."""
        found = {task.id: task for task in await self._ledger.get_all(ids)}
        for each in ids:
            if each not in found or found[each].parent != self._task.id:
                raise EffectError(f"task {each} is no child of {self._task.id}")
        return [found[each] for each in ids]


class LedgerAllowance:
    """What a task may use, counted in its own rows and every ancestor's. Implements `core.ports.AgentAllowance`."""

    def __init__(self, ledger: Ledger, task: Task) -> None:
        self._ledger, self._chain = ledger, (*task.lineage, task.id)

    async def left(self) -> Mapping[str, float]:
        """Return what is left by unit, the smallest along the chain; a unit without a limit is not there."""
        sql = f"SELECT unit, most, used FROM agentos_allowance WHERE task IN ({marks(self._chain)})"  # noqa: S608
        rows = await self._ledger.rows_of(sql, *self._chain)
        left: dict[str, float] = {}
        for unit, most, used in rows:
            _refuse_unreadable(unit, most, used)
            left[unit] = min(left.get(unit, float("inf")), max(0.0, most - used))
        return left

    async def reserve(self, amounts: Mapping[str, float]) -> bool:
        """Take amounts here and from every ancestor, or nothing and return False."""
        chain = self._chain

        def work(session: Any) -> bool:
            taken: list[tuple[str, str, float]] = []
            for unit, amount in sorted(amounts.items()):
                for holder in chain:
                    known = "SELECT most, used FROM agentos_allowance WHERE task=? AND unit=?"
                    held = session.execute(known, (holder, unit)).fetchone()
                    if held is None:
                        continue
                    _refuse_unreadable(unit, *held)
                    fits = session.execute(
                        "UPDATE agentos_allowance SET used=used+? WHERE task=? AND unit=? AND used+?<=most",
                        (amount, holder, unit, amount),
                    ).rowcount
                    if fits != 1:
                        for unit_taken, of, back in taken:
                            _add(session, of, unit_taken, -back)
                        return False
                    taken.append((unit, holder, amount))
            return True

        return await self._ledger.storage.run(work)

    async def charge(self, reserved: Mapping[str, float], used: Mapping[str, float]) -> None:
        """Replace what was reserved by what was used; a unit nobody measured counts as reserved."""
        changes = {unit: used[unit] - amount for unit, amount in reserved.items() if unit in used}
        chain = self._chain

        def work(session: Any) -> None:
            for unit, change in sorted(changes.items()):
                for holder in chain:
                    _add(session, holder, unit, change)

        if any(changes.values()):
            await self._ledger.storage.run(work)

    async def passed(self, seconds: float) -> None:
        """Count wall time of this task's own; children's runs beside it, and is theirs."""
        await self._ledger.storage.run(lambda session: _add(session, self._chain[-1], "seconds", seconds))


def _refuse_unreadable(unit: str, *values: Any) -> None:
    if not all(isinstance(value, int | float) for value in values):
        raise IntegrityError(f"what is left of {unit} cannot be read: its row was tampered with")


def _add(session: Any, task: str, unit: str, amount: float) -> None:
    session.execute(
        "UPDATE agentos_allowance SET used=CASE WHEN used+?<0 THEN 0 ELSE used+? END WHERE task=? AND unit=?",
        (amount, amount, task, unit),
    )
