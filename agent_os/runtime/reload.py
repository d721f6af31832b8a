"""Putting another policy in force in an open session, without a dropped request.

Dynamic sections hold from the next decision on; what is under way was decided by the policy before it and ends under it.
Static ones (files, programs, audit) are judged anew at once too, but what was opened or started with them keeps its
grants: `Rollout.static` names them, and the caller says "needs a restart". A candidate that does not load changes nothing.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from agent_os.core.errors import AgentOSError, PolicyError
from agent_os.monitor import Monitor
from agent_os.policy import Policy
from agent_os.policy.workbench.rollout import Rollout, plan_rollout
from agent_os.runtime.policies import load_policy
from agent_os.runtime.policy_files import policy_files

WATCH_SECONDS: Final = 1.0
SETTLE_NS: Final = 50_000_000
"""How long a file must have been left alone before what was read of it is believed."""
SETTLE_TRIES: Final = 20

Source = str | Path | Sequence[str | Path]
Tell = Callable[[Rollout | PolicyError], Any]
"""Told what changed, or why a candidate was refused."""


class Open(Protocol):
    """An open session (`AgentOS`), as far as a policy is put in force in it."""

    @property
    def monitor(self) -> Monitor: ...
    def reload(self, policy: Policy) -> None: ...


def load_candidate(sources: Source) -> Policy:
    """Return the policy of some files, its Rego modules compiled. Blocks; raises PolicyError for what cannot be in force."""
    candidate = load_policy(sources)
    if any(True for _ in candidate.sections("rego")):
        from agent_os.runtime.rego import check_rego  # noqa: PLC0415 - only policies with Rego pay for it

        if problems := check_rego(candidate):
            raise PolicyError(problems)
    return candidate


class Asks:
    """Reloads one after the other: several asks while one is under way are one more."""

    def __init__(self, reload: Callable[[], Awaitable[str]], tell: Callable[[str], None]) -> None:
        """`reload` says what it meant or raises AgentOSError; `tell` shows a line to the person at the command line."""
        self._reload, self._tell = reload, tell
        self._work: asyncio.Task[None] | None = None
        self._again = False

    def ask(self) -> None:
        """Reload soon."""
        if self._work is None or self._work.done():
            self._work = asyncio.get_running_loop().create_task(self._run())
        else:
            self._again = True

    async def aclose(self) -> None:
        """Wait for a reload that is under way."""
        self._again = False
        if self._work is not None:
            await asyncio.wait([self._work])

    async def _run(self) -> None:
        while True:
            self._again = False
            try:
                self._tell(await self._reload())
            except AgentOSError as error:
                self._tell(f"the policy stays as it was: {error}")
            except Exception as error:  # a defect of ours is said, not lost in a task
                self._tell(f"the policy stays as it was: the reload failed ({type(error).__name__})")
                raise
            if not self._again:
                return


def reload_policy(system: Open, candidate: Policy | Source) -> Rollout:
    """Put a policy (or the files of one) in force in an open session; return what changed.

    Raises PolicyError for a candidate that does not load: the policy in force stays.
    """
    policy = candidate if isinstance(candidate, Policy) else load_policy(candidate)
    rollout = plan_rollout(system.monitor.policy, policy)
    if rollout.changed:
        system.reload(policy)
    return rollout


async def watch_policy(system: Open, source: Source, tell: Tell, *, seconds: float = WATCH_SECONDS) -> None:
    """Reload whenever a file of the policy changes, until cancelled; every change and refusal is told."""
    before = stamps_of(system.monitor.policy)
    while True:
        await asyncio.sleep(seconds)
        now = stamps_of(system.monitor.policy)
        if now == before:
            continue
        before = now
        try:
            candidate, before = await asyncio.to_thread(load_settled, source)
            told: Rollout | PolicyError = reload_policy(system, candidate)
        except PolicyError as error:
            told = error
        except AgentOSError as error:
            told = PolicyError(str(error))
        tell(told)


Stamps = Mapping[str, tuple[int, ...]]
"""When each file of a policy was last changed, in what it says and in what the kernel knows of it; its size and number."""


def load_settled(source: Source) -> tuple[Policy, Stamps]:
    """Return the policy of some files that nobody was writing while they were read, and their stamps. Blocks.

    Half of a file is often a policy too, one without the denials that stand in its other half. Files that never rest are
    returned without stamps: whoever compares them looks again. Raises PolicyError.
    """
    for _ in range(SETTLE_TRIES):
        begun = time.time_ns()
        policy = load_policy(source)
        stamps = stamps_of(policy)
        if all(begun - changed > SETTLE_NS for _, changed, *_ in stamps.values()):
            return policy, stamps
        time.sleep(SETTLE_NS / 1e9)
    return policy, {}


def stamps_of(policy: Policy) -> Stamps:
    """Return the stamps of each file a policy was read from (what it extends, data, Rego); a file that is gone has none."""
    found: dict[str, tuple[int, ...]] = {}
    for path in policy_files(policy):
        for each in (path, *_modules(path)):
            try:
                status = os.stat(each)
            except OSError:
                continue
            found[each] = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
    return found


def _modules(path: str) -> Sequence[str]:
    """Return the Rego modules of a folder that a policy names."""
    try:
        return sorted(entry.path for entry in os.scandir(path) if entry.name.endswith(".rego"))
    except OSError:  # no folder
        return ()
