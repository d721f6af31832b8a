"""What a task does while somebody watches: progress on a terminal, records as they come. Output only."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from agent_os.core.task import Task
    from agent_os.runtime.tasks.desk import TaskDesk


async def watched(desk: TaskDesk, task_id: str) -> Task:
    """Show a task's progress on stderr until it has ended or waits for a person; returns it."""
    from agent_os.runtime.tasks.handle import follow  # noqa: PLC0415

    if not sys.stderr.isatty():
        return await desk.wait(task_id)
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn  # noqa: PLC0415

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    begun = done = 0
    open_children: set[str] = set()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(task_id, total=None)
        async for event in follow(desk, task_id):
            begun += event.kind == "begun"
            done += event.kind == "done"
            if event.kind == "child":
                changed = open_children.discard if event.what in _ENDED else open_children.add
                changed(event.task)
            beside = f"  {len(open_children)} children" if open_children else ""
            progress.update(
                bar, description=f"{task_id}  {event.what[:60]}{beside}", completed=done, total=begun or None
            )
            if event.kind == "state" and event.what in ("waiting", "suspended"):
                break
    return await desk.get(task_id)


_ENDED = frozenset({"done", "failed", "killed", "dead"})


async def records(desk: TaskDesk, task_id: str) -> AsyncIterator[dict[str, Any]]:
    """Yield a task's records of the audit from the first to the last, as they are written."""
    import asyncio  # noqa: PLC0415

    from agent_os.runtime.tasks.desk import FOLLOW_SECONDS, TaskRecords  # noqa: PLC0415

    log = TaskRecords(task_id, desk.environment)
    while True:
        ended = (await desk.get(task_id)).state.ended  # before the look: what it wrote last is there by then
        for record in log.fresh():
            yield dict(record)
        if ended:
            return
        await asyncio.sleep(FOLLOW_SECONDS)


def shown(record: dict[str, Any], *, as_json: bool) -> None:
    """Print one record."""
    from agent_os.audit.export import moment, target  # noqa: PLC0415

    if as_json:
        typer.echo(json.dumps(record))
        return
    action = record.get("action")
    kind = action.get("kind", "") if isinstance(action, dict) else ""
    rest = " ".join(part for part in (kind, target(record), str(record.get("error", ""))) if part)
    typer.echo(f"{moment(record)}  {record.get('type')}  {printable(rest)}")


def printable(text: str) -> str:
    """Return text that does nothing to a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
