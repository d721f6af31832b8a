"""Whether a person stopped this agent: asked before anything is decided, and again after a person was waited for.

Fails closed: where nobody can say that there is no halt, there is one. Threat: an effect that was asked for before a halt and
begins after it.
"""

from __future__ import annotations

from dataclasses import replace

from agent_os.core.decision import Decision
from agent_os.core.errors import AgentOSError
from agent_os.core.stop import KILLED
from agent_os.monitor.gather import Session
from agent_os.monitor.judging import refusal
from agent_os.monitor.wiring import Ports
from agent_os.policy import Policy

UNREADABLE = "runtime.stops-unreadable"
__all__ = ["KILLED", "UNREADABLE", "stopped"]


def stopped(ports: Ports, session: Session, policy: Policy) -> Decision | None:
    """Return the denial of whatever this agent does while it is halted or quarantined, or None."""
    if ports.stops is None:
        return None
    try:
        held = ports.stops.current()
    except AgentOSError as error:
        return refusal(policy, UNREADABLE, str(error))
    stop = held.holding(session.principal, session.lineage) if held else None
    return None if stop is None else replace(refusal(policy, stop.rule, stop.said), advice=stop.advice)
