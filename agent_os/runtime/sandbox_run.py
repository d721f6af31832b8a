"""`agentos run` as a function: policies loaded, the start asked for at the monitor's door, the program run, the end settled.

The supervisor is this process: monitor, egress guard and audit live here, outside the sandbox. The start of the program is
a `process.exec` action like any other; its intent is durable before the program runs and its outcome is written after.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from agent_os.core.errors import EffectError
from agent_os.effects.sandbox.launch import Ended
from agent_os.guards.confine import SandboxPlan
from agent_os.policy import Policy
from agent_os.runtime.policies import load_policy
from agent_os.runtime.sandbox import Prepared, SandboxSettings, policy_confinement, prepare, run_interactive
from agent_os.runtime.state import state_directory

DEFAULT_POLICY: Final = "pack:baseline"


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What `agentos run` was asked. `terminal` None: one if stdin and stdout are terminals and the policy lets."""

    argv: tuple[str, ...]
    policies: tuple[str, ...] = ()
    workspace: str = "."
    cwd: str = ""
    environment: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    wall_seconds: float = 0.0
    output_bytes: int = 0
    allow_missing: tuple[str, ...] = ()
    snapshot: str = ""
    terminal: bool | None = None


def _prepare(request: RunRequest) -> tuple[Policy, Prepared]:
    policy = load_policy(list(request.policies) or [DEFAULT_POLICY])
    workspace = os.path.realpath(request.workspace)
    if not os.path.isdir(workspace):
        raise EffectError(f"the workspace is no folder: {request.workspace}")
    state = state_directory(workspace=workspace)
    settings = SandboxSettings(
        workspace=workspace,
        cwd=request.cwd,
        hide=_files(request.policies),
        environment=request.environment,
        values=request.values,
        allow_missing=request.allow_missing,
        wall_seconds=request.wall_seconds,
        output_bytes=request.output_bytes,
    )
    return policy, prepare(policy_confinement(policy, workspace), settings, state=state)


def _files(policies: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(path for path in policies if not path.startswith("pack:"))


def plan_of(request: RunRequest) -> SandboxPlan:
    """Return what a run would enforce; nothing is run. Raises PolicyError, EnforcementError, EffectError."""
    _policy, prepared = _prepare(request)
    prepared.close()
    return prepared.plan


def run(request: RunRequest) -> Ended:
    """Run a program to its end and return how it ended.

    Raises PolicyError, DeniedError, EnforcementError, EffectError when it never began.
    """
    return asyncio.run(_run(request))


async def _run(request: RunRequest) -> Ended:
    _policy, prepared = _prepare(request)
    terminal = request.terminal
    if terminal is None:
        terminal = sys.stdin.isatty() and sys.stdout.isatty()
    return await run_interactive(prepared, request.argv, terminal=terminal)
