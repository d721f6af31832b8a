"""What an action may use is taken before it happens: rates, the agent's allowance, budgets; all of it or nothing.

Threat: many callers that each see the last of a budget. Taking is atomic in the store; what did not happen is given back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from agent_os.core.action import Action
from agent_os.core.decision import Obligation
from agent_os.core.errors import AgentOSError
from agent_os.core.ports import Outcome
from agent_os.monitor import record
from agent_os.monitor.allowance import needs
from agent_os.monitor.gather import Session
from agent_os.monitor.judging import Judged
from agent_os.monitor.wiring import Ports

Amounts = Mapping[str, Mapping[str, float]]
"""Budget -> unit -> amount."""


class Short(NamedTuple):
    """What was not left: the runtime's rule and the reason a person reads."""

    rule: str
    reason: str


def amounts(obligations: tuple[Obligation, ...]) -> dict[str, dict[str, float]]:
    """Return budget -> unit -> amount of the reserve obligations; several on one budget add up."""
    found: dict[str, dict[str, float]] = {}
    for obligation in obligations:
        if obligation.kind == "reserve":
            units = found.setdefault(str(obligation.params["budget"]), {})
            for unit, amount in obligation.params.get("amounts", {}).items():
                units[unit] = units.get(unit, 0.0) + float(amount)
    return found


async def take(
    ports: Ports, session: Session, action: Action, obligations: tuple[Obligation, ...], reference: str, wanted: Amounts
) -> Short | None:
    """Take a call of every rate, what the agent may use itself, and `wanted` of the budgets; None when all was left."""
    try:
        left = await ports.rates.take(obligations, action.principal, ports.clock.now())
    except AgentOSError:
        left = False
    if not left:
        return Short("runtime.rate", "no calls are left in the window")
    if not await _allowed(session, needs(action)):
        await _return_rates(ports, action, obligations)
        return Short("runtime.allowance", "what this agent may use is spent")
    if not wanted:
        return None
    store = ports.budgets
    try:
        granted = store is not None and await store.reserve(reference, wanted)
    except AgentOSError:
        granted = False
    except asyncio.CancelledError:  # the store may reserve all the same: what it does in order, it then releases
        await asyncio.shield(_undone(ports, session, action, reference))
        raise
    if granted:
        return None
    await _return_allowance(session, action)
    await _return_rates(ports, action, obligations)
    return Short("runtime.budget", "a budget is spent" if store is not None else "no budget store is open")


async def _undone(ports: Ports, session: Session, action: Action, reference: str) -> None:
    await _return_allowance(session, action)
    if ports.budgets is not None:
        await ports.budgets.settle(reference, {})


async def give_back(ports: Ports, session: Session, judged: Judged, reference: str, taken: Amounts) -> None:
    """Return what was taken for an action that does not happen."""
    await _return_allowance(session, judged.action)
    await _return_rates(ports, judged.action, judged.decision.obligations)
    if taken and ports.budgets is not None:
        await ports.budgets.settle(reference, {})


async def settle(
    ports: Ports, session: Session, action: Action, reference: str, taken: Amounts, outcome: Outcome
) -> None:
    """Replace what was taken by what was used; where the outcome does not say, all of it was."""
    if session.allowance is not None:
        await session.allowance.charge(needs(action), outcome.usage)
    if taken and ports.budgets is not None:
        used = {
            budget: {unit: outcome.usage.get(unit, amount) for unit, amount in units.items()}
            for budget, units in taken.items()
        }
        for warned in await ports.budgets.settle(reference, used):
            with suppress(AgentOSError):  # the effect happened: a log that fails now loses the warning
                ports.audit.append(record.warned(action.principal, warned, now=ports.clock.now()))


async def _allowed(session: Session, wanted: Mapping[str, float]) -> bool:
    try:
        return session.allowance is None or await session.allowance.reserve(wanted)
    except AgentOSError:  # a ledger that cannot be reached has nothing left
        return False


async def _return_allowance(session: Session, action: Action) -> None:
    if session.allowance is not None:
        taken = needs(action)
        await session.allowance.charge(taken, dict.fromkeys(taken, 0.0))


async def _return_rates(ports: Ports, action: Action, obligations: tuple[Obligation, ...]) -> None:
    with suppress(AgentOSError):  # a call that stays counted is the strict side
        await ports.rates.give_back(obligations, action.principal, ports.clock.now())
