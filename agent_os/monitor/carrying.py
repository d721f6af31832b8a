"""An admitted action on its way out: carried out once, then closed (law 8, from the permit on).

Threats: an effect that goes on for ever, an outcome that no guard has seen, a reservation nobody settles, an effect that
happened and is told as if it had not (whatever fails after it, the outcome stands).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from agent_os.core.action import Action, ModelCall
from agent_os.core.decision import Decision
from agent_os.core.errors import AgentOSError
from agent_os.core.ports import Admission, Outcome
from agent_os.monitor import outcomes, record, reserving
from agent_os.monitor.gather import Needs, Session
from agent_os.monitor.holding import Footing
from agent_os.monitor.stopping import Cutting
from agent_os.monitor.suspicion import looked_at
from agent_os.monitor.wiring import Ports
from agent_os.policy.prices import Prices

Body = Callable[[Action], Awaitable[Any]]
"""What a trusted in-process wrapper does once its action is permitted; it gets the final action."""

DOUBTS: Final = frozenset(
    {
        "authority_from_untrusted", "authority_of_unknown_origin", "effect_beyond_scope", "contradicts_prompt",
        "code_from_untrusted",
    }
)  # fmt: skip
"""Classes of the policy's `flow:` section that doubt whose wish a call is: one that is only warned of vouches for nothing."""


@dataclass(slots=True)
class Flight:
    """An admitted action under way: what closing it needs."""

    reference: str
    footing: Footing
    """On what it was admitted, for `holds`."""
    taken: reserving.Amounts
    key: str = ""
    note: str = ""
    """What the agent must be told beside the outcome: that a person changed what it asked for."""
    prices: Prices | None = None
    """What models cost when it was admitted: a call is settled and billed at these, whatever is in force at its end."""
    began: float = 0.0
    """By the monotonic clock; what it took is settled where a budget counts seconds."""


async def carry_out(
    ports: Ports, session: Session, admission: Admission, body: Body | None, halted: Callable[[], Decision | None]
) -> Outcome:
    """Do what was admitted, inside the flow guard's watch where there is one; a model is cut off once its agent is `halted`."""
    if isinstance(admission.action, ModelCall):
        async with Cutting(halted) as cutting, cutting.waiting():
            return await _carried(ports, session, admission, body)
    return await _carried(ports, session, admission, body)


async def _carried(ports: Ports, session: Session, admission: Admission, body: Body | None) -> Outcome:
    action = admission.action
    warned = any(rule.rpartition("flow.")[2] in DOUBTS for rule in admission.decision.audit_only)
    with session.flow.inside(action, warned=warned) if session.flow is not None else nullcontext():
        if body is not None:
            value = await body(action)
            return value if isinstance(value, Outcome) else Outcome(value)
        effector = ports.effectors.get(action.kind)
        if effector is None:
            return Outcome(error="no-effector", detail=f"nothing carries out {action.kind} here")
        return await effector.execute(admission.permit, action)


async def close(
    ports: Ports, needs: Needs, session: Session, action: Action, flight: Flight, outcome: Outcome
) -> Outcome:
    """Settle what was reserved, label the outcome, keep and record it; returned is what the caller may have."""
    if flight.prices is not None and isinstance(action, ModelCall):
        outcome = replace(outcome, usage=flight.prices.used(action, outcome.usage))
    if any("seconds" in units for units in flight.taken.values()):
        took = max(0.0, ports.clock.monotonic() - flight.began)
        outcome = replace(outcome, usage={**outcome.usage, "seconds": took})
    if flight.taken or session.allowance is not None:
        await reserving.settle(ports, session, action, flight.reference, flight.taken, outcome)
    outcome = await outcomes.received(ports, needs, session, action, outcome)
    if ports.classifier is not None:
        outcome = await looked_at(ports.classifier, session, action, outcome)
    if flight.note:
        outcome = replace(outcome, note=flight.note)
    if flight.key and ports.outcomes is not None:
        await outcomes.keep(ports.outcomes, flight.key, outcome)
    if ports.payloads is not None:
        await ports.payloads.put(flight.reference + ".out", outcomes.kept(outcome))
    done = record.finished(flight.reference, outcome, now=ports.clock.now(), size=outcomes.size(outcome.value))
    with suppress(AgentOSError):  # the effect happened: a log that fails now shows it as interrupted
        ports.audit.append(done)
    return outcome if outcome.memo is None else replace(outcome, memo=None)
