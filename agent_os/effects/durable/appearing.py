"""Files that appear: what schedules with a `file` event wait for, looked at on the machine where they were made.

A file counts once it is there and did not change between two looks. What a schedule has seen is stored with it, so that a
file which appeared while nobody worked starts its run afterwards, and one that was seen starts none again; a file that is
written anew appears anew. Only names are read, of one folder, through no link. The run that it starts is judged like any
other (and whether its owner may list the folder at all).
"""

from __future__ import annotations

import asyncio
import fnmatch
import hashlib
import json
import logging
import os
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from agent_os.core.schedule import Schedule, Trigger

if TYPE_CHECKING:
    from agent_os.core.task import Task

LOOK_SECONDS: Final = 1.0
FILES_MAX: Final = 10_000
"""Files of one folder that are looked at; of more, the first by name."""
_log = logging.getLogger("agent_os.durable")


class Watched(Protocol):
    """`schedules.Schedules`, as far as files need it."""

    async def of_topic(self, topic: str) -> Sequence[Schedule]: ...
    async def seen(self, name: str) -> Mapping[str, str]: ...
    async def set_seen(self, name: str, found: Mapping[str, str]) -> None: ...
    async def start(
        self, schedule: Schedule, run_id: str, event: Mapping[str, Any] | None = None
    ) -> Sequence[Task]: ...


def topic_of(trigger: Trigger) -> str:
    """Return what an event is found by: `message:<mailbox>`, `webhook:<name>`, `file@<host>`; empty for times."""
    if trigger.kind != "event":
        return ""
    return f"file@{socket.gethostname()}" if trigger.event == "file" else f"{trigger.event}:{trigger.name}"


def entries(schedule: Schedule) -> dict[str, str]:
    """Return the files that match a schedule's pattern now, by name with their time of change (nanoseconds, as text)."""
    path = os.path.normpath(os.path.join(schedule.workspace, schedule.trigger.name))
    folder, pattern = os.path.split(path)
    if os.path.realpath(folder) != folder:
        return {}
    found: dict[str, str] = {}
    try:
        with os.scandir(folder) as listed:
            for entry in listed:
                if fnmatch.fnmatchcase(entry.name, pattern) and entry.is_file(follow_symlinks=False):
                    found[entry.name] = str(entry.stat(follow_symlinks=False).st_mtime_ns)
    except OSError:
        return {}  # a folder that is not there has no files yet
    return {name: found[name] for name in sorted(found)[:FILES_MAX]}


class FileWatch:
    """What one worker has seen of the folders it watches."""

    def __init__(self, schedules: Watched) -> None:
        self._schedules = schedules
        self._before: dict[str, Mapping[str, str]] = {}

    async def look(self) -> bool:
        """Look at every folder once and start what appeared; returns whether there is anything to look at."""
        watched = await self._schedules.of_topic(f"file@{socket.gethostname()}")
        for schedule in watched:
            try:
                await self._look_at(schedule)
            except Exception as error:
                _log.error("schedule %s: %s: %s", schedule.name, type(error).__name__, error)
        return bool(watched)

    async def _look_at(self, schedule: Schedule) -> None:
        found = await asyncio.to_thread(entries, schedule)
        before, self._before[schedule.key] = self._before.get(schedule.key, {}), found
        settled = {name: when for name, when in found.items() if before.get(name) == when}
        seen = await self._schedules.seen(schedule.key)
        fresh = {name: when for name, when in settled.items() if seen.get(name) != when}
        if fresh:
            digest = hashlib.sha256(json.dumps(fresh, sort_keys=True).encode()).hexdigest()
            folder = os.path.dirname(schedule.trigger.name)
            files = [os.path.join(folder, name) for name in fresh]
            if not await self._schedules.start(
                schedule, schedule.event_id(digest), {"event": "file", "payload": {"files": files}}
            ):
                return  # the run before is not done: these files still count as new
        still = {name: when for name, when in seen.items() if name in found}
        if fresh or len(still) != len(seen):
            await self._schedules.set_seen(schedule.key, {**still, **fresh})
