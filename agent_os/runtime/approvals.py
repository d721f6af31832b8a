"""Answering asks from a terminal: who the approver is, and the record that precedes the answer.

The approver is the user this process runs as, read from the kernel, and the groups it is in; nothing on the command
line or in the environment names one. Threat: an agent that approves its own asks. A process that an agent runtime
started (one of its ancestors holds this `state.db`) is refused. That stops an agent that calls this command, not
hostile code of the same user that has broken out of every layer: such an agent belongs in the sandbox, where
`state.db` cannot be reached.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from agent_os.core.approval import Answer, Approval, StandingGrant
from agent_os.core.decision import Decision, Verdict
from agent_os.core.errors import DeniedError, EffectError
from agent_os.effects.stores import holders
from agent_os.effects.stores.identity import Identity, current_identity
from agent_os.effects.stores.keys import Keys
from agent_os.effects.stores.state import StateDatabase
from agent_os.monitor.asking import answered_record
from agent_os.runtime.state import State, open_state, shared_limits, state_directory

OPERATOR: Final = "operator"
"""The audit writer of people's own acts."""


@dataclass(slots=True)
class ApprovalDesk:
    """The asks of this installation, as one person may answer them. Close it."""

    stores: StateDatabase
    identity: Identity
    state: State | None = None
    """Set where answers can be given: the operator's audit is open then."""

    async def list(self, state: str | None = "waiting") -> Sequence[Approval]:
        """Return asks, oldest first."""
        return await self.stores.approvals.list(state)

    async def get(self, approval_id: str) -> Approval:
        """Return an ask by its id or an unambiguous beginning of it. Raises EffectError."""
        found = await self.stores.approvals.get(approval_id)
        if found is not None:
            return found
        near = [each for each in await self.list(None) if each.id.startswith(approval_id)]
        if len(near) == 1:
            return near[0]
        raise EffectError(f"no ask has the id {approval_id!r}" if not near else f"{len(near)} asks begin like that")

    async def answer(self, approval: Approval, given: Answer | None = None, **said: Any) -> Approval:
        """Record and give this person's answer: an `Answer`, or its fields; who answers is this desk's to say.

        The audit has it before it counts. Raises DeniedError inside an agent, ActionError when it cannot be answered.
        """
        self.refuse_inside_agent()
        if self.state is None:
            raise EffectError("these approvals were opened for reading")
        given = given or Answer(approver="", **said)
        given = replace(given, approver=self.identity.user, groups=self.identity.groups)
        record = {**answered_record(approval, given, now=time.time()), "uid": self.identity.uid}
        await self.state.audit.append(record)
        try:
            return await self.stores.approvals.answer(approval.id, given, time.time())
        except Exception:
            await self.state.audit.append({**record, "type": "approval.void", "time": time.time()})
            raise

    async def standing(self) -> Sequence[StandingGrant]:
        """Return every lasting grant, newest first."""
        return await self.stores.approvals.list_standing()

    async def revoke(self, grant_id: str) -> None:
        """End a lasting grant, or take back an approval that was not used. Raises EffectError when there is none."""
        self.refuse_inside_agent()
        if self.state is None:
            raise EffectError("these approvals were opened for reading")
        who = {"user": self.identity.user, "uid": self.identity.uid}
        await self.state.audit.append({"type": "approval.revoked", "time": time.time(), "grant": grant_id, **who})
        store = self.stores.approvals
        if not await (store.revoke_standing(grant_id) if grant_id.startswith("std_") else store.revoke(grant_id)):
            raise EffectError(f"nothing to revoke has the id {grant_id!r}")

    def refuse_inside_agent(self) -> None:
        """Raise DeniedError when an agent runtime is among this process's ancestors."""
        running = self.stores.database.read(holders.pids)
        if running & set(holders.ancestors()):
            reason = "this process was started by an agent runtime, and an agent does not answer its own asks"
            advice = "run `agentos approvals` from a terminal of your own"
            raise DeniedError(Decision(Verdict.DENY, ("runtime.approval-inside-agent",), reason, advice=advice))

    def close(self) -> None:
        """Close the stores and the operator's audit."""
        if self.state is not None:
            self.state.close()
        else:
            self.stores.close()


def open_desk(*, answering: bool = False, environment: Mapping[str, str] | None = None) -> ApprovalDesk:
    """Open the approvals of the state directory for the user this process runs as, to read or to answer them."""
    if answering:
        state = open_state(environment=environment, writer=OPERATOR)
        return ApprovalDesk(state.stores, current_identity(), state)
    env = os.environ if environment is None else environment
    path = state_directory(environment=env)
    keys = Keys.open(path / "keys", environment=env)
    return ApprovalDesk(StateDatabase.open(path, keys, shared=shared_limits(env)), current_identity())
