"""`agentos kill`: end a task and everything it started."""

from __future__ import annotations

from typing import Annotated

import typer

from agent_os.cli.task import with_desk


def kill(
    task_id: Annotated[str, typer.Argument(help="The task's id, or its beginning; `all` for every task.")],
) -> None:
    """End an agent and everything it started."""
    from agent_os.core.task import TaskState  # noqa: PLC0415
    from agent_os.runtime.tasks.desk import TaskDesk  # noqa: PLC0415

    async def work(desk: TaskDesk) -> list[str]:
        if task_id != "all":
            return [(await desk.stop(task_id, "kill")).id]
        states = [state for state in TaskState if not state.ended]
        return [
            (await desk.stop(task.id, "kill")).id for task in await desk.ledger.list(states, limit=100_000, brief=True)
        ]

    killed = with_desk(work, acting=True)
    typer.echo(f"asked to end: {', '.join(killed) or 'none'}")
