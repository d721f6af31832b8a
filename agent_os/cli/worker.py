"""`agentos worker`: run tasks from queues on this machine, until interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import Annotated

import typer


def worker(
    queue: Annotated[list[str] | None, typer.Option("--queue", "-q", help="Queues to take from.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=10_000, help="Tasks at once.")] = 64,
    app_version: Annotated[
        str, typer.Option(help="Your application's version: a task that began under it goes on under it.")
    ] = "",
    accept: Annotated[
        list[str] | None, typer.Option(help="An older version whose tasks this worker takes over (repeat for more).")
    ] = None,
    until_idle: Annotated[float, typer.Option(min=0, help="End after this many seconds without work; 0: never.")] = 0.0,
) -> None:
    """Run tasks from a queue on this machine ($AGENTOS_TASKS names a PostgreSQL to share; without it: SQLite, one
    worker).
    """
    from agent_os.runtime import event_loop  # noqa: PLC0415
    from agent_os.runtime.tasks.runtime import work  # noqa: PLC0415

    async def run() -> str:
        main = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            if main is not None:
                loop.add_signal_handler(number, main.cancel)
        return await work(
            queue or ["default"],
            until_idle=until_idle,
            concurrency=concurrency,
            version=app_version,
            accepts=accept or [],
        )

    ended = "interrupted"
    with contextlib.suppress(asyncio.CancelledError):
        ended = event_loop.run(run())
    typer.echo(f"worker ended: {ended}", err=True)
    if ended == "fenced":
        raise typer.Exit(1)
