"""The door as a tool server's network meets it: what its manifest does not name is denied before the policy is asked.

Behind it stands the monitor of whoever calls the server: the session's, or a sub-agent's with its own rights, allowance
and end (law 11).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent_os.core.action import Action, NetConnect, SecretUse
from agent_os.core.decision import Decision, Verdict
from agent_os.core.errors import DeniedError
from agent_os.core.ports import Admission, Door, Outcome
from agent_os.policy.globs import compile_any


class ManifestDoor:
    """A caller's door for one tool server: hosts and secrets outside its manifest are denied."""

    def __init__(self, door: Door, server: str, hosts: Sequence[str], secrets: Sequence[str] = ()) -> None:
        self._door, self._server, self._secrets = door, server, frozenset(secrets)
        self._matches = compile_any([host.replace(".", "/") for host in hosts]) if hosts else (lambda _text: False)
        self._denial: Decision | None = None

    async def admit(self, action: Action, *, stated: Mapping[str, Any] | None = None) -> Admission:
        """Deny what the manifest does not ask for; else ask the caller's door."""
        try:
            refusal = self._beyond(action)
            if refusal is not None:
                raise DeniedError(refusal)
            return await self._door.admit(action, stated=stated)
        except DeniedError as error:
            self._denial = error.decision
            raise

    async def admit_alike(
        self, action: Action, *, stated: Mapping[str, Any] | None = None, count: int
    ) -> Sequence[Admission] | None:
        """Ask the caller's door for many at once; what the manifest does not ask for is denied one by one."""
        return None if self._beyond(action) else await self._door.admit_alike(action, stated=stated, count=count)

    async def consider(self, action: Action, *, stated: Mapping[str, Any] | None = None) -> Decision:
        """Say what would be decided, the manifest first."""
        return self._beyond(action) or await self._door.consider(action, stated=stated)

    async def holds(self, admission: Admission) -> bool:
        """Say whether it may go on; what a manifest asks for does not change while its server runs."""
        return await self._door.holds(admission)

    def halted(self) -> Decision | None:
        """Say what the caller's door says."""
        return self._door.halted()

    async def settle(self, admission: Admission, outcome: Outcome) -> None:
        """Settle at the caller's door."""
        await self._door.settle(admission, outcome)

    def take_denial(self) -> Decision | None:
        """Return the last denial and forget it: for telling a person why a connection failed."""
        denial, self._denial = self._denial, None
        return denial

    def _beyond(self, action: Action) -> Decision | None:
        if isinstance(action, NetConnect) and not self._matches(action.host.replace(".", "/")):
            return self._refusal("hosts", "host")
        if isinstance(action, SecretUse) and action.name not in self._secrets:
            return self._refusal("secrets", "secret")
        return None

    def _refusal(self, part: str, what: str) -> Decision:
        reason = f"the manifest of the tool server {self._server} does not name this {what}"
        return Decision(Verdict.DENY, (f"tools.{self._server}.needs.{part}",), reason)
