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

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Add, list, pause, resume and remove schedules.")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="The schedule's name; another tenant's: TENANT//NAME.")]


@app.command()
def add(
    name: Name,
    text: Annotated[str, typer.Argument(help="What the agent is to do.", metavar="TASK")] = "",
    cron: Annotated[str, typer.Option(help="Five fields, for example '0 2 * * 1-5'.")] = "",
    zone: Annotated[str, typer.Option("--tz", help="Time zone of the cron expression.")] = "UTC",
    every: Annotated[str, typer.Option(help="An interval: 90s, 15m, 2h, 1d.")] = "",
    at: Annotated[str, typer.Option(help="Once, at an ISO 8601 time with its offset.")] = "",
    file: Annotated[str, typer.Option("--on-file", help="When a file appears: 'inbox/*.pdf'.")] = "",
    message: Annotated[str, typer.Option("--on-message", help="On a message to this box of yours.")] = "",
    webhook: Annotated[
        str, typer.Option("--on-webhook", help="On a signed call of /v1/hooks/NAME of `agentos serve`.")
    ] = "",
    budget: Annotated[
        list[str] | None, typer.Option("--budget", help="UNIT=AMOUNT each run may use: calls=100.")
    ] = None,
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
    events = {name: given for name, given in (("file", file), ("message", message), ("webhook", webhook)) if given}
    if events:
        when["event"] = events
    budgets = dict(_budget(each) for each in budget or [])

    async def work(desk: TaskDesk) -> Schedule:
        parts = request_parts(desk, text, actions, policy, model, workspace)
        parts.pop("owner")
        parts["policies"] = list(parts["policies"])
        options = {"missed": missed, "catch_up_max": catch_up_max, "overlap": overlap, "queue": queue}
        return await desk.add_schedule(
            {
                "name": name,
                "when": when,
                **parts,
                **options,
                "budgets": budgets,
                "jitter": seconds(jitter) if jitter else 0.0,
            }
        )

    schedule = with_desk(work, acting=True)
    typer.echo(json.dumps(schedule.to_json()) if as_json else _line(schedule))


def _budget(text: str) -> tuple[str, float]:
    unit, _, amount = text.partition("=")
    try:
        return unit, float(amount)
    except ValueError:
        raise typer.BadParameter(f"UNIT=AMOUNT is needed, not {text!r}", param_hint="--budget") from None


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List schedules with their next run."""
    schedules = with_desk(lambda desk: desk.schedules.list())
    if as_json:
        typer.echo(json.dumps([{**schedule.to_json(), "key": schedule.key} for schedule in schedules]))
        return
    from agent_os.cli.columns import echo_columns  # noqa: PLC0415

    notes = with_desk(lambda desk: desk.schedules.notes())
    rows = [_row(schedule, notes.get(schedule.key, "")) for schedule in schedules]
    echo_columns(("SCHEDULE", "WHEN", "STATE", "NEXT RUN", "WHAT", "FOR", "NOTE"), rows, "no schedules")


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
    from agent_os.cli.columns import echo_columns  # noqa: PLC0415
    from agent_os.cli.task_show import COLOURS, age, note, word  # noqa: PLC0415

    rows = [
        (
            datetime.fromtimestamp(task.created).astimezone().isoformat(" ", "seconds"),
            task.id,
            (word(task), COLOURS.get(word(task), "")),
            age(task.ended - task.started) if task.ended and task.started else "",
            note(task) or (json.dumps(task.result, ensure_ascii=False)[:200] if task.result is not None else ""),
        )
        for task in tasks
    ]
    echo_columns(("STARTED", "TASK", "STATE", "TOOK", "NOTE"), rows, f"{name} has had no runs")


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


def _row(schedule: Schedule, note: str) -> list[Any]:
    state = (
        ("paused", "magenta") if schedule.paused else ("held", "red") if note.startswith("held") else ("on", "green")
    )
    due = _moment(schedule, schedule.next_due) if schedule.next_due and not schedule.paused else ""
    if not due and not schedule.paused and schedule.trigger.kind != "event":
        due = "never again"
    what = schedule.input.get("task")
    return [
        schedule.key,
        when_of(schedule),
        state,
        due,
        what if isinstance(what, str) and what else schedule.program,
        schedule.owner.user,
        note,
    ]


def when_of(schedule: Schedule) -> str:
    """Return when a schedule runs, in words."""
    trigger = schedule.trigger
    match trigger.kind:
        case "cron":
            return f"cron {trigger.cron} ({trigger.zone})"
        case "every":
            size, unit = next(
                (
                    part
                    for part in ((86_400, "d"), (3_600, "h"), (60, "m"))
                    if trigger.every >= part[0] and trigger.every % part[0] == 0
                ),
                (1, "s"),
            )
            return f"every {trigger.every / size:g}{unit}"
        case "at":
            return f"once, at {_moment(schedule, trigger.at)}"
    return {"file": "when a file appears: ", "message": "on a message to ", "webhook": "on a call of webhook "}[
        trigger.event
    ] + trigger.name


def _line(schedule: Schedule) -> str:
    if schedule.paused:
        due = "paused"
    else:
        never = "" if schedule.trigger.kind == "event" else "never again"
        due = f"next {_moment(schedule, schedule.next_due)}" if schedule.next_due else never
    return "  ".join(part for part in (schedule.key, when_of(schedule), due) if part)


def _moment(schedule: Schedule, moment: float) -> str:
    zone = ZoneInfo(schedule.trigger.zone) if schedule.trigger.kind == "cron" else ZoneInfo("UTC")
    return datetime.fromtimestamp(moment, zone).isoformat(" ", "seconds")
