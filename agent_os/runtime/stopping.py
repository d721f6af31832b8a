"""Halting, quarantining, releasing and killing agents: who may, what is recorded, and what else has to happen.

A stop holds from the moment it is stored; what it ends (`ends`) is killed after that, so that nothing begins in between.
Lifting is recorded before it counts. Threats: an agent that lifts its own quarantine (a process that an agent runtime started
is refused, and so is a sub-agent's session), one that halts everybody else's work (the same), a person who may not answer for
the policy's agents.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_os.core.decision import Decision, Verdict
from agent_os.core.errors import DeniedError, EffectError
from agent_os.core.stop import HALT, SESSION, Stop, Stops
from agent_os.core.task import OPEN_STATES, SessionView
from agent_os.core.who import names_one_of
from agent_os.effects.stores import holders, sessions
from agent_os.effects.stores.database import Database
from agent_os.effects.stores.identity import current_identity
from agent_os.effects.stores.sessions import Sessions
from agent_os.effects.stores.stops import FileStops, SharedStops
from agent_os.runtime.approvals import OPERATOR
from agent_os.runtime.state import State, open_state, shared_limits, state_directory

if TYPE_CHECKING:
    from agent_os.monitor import Monitor
    from agent_os.policy import Policy
    from agent_os.runtime.loop import LoopThread

TASKS_MAX = 100_000
"""Tasks that one `ends` looks at."""


@dataclass(slots=True)
class StopDesk:
    """The stops of one installation, as one person may set and lift them. `who` goes into the audit beside the name."""

    state: State
    person: str
    who: Mapping[str, Any]
    tenant: str = ""
    """Empty: every tenant's."""

    def list(self) -> list[Stop]:
        """Return every stop of this person's tenants that holds, oldest first. Raises EffectError."""
        return [stop for stop in self.state.stores.stops.current().all if self.tenant in ("", stop.tenant)]

    async def stop(self, scope: str, name: str = "", *, reason: str = "", ends: bool = False) -> Stop:
        """Halt everything (`all`), quarantine a tenant, user, agent, role or task until somebody releases it, or kill a session.

        `ends` ends what runs besides. Raises ActionError, EffectError: where it is not recorded it holds all the same.
        """
        ends = ends or scope == SESSION
        wanted = Stop(
            f"stp_{secrets.token_hex(5)}", scope, name, self.person, reason, time.time(), self.tenant, ends
        ).checked()
        await self.state.stores.sessions.forget_kills(self.state.stores.stops)
        await self.state.stores.stops.add(wanted)
        await self._record(wanted.state, wanted, reason)
        if ends:
            await self._end(wanted)
        return wanted

    async def release(self, which: str, *, reason: str = "") -> Stop:
        """Lift a stop, named by its id, by `all` for the halt, or by whom it names. Raises EffectError."""
        stop = self.find(which)
        await self._record("released", stop, reason)
        if not await self.state.stores.stops.lift(stop.id):
            raise EffectError(f"{stop.id} was released meanwhile")
        return stop

    def find(self, which: str) -> Stop:
        """Return the stop of an id (or its beginning), of a name, or the halt (`all`). Raises EffectError.

        What was killed is over: nobody releases it.
        """
        held = [stop for stop in self.list() if stop.scope != SESSION]
        found = [stop for stop in held if stop.id == which] or [
            stop
            for stop in held
            if (stop.name == which if stop.name else which == HALT) or (len(which) > 4 and stop.id.startswith(which))
        ]
        if len(found) == 1:
            return found[0]
        if not found:
            raise EffectError(f"nothing is halted or quarantined by {which!r}: `agentos stops` lists what is")
        raise EffectError("several stops are meant: name one of " + ", ".join(stop.id for stop in found))

    async def _record(self, kind: str, stop: Stop, reason: str) -> None:
        said = {key: value for key, value in stop.to_json().items() if key not in ("id", "by", "reason", "at")}
        record = {"type": kind, "time": time.time(), "stop": stop.id, "user": self.person, **self.who, **said}
        await self.state.audit.append({**record, "reason": reason})

    async def _end(self, stop: Stop) -> None:
        """Kill every task that a stop holds, where tasks are kept at all."""
        from agent_os.runtime.tasks.opening import open_ledger  # noqa: PLC0415 - only what ends tasks pays for their imports

        if not self.state.environment.get("AGENTOS_TASKS") and not (self.state.path / "agents.db").exists():
            return
        ledger = open_ledger(self.state.path, self.state.keys, self.state.environment)
        try:
            stops = self.state.stores.stops.current()
            for task in await ledger.list(OPEN_STATES, limit=TASKS_MAX, brief=True):
                if stops.holding(replace(task.principal, session=task.id), task.lineage, ends=True) is not None:
                    await ledger.want(task.id, "kill")
        finally:
            ledger.storage.close()

    def close(self) -> None:
        """Close the state, where this desk opened it."""
        self.state.close()


def open_stops(environment: Mapping[str, str] | None = None) -> StopDesk:
    """Open the stops of the state directory for the user this process runs as. Raises DeniedError inside an agent."""
    state = open_state(environment=environment, writer=OPERATOR)
    try:
        refuse_inside_agent(state)
    except BaseException:
        state.close()
        raise
    identity = current_identity()
    return StopDesk(state, identity.user, {"uid": identity.uid})


