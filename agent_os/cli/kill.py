"""`agentos kill`: end a task or a session and everything it started."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from agent_os.cli.task import with_desk

if TYPE_CHECKING:
    from agent_os.core.task import SessionView, Task
    from agent_os.runtime.tasks.desk import TaskDesk

WAIT_SECONDS: Final = 2.0
"""A worker ends what runs within a second; after this, what still runs is said to."""


def kill(
    ids: Annotated[
        list[str] | None, typer.Argument(help="Ids of tasks or sessions, or their beginnings.", metavar="ID")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every task that is not over, and every session.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """End tasks and sessions with everything they started: children, their programs in sandboxes, what waits. Within a second.

    A session lives in an application's own process, which goes on: its agent can do nothing any more, and what it had open
    (tunnels, tool servers, programs) is cut off. New tasks and sessions still start: `agentos halt --kill` ends everything and
    lets nothing begin until it is released.
    """
    given = list(ids or [])
    if given == ["all"]:
        given, everything = [], True
    if everything == bool(given):
        raise typer.BadParameter("name tasks or sessions (`agentos ps` lists them), or --all", param_hint="ID")

    async def work(desk: TaskDesk) -> tuple[Sequence[SessionView], list[Task]]:
        sessions, named = await _meant(desk, given, everything=everything)
        await _kill_sessions(desk, sessions)
        return sessions, await _kill_tasks(desk, named, everything=everything)

    sessions, found = with_desk(work, acting=True)
    if as_json:
        ended = [{"id": view.id, "state": "killed", "parent": ""} for view in sessions]
        ended += [{"id": task.id, "state": task.state.value, "parent": task.parent} for task in found]
        typer.echo(json.dumps(ended))
        return
    for view in sessions:
        typer.echo(f"{view.id}: killed (agent {view.agent}, process {view.pid} on {view.host})")
    for task in found:
        below = f" (below {task.parent})" if task.parent else ""
        over = task.state.value if task.state.ended else "is being killed: it ends with its current effect"
        typer.echo(f"{task.id}: {over}{below}")
    if not found and not sessions:
        typer.echo("nothing runs")


async def _meant(
    desk: TaskDesk, given: Sequence[str], *, everything: bool
) -> tuple[Sequence[SessionView], Sequence[Task]]:
    """Return the open sessions and the tasks that are named. Raises EffectError for an id that is neither."""
    live = list(await desk.sessions())
    if everything:
        return live, []
    sessions: dict[str, SessionView] = {}
    tasks = []
    for name in given:
        near = [view for view in live if view.id == name] or [
            view for view in live if len(name) > len("ses_") and view.id.startswith(name)
        ]
        if len({view.id for view in near}) == 1:
            sessions.update((view.id, view) for view in near)
        else:
            tasks.append(await desk.get(name))
    return list(sessions.values()), tasks


async def _kill_sessions(desk: TaskDesk, sessions: Sequence[SessionView]) -> None:
    from agent_os.core.stop import SESSION  # noqa: PLC0415

    for name in dict.fromkeys(view.id for view in sessions):
        await desk.stops().stop(SESSION, name)


async def _kill_tasks(desk: TaskDesk, named: Sequence[Task], *, everything: bool) -> list[Task]:
    """Kill tasks with their trees; returns every one that was reached, as it stands once it is over or time is up."""
    from agent_os.core.task import OPEN_STATES  # noqa: PLC0415

    running = list(await desk.ledger.list(OPEN_STATES, limit=100_000, brief=True))
    roots = [task for task in running if not task.parent] if everything else named
    wanted = {task.id for task in roots}
    reached = [task for task in running if wanted & {task.id, *task.lineage}]
    for task in roots:
        if not task.state.ended:
            await desk.stop(task.id, "kill")
    limit = time.monotonic() + WAIT_SECONDS
    ids = list(dict.fromkeys([*(task.id for task in named), *(task.id for task in reached)]))
    while True:
        found = list(await desk.ledger.get_all(ids))
        if all(task.state.ended for task in found) or time.monotonic() > limit:
            return sorted(found, key=lambda task: (task.created, task.id))
        await asyncio.sleep(0.05)
