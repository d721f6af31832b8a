"""Putting another policy in force in an open session, without a dropped request.

Dynamic sections hold from the next decision on; what is under way was decided by the policy before it and ends under it.
Static ones (files, programs, audit) are judged anew at once too, but what was opened or started with them keeps its
grants: `Rollout.static` names them, and the caller says "needs a restart". A candidate that does not load changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from agent_os.core.errors import AgentOSError, PolicyError
from agent_os.monitor import Monitor
from agent_os.policy import Policy
from agent_os.policy.workbench.rollout import Rollout, plan_rollout
from agent_os.runtime.policies import load_policy

WATCH_SECONDS: Final = 1.0

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
            candidate = await asyncio.to_thread(load_policy, source)
            told: Rollout | PolicyError = reload_policy(system, candidate)
        except PolicyError as error:
            told = error
        except AgentOSError as error:
            told = PolicyError(str(error))
        else:
            before = stamps_of(system.monitor.policy)
        tell(told)


def stamps_of(policy: Policy) -> dict[str, tuple[int, int]]:
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
