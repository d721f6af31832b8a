"""An agent's memory: JSON values by key, sealed in the vault, one room for each user. Effector of `memory.read|write`.

What may be remembered and recalled is the policy's (`memory:`); how far a memory is trusted is the flow guard's, which keeps
its label beside it. Threats: one user's memory read by another's agent; a copied database.
"""

from __future__ import annotations

import json
from typing import Final

from agent_os.core.action import Action, MemoryRead, MemoryWrite
from agent_os.core.canonical import json_bytes
from agent_os.core.errors import EffectError
from agent_os.core.label import TRUSTED
from agent_os.core.ports import Outcome, Permit
from agent_os.effects.stores.vault import Vault

MEMORY_BYTES_MAX: Final = 256 * 1024
"""Longest value of one key; a longer one is refused."""


class Memory:
    """The memories of the users of one installation; whose is meant is said by the action's principal."""

    kinds = frozenset({"memory.read", "memory.write"})

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    async def execute(self, permit: Permit, action: Action) -> Outcome:
        """Read or write one key. Raises EffectError for a key that is not there and for a value that is too long."""
        scope = f"memory:{action.principal.owner}"
        if isinstance(action, MemoryWrite):
            content = json_bytes(action.value)
            if len(content) > MEMORY_BYTES_MAX:
                raise EffectError(f"a memory holds at most {MEMORY_BYTES_MAX} bytes")
            await self._vault.put(scope, {action.key: content.decode()})
            return Outcome({"key": action.key, "bytes": len(content)}, TRUSTED)
        if not isinstance(action, MemoryRead):
            raise EffectError(f"{action.kind} is no memory")
        held = await self._vault.get(scope, action.key)
        if held is None:
            raise EffectError("nothing is remembered under this key")
        return Outcome(json.loads(held))
