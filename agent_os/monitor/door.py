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
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn

from agent_os.core.action import Action, ToolCall
from agent_os.core.decision import Decision, Verdict
from agent_os.core.errors import ActionError, AgentOSError, DeniedError, EffectError, IntegrityError, StoppedError
from agent_os.core.manifest import Effect
from agent_os.core.ports import CANCELLED, Admission, Outcome, Pending, Permit
from agent_os.core.principal import Capability, Principal
from agent_os.monitor import alike, outcomes, record, reserving
from agent_os.monitor.discharge import Discharge, Passage, answered
from agent_os.monitor.gather import Needs, Session
from agent_os.monitor.holding import Footing, still
from agent_os.monitor.judging import Judged, judge, refusal
from agent_os.monitor.naming import canonical_action, identified, unknown
from agent_os.monitor.permits import mint
from agent_os.monitor.reach import beyond, changes_rules
from agent_os.monitor.sharing import Given, Shared
from agent_os.monitor.stopping import KILLED, stopped
from agent_os.monitor.suspicion import looked_at
from agent_os.monitor.wiring import APPROVAL_TIMEOUT_S, Ports
from agent_os.policy import Policy

Body = Callable[[Action], Awaitable[Any]]
"""What a trusted in-process wrapper does once its action is permitted; it gets the final action."""

_PURE_READS: Final = frozenset({"fs.read", "fs.list", "memory.read"})
"""Reads inside the workspace need not wait for their intent to be durable (law 8)."""
_NOTHING: Final[reserving.Amounts] = {}


@dataclass(slots=True)
class _Flight:
    """An admitted action under way: what `settle` needs to close it."""

    reference: str
    taken: reserving.Amounts
    key: str
    note: str = ""
    """What the agent must be told beside the outcome: that a person changed what it asked for."""
    footing: Footing | None = None
    """On what it was admitted, for `holds`."""


DOUBTS: Final = frozenset(
    {
        "authority_from_untrusted", "authority_of_unknown_origin", "effect_beyond_scope", "contradicts_prompt",
        "code_from_untrusted",
    }
)  # fmt: skip
"""Classes of the policy's `flow:` section that doubt whose wish a call is: one that is only warned of vouches for nothing."""


