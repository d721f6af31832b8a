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
import hashlib
import weakref
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn

from agent_os.core import canonical
from agent_os.core.action import Action, FsDelete, FsList, FsRead, FsWrite, ToolCall
from agent_os.core.decision import Decision, Obligation, Verdict
from agent_os.core.errors import ActionError, AgentOSError, DeniedError, EffectError, IntegrityError
from agent_os.core.facts import Facts
from agent_os.core.label import UNTRUSTED
from agent_os.core.manifest import Effect
from agent_os.core.ports import Admission, Outcome, Pending, Permit
from agent_os.core.principal import Capability, Principal
from agent_os.monitor import asking, record
from agent_os.monitor.allowance import needs
from agent_os.monitor.gather import Needs, Session, gather
from agent_os.monitor.reach import beyond
from agent_os.monitor.routing import ROUTING, routed
from agent_os.monitor.wiring import APPROVAL_TIMEOUT_S, REWRITE_ROUNDS_MAX, Ports
from agent_os.policy import Policy, decide

Body = Callable[[Action], Awaitable[Any]]
"""What a trusted in-process wrapper does once its action is permitted; it gets the final action."""

REWRITES: Final = frozenset({"redact", "pseudonymise", "route", "local-only", "clamp"})
_PURE_READS: Final = frozenset({"fs.read", "fs.list", "memory.read"})
"""Reads inside the workspace need not wait for their intent to be durable (law 8)."""


@dataclass(slots=True)
class _Flight:
    """An admitted action under way: what `settle` needs to close it."""

    reference: str
    budgets: Mapping[str, Mapping[str, float]]
    key: str


