"""One session for each caller of a served gateway: its monitor, its pseudonyms, its budgets, over one state directory.

Sessions open when a caller first calls and close when nobody used them for long and room is needed. `agentos ps` lists them; one
that is killed is over, and what it had under way with it: its caller's next call begins another (who is to stay out is
quarantined). Threats: two callers who share a session, and with it pseudonyms, labels and the principal that budgets and the
audit are kept for; a tenant whose many users push another tenant's sessions out; an agent that nobody sees.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from agent_os.core.errors import AgentOSError
from agent_os.core.principal import Principal
from agent_os.core.stop import KILLED
from agent_os.effects.ids import RandomIds
from agent_os.effects.models.client import UnavailableError
from agent_os.runtime.compose import Composition, wire
from agent_os.runtime.gateway import ModelGateway
from agent_os.runtime.inspection import declared_hosts

if TYPE_CHECKING:
    from agent_os.monitor import Monitor
    from agent_os.policy import Policy
    from agent_os.runtime.sdk import AgentOS
    from agent_os.runtime.serving.callers import Caller

SESSIONS_MAX: Final = 256
"""Callers with a session at once; of more, one of the tenant with the most loses it (and its session pseudonyms): the one who
called longest ago."""


@dataclass(slots=True)
class _Open:
    composition: Composition | None
    monitor: Monitor
    gateway: ModelGateway
    calls: int = 0
    entry: str = ""
    """Under which it stands among the open sessions."""


class Sessions:
    """Gateways by principal. The first session is the server's own; its state is shared by all."""

    def __init__(self, policy: Policy, own: AgentOS, *, state: Any) -> None:
        self._policy, self._own, self._state = policy, own, state
        self._links = declared_hosts(policy)
        gateway = ModelGateway(own.monitor, own.providers, link_allowed=self._link_allowed)
        self._open: OrderedDict[tuple[str, str, str], _Open] = OrderedDict(
            {_key(own.principal): _Open(None, own.monitor, gateway)}
        )

    @asynccontextmanager
    async def of(self, caller: Caller | None) -> AsyncIterator[ModelGateway]:
        """Yield the gateway of a caller's session. Raises UnavailableError when every session is in use."""
        principal = caller.principal if caller is not None else self._own.principal
        key = _key(principal)
        held = self._open.get(key)
        if held is not None and _killed(held):
            await self._close(self._open.pop(key))
            held = self._open.get(key)
        if held is None:
            await self._make_room()
            held = self._open.get(key)  # another call of the same caller may have come first
        if held is None:
            held = self._open[key] = self._session(principal)
        self._open.move_to_end(key)
        held.calls += 1
        try:
            if not held.entry:
                held.entry = "-"  # of two first calls one enters it
                held.entry = await self._state.stores.sessions.enter(held.monitor.principal)
            yield held.gateway
        finally:
            held.calls -= 1

    def _session(self, principal: Principal) -> _Open:
        ids = RandomIds()
        named = replace(principal, session=ids.new("ses"))
        composition = wire(self._policy, named, self._own.workspace, self._state, ids, None)
        gateway = ModelGateway(composition.monitor, composition.models, link_allowed=self._link_allowed)
        return _Open(composition, composition.monitor, gateway)

    async def _close(self, held: _Open) -> None:
        """Close a session; what it was killed by is forgotten where nothing is open under its name any more."""
        stores = self._state.stores
        if held.composition is not None:
            await held.composition.aclose_run()
        with suppress(AgentOSError):  # it counts no more once this process has ended
            await stores.sessions.leave(held.entry)
            await stores.sessions.forget_kills(stores.stops)

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
            await self._close(self._open.pop(next(key for key in idle if held[key[0]] == most)))

    async def aclose(self) -> None:
        """Close every session; of the server's own, what its callers saw of it."""
        opened, self._open = list(self._open.values()), OrderedDict()
        await asyncio.gather(*map(self._close, opened))


def _killed(held: _Open) -> bool:
    stop = held.monitor.halted()
    return held.monitor.session.ended or (stop is not None and stop.rules == (KILLED,))


def _key(principal: Principal) -> tuple[str, str, str]:
    return principal.tenant, principal.user, principal.agent
