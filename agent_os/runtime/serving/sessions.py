"""One session for each caller of a served gateway: its monitor, its pseudonyms, its budgets, over one state directory.

Sessions open when a caller first calls and close when nobody used them for long and room is needed. Threats: two callers
who share a session, and with it pseudonyms, labels and the principal that budgets and the audit are kept for; a tenant whose
many users push another tenant's sessions out.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from agent_os.core.principal import Principal
from agent_os.effects.ids import RandomIds
from agent_os.effects.models.client import UnavailableError
from agent_os.runtime.compose import Composition, wire
from agent_os.runtime.gateway import ModelGateway
from agent_os.runtime.inspection import declared_hosts

if TYPE_CHECKING:
    from agent_os.policy import Policy
    from agent_os.runtime.sdk import AgentOS
    from agent_os.runtime.serving.callers import Caller

SESSIONS_MAX: Final = 256
"""Callers with a session at once; of more, one of the tenant with the most loses it (and its session pseudonyms): the one who
called longest ago."""


@dataclass(slots=True)
class _Open:
    composition: Composition | None
    gateway: ModelGateway
    calls: int = 0


class Sessions:
    """Gateways by principal. The first session is the server's own; its state is shared by all."""

    def __init__(self, policy: Policy, own: AgentOS, *, state: Any) -> None:
        self._policy, self._own, self._state = policy, own, state
        self._links = declared_hosts(policy)
        gateway = ModelGateway(own.monitor, own.providers, link_allowed=self._link_allowed)
        self._open: OrderedDict[tuple[str, str, str], _Open] = OrderedDict({_key(own.principal): _Open(None, gateway)})

    @asynccontextmanager
    async def of(self, caller: Caller | None) -> AsyncIterator[ModelGateway]:
        """Yield the gateway of a caller's session. Raises UnavailableError when every session is in use."""
        principal = caller.principal if caller is not None else self._own.principal
        key = _key(principal)
        held = self._open.get(key)
        if held is None:
            await self._make_room()
            held = self._open.get(key)  # another call of the same caller may have come first
        if held is None:
            held = self._open[key] = self._session(principal)
        self._open.move_to_end(key)
        held.calls += 1
        try:
            yield held.gateway
        finally:
            held.calls -= 1

    def _session(self, principal: Principal) -> _Open:
        ids = RandomIds()
        named = replace(principal, session=ids.new("ses"))
        composition = wire(self._policy, named, self._own.workspace, self._state, ids, None)
        return _Open(
            composition, ModelGateway(composition.monitor, composition.models, link_allowed=self._link_allowed)
        )

    def _link_allowed(self, host: str) -> bool:
        return self._links(host)

    def prepared(self, policy: Policy) -> Callable[[], None]:
        """Make everything of another policy for every open session; return what puts it in force in all of them at once.

        Raises PolicyError, EffectError, ActionError: nothing has changed then.
        """
        links = declared_hosts(policy)
        opened = [held.composition for held in self._open.values() if held.composition is not None]
        takes = [self._own.prepared(policy), *(composition.prepared(policy) for composition in opened)]

        def take() -> None:
            self._policy, self._links = policy, links
            for each in takes:
                each()

        return take

    async def _make_room(self) -> None:
        while len(self._open) >= SESSIONS_MAX:
            idle = [key for key, held in self._open.items() if not held.calls and held.composition]
            if not idle:
                raise UnavailableError("every session is in use: try again", 1.0)
            held = Counter(tenant for tenant, _, _ in self._open)
            most = max(held[tenant] for tenant, _, _ in idle)
            closing = self._open.pop(next(key for key in idle if held[key[0]] == most)).composition
            if closing is not None:
                await closing.aclose_run()

    async def aclose(self) -> None:
        """Close every session but the server's own."""
        opened, self._open = list(self._open.values()), OrderedDict()
        await asyncio.gather(*(held.composition.aclose_run() for held in opened if held.composition is not None))


def _key(principal: Principal) -> tuple[str, str, str]:
    return principal.tenant, principal.user, principal.agent
