"""`agentos kill`: end a task and everything it started."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from agent_os.cli.task import with_desk

if TYPE_CHECKING:
    from agent_os.core.task import Task
    from agent_os.runtime.tasks.desk import TaskDesk

WAIT_SECONDS: Final = 2.0
"""A worker ends what runs within a second; after this, what still runs is said to."""


def kill(
    task_ids: Annotated[
        list[str] | None, typer.Argument(help="Ids of tasks, or their beginnings.", metavar="TASK...")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every task that is not over.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """End tasks with everything they started: children, their programs in sandboxes, what waits. Within a second.

    New tasks still start: `agentos halt --kill` ends everything and lets nothing begin until it is released.
    """
    given = list(task_ids or [])
    if given == ["all"]:
        given, everything = [], True
    if everything == bool(given):
        raise typer.BadParameter("name tasks (`agentos ps` lists them), or --all", param_hint="TASK")

    async def work(desk: TaskDesk) -> list[Task]:
        from agent_os.core.task import OPEN_STATES  # noqa: PLC0415

        running = list(await desk.ledger.list(OPEN_STATES, limit=100_000, brief=True))
        named = [await desk.get(each) for each in given]
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

    found = with_desk(work, acting=True)
    if as_json:
        typer.echo(json.dumps([{"id": task.id, "state": task.state.value, "parent": task.parent} for task in found]))
        return
    for task in found:
        below = f" (below {task.parent})" if task.parent else ""
        over = task.state.value if task.state.ended else "is being killed: it ends with its current effect"
        typer.echo(f"{task.id}: {over}{below}")
    if not found:
        typer.echo("nothing runs")
