"""The last steps into the door, once an action is decided: reserve, spend the grants, write the intent, mint the permit.

Each step either happens or is undone and denied. Threats: an effect that no record precedes (the intent is durable before
the permit exists), a budget or an approval used up by something that then does not happen, a denial that a log which fails
turns into anything else.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, NoReturn

from agent_os.core.action import Action, ModelCall, ToolCall
from agent_os.core.decision import Decision, Verdict
from agent_os.core.errors import AgentOSError, DeniedError
from agent_os.core.manifest import Effect
from agent_os.core.ports import CANCELLED, Admission, Outcome
from agent_os.monitor import record, reserving
from agent_os.monitor.discharge import Discharge
from agent_os.monitor.gather import Session
from agent_os.monitor.judging import Judged
from agent_os.monitor.permits import mint
from agent_os.monitor.wiring import Ports
from agent_os.policy.prices import Prices

_PURE_READS: Final = frozenset({"fs.read", "fs.list", "memory.read"})
"""Reads inside the workspace need not wait for their intent to be durable (law 8)."""
NOTHING: Final[reserving.Amounts] = {}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One action on its way in, under the reference that its records have."""

    ports: Ports
    session: Session
    reference: str

    def deny(self, action: Action, decision: Decision) -> NoReturn:
        """Record a denial and raise it. A record that fails does not turn the denial into anything else."""
        said = record.describe(action, self.ports.keyed_digest)
        now = self.ports.clock.now()
        denied = record.decided("denied", action, decision, reference=self.reference, now=now, said=said)
        with suppress(AgentOSError):
            self.ports.audit.append(denied)
        raise DeniedError(decision)

    async def remember(self, action: Action) -> None:
        """Keep what was asked or denied, where payloads are kept: `policy learn` and `diff` need it whole."""
        if self.ports.payloads is not None:
            with suppress(AgentOSError):  # a denial stands whether or not it could be kept
                await self.ports.payloads.put(self.reference, {"action": action.to_json()})

    async def reserve(self, judged: Judged) -> reserving.Amounts:
        """Take what the action may use, or deny."""
        action, decision, _ = judged
        if not decision.obligations and self.session.allowance is None:
            return NOTHING
        wanted = reserving.amounts(decision.obligations)
        short = await reserving.take(self.ports, self.session, action, decision.obligations, self.reference, wanted)
        if short is not None:
            denial = _refused(judged, short.rule, short.reason)
            self.deny(action, replace(denial, obligations=decision.obligations))
        return wanted

    async def spend(self, judged: Judged, taken: reserving.Amounts, discharge: Discharge) -> None:
        """Spend the grants, now that nothing but the audit can deny any more; else give back what was reserved, and deny."""
        try:
            if await discharge.spend():
                return
            why = "the approval was used, revoked or expired meanwhile"
        except AgentOSError as error:
            why = f"the approval could not be spent: {error}"
        await reserving.give_back(self.ports, self.session, judged, self.reference, taken)
        self.deny(judged.action, _refused(judged, "runtime.approval-spent", why))

    async def intend(
        self, judged: Judged, taken: reserving.Amounts, key: str, discharge: Discharge, prices: Prices
    ) -> Admission:
        """Write the intent, wait until it is durable where the effect is outside, mint the permit."""
        action, decision, facts = judged
        ports = self.ports
        said = record.describe(action, ports.keyed_digest)
        intent = record.intent(action, decision, reference=self.reference, now=facts.now or 0.0, said=said)
        intent.update(discharge.record())
        if isinstance(action, ModelCall):
            intent["most"] = prices.reserved(action)
        if key:
            intent["key"] = key
        try:
            durable = ports.audit.append(intent)
            if ports.payloads is not None:
                await ports.payloads.put(self.reference, {"action": action.to_json()})
            if self._waits(action):
                await durable
        except AgentOSError as error:
            await reserving.give_back(ports, self.session, judged, self.reference, taken)
            await discharge.unspend()
            why = f"the audit could not be written: {error}"
            raise DeniedError(_refused(judged, "runtime.audit-unavailable", why)) from error
        (permit,) = mint(ports, self.session, judged, (self.reference,), key)
        return Admission(action, decision, permit)

    async def abandon(self, judged: Judged, taken: reserving.Amounts | None, discharge: Discharge, key: str) -> None:
        """Undo an admission whose effect was not begun: nothing is used, the key is free."""
        if taken is not None:
            await reserving.give_back(self.ports, self.session, judged, self.reference, taken)
        await discharge.unspend()
        if key and self.ports.outcomes is not None:
            await self.ports.outcomes.release(key)
        now = self.ports.clock.now()
        with suppress(AgentOSError):
            self.ports.audit.append(record.finished(self.reference, Outcome(error=CANCELLED), now=now, size=-1))

    def _waits(self, action: Action) -> bool:
        if action.kind in _PURE_READS:
            return False
        if isinstance(action, ToolCall):
            tool = self.ports.registry.find(action.tool, action.server)
            return tool is None or tool.spec.effect is not Effect.READ or tool.spec.sandboxed
        return True


def _refused(judged: Judged, rule: str, reason: str) -> Decision:
    """Return the runtime's own denial of what the policy had let pass, under the revision that decided it."""
    return Decision(Verdict.DENY, (rule,), reason, policy_digest=judged.decision.policy_digest)
