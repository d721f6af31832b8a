"""`agentos task`: submit and control durable tasks. Output only; `runtime/tasks/desk.py` does."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from agent_os.core.task import Task
    from agent_os.runtime.tasks.desk import TaskDesk

T = TypeVar("T")
app = typer.Typer(add_completion=False, no_args_is_help=True, help="Submit and control durable tasks.")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TaskId = Annotated[str, typer.Argument(help="The task's id, or its beginning.")]
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def with_desk(work: Callable[[TaskDesk], Awaitable[T]], *, acting: bool = False) -> T:
    """Run work on the ledger; `acting` work is recorded in the audit."""
    from agent_os.runtime.tasks.desk import open_tasks  # noqa: PLC0415

    desk = open_tasks(acting=acting)

    async def run() -> T:
        return await work(desk)

    try:
        return asyncio.run(run())
    finally:
        desk.close()


def seconds(text: str) -> float:
    """Return a duration such as 90, 90s, 15m, 2h or 1d in seconds."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in UNITS else (text, "s")
    try:
        value = float(number) * UNITS[unit]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no duration: write 90s, 15m, 2h or 1d") from None
    if not 0 < value < 4e9:
        raise typer.BadParameter(f"{text!r} is no duration that can pass")
    return value


def request_parts(
    desk: TaskDesk, text: str, actions: Path | None, policy: list[str] | None, model: str, workspace: Path
) -> dict[str, Any]:
    """Return what a task or a schedule runs, as the options say."""
    from agent_os.runtime.tasks.desk import task_request  # noqa: PLC0415

    given = None
    if actions is not None:
        try:
            given = [json.loads(line) for line in actions.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, ValueError) as error:
            raise typer.BadParameter(
                f"cannot be read as one JSON action a line: {error}", param_hint="--actions"
            ) from None
    elif not text:
        raise typer.BadParameter("say what is to be done, or give --actions FILE", param_hint="TASK")
    return task_request(
        text, actions=given, policies=policy or [], model=model, workspace=workspace, principal=desk.principal
    )


@app.command()
def submit(
    text: Annotated[str, typer.Argument(help="What the agent is to do.", metavar="TASK")] = "",
    actions: Annotated[Path | None, typer.Option(help="A file of actions, one JSON object a line.")] = None,
    policy: Annotated[list[str] | None, typer.Option("--policy", "-p", help="A policy file or pack:NAME.")] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="A LangChain model.")] = "",
    workspace: Annotated[Path, typer.Option("--workspace", "-w", help="The folder to work in.")] = Path("."),
    queue: Annotated[str, typer.Option(help="The queue.")] = "default",
    priority: Annotated[int, typer.Option(min=1, max=1000, help="1 is first.")] = 100,
    within: Annotated[str, typer.Option(help="Must have started within this time (15m), else it is not run.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended.")] = False,
    as_json: Json = False,
) -> None:
    """Submit a task; it survives this terminal, and a crash. Exit 3 when it ended denied, 1 when it failed."""
    import time  # noqa: PLC0415

    from agent_os.core.task import TaskRequest  # noqa: PLC0415

    deadline = time.time() + seconds(within) if within else 0.0

    async def work(desk: TaskDesk) -> Task:
        parts = request_parts(desk, text, actions, policy, model, workspace)
        principal = parts.pop("owner")
        task = await desk.submit(
            TaskRequest(**parts, principal=principal, queue=queue, priority=priority, deadline=deadline)
        )
        if not wait:
            return task
        from agent_os.cli.task_follow import watched  # noqa: PLC0415

        return await watched(desk, task.id)

    task = with_desk(work, acting=True)
    typer.echo(json.dumps(task.to_json()) if as_json else _line(task) if wait else task.id)
    if not wait and not as_json and sys.stdout.isatty():
        typer.echo(f"`agentos ps` shows it, `agentos task logs -f {task.id}` follows it", err=True)
    if wait and task.state.value in ("failed", "dead", "killed"):
        raise typer.Exit(3 if task.reason.startswith("DeniedError") else 1)