@dataclass(slots=True)
class _Shared:
    """One effect that several callers under one idempotency key wait for; it ends with the last of them."""

    action: Action | Mapping[str, Any]
    running: asyncio.Future[Outcome | Pending]
    waiting: int = 0

    async def result(self) -> Outcome | Pending:
        self.waiting += 1
        try:
            return await asyncio.shield(self.running)
        except asyncio.CancelledError:
            if self.waiting == 1 and not self.running.done():
                self.running.cancel()
                await asyncio.wait([self.running])
            raise
        finally:
            self.waiting -= 1


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
        self._keyed: dict[str, _Shared] = {}
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
    def ports(self) -> Ports:
        """The ports this monitor was built from (for the composition root)."""
        return self._ports

    def reload(self, policy: Policy, needs: Needs) -> None:
        """Put another policy in force for every decision from now on, children's too; grants of the old revision end."""
        self._policy, self._needs = policy, needs
        for child in self._children:
            child.reload(policy, needs)

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
                if not any(_contains(own, wanted) for own in held):
                    raise ActionError("asks for more than its parent holds", field=f"capabilities.{wanted.verb}")
        base = session or Session(self.principal, self.session.workspace, self.session.flow, self.session.privacy)
        base.principal = self.principal.child(agent)
        base.capabilities = capabilities
        child = Monitor(self._policy, ports or self._ports, base, needs=self._needs, approval_s=self._approval_s)
        self._children.add(child)
        return child

    # ---- the door ---------------------------------------------------------------------------------------------------

    async def perform(
        self,
        action: Action | Mapping[str, Any],
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
        shared = self._keyed.get(key)
        if shared is None:
            shared = self._keyed[key] = _Shared(action, asyncio.ensure_future(self._perform(action, body, key, stated)))
            shared.running.add_done_callback(lambda _: self._keyed.pop(key, None))
        elif shared.action != action:
            raise ActionError("this idempotency key is in use for another action", field="key")
        return await shared.result()

    async def _perform(
        self, action: Action | Mapping[str, Any], body: Body | None, key: str, stated: Mapping[str, Any] | None
    ) -> Outcome | Pending:
        if key and self._ports.outcomes is not None:
            known = await self._ports.outcomes.recall(key)
            if known is not None:
                return known
        admitted = await self._admit(action, key=key, stated=stated)
        if isinstance(admitted, Pending):
            return admitted
        if isinstance(admitted, Outcome):
            return admitted
        outcome = await self._execute(admitted, body)
        return await self._close(admitted, outcome)

    async def admit(
        self, action: Action | Mapping[str, Any], *, stated: Mapping[str, Any] | None = None, key: str = ""
    ) -> Admission:
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

    async def settle(self, admission: Admission, outcome: Outcome) -> None:
        """Close an admitted action: settle what was reserved and record what happened; idempotent."""
        if admission.permit.nonce in self._flights:
            await self._close(admission, outcome)

    # ---- admit ------------------------------------------------------------------------------------------------------

    async def _admit(
        self, given: Action | Mapping[str, Any], *, key: str, stated: Mapping[str, Any] | None
    ) -> Admission | Pending | Outcome:
        action = self._identify(self._canonical(given))
        reference = self._reference()
        if self.session.ended:
            self._deny(action, self._refusal("runtime.agent-ended", "this agent is over"), reference)
        self._within_reach(action, reference)
        action, decision, facts = await self._decide(action, stated)
        if decision.verdict is not Verdict.ALLOW:
            await self._remember(action, reference)
        if decision.verdict is Verdict.ASK:
            answered = await self._asked(action, stated, decision, facts, reference)
            if isinstance(answered, Pending):
                return answered
            action, decision, facts = answered
        if decision.verdict is not Verdict.ALLOW:
            self._deny(action, decision, reference)
        amounts = _amounts(decision.obligations)
        outcomes = self._ports.outcomes if key else None
        if outcomes is not None:
            known = await outcomes.claim(key, action.digest)
            if known is not None:
                return known
        try:
            await self._reserve(action, decision, reference, amounts)
            return await self._intend(action, decision, facts, reference, amounts, key)
        except DeniedError:
            if outcomes is not None:
                await outcomes.release(key)
            raise

    def _canonical(self, given: Action | Mapping[str, Any]) -> Action:
        principal = self.session.principal
        if not isinstance(given, Action):
            given = Action.parse(given, workspace=self.session.workspace, principal=principal)
        elif given.principal != principal:
            given = given.rewritten(principal=principal)  # who acts is the session's to say, never the action's
        if self._ports.links is not None and isinstance(given, FsRead | FsWrite | FsList | FsDelete):
            resolved = self._ports.links.resolve(given.path)
            if resolved != given.path:
                given = given.rewritten(path=resolved)
        return given

    def _identify(self, action: Action) -> Action:
        """Give a tool call its identity from the registry, and resolve the paths among its arguments."""
        if not isinstance(action, ToolCall):
            return action.rewritten(tool_digest="") if action.tool_digest else action
        tool = self._ports.registry.find(action.tool, action.server)
        if tool is None:
            refusal = Decision(
                Verdict.DENY,
                ("runtime.tool-not-registered",),
                "the registry knows no tool of this name",
                policy_digest=self._policy.digest,
            )
            self._deny(action, refusal, self._reference())
        args: dict[str, Any] | None = None
        for name, argument in tool.spec.arguments.items():
            if argument.type == "path" and isinstance(action.args.get(name), str) and action.args[name]:
                path = canonical.path(action.args[name], root=self.session.workspace, field=f"args.{name}")
                if self._ports.links is not None:
                    path = self._ports.links.resolve(path)
                args = {**(args or action.args), name: path}
        if args is None and action.tool_digest == tool.digest:
            return action
        return ToolCall(
            principal=action.principal,
            tool_digest=tool.digest,
            call_id=action.call_id,
            stated=action.stated,
            tool=action.tool,
            args=action.args if args is None else args,
            server=action.server,
        )

    def _within_reach(self, action: Action, reference: str) -> None:
        """Deny a sub-agent's call of a tool server that names what the sub-agent holds no right to."""
        held = self.session.capabilities
        if held is None or not isinstance(action, ToolCall):
            return
        tool = self._ports.registry.find(action.tool, action.server)
        named = beyond(tool.spec, action, held, self.session.workspace) if tool is not None else ""
        if named:
            reason = f"the agent was not given the right to what the argument {named} names"
            self._deny(action, self._refusal("runtime.capability", reason), reference)

    async def _decide(self, action: Action, stated: Mapping[str, Any] | None) -> tuple[Action, Decision, Facts]:
        """Decide, carry out rewrites, decide the rewritten action again; bounded (law 9). Deny is final, asks add up."""
        asked: dict[str, str] = {}
        done: set[tuple[str, str]] = set()
        audit_only: tuple[str, ...] = ()
        for _ in range(REWRITE_ROUNDS_MAX):
            facts = await gather(self._ports, self._needs, self.session, action, stated)
            decision = decide(self._policy, action, facts)
            audit_only = (*audit_only, *decision.audit_only)
            if decision.verdict is Verdict.DENY:
                return action, decision, facts
            if decision.verdict is Verdict.ASK:
                asked.update(dict.fromkeys(decision.rules, decision.reason))
            todo = [item for item in decision.obligations if item.kind in REWRITES]
            todo = [item for item in todo if (item.kind, item.rule) not in done]
            if not todo:
                return action, _accumulated(decision, asked, audit_only), facts
            content = [item for item in todo if item.kind not in ROUTING]
            if content and self.session.privacy is None:
                return action, self._refusal("runtime.rewrite", "no privacy router carries out the rewrite"), facts
            try:
                changed = routed(action, [item for item in todo if item.kind in ROUTING])
                if content and self.session.privacy is not None:
                    changed = self.session.privacy.rewrite(changed, facts.findings or (), content)
            except AgentOSError as error:
                return action, self._refusal("runtime.rewrite", f"the rewrite failed: {type(error).__name__}"), facts
            done.update((item.kind, item.rule) for item in todo)
            if changed.digest == action.digest:
                return action, _accumulated(decision, asked, audit_only), facts
            action = changed
        return action, self._refusal("runtime.rewrite-rounds", "rewrites did not settle"), facts

    def _scoped(self, key: str) -> str:
        """Return a key as it is stored: one user's keys never reach another's outcomes."""
        return f"{self.principal.tenant}/{self.principal.user}/{key}"

    def _reference(self) -> str:
        """Return the name of one passage through the door: unique, in the order of the decisions of this monitor."""
        self._count += 1
        return f"{self._run}.{self._count}"

    def _refusal(self, rule: str, reason: str) -> Decision:
        return Decision(Verdict.DENY, (rule,), reason, policy_digest=self._policy.digest)

    async def _asked(
        self, action: Action, stated: Mapping[str, Any] | None, decision: Decision, facts: Facts, reference: str
    ) -> tuple[Action, Decision, Facts] | Pending:
        """Discharge an ask by a grant for exactly this action, or put it to a person; Pending while nobody answered."""
        if await asking.spend(self._ports, action, decision):
            return action, replace(decision, verdict=Verdict.ALLOW), facts
        answer = await asking.ask(self._ports, action, decision, facts, reference=reference, seconds=self._approval_s)
        if isinstance(answer, Pending):
            return answer
        if answer is not None:
            return action, answer, facts
        # Somebody answered, and time has passed: what was approved must still be what the policy asks for now.
        action, decision, facts = await self._decide(action, stated)
        if decision.verdict is Verdict.ASK and await asking.spend(self._ports, action, decision):
            return action, replace(decision, verdict=Verdict.ALLOW), facts
        if decision.verdict is Verdict.ASK:
            return (
                action,
                self._refusal("runtime.approval-outdated", "what was approved is no longer what is asked"),
                facts,
            )
        return action, decision, facts

    async def _reserve(
        self, action: Action, decision: Decision, reference: str, amounts: Mapping[str, Mapping[str, float]]
    ) -> None:
        if not self._ports.rates.take(decision.obligations, action.principal, self._ports.clock.now()):
            self._deny(action, self._refusal("runtime.rate", "no calls are left in the window"), reference)
        allowance = self.session.allowance
        if allowance is not None and not allowance.take(needs(action)):
            self._deny(action, self._refusal("runtime.allowance", "what this agent may use is spent"), reference)
        if not amounts:
            return
        store = self._ports.budgets
        try:
            granted = store is not None and await store.reserve(reference, amounts)
        except AgentOSError:
            granted = False
        if not granted:
            self._give_back(action)
            why = "a budget is spent" if store is not None else "no budget store is open"
            refusal = replace(self._refusal("runtime.budget", why), obligations=decision.obligations)
            self._deny(action, refusal, reference)

    def _give_back(self, action: Action) -> None:
        """Return what was taken of this agent's allowance for an action that did not happen."""
        if self.session.allowance is not None:
            taken = needs(action)
            self.session.allowance.settle(taken, dict.fromkeys(taken, 0.0))

    async def _intend(
        self,
        action: Action,
        decision: Decision,
        facts: Facts,
        reference: str,
        amounts: Mapping[str, Mapping[str, float]],
        key: str,
    ) -> Admission:
        """Write the intent, wait until it is durable where the effect is outside, mint the permit."""
        ports = self._ports
        said = record.describe(action, ports.keyed_digest)
        intent = record.intent(action, decision, reference=reference, now=facts.now or 0.0, said=said)
        if key:
            intent["key"] = key
        try:
            durable = ports.audit.append(intent)
            if ports.payloads is not None:
                await ports.payloads.put(reference, {"action": action.to_json()})
            if self._waits(action):
                await durable
        except AgentOSError as error:
            self._give_back(action)
            if amounts and ports.budgets is not None:
                await ports.budgets.settle(reference, {})
            refusal = self._refusal("runtime.audit-unavailable", f"the audit could not be written: {error}")
            raise DeniedError(refusal) from error
        permit = Permit(
            nonce=reference,
            action_digest=action.digest,
            facts_digest=_facts_digest(facts),
            idempotency_key=key or reference,
            resolved_ips=facts.resolved_ips or (),
            deadline=ports.clock.monotonic() + ports.execute_timeout_s,
        )
        self._flights[reference] = _Flight(reference, amounts, key)
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
                if body is not None:
                    value = await body(action)
                    return value if isinstance(value, Outcome) else Outcome(value)
                effector = self._ports.effectors.get(action.kind)
                if effector is None:
                    return Outcome(error="no-effector", detail=f"nothing carries out {action.kind} here")
                return await effector.execute(permit, action)
        except TimeoutError:
            return Outcome(error="timeout", detail=f"not finished after {timeout:g} s")
        except EffectError as error:
            return Outcome(error="failed", detail=str(error))
        except IntegrityError:
            raise
        except asyncio.CancelledError:
            await asyncio.shield(self._close(admission, Outcome(error="cancelled")))
            raise
        except Exception as error:
            await self._close(admission, Outcome(error="raised", detail=type(error).__name__))
            raise

    async def _close(self, admission: Admission, outcome: Outcome) -> Outcome:
        flight = self._flights.pop(admission.permit.nonce, None)
        if flight is None:
            raise IntegrityError("an action was settled twice")
        if self.session.allowance is not None:
            self.session.allowance.settle(needs(admission.action), outcome.usage)
        ports, action, session = self._ports, admission.action, self.session
        if session.privacy is not None and outcome.ok:
            outcome = replace(outcome, value=session.privacy.restore(outcome.value, action))
        if session.flow is not None:
            outcome = _observed(session.flow.observe, action, outcome)
        if flight.budgets and ports.budgets is not None:
            await ports.budgets.settle(flight.reference, _used(flight.budgets, outcome))
        if flight.key and ports.outcomes is not None:
            await ports.outcomes.record(flight.key, outcome)
        if ports.payloads is not None:
            await ports.payloads.put(
                flight.reference + ".out", {"value": _jsonable(outcome.value), "error": outcome.error}
            )
        done = record.finished(flight.reference, outcome, now=ports.clock.now(), size=_size(outcome.value))
        with suppress(AgentOSError):  # the effect happened: a log that fails now shows it as interrupted
            ports.audit.append(done)
        return outcome


# ---- small pure parts -----------------------------------------------------------------------------------------------


def _contains(own: Capability, wanted: Capability) -> bool:
    if own.verb not in ("*", wanted.verb):
        return False
    if own.scope is None:
        return True
    return wanted.scope is not None and all(own.covers(wanted.verb, target) for target in wanted.scope)


def _accumulated(decision: Decision, asked: Mapping[str, str], audit_only: tuple[str, ...]) -> Decision:
    unique = tuple(dict.fromkeys(audit_only))
    if not asked:
        return decision if unique == decision.audit_only else replace(decision, audit_only=unique)
    rules = tuple(dict.fromkeys((*asked, *(decision.rules if decision.verdict is Verdict.ASK else ()))))
    reason = "; ".join(dict.fromkeys(asked.values()))
    return replace(decision, verdict=Verdict.ASK, rules=rules, reason=reason, audit_only=unique)


def _amounts(obligations: tuple[Obligation, ...]) -> dict[str, dict[str, float]]:
    """Return budget -> unit -> amount of the reserve obligations; several on one budget add up."""
    amounts: dict[str, dict[str, float]] = {}
    for obligation in obligations:
        if obligation.kind == "reserve":
            units = amounts.setdefault(str(obligation.params["budget"]), {})
            for unit, amount in obligation.params.get("amounts", {}).items():
                units[unit] = units.get(unit, 0.0) + float(amount)
    return amounts


def _used(reserved: Mapping[str, Mapping[str, float]], outcome: Outcome) -> dict[str, dict[str, float]]:
    """Return what to charge: what the outcome says was used, or the whole reservation where it says nothing."""
    return {
        budget: {unit: outcome.usage.get(unit, amount) for unit, amount in units.items()}
        for budget, units in reserved.items()
    }


def _facts_digest(facts: Facts) -> str:
    """Return what binds a permit to the facts that an effect depends on: time, addresses, program."""
    form = repr((facts.now, facts.workspace, facts.resolved_ips, facts.executable, facts.depth))
    return hashlib.sha256(form.encode()).hexdigest()


def _observed(observe: Callable[[Action, Outcome], Outcome], action: Action, outcome: Outcome) -> Outcome:
    try:
        return observe(action, outcome)
    except Exception:  # an outcome the guard cannot label is untrusted as a whole
        return replace(outcome, label=UNTRUSTED, leaves=())


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str | bytes) else -1


def _jsonable(value: Any) -> Any:
    try:
        return canonical.json_value(value)
    except ActionError:
        return {"$type": type(value).__name__}
