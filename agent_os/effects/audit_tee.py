"""Several audit sinks as one: what one disk or machine cannot take, another does. Implements `core.ports.AuditSink`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator, Mapping
from typing import Any

from agent_os.core.errors import EffectError
from agent_os.core.ports import AuditSink


class TeeAudit:
    """Several sinks as one: a record is durable as soon as one of them has it, as with Vault's audit devices.

    A sink that refuses or fails is passed over while another one works, and the others' records say so; when none is
    left the record fails. Sinks are independent logs with chains of their own, on different disks or machines.
    """

    def __init__(self, *sinks: AuditSink) -> None:
        if not sinks:
            raise ValueError("at least one sink")
        self._sinks = sinks

    def append(self, record: Mapping[str, Any]) -> Awaitable[None]:
        """Queue the record with every sink that takes it; raises EffectError when none does."""
        taken: list[Awaitable[None]] = []
        refused: list[str] = []
        for sink in self._sinks:
            try:
                taken.append(sink.append(record))
            except EffectError as error:
                refused.append(str(error))
        if not taken:
            raise EffectError("; ".join(refused))
        return taken[0] if len(taken) == 1 else _FirstOf(taken)


class _FirstOf:
    __slots__ = ("_all",)

    def __init__(self, all_of: list[Awaitable[None]]) -> None:
        self._all = all_of

    def __await__(self) -> Generator[Any, None, None]:
        return self._first().__await__()

    async def _first(self) -> None:
        async def one(awaitable: Awaitable[None]) -> None:
            await awaitable

        pending = {asyncio.ensure_future(one(each)) for each in self._all}
        for task in pending:
            task.add_done_callback(_seen)  # the sinks behind the first, and all of them when nobody waits any more
        errors: list[str] = []
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is None:
                    return
                errors.append(str(error))
        raise EffectError("; ".join(errors))


def _seen(task: asyncio.Future[None]) -> None:
    if not task.cancelled():
        task.exception()