def refuse_inside_agent(state: State) -> None:
    """Raise DeniedError when an agent runtime is among this process's ancestors."""
    if state.stores.database.read(holders.pids) & (set(holders.ancestors()) - {os.getpid()}):
        reason = "this process was started by an agent runtime, and an agent neither stops nor releases agents"
        advice = "run it from a terminal of your own"
        raise DeniedError(Decision(Verdict.DENY, ("runtime.stop-inside-agent",), reason, advice=advice))


def look(environment: Mapping[str, str]) -> tuple[Stops, Sequence[SessionView]]:
    """Return every stop that holds and every open session, for showing. Raises EffectError."""
    url, path = shared_limits(environment), state_directory(environment=environment)
    if not url:
        with closing(Database(path / "state.db", holders.SCHEMA + ";" + sessions.SCHEMA).open()) as database:
            live = Sessions(database, "", holders.Holders(), time.time).live_now()
        return FileStops(path).open().current(), live
    from agent_os.effects.stores.shared import SharedHolders, open_counters  # noqa: PLC0415 - psycopg comes with an extra

    counters = open_counters(url)
    shared = SharedStops(counters).open()
    try:
        live = Sessions(counters, "", SharedHolders(counters, counters.now), counters.now).live_now()
        return shared.current(), live
    finally:
        shared.close()
        counters.close()


def others_of(path: Path, but: Collection[int]) -> list[tuple[int, str]]:
    """Return the other processes that have this state open (pid, command), but for some."""
    if not (path / "state.db").exists():
        return []
    with closing(Database(path / "state.db", holders.SCHEMA).open()) as database:
        found = sorted(database.read(holders.pids) - set(but))
    return [(pid, command) for pid in found if (command := holders.command(pid))]


def may_stop(policy: Policy, person: str, groups: frozenset[str] = frozenset()) -> None:
    """Raise DeniedError for somebody whom a policy that names its approvers does not name."""
    for section, _layer, _unit in policy.sections("approvals"):
        if section.approvers and not names_one_of(section.approvers, person, groups):
            reason = "only approvers halt, quarantine and release: " + ", ".join(section.approvers)
            raise DeniedError(Decision(Verdict.DENY, ("approvals.approvers",), reason, policy_digest=policy.digest))


@dataclass(slots=True)
class SessionStops:
    """Halting, quarantining and releasing for the application that opened a session; it says who answers for it (`by`).

    Of the policy's `approvals.approvers`, where it names any. Each method has a face without `a` for callers that have no loop.
    Raises DeniedError for a sub-agent's session and for somebody who may not, ActionError, EffectError.
    """

    monitor: Monitor
    state: State
    loop: LoopThread

    def list(self) -> list[Stop]:
        """Return every stop that holds, oldest first."""
        return list(self.state.stores.stops.current().all)

    async def ahalt(self, *, by: str, reason: str = "", ends: bool = False, groups: Iterable[str] = ()) -> Stop:
        """Halt everything on this state until it is released; `ends` ends the tasks and programs that run, too."""
        return await self.loop.call(self._desk(by, groups).stop(HALT, reason=reason, ends=ends))

    async def aquarantine(
        self, scope: str, name: str, *, by: str, reason: str = "", ends: bool = False, groups: Iterable[str] = ()
    ) -> Stop:
        """Quarantine a `tenant`, `user`, `agent`, `role` or `task` (with all below it): it keeps its state and does nothing."""
        return await self.loop.call(self._desk(by, groups).stop(scope, name, reason=reason, ends=ends))

    async def arelease(self, which: str, *, by: str, reason: str = "", groups: Iterable[str] = ()) -> Stop:
        """Lift a stop, named by its id, by `all` for the halt, or by whom it names."""
        return await self.loop.call(self._desk(by, groups).release(which, reason=reason))

    def halt(self, *, by: str, reason: str = "", ends: bool = False, groups: Iterable[str] = ()) -> Stop:
        """`ahalt` for a caller without an event loop."""
        return self.loop.run(self._desk(by, groups).stop(HALT, reason=reason, ends=ends))

    def quarantine(
        self, scope: str, name: str, *, by: str, reason: str = "", ends: bool = False, groups: Iterable[str] = ()
    ) -> Stop:
        """`aquarantine` for a caller without an event loop."""
        return self.loop.run(self._desk(by, groups).stop(scope, name, reason=reason, ends=ends))

    def release(self, which: str, *, by: str, reason: str = "", groups: Iterable[str] = ()) -> Stop:
        """`arelease` for a caller without an event loop."""
        return self.loop.run(self._desk(by, groups).release(which, reason=reason))

    def _desk(self, by: str, groups: Iterable[str]) -> StopDesk:
        if self.monitor.session.capabilities is not None or self.monitor.principal.parents:
            reason = "a sub-agent neither stops nor releases agents"
            raise DeniedError(Decision(Verdict.DENY, ("runtime.stop-inside-agent",), reason))
        may_stop(self.monitor.policy, by, frozenset(groups))
        return StopDesk(self.state, by, {"said_by": "application"})
