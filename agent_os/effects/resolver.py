"""Names to addresses, once per connection: the system's resolver behind a bound and a short memory.

Answers are judged and pinned by whoever asked; this only asks. All addresses of a name are returned, so that one
private address among public ones is seen. Threat: a resolver that hangs, or that floods (both bounded); rebinding is
met by the caller, which connects to the judged addresses and never asks twice for one connection.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import OrderedDict
from typing import Final

from agent_os.core import canonical
from agent_os.core.errors import ActionError, EffectError

RESOLVE_SECONDS_MAX: Final = 5.0
MEMORY_SECONDS: Final = 5.0
"""How long an answer is used again; longer than that a name is always asked anew, whatever its TTL."""
MEMORY_NAMES_MAX: Final = 1024
CONCURRENT_MAX: Final = 64


class SystemResolver:
    """`core.ports.Resolver` over getaddrinfo."""

    def __init__(self, *, memory_seconds: float = MEMORY_SECONDS) -> None:
        self._memory: OrderedDict[str, tuple[float, tuple[str, ...]]] = OrderedDict()
        self._memory_seconds = memory_seconds
        self._running: dict[str, asyncio.Task[tuple[str, ...]]] = {}

    async def resolve(self, host: str, port: int) -> tuple[str, ...]:
        """Return every address of a canonical host name, in the system's order. Raises EffectError."""
        held = self._memory.get(host)
        if held is not None and held[0] > time.monotonic():
            return held[1]
        task = self._running.get(host)
        if task is None:
            if len(self._running) >= CONCURRENT_MAX:
                raise EffectError("too many names are being resolved at once")
            task = asyncio.ensure_future(self._ask(host))
            self._running[host] = task
            task.add_done_callback(lambda _: self._running.pop(host, None))
        return await asyncio.shield(task)

    async def _ask(self, host: str) -> tuple[str, ...]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(RESOLVE_SECONDS_MAX):
                found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except TimeoutError:
            raise EffectError("the name was not resolved in time") from None
        except (OSError, UnicodeError):
            raise EffectError("the name does not resolve") from None
        try:
            addresses = tuple(dict.fromkeys(canonical.ip(str(entry[4][0])) for entry in found))
        except ActionError:
            raise EffectError("the resolver answered with a malformed address") from None
        if not addresses:
            raise EffectError("the name does not resolve")
        self._memory[host] = (time.monotonic() + self._memory_seconds, addresses)
        self._memory.move_to_end(host)
        while len(self._memory) > MEMORY_NAMES_MAX:
            self._memory.popitem(last=False)
        return addresses
