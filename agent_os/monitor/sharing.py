"""One effect that several callers under one idempotency key wait for; it ends with the last of them.

Threat: two callers with one key that both do the thing, or one caller's cancellation that ends another's effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agent_os.core.action import Action
from agent_os.core.errors import ActionError
from agent_os.core.ports import Outcome, Pending

Given = Action | Mapping[str, Any]
"""An action, or its wire form."""


class Shared:
    """The effects under way by idempotency key."""

    def __init__(self) -> None:
        self._running: dict[str, _Effect] = {}

    async def result(
        self, key: str, action: Given, begin: Callable[[], Awaitable[Outcome | Pending]]
    ) -> Outcome | Pending:
        """Wait for the effect under `key`, beginning it if nobody did; ActionError when it is another action's."""
        effect = self._running.get(key)
        if effect is None:
            effect = self._running[key] = _Effect(action, asyncio.ensure_future(begin()))
            effect.running.add_done_callback(lambda _: self._running.pop(key, None))
        elif effect.action != action:
            raise ActionError("this idempotency key is in use for another action", field="key")
        return await effect.result()


@dataclass(slots=True)
class _Effect:
    action: Given
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
