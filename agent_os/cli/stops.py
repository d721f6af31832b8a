"""`agentos halt | quarantine | release | stops`: the kill switch, and its narrower form for one agent.

What is stopped begins nothing more, in every process on this state (over PostgreSQL: on every machine), until a person
releases it; restarts change nothing. An agent can do neither: a process that an agent runtime started is refused (exit 3).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from agent_os.core.stop import Stop
    from agent_os.runtime.stopping import StopDesk

Reason = Annotated[str, typer.Option("--reason", "-r", help="Why: agents, people and the audit are told.")]
Kill = Annotated[
    bool, typer.Option("--kill", help="End what runs, too: tasks with their trees, programs in sandboxes.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SCOPES = ("agent", "role", "task", "user", "tenant")


def halt(reason: Reason = "", kill: Kill = False, as_json: Json = False) -> None:
    """The kill switch: from now on no agent begins anything, until `agentos release all`.

    New tasks, runs of schedules, sub-agents and every single effect are denied with your reason, in every process on
    this state, after restarts too. Tasks stand still before their next effect and go on when released; --kill ends them instead.
    """
    stop = _with_desk(lambda desk: desk.stop("all", reason=reason, ends=kill))
    _say(stop, "halted: no agent begins anything more" + (", what ran was ended" if kill else ""), as_json=as_json)


def quarantine(
    scope: Annotated[str, typer.Argument(help="agent, role, task, user or tenant.", metavar="WHAT")],
    name: Annotated[str, typer.Argument(help="Which one; of a task the id, or its beginning.")],
    reason: Reason = "",
    kill: Kill = False,
    as_json: Json = False,
) -> None:
    """Quarantine one agent (or all of a role, a user, a tenant; or a task): it keeps its state and begins nothing more.

    Everything below it is quarantined with it. An agent is named as the application or `agentos ps` names it (`invoice-bot`,
    `main/reader-1`, `schedule:nightly`).
    """
    if scope not in SCOPES:
        raise typer.BadParameter("one of " + ", ".join(SCOPES), param_hint="WHAT")

    async def work(desk: StopDesk) -> Stop:
        return await desk.stop(scope, await _task(desk, name) if scope == "task" else name, reason=reason, ends=kill)

    stop = _with_desk(work)
    _say(stop, f"{stop.what} is quarantined" + (", what it ran was ended" if kill else ""), as_json=as_json)


def release(
    which: Annotated[str, typer.Argument(help="The stop's id, the name that was quarantined, or `all` for the halt.")],
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Lift a halt or a quarantine: what stood still goes on, under the policy as it is now."""

    async def work(desk: StopDesk) -> Stop:
        stop = await desk.release(which, reason=reason)
        await _wake(desk)
        return stop

    stop = _with_desk(work)
    _say(stop, f"{stop.what} is released", as_json=as_json)


def stops(as_json: Json = False) -> None:
    """List what is halted or quarantined: by whom, since when, and why."""
    from agent_os.runtime.stopping import look  # noqa: PLC0415

    found = look(os.environ)[0].all
    if as_json:
        typer.echo(json.dumps([each.to_json() for each in found]))
        return
    for line in stop_lines(found):
        typer.echo(line)
    if not found:
        typer.echo("nothing is halted or quarantined")


def stop_lines(found: tuple[Stop, ...]) -> list[str]:
    """Return a line for each stop, for people."""
    import time  # noqa: PLC0415

    from agent_os.cli.approvals_show import printable, span  # noqa: PLC0415

    lines = []
    for each in found:
        state = "HALTED" if each.scope == "all" else each.state
        why = f": {each.reason}" if each.reason else ""
        ago = span(time.time() - each.at)
        lines.append(printable(f"{each.id}  {state}  {each.what}  by {each.by} {ago} ago{why}"))
    return lines


def _say(stop: Stop, done: str, *, as_json: bool) -> None:
    from agent_os.cli.approvals_show import printable  # noqa: PLC0415

    typer.echo(json.dumps(stop.to_json()) if as_json else printable(done) + f"  ({stop.id})")
    if not as_json and not done.endswith("released"):
        typer.echo(
            f"`agentos release {'all' if stop.scope == 'all' else stop.id}` lifts it, `agentos ps` shows what it holds",
            err=True,
        )


async def _task(desk: StopDesk, name: str) -> str:
    """Return the whole id of a task by its beginning; what is no task is taken as the id of a session."""
    from agent_os.runtime.tasks.desk import tasks_of  # noqa: PLC0415

    tasks = tasks_of(desk.state)
    try:
        near = await tasks.ledger.list(beginning=name, limit=2)
    finally:
        tasks.ledger.storage.close()
    return near[0].id if len(near) == 1 else name


async def _wake(desk: StopDesk) -> None:
    """Start a worker for what stood still, if none lives."""
    from agent_os.runtime.tasks.desk import tasks_of  # noqa: PLC0415

    if not desk.state.environment.get("AGENTOS_TASKS") and not (desk.state.path / "agents.db").exists():
        return
    tasks = tasks_of(desk.state)
    try:
        await tasks.wake_released()
    finally:
        tasks.ledger.storage.close()


def _with_desk(work: Callable[[StopDesk], Awaitable[Stop]]) -> Stop:
    from agent_os.runtime.stopping import open_stops  # noqa: PLC0415

    desk = open_stops()

    async def run() -> Stop:
        return await work(desk)

    try:
        return asyncio.run(run())
    finally:
        desk.close()
