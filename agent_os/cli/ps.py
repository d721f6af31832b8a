"""`agentos ps`: the tree of tasks that are not done, and the workers that run them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from agent_os.cli.task import with_desk

if TYPE_CHECKING:
    from agent_os.core.task import Task, WorkerView
    from agent_os.runtime.tasks.desk import TaskDesk

WATCH_SECONDS: Final = 1.0
SHOWN_MAX: Final = 100_000


def ps(
    everything: Annotated[bool, typer.Option("--all", "-a", help="Ended ones too.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Again every second, until interrupted.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show running agents as a tree."""
    from agent_os.core.task import TaskState  # noqa: PLC0415

    states = () if everything else tuple(state for state in TaskState if not state.ended)

    async def work(desk: TaskDesk) -> tuple[list[Task], list[WorkerView]]:
        return list(await desk.ledger.list(states, limit=SHOWN_MAX, brief=not as_json)), list(await desk.workers())

    while True:
        tasks, workers = with_desk(work)
        if as_json:
            shown = [
                {"id": each.id, "host": each.host, "pid": each.pid, "queues": list(each.queues)} for each in workers
            ]
            typer.echo(json.dumps({"tasks": [task.to_json() for task in tasks], "workers": shown}))
        else:
            if watch:
                typer.echo("\x1b[2J\x1b[H", nl=False)
            for line in tree(tasks):
                typer.echo(line)
            running = ", ".join(f"{each.host}:{each.pid}" for each in workers) or "none"
            typer.echo(f"{len(tasks)} tasks; workers: {running}")
        if not watch:
            return
        time.sleep(WATCH_SECONDS)


def tree(tasks: list[Task]) -> list[str]:
    """Return a line a task, children indented below their parent, oldest first."""
    known = {task.id for task in tasks}
    below: dict[str, list[Task]] = {}
    for task in sorted(tasks, key=lambda each: (each.created, each.id)):
        below.setdefault(task.parent if task.parent in known else "", []).append(task)
    lines: list[str] = []
    level = [(task, 0) for task in reversed(below.get("", []))]
    while level:
        task, depth = level.pop()
        age = f"{max(0.0, time.time() - task.created):.0f}s"
        user = _printable(task.principal.user)
        agent = "" if task.principal.agent == "main" else f"  {_printable(task.principal.agent)}"
        lines.append(f"{'  ' * depth}{task.id}  {task.state.value}  {task.program}{agent}  {user}  {age}")
        level.extend((child, depth + 1) for child in reversed(below.get(task.id, [])))
    return lines


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
