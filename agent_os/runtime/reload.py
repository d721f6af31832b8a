"""Putting another policy in force in an open session, without a dropped request.

Dynamic sections hold from the next decision on; what is under way was decided by the policy before it and ends under it.
Static ones (files, programs, audit) are judged anew at once too, but what was opened or started with them keeps its
grants: `Rollout.static` names them, and the caller says "needs a restart". A candidate that does not load changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent_os.core.errors import AgentOSError, PolicyError
from agent_os.policy import Policy
from agent_os.policy.workbench.rollout import Rollout, plan_rollout
from agent_os.runtime.policies import load_policy

if TYPE_CHECKING:
    from agent_os.runtime.sdk import AgentOS

WATCH_SECONDS: Final = 1.0

Source = str | Path | Sequence[str | Path]
Tell = Callable[[Rollout | PolicyError], Any]
"""Told what changed, or why a candidate was refused."""


def reload_policy(system: AgentOS, candidate: Policy | Source) -> Rollout:
    """Put a policy (or the files of one) in force in an open session; return what changed.

    Raises PolicyError for a candidate that does not load: the policy in force stays.
    """
    policy = candidate if isinstance(candidate, Policy) else load_policy(candidate)
    rollout = plan_rollout(system.monitor.policy, policy)
    if rollout.changed:
        system.reload(policy)
    return rollout


async def watch_policy(system: AgentOS, source: Source, tell: Tell, *, seconds: float = WATCH_SECONDS) -> None:
    """Reload whenever a file of the policy changes, until cancelled; every change and refusal is told."""
    before = _stamps(system.monitor.policy)
    while True:
        await asyncio.sleep(seconds)
        now = _stamps(system.monitor.policy)
        if now == before:
            continue
        before = now
        try:
            candidate = await asyncio.to_thread(load_policy, source)
            told: Rollout | PolicyError = reload_policy(system, candidate)
        except PolicyError as error:
            told = error
        except AgentOSError as error:
            told = PolicyError(str(error))
        else:
            before = _stamps(system.monitor.policy)
        tell(told)


def _stamps(policy: Policy) -> dict[str, tuple[int, int]]:
    """Return when each file of a policy was last changed, and its size; a file that is gone has none."""
    found: dict[str, tuple[int, int]] = {}
    for layer in policy.layers:
        for unit in layer.units:
            base = Path(unit.document.file)
            names = [getattr(source, "file", None) for source in unit.file.data.values()]
            for path in [base, *(base.parent / name for name in names if name)]:
                try:
                    status = path.stat()
                except OSError:
                    continue
                found[str(path)] = (status.st_mtime_ns, status.st_size)
    return found
