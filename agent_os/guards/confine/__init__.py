"""Confinement: a policy compiled into one printable sandbox plan. Pure: no look at the host, no system call."""

from __future__ import annotations

from agent_os.guards.confine.build import RunOptions, paths_of_interest, plan_sandbox
from agent_os.guards.confine.inputs import Confinement, HostFacts, Limits, PathFact, narrow
from agent_os.guards.confine.plan import Mount, SandboxPlan

__all__ = [
    "Confinement",
    "HostFacts",
    "Limits",
    "Mount",
    "PathFact",
    "RunOptions",
    "SandboxPlan",
    "narrow",
    "paths_of_interest",
    "plan_sandbox",
]
