"""`kill -HUP` of a running `agentos run`: its policy files are read again, connections no longer allowed are cut.

The candidate holds at once and whole, for every decision, connection and engine, or not at all: what was compiled into the
sandbox at the start (files, programs, limits) cannot change under a running program, so a candidate that changes it is
refused and its section named. So is one that does not load, or that the sandboxed program could have written. Threat: a
program that edits the policy it runs under and waits for the next reload. Policy files are covered in its view of the
workspace, but a cover goes when the file beneath it is replaced from outside (most editors do that), and folders above it
can be moved. So a file inside a folder that the program may write counts only where it is the very file of the start,
right in that folder's root.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent_os.core.errors import AgentOSError, PolicyError
from agent_os.guards.confine import SandboxPlan
from agent_os.policy import Policy
from agent_os.policy.workbench.rollout import Rollout, plan_rollout
from agent_os.runtime.compose import Composition
from agent_os.runtime.policy_files import policy_files
from agent_os.runtime.reload import Asks, load_candidate

if TYPE_CHECKING:
    from agent_os.effects.proxy import EgressGuard


@dataclass(slots=True)
class LivePolicy:
    """The policy of one run. `tell` shows a line to the person at the command line."""

    sources: Sequence[str]
    session: Composition
    guard: EgressGuard | None
    plan: SandboxPlan
    tell: Callable[[str], None]
    _known: dict[str, tuple[int, int]] = field(default_factory=dict)
    _asks: Asks = field(init=False)

    def __post_init__(self) -> None:
        self._asks = Asks(self.reload, self.tell)
        self._known = {path: identity for path in policy_files(self.policy) if (identity := _identity(path))}

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self.session.monitor.policy

    def ask(self) -> None:
        """Reload soon; several asks while one is under way are one more."""
        self._asks.ask()

    async def aclose(self) -> None:
        """Wait for a reload that is under way."""
        await self._asks.aclose()

    async def reload(self) -> str:
        """Put the files' present content in force; return what that meant. Raises AgentOSError: nothing has changed."""
        before, ports = self.policy, self.session.monitor.ports
        said = {"time": ports.clock.now(), "session": self.session.monitor.principal.session, "before": before.digest}
        try:
            candidate = await asyncio.to_thread(self._candidate)
            rollout = plan_rollout(before, candidate)
            if rollout.static:
                raise PolicyError(f"{', '.join(rollout.static)} cannot change under a running program: run anew")
            take = self.session.prepared(candidate)
            cut = None
            if self.guard is not None:
                from agent_os.runtime.network import prepare_guard  # noqa: PLC0415 - the guard's code only where there is a network

                cut = prepare_guard(self.guard, candidate, vault=self.session.state.stores.vault)
        except AgentOSError as error:
            await ports.audit.append({**said, "type": "policy.refused", "reason": str(error)[:1000]})
            raise
        if not rollout.changed:
            return "the policy has not changed"
        await ports.audit.append({**said, "type": "policy.reloaded", "policy": candidate.digest})
        take()
        closed = await cut() if cut is not None else 0
        return _meaning(rollout, closed, self.guard is None)

    def _candidate(self) -> Policy:
        """Read the files; refuse what the program could have written. Raises PolicyError."""
        candidate = load_candidate(list(self.sources))
        writable = [mount.source for mount in self.plan.mounts if mount.kind == "bind" and mount.writable]
        for path in {
            *policy_files(candidate),
            *(os.path.realpath(name) for name in self.sources if os.path.exists(name)),
        }:
            for root in writable:
                if os.path.commonpath([root, path]) != root:
                    continue
                if os.path.dirname(path) != root or self._known.get(path) != _identity(path):
                    raise PolicyError(
                        f"{path} is in a folder that the program can write, and is not the file of the start: "
                        "keep policies elsewhere, or edit in place, or run anew"
                    )
        return candidate


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _meaning(rollout: Rollout, closed: int, guardless: bool) -> str:
    words = [f"policy reloaded: {', '.join(rollout.dynamic)}"]
    words.append(f"{closed} connection{'' if closed == 1 else 's'} closed")
    if guardless and "network_policies" in rollout.dynamic:
        words.append("this run has no network, and gets none")
    return "; ".join(words)