@app.command("list")
def list_(
    state: Annotated[list[str] | None, typer.Option(help="Only these states.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50,
    as_json: Json = False,
) -> None:
    """List tasks, newest first; --state dead shows the dead letters, `agentos ps` what is at work as a tree."""
    from agent_os.core.task import TaskState  # noqa: PLC0415

    try:
        states = [TaskState(each) for each in state or []]
    except ValueError:
        raise typer.BadParameter("one of " + ", ".join(TaskState), param_hint="--state") from None
    tasks = with_desk(lambda desk: desk.ledger.list(states, limit=limit))
    if as_json:
        typer.echo(json.dumps([task.to_json() for task in tasks]))
        return
    import time  # noqa: PLC0415

    from agent_os.cli.columns import echo_columns  # noqa: PLC0415
    from agent_os.cli.task_show import HEADER, row  # noqa: PLC0415

    now = time.time()
    empty = "no tasks" if not states else f"no task is {' or '.join(states)}"
    echo_columns(HEADER, [row(task, now) for task in tasks], empty)
    if len(tasks) == limit:
        typer.echo(f"the newest {limit}: --limit shows more", err=True)


@app.command()
def show(task_id: TaskId, as_json: Json = False) -> None:
    """Show one task in full."""
    task = with_desk(lambda desk: desk.get(task_id))
    if as_json:
        typer.echo(json.dumps(task.to_json()))
        return
    from agent_os.cli.task_show import echo_whole  # noqa: PLC0415

    echo_whole(task)


@app.command()
def logs(
    task_id: TaskId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the task has ended.")] = False,
    as_json: Json = False,
) -> None:
    """Show what the audit has of a task: each decision and each effect."""
    from agent_os.cli.task_follow import records, shown  # noqa: PLC0415
    from agent_os.runtime.tasks.desk import records_of  # noqa: PLC0415

    async def work(desk: TaskDesk) -> None:
        task = await desk.get(task_id)
        if not follow:
            for record in records_of(task.id, desk.environment):
                shown(dict(record), as_json=as_json)
            return
        async for record in records(desk, task.id):
            shown(record, as_json=as_json)

    with_desk(work)


@app.command()
def limit(
    scope: Annotated[str, typer.Argument(help="queue, tenant, agent or tool.")],
    name: Annotated[str, typer.Argument(help="Which; '*': each that has no limit of its own.")],
    at_once: Annotated[int, typer.Option(min=0, help="Most at once, over all workers; 0: any.")] = 0,
    starts: Annotated[int, typer.Option(min=0, help="Most starts within --within; 0: any.")] = 0,
    within: Annotated[str, typer.Option(help="The window of --starts: 1m.")] = "1m",
) -> None:
    """Limit what runs at once or starts in a window, over all workers; without options the limit is taken away."""

    async def work(desk: TaskDesk) -> None:
        window = seconds(within) if starts else 0.0
        await desk.set_limit(scope, name, at_once=at_once, starts=starts, seconds=window)

    with_desk(work, acting=True)
    typer.echo(f"{scope} {name}: " + (_limited(at_once, starts, within) or "no limit"))


@app.command()
def limits(as_json: Json = False) -> None:
    """List the limits on queues, tenants, agents and tools."""
    found = with_desk(lambda desk: desk.limits())
    if as_json:
        typer.echo(json.dumps([dict(each) for each in found]))
        return
    from agent_os.cli.columns import echo_columns  # noqa: PLC0415

    rows = [
        (
            each["scope"],
            each["name"],
            str(each["at_once"] or ""),
            f"{each['starts']} in {each['seconds']:g}s" if each["starts"] else "",
        )
        for each in found
    ]
    echo_columns(("WHAT", "WHICH", "AT ONCE", "STARTS"), rows, "no limits but those of docs/limits.md")


def _limited(at_once: int, starts: int, within: str) -> str:
    parts = (f"{at_once} at once" if at_once else "", f"{starts} starts in {within}" if starts else "")
    return ", ".join(part for part in parts if part)


@app.command()
def suspend(task_id: TaskId) -> None:
    """Let a task and all below it stop before their next effect; `resume` goes on from there."""
    _stopped(task_id, "suspend")


@app.command()
def cancel(task_id: TaskId) -> None:
    """End a task and all below it."""
    _stopped(task_id, "kill")


@app.command()
def resume(task_id: TaskId) -> None:
    """Let a suspended or waiting task go on."""
    typer.echo(_line(with_desk(lambda desk: desk.resume(task_id), acting=True)))


@app.command()
def redo(task_id: TaskId) -> None:
    """Run a failed or dead task again; what was recorded as done is not done again."""
    typer.echo(_line(with_desk(lambda desk: desk.resume(task_id, redo=True), acting=True)))


@app.command()
def migrate(
    old: Annotated[str, typer.Argument(help="The application version that tasks are pinned to.")],
    new: Annotated[str, typer.Argument(help="The version whose workers take them from now on.")],
) -> None:
    """Let tasks that began under one application version go on under another."""
    moved = with_desk(lambda desk: desk.ledger.migrate(old, new), acting=True)
    typer.echo(f"{moved} tasks go on under {new or 'no version'}")


def _stopped(task_id: str, wanted: str) -> None:
    typer.echo(_line(with_desk(lambda desk: desk.stop(task_id, wanted), acting=True)))


def _line(task: Task) -> str:
    from agent_os.cli.task_show import note, word  # noqa: PLC0415

    said = note(task) or (json.dumps(task.result, ensure_ascii=False) if task.result is not None else "")
    asked = f" ({task.wanted} was asked for)" if task.wanted in ("kill", "suspend") else ""
    parts = (task.id, word(task) + asked, said if said != f"{task.wanted} was asked for" else "")
    return "  ".join(_printable(part)[:300] for part in parts if part)


def _printable(text: str) -> str:
    from agent_os.cli.task_follow import printable  # noqa: PLC0415

    return printable(text)
