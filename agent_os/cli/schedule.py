"""`agentos schedule`: add, list, pause, resume and remove schedules; next runs and history."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from agent_os.cli.task import request_parts, seconds, with_desk

if TYPE_CHECKING:
    from agent_os.core.schedule import Schedule
    from agent_os.runtime.tasks.desk import TaskDesk

app = typer.Typer(no_args_is_help=True, help="Add, list, pause, resume and remove schedules.")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="The schedule's name.")]


@app.command()
def add(
    name: Name,
    text: Annotated[str, typer.Argument(help="What the agent is to do.", metavar="TASK")] = "",
    cron: Annotated[str, typer.Option(help="Five fields, for example '0 2 * * 1-5'.")] = "",
    zone: Annotated[str, typer.Option("--tz", help="Time zone of the cron expression.")] = "UTC",
    every: Annotated[str, typer.Option(help="An interval: 90s, 15m, 2h, 1d.")] = "",
    at: Annotated[str, typer.Option(help="Once, at an ISO 8601 time with its offset.")] = "",
    missed: Annotated[str, typer.Option(help="Missed runs: skip, once or catch_up.")] = "once",
    catch_up_max: Annotated[int, typer.Option(help="Most runs made up for.")] = 10,
    overlap: Annotated[str, typer.Option(help="When the run before is not done: skip, queue or cancel.")] = "skip",
    jitter: Annotated[str, typer.Option(help="Start up to this much late.")] = "",
    actions: Annotated[Path | None, typer.Option(help="A file of actions, one JSON object a line.")] = None,
    policy: Annotated[list[str] | None, typer.Option("--policy", "-p", help="A policy file or pack:NAME.")] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="A LangChain model.")] = "",
    workspace: Annotated[Path, typer.Option("--workspace", "-w", help="The folder to work in.")] = Path("."),
    queue: Annotated[str, typer.Option(help="The queue.")] = "default",
    as_json: Json = False,
) -> None:
    """Add a schedule. Its runs have your rights as they are when they run."""
    when: dict[str, Any] = {}
    if cron:
        when.update(cron=cron, zone=zone)
    if every:
        when["every"] = seconds(every)
    if at:
        when["at"] = at

    async def work(desk: TaskDesk) -> Schedule:
        parts = request_parts(desk, text, actions, policy, model, workspace)
        parts.pop("owner")
        parts["policies"] = list(parts["policies"])
        options = {"missed": missed, "catch_up_max": catch_up_max, "overlap": overlap, "queue": queue}
        return await desk.add_schedule(
            {"name": name, "when": when, **parts, **options, "jitter": seconds(jitter) if jitter else 0.0}
        )

    schedule = with_desk(work, acting=True)
    typer.echo(json.dumps(schedule.to_json()) if as_json else _line(schedule))


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List schedules with their next run."""
    schedules = with_desk(lambda desk: desk.schedules.list())
    if as_json:
        typer.echo(json.dumps([schedule.to_json() for schedule in schedules]))
        return
    for schedule in schedules:
        typer.echo(_line(schedule))
    if not schedules:
        typer.echo("no schedules")


@app.command("next")
def next_(
    name: Name, count: Annotated[int, typer.Option("-n", min=1, max=1000, help="How many.")] = 5, as_json: Json = False
) -> None:
    """Show the next runs of a schedule."""
    from agent_os.core.schedule import upcoming  # noqa: PLC0415

    schedule = with_desk(lambda desk: desk.schedules.get(name))
    times = [schedule.next_due] if schedule.next_due else []
    if times:
        times += upcoming(schedule.trigger, times[0], count - 1, schedule.created)
    typer.echo(json.dumps(times) if as_json else "\n".join(_moment(schedule, each) for each in times) or "never again")


@app.command()
def history(name: Name, count: Annotated[int, typer.Option("-n", min=1)] = 20, as_json: Json = False) -> None:
    """Show the last runs of a schedule."""
    tasks = with_desk(lambda desk: desk.ledger.list(schedule=name, limit=count))
    if as_json:
        typer.echo(json.dumps([task.to_json() for task in tasks]))
        return
    for task in tasks:
        typer.echo(f"{datetime.fromtimestamp(task.created).isoformat(' ', 'seconds')}  {task.id}  {task.state.value}")
    if not tasks:
        typer.echo("no runs")


@app.command()
def pause(name: Name) -> None:
    """Stop starting runs until `resume`."""
    _change(name, "pause")


@app.command()
def resume(name: Name) -> None:
    """Start runs again from now on."""
    _change(name, "resume")


@app.command()
def remove(name: Name) -> None:
    """Remove a schedule; runs that were started go on."""
    _change(name, "remove")


def _change(name: str, operation: str) -> None:
    with_desk(lambda desk: desk.change_schedule(name, operation), acting=True)
    done = {"pause": "paused", "resume": "goes on", "remove": "removed"}[operation]
    typer.echo(f"{name}: {done}")


def _line(schedule: Schedule) -> str:
    if schedule.paused:
        due = "paused"
    else:
        due = f"next {_moment(schedule, schedule.next_due)}" if schedule.next_due else "never again"
    when = " ".join(str(each) for each in schedule.trigger.to_json().values())
    return f"{schedule.name}  {schedule.trigger.kind} {when}  {due}  {schedule.program}  {schedule.owner.user}"


def _moment(schedule: Schedule, moment: float) -> str:
    zone = ZoneInfo(schedule.trigger.zone) if schedule.trigger.kind == "cron" else ZoneInfo("UTC")
    return datetime.fromtimestamp(moment, zone).isoformat(" ", "seconds")
