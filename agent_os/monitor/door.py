"""`Monitor.perform`: the one door. Admit -> execute -> settle, in the order of law 8.

    canonicalise -> registry -> labels and provenance -> detectors -> decide -> rewrites, decided again (bounded)
      -> approval of the final digest, or Pending -> reserve -> intent in the audit -> permit
      -> execute -> label the outcome -> settle -> outcome in the audit

Threats: a check beside the effect instead of in front of it; a caller that brings its own approval; an effect that no
record precedes; a rewrite that is not judged again; a crash between intent and outcome. Every way out of `admit` that is
not an `Admission` leaves a record and raises or parks; an exception inside a guard denies.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agent_os.core.action import Action, ToolCall
from agent_os.core.decision import Decision, Verdict
from agent_os.core.errors import ActionError, DeniedError, EffectError, IntegrityError, StoppedError
from agent_os.core.ports import CANCELLED, Admission, Outcome, Pending
from agent_os.core.principal import Capability, Principal
from agent_os.monitor import alike, outcomes, reserving
from agent_os.monitor.admitting import NOTHING, Attempt
from agent_os.monitor.carrying import Body, Flight, carry_out, close
from agent_os.monitor.discharge import Discharge, Passage, answered
from agent_os.monitor.gather import Needs, Session
from agent_os.monitor.holding import Footing, still
from agent_os.monitor.judging import Judged, judge, refusal
from agent_os.monitor.naming import canonical_action, identified, unknown
from agent_os.monitor.permits import mint
from agent_os.monitor.reach import beyond, changes_rules
from agent_os.monitor.sharing import Given, Shared
from agent_os.monitor.stopping import KILLED, stopped
from agent_os.monitor.wiring import APPROVAL_TIMEOUT_S, Ports
from agent_os.policy import Policy


class Monitor:
    """The reference monitor of one session. Children of it share its ports and can only hold less."""

    def __init__(
        self, policy: Policy, ports: Ports, session: Session, *, needs: Needs | None = None, approval_s: float = 0.0
    ) -> None:
        self._policy = policy
        self._ports = ports
        self._needs = needs or Needs()
        self._approval_s = approval_s or APPROVAL_TIMEOUT_S
        self._flights: dict[str, Flight] = {}
        self._children: weakref.WeakSet[Monitor] = weakref.WeakSet()
        self._run, self._count = ports.ids.new("act"), 0
        self._keyed = Shared()
        self._seen: set[str] = set()
        """Keys whose outcomes this session's guards have taken."""
        self.session = session

    # ---- what the session is ----------------------------------------------------------------------------------------

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._policy

    @property
    def principal(self) -> Principal:
        """On whose behalf this monitor acts; actions from data cannot name another."""
        return self.session.principal

    @property
    def needs(self) -> Needs:
        """Which facts the policy in force can ask for."""
        return self._needs

    @property
    def ports(self) -> Ports:
        """The ports this monitor was built from (for the composition root)."""
        return self._ports

    def reload(
        self,
        policy: Policy,
        needs: Needs,
        ports: Mapping[str, Any] | None = None,
        adjust: Callable[[Session], None] | None = None,
    ) -> None:
        """Put another policy in force for every decision from now on, children's too; grants of the old revision end.

        `ports` are those that were made from the policy itself (`rego`, `detector`, `budgets`), made from the new one;
        `adjust` is called with the session of every agent.
        """
        self._policy, self._needs = policy, needs
        self._ports = replace(self._ports, **(ports or {}))
        if adjust is not None:
            adjust(self.session)
        for child in self._children:
            child.reload(policy, needs, ports, adjust)

    def child(
        self,
        agent: str,
        capabilities: tuple[Capability, ...],
        session: Session | None = None,
        *,
        ports: Ports | None = None,
    ) -> Monitor:
        """Return the monitor of a sub-agent: same policy and ports, its own session, at most these capabilities.

        Raises ActionError for a capability that this monitor's session does not hold itself.
        """
        held = self.session.capabilities
        if held is not None:
            for wanted in capabilities:
                if not any(own.contains(wanted) for own in held):
                    raise ActionError("asks for more than its parent holds", field=f"capabilities.{wanted.verb}")
        flow = self.session.flow.child("") if self.session.flow is not None else None
        base = session or Session(self.principal, self.session.workspace, flow, self.session.privacy)
        base.principal = self.principal.child(agent)
        base.capabilities = capabilities
        child = Monitor(self._policy, ports or self._ports, base, needs=self._needs, approval_s=self._approval_s)
        self._children.add(child)
        return child

    # ---- the door ---------------------------------------------------------------------------------------------------

    async def perform(
        self,
        action: Given,
        *,
        body: Body | None = None,
        key: str = "",
        stated: Mapping[str, Any] | None = None,
    ) -> Outcome | Pending:
        """Do one action, or leave it parked for a person.

        `body` carries it out where the effect is a trusted in-process function; otherwise the effector of its kind
        does. `key` is an idempotency key: a recorded outcome is returned without deciding or doing anything again.
        Raises DeniedError (denied), ActionError (malformed), EffectError (the world, or an interrupted intent).
        """
        if not key:
            return await self._perform(action, body, "", stated)
        key = self._scoped(key)
        return await self._keyed.result(key, action, lambda: self._perform(action, body, key, stated))

    async def _perform(
        self, action: Given, body: Body | None, key: str, stated: Mapping[str, Any] | None
    ) -> Outcome | Pending:
        if key and self._ports.outcomes is not None:
            known = await self._ports.outcomes.recall(key)
            if known is not None:
                return self._again(action, key, known)
        admitted = await self._admit(action, key=key, stated=stated)
        if isinstance(admitted, Outcome):
            return self._again(action, key, admitted)
        if isinstance(admitted, Pending):
            return admitted
        outcome = await self._execute(admitted, body)
        return await self._close(admitted, outcome)

    def _again(self, given: Given, key: str, known: Outcome) -> Outcome:
        """Return a recorded outcome; a session that has not seen it learns what was read then."""
        if key not in self._seen:
            self._seen.add(key)
            outcomes.recalled(self.session, canonical_action(given, self.session, self._ports.links), known)
        return replace(known, memo=None)

    async def admit(self, action: Given, *, stated: Mapping[str, Any] | None = None, key: str = "") -> Admission:
        """Open the door for an effect that streams; its holder calls `settle` once (core/ports.py: Door)."""
        admitted = await self._admit(action, key=self._scoped(key) if key else "", stated=stated)
        if isinstance(admitted, Admission):
            return admitted
        if isinstance(admitted, Pending):
            raise DeniedError(
                replace(
                    admitted.decision, reason=f"waits for approval {admitted.approval_id}: {admitted.decision.reason}"
                )
            )
        raise EffectError("this idempotency key was used: its outcome is recorded")

    async def admit_alike(
        self, action: Action, *, stated: Mapping[str, Any] | None = None, count: int
    ) -> Sequence[Admission] | None:
        """Admit `count` times the same plain action of this moment, judged once; None: each is to be admitted by itself.

        Raises ActionError for a malformed one. See `alike`.
        """
        ports = self._ports
        if not alike.may_share(action, self._needs, ports, self.session):
            return None
        if self.halted() is not None:
            return None
        judged = await self._judge(canonical_action(action, self.session, ports.links), stated)
        if not alike.plain(judged):
            return None
        references = [self._reference() for _ in range(count)]
        if not await alike.intend(ports, judged, references):
            return None
        permits = mint(ports, self.session, judged, references)
        footing = Footing.of(judged)
        self._flights.update((reference, Flight(reference, footing, NOTHING)) for reference in references)
        return [Admission(judged.action, judged.decision, permit) for permit in permits]

    async def consider(self, action: Given, *, stated: Mapping[str, Any] | None = None) -> Decision:
        """Return what would be decided now, rewrites carried out in thought; nothing is recorded, asked or reserved."""
        stop = self.halted()
        if stop is not None:
            return stop
        asked = canonical_action(action, self.session, self._ports.links)
        named = identified(asked, self.session, self._ports)
        if named is None:
            return unknown(asked, self._ports, self._policy)
        return (await self._judge(named, stated)).decision

    async def holds(self, admission: Admission) -> bool:
        """Return whether what was admitted here, and is not settled, may go on (core/ports.py: Door)."""
        flight = self._flights.get(admission.permit.nonce)
        if flight is None or self.halted() is not None:
            return False
        renewed = await still(self._policy, self._needs, self._ports, self.session, admission.action, flight.footing)
        if renewed is not None:
            flight.footing = renewed
        return renewed is not None

    def halted(self) -> Decision | None:
        """Return the denial of whatever this agent does, while it is stopped or once it is over; None otherwise."""
        if self.session.ended:
            return self._refusal("runtime.agent-ended", "this agent is over")
        return stopped(self._ports, self.session, self._policy)

    async def settle(self, admission: Admission, outcome: Outcome) -> None:
        """Close an admitted action: settle what was reserved and record what happened; idempotent."""
        if admission.permit.nonce in self._flights:
            await self._close(admission, outcome)

    # ---- admit ------------------------------------------------------------------------------------------------------

    async def _admit(
        self, given: Given, *, key: str, stated: Mapping[str, Any] | None
    ) -> Admission | Pending | Outcome:
        attempt = Attempt(self._ports, self.session, self._reference())
        action = self._named(given, attempt)
        if self.session.ended:
            attempt.deny(action, self._refusal("runtime.agent-ended", "this agent is over"))
        self._go_on(action, attempt)
        self._within_reach(action, attempt)
        judged = await self._judge(action, stated)
        if judged.decision.verdict is not Verdict.ALLOW:
            await attempt.remember(judged.action)
        discharge = Discharge(self._ports, attempt.reference)
        if judged.decision.verdict is Verdict.ASK:
            settled = await answered(self._passage(stated, attempt), judged, attempt.reference)
            if isinstance(settled, Pending):
                return settled
            judged, discharge = settled
            self._go_on(judged.action, attempt)  # a person may have been waited for
        if judged.decision.verdict is not Verdict.ALLOW:
            attempt.deny(judged.action, judged.decision)
        store = self._ports.outcomes if key else None
        if store is not None:
            known = await store.claim(key, judged.action.digest)
            if known is not None:
                return known
        taken: reserving.Amounts | None = None
        prices = self._policy.prices
        try:
            taken = await attempt.reserve(judged)
            if discharge.grants or discharge.edit:
                await attempt.spend(judged, taken, discharge)
            admission = await attempt.intend(judged, taken, key, discharge, prices)
            footing = Footing.of(judged, discharge)
            self._flights[attempt.reference] = Flight(
                attempt.reference, footing, taken, key, discharge.note(), prices, self._ports.clock.monotonic()
            )
            await self._confirm(key)
            return admission
        except DeniedError:
            if store is not None:
                await store.release(key)
            raise
        except BaseException:  # cancelled, or no longer to be done: whatever it is, nothing was begun
            self._flights.pop(attempt.reference, None)
            await asyncio.shield(attempt.abandon(judged, taken, discharge, key))
            raise

    async def _confirm(self, key: str) -> None:
        """Raise if what was admitted may no longer happen; asked when nothing but the effect is left to do."""

    def _named(self, given: Given, attempt: Attempt) -> Action:
        """Return the action as it is judged, or deny a tool that nobody registered."""
        action = canonical_action(given, self.session, self._ports.links)
        named = identified(action, self.session, self._ports)
        if named is None:
            attempt.deny(action, unknown(action, self._ports, self._policy))
        return named

    def _go_on(self, action: Action, attempt: Attempt) -> None:
        """Deny whatever is done by an agent that a person halted or quarantined; one that was killed is over."""
        stop = stopped(self._ports, self.session, self._policy)
        if stop is not None:
            self.session.ended = self.session.ended or stop.rules == (KILLED,)
            attempt.deny(action, stop)

    def _within_reach(self, action: Action, attempt: Attempt) -> None:
        """Deny a change of the policy's own files, and a sub-agent's call of a server that names what it holds no right to."""
        if changes_rules(action, self._needs.files):
            reason = "it is a file of the policy in force: an agent does not change its own rules"
            attempt.deny(action, self._refusal("runtime.policy-file", reason))
        held = self.session.capabilities
        if held is None or not isinstance(action, ToolCall):
            return
        tool = self._ports.registry.find(action.tool, action.server)
        named = beyond(tool.spec, action, held, self.session.workspace) if tool is not None else ""
        if named:
            reason = f"the agent was not given the right to what the argument {named} names"
            attempt.deny(action, self._refusal("runtime.capability", reason))

    async def _judge(self, action: Action, stated: Mapping[str, Any] | None) -> Judged:
        return await judge(self._policy, self._needs, self._ports, self.session, action, stated)

    def _scoped(self, key: str) -> str:
        """Return a key as it is stored: one user's keys never reach another's outcomes."""
        return f"{self.principal.owner}/{key}"

    def _reference(self) -> str:
        """Return the name of one passage through the door: unique, in the order of the decisions of this monitor."""
        self._count += 1
        return f"{self._run}.{self._count}"

    def _refusal(self, rule: str, reason: str) -> Decision:
        return refusal(self._policy, rule, reason)

    def _passage(self, stated: Mapping[str, Any] | None, attempt: Attempt) -> Passage:
        """Return what answering an ask needs of this door."""

        def remake(action: Action, arguments: dict[str, Any]) -> Action:
            changed = {"args": arguments} if isinstance(action, ToolCall) else arguments
            kept = {**action.to_json(), "call_id": action.call_id}
            remade = self._named({**kept, **changed, "kind": action.kind}, attempt)
            self._within_reach(remade, attempt)
            return remade

        return Passage(
            self._ports, lambda: self._policy, lambda action: self._judge(action, stated), remake, self._approval_s
        )

    # ---- execute and settle -----------------------------------------------------------------------------------------

    async def _execute(self, admission: Admission, body: Body | None) -> Outcome:
        """Carry an admitted action out, exactly once for its permit."""
        permit = admission.permit
        if permit.nonce not in self._flights or permit.action_digest != admission.action.digest:
            raise IntegrityError("a permit that was not minted for this action")
        seconds = self._ports.execute_timeout_s
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await carry_out(self._ports, self.session, admission, body, self.halted)
        except StoppedError as error:
            return Outcome(error=CANCELLED, detail=str(error))
        except EffectError as error:
            return Outcome(error="failed", detail=str(error))
        except IntegrityError:
            raise
        except asyncio.CancelledError:
            await asyncio.shield(self._close(admission, Outcome(error=CANCELLED)))
            raise
        except Exception as error:
            if isinstance(error, TimeoutError) and limit.expired():
                return Outcome(error="timeout", detail=f"not finished after {seconds:g} s")
            await self._close(admission, Outcome(error="raised", detail=type(error).__name__))
            raise

    async def _close(self, admission: Admission, outcome: Outcome) -> Outcome:
        flight = self._flights.pop(admission.permit.nonce, None)
        if flight is None:
            raise IntegrityError("an action was settled twice")
        if flight.key:
            self._seen.add(flight.key)
        return await close(self._ports, self._needs, self.session, admission.action, flight, outcome)