class Monitor:
    """The reference monitor of one session. Children of it share its ports and can only hold less."""

    def __init__(
        self, policy: Policy, ports: Ports, session: Session, *, needs: Needs | None = None, approval_s: float = 0.0
    ) -> None:
        self._policy = policy
        self._ports = ports
        self._needs = needs or Needs()
        self._approval_s = approval_s or APPROVAL_TIMEOUT_S
        self._flights: dict[str, _Flight] = {}
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
        footing = Footing(judged.facts, judged.decision.policy_digest)
        self._flights.update((reference, _Flight(reference, _NOTHING, "", footing=footing)) for reference in references)
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
        if flight is None or flight.footing is None or self.halted() is not None:
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
        reference = self._reference()
        action = self._named(given, reference)
        if self.session.ended:
            self._deny(action, self._refusal("runtime.agent-ended", "this agent is over"), reference)
        self._go_on(action, reference)
        self._within_reach(action, reference)
        judged = await self._judge(action, stated)
        if judged.decision.verdict is not Verdict.ALLOW:
            await self._remember(judged.action, reference)
        discharge = Discharge(self._ports, reference)
        if judged.decision.verdict is Verdict.ASK:
            settled = await answered(self._passage(stated, reference), judged, reference)
            if isinstance(settled, Pending):
                return settled
            judged, discharge = settled
            self._go_on(judged.action, reference)  # a person may have been waited for
        if judged.decision.verdict is not Verdict.ALLOW:
            self._deny(judged.action, judged.decision, reference)
        store = self._ports.outcomes if key else None
        if store is not None:
            known = await store.claim(key, judged.action.digest)
            if known is not None:
                return known
        taken: reserving.Amounts | None = None
        try:
            taken = await self._reserve(judged, reference)
            if discharge.grants or discharge.edit:
                await self._spend(judged, reference, taken, discharge)
            admission = await self._intend(judged, reference, taken, key, discharge)
            await self._confirm(key)
            return admission
        except DeniedError:
            if store is not None:
                await store.release(key)
            raise
        except BaseException:  # cancelled, or no longer to be done: whatever it is, nothing was begun
            self._flights.pop(reference, None)
            await asyncio.shield(self._abandon(judged, reference, taken, discharge, key))
            raise

    async def _confirm(self, key: str) -> None:
        """Raise if what was admitted may no longer happen; asked when nothing but the effect is left to do."""

    async def _abandon(
        self, judged: Judged, reference: str, taken: reserving.Amounts | None, discharge: Discharge, key: str
    ) -> None:
        """Undo an admission whose effect was not begun: nothing is used, the key is free."""
        if taken is not None:
            await reserving.give_back(self._ports, self.session, judged, reference, taken)
        await discharge.unspend()
        if key and self._ports.outcomes is not None:
            await self._ports.outcomes.release(key)
        gone = record.finished(reference, Outcome(error=CANCELLED), now=self._ports.clock.now(), size=-1)
        with suppress(AgentOSError):
            self._ports.audit.append(gone)

    def _named(self, given: Given, reference: str) -> Action:
        """Return the action as it is judged, or deny a tool that nobody registered."""
        action = canonical_action(given, self.session, self._ports.links)
        named = identified(action, self.session, self._ports)
        if named is None:
            self._deny(action, unknown(action, self._ports, self._policy), reference)
        return named

    def _go_on(self, action: Action, reference: str) -> None:
        """Deny whatever is done by an agent that a person halted or quarantined; one that was killed is over."""
        stop = stopped(self._ports, self.session, self._policy)
        if stop is not None:
            self.session.ended = self.session.ended or stop.rules == (KILLED,)
            self._deny(action, stop, reference)

    def _within_reach(self, action: Action, reference: str) -> None:
        """Deny a change of the policy's own files, and a sub-agent's call of a server that names what it holds no right to."""
        if changes_rules(action, self._needs.files):
            reason = "it is a file of the policy in force: an agent does not change its own rules"
            self._deny(action, self._refusal("runtime.policy-file", reason), reference)
        held = self.session.capabilities
        if held is None or not isinstance(action, ToolCall):
            return
        tool = self._ports.registry.find(action.tool, action.server)
        named = beyond(tool.spec, action, held, self.session.workspace) if tool is not None else ""
        if named:
            reason = f"the agent was not given the right to what the argument {named} names"
            self._deny(action, self._refusal("runtime.capability", reason), reference)

    async def _judge(self, action: Action, stated: Mapping[str, Any] | None) -> Judged:
        return await judge(self._policy, self._needs, self._ports, self.session, action, stated)

    def _scoped(self, key: str) -> str:
        """Return a key as it is stored: one user's keys never reach another's outcomes."""
        return f"{_part(self.principal.tenant)}/{_part(self.principal.user)}/{key}"

    def _reference(self) -> str:
        """Return the name of one passage through the door: unique, in the order of the decisions of this monitor."""
        self._count += 1
        return f"{self._run}.{self._count}"

    def _refusal(self, rule: str, reason: str) -> Decision:
        return refusal(self._policy, rule, reason)

    def _passage(self, stated: Mapping[str, Any] | None, reference: str) -> Passage:
        """Return what answering an ask needs of this door."""

        def remake(action: Action, arguments: dict[str, Any]) -> Action:
            changed = {"args": arguments} if isinstance(action, ToolCall) else arguments
            kept = {**action.to_json(), "call_id": action.call_id}
            remade = self._named({**kept, **changed, "kind": action.kind}, reference)
            self._within_reach(remade, reference)
            return remade

        return Passage(
            self._ports, lambda: self._policy, lambda action: self._judge(action, stated), remake, self._approval_s
        )

    async def _reserve(self, judged: Judged, reference: str) -> reserving.Amounts:
        """Take what the action may use, or deny."""
        action, decision, _ = judged
        if not decision.obligations and self.session.allowance is None:
            return _NOTHING
        wanted = reserving.amounts(decision.obligations)
        short = await reserving.take(self._ports, self.session, action, decision.obligations, reference, wanted)
        if short is not None:
            denial = replace(self._refusal(short.rule, short.reason), obligations=decision.obligations)
            self._deny(action, denial, reference)
        return wanted

    async def _spend(self, judged: Judged, reference: str, taken: reserving.Amounts, discharge: Discharge) -> None:
        """Spend the grants, now that nothing but the audit can deny any more; else give back what was reserved, and deny."""
        try:
            if await discharge.spend():
                return
            why = "the approval was used, revoked or expired meanwhile"
        except AgentOSError as error:
            why = f"the approval could not be spent: {error}"
        await reserving.give_back(self._ports, self.session, judged, reference, taken)
        self._deny(judged.action, self._refusal("runtime.approval-spent", why), reference)

    async def _intend(
        self, judged: Judged, reference: str, taken: reserving.Amounts, key: str, discharge: Discharge
    ) -> Admission:
        """Write the intent, wait until it is durable where the effect is outside, mint the permit."""
        action, decision, facts = judged
        ports = self._ports
        said = record.describe(action, ports.keyed_digest)
        intent = record.intent(action, decision, reference=reference, now=facts.now or 0.0, said=said)
        intent.update(discharge.record())
        if key:
            intent["key"] = key
        try:
            durable = ports.audit.append(intent)
            if ports.payloads is not None:
                await ports.payloads.put(reference, {"action": action.to_json()})
            if self._waits(action):
                await durable
        except AgentOSError as error:
            await reserving.give_back(ports, self.session, judged, reference, taken)
            await discharge.unspend()
            denial = self._refusal("runtime.audit-unavailable", f"the audit could not be written: {error}")
            raise DeniedError(denial) from error
        (permit,) = mint(ports, self.session, judged, (reference,), key)
        footing = Footing(facts, decision.policy_digest, discharge.grants, discharge.lasting, discharge.edit)
        self._flights[reference] = _Flight(reference, taken, key, discharge.note(), footing)
        return Admission(action, decision, permit)

    def _waits(self, action: Action) -> bool:
        if action.kind in _PURE_READS:
            return False
        if isinstance(action, ToolCall):
            tool = self._ports.registry.find(action.tool, action.server)
            return tool is None or tool.spec.effect is not Effect.READ or tool.spec.sandboxed
        return True

    async def _remember(self, action: Action, reference: str) -> None:
        """Keep what was asked or denied, where payloads are kept: `policy learn` and `diff` need it whole."""
        if self._ports.payloads is not None:
            with suppress(AgentOSError):  # a denial stands whether or not it could be kept
                await self._ports.payloads.put(reference, {"action": action.to_json()})

    def _deny(self, action: Action, decision: Decision, reference: str) -> NoReturn:
        """Record a denial and raise it. A record that fails does not turn the denial into anything else."""
        said = record.describe(action, self._ports.keyed_digest)
        now = self._ports.clock.now()
        with suppress(AgentOSError):
            self._ports.audit.append(
                record.decided("denied", action, decision, reference=reference, now=now, said=said)
            )
        raise DeniedError(decision)

    # ---- execute and settle -----------------------------------------------------------------------------------------

    async def _execute(self, admission: Admission, body: Body | None) -> Outcome:
        """Carry an admitted action out, exactly once for its permit."""
        permit, action = admission.permit, admission.action
        if permit.nonce not in self._flights or permit.action_digest != action.digest:
            raise IntegrityError("a permit that was not minted for this action")
        timeout = self._ports.execute_timeout_s
        try:
            async with asyncio.timeout(timeout):
                if self.session.flow is None:
                    return await self._carry_out(permit, action, body)
                warned = any(rule.rpartition("flow.")[2] in DOUBTS for rule in admission.decision.audit_only)
                with self.session.flow.inside(action, warned=warned):
                    return await self._carry_out(permit, action, body)
        except TimeoutError:
            return Outcome(error="timeout", detail=f"not finished after {timeout:g} s")
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
            await self._close(admission, Outcome(error="raised", detail=type(error).__name__))
            raise

    async def _carry_out(self, permit: Permit, action: Action, body: Body | None) -> Outcome:
        if body is not None:
            value = await body(action)
            return value if isinstance(value, Outcome) else Outcome(value)
        effector = self._ports.effectors.get(action.kind)
        if effector is None:
            return Outcome(error="no-effector", detail=f"nothing carries out {action.kind} here")
        return await effector.execute(permit, action)

    async def _close(self, admission: Admission, outcome: Outcome) -> Outcome:
        flight = self._flights.pop(admission.permit.nonce, None)
        if flight is None:
            raise IntegrityError("an action was settled twice")
        ports, action, reference = self._ports, admission.action, flight.reference
        session = self.session
        if flight.taken or session.allowance is not None:
            await reserving.settle(ports, session, action, reference, flight.taken, outcome)
        outcome = await outcomes.received(ports, self._needs, session, action, outcome)
        if ports.classifier is not None:
            outcome = await looked_at(ports.classifier, session, action, outcome)
        if flight.note:
            outcome = replace(outcome, note=flight.note)
        if flight.key and ports.outcomes is not None:
            self._seen.add(flight.key)
            await outcomes.keep(ports.outcomes, flight.key, outcome)
        if ports.payloads is not None:
            await ports.payloads.put(reference + ".out", outcomes.kept(outcome))
        done = record.finished(reference, outcome, now=ports.clock.now(), size=outcomes.size(outcome.value))
        with suppress(AgentOSError):  # the effect happened: a log that fails now shows it as interrupted
            ports.audit.append(done)
        return outcome if outcome.memo is None else replace(outcome, memo=None)


def _part(name: str) -> str:
    """Return a name as one part of a key: `a/b` and `c` are not `a` and `b/c`."""
    return name.replace("%", "%25").replace("/", "%2F")
