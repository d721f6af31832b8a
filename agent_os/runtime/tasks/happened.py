"""What happens outside and starts a schedule's run: a message to a box, a call of a webhook. The door to the tasks' ledger.

A run's id is made of the schedule and the event's id, so that an event that comes twice starts one run; its payload goes into
the run's input as `event` and vouches for nothing. The run has its owner's rights at the time it runs. Threats: an event of
one tenant or user that starts another's run, an event that is replayed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_os.core.errors import ActionError, DeniedError
from agent_os.core.principal import Principal
from agent_os.core.schedule import Schedule
from agent_os.core.stop import Stops
from agent_os.effects.durable.schedules import Schedules
from agent_os.effects.stores.keys import Keys
from agent_os.runtime.tasks.opening import open_ledger


async def message_arrived(
    path: Path,
    keys: Keys,
    environment: Mapping[str, str],
    sender: Principal,
    box: str,
    said: Mapping[str, Any],
    *,
    stopped: Callable[[], Stops],
) -> Sequence[str]:
    """Start what of the sender's own user waits for this box; returns the tasks' ids. Raises EffectError.

    A schedule that is halted or quarantined is passed over: the message lies in its box all the same.
    """

    def own(schedule: Schedule) -> bool:
        return (schedule.owner.tenant, schedule.owner.user) == (sender.tenant, sender.user)

    try:
        return await _start(path, keys, environment, "message", box, str(said["id"]), said, own, stopped)
    except DeniedError:
        return []


async def webhook_called(
    path: Path,
    keys: Keys,
    environment: Mapping[str, str],
    name: str,
    event_id: str,
    payload: Any,
    *,
    heard: Callable[[Principal], bool],
    stopped: Callable[[], Stops],
) -> Sequence[str]:
    """Start what waits for this webhook and belongs to somebody who hears it; returns the tasks' ids.

    Raises ActionError where nothing does, DeniedError while all that does is halted or quarantined, EffectError.
    """
    found: list[str] = []

    def hears(schedule: Schedule) -> bool:
        if heard(schedule.owner):
            found.append(schedule.key)
        return heard(schedule.owner)

    started = await _start(path, keys, environment, "webhook", name, event_id, payload, hears, stopped)
    if not found:
        raise ActionError(f"no schedule waits for {name!r}", field="webhook")
    return started


async def _start(
    path: Path,
    keys: Keys,
    environment: Mapping[str, str],
    event: str,
    name: str,
    event_id: str,
    payload: Any,
    fits: Callable[[Schedule], bool],
    stopped: Callable[[], Stops],
) -> Sequence[str]:
    ledger = await asyncio.to_thread(open_ledger, path, keys, environment)
    try:
        schedules, started = Schedules(ledger, stopped=stopped), []
        held: DeniedError | None = None
        for schedule in await schedules.of_topic(f"{event}:{name}"):
            if fits(schedule):
                said = {"event": event, "payload": payload}
                try:
                    started += [task.id for task in await schedules.start(schedule, schedule.event_id(event_id), said)]
                except DeniedError as error:
                    held = error
        if held is not None and not started:
            raise held
        return started
    finally:
        await asyncio.to_thread(ledger.storage.close)
