"""How tasks look to people: their states in words, one whole, and many as rows. Output only."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import typer

from agent_os.cli.approvals_show import printable
from agent_os.cli.columns import Cell, coloured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent_os.core.stop import Stops
    from agent_os.core.task import Task

HEADER: Final = ("TASK", "STATE", "WHAT", "FOR", "AGE", "NOTE")
COLOURS: Final = {
    "running": "green", "ready": "blue", "waiting for a person": "yellow", "waiting for children": "cyan",
    "suspended": "magenta", "held": "magenta", "failed": "red", "dead letter": "red", "killed": "red", "done": "bright_black",
}  # fmt: skip
WORDS: Final = {"waiting": "waiting for a person", "waiting-children": "waiting for children", "dead": "dead letter"}
"""States of tasks as people read them."""
WIDE: Final = 11
TEXT_CHARS_MAX: Final = 2_000
"""Characters of an input or a result in `task show`; --json has the whole."""


def word(task: Task, stops: Stops | None = None) -> str:
    """Return a task's state as people read it."""
    if task.wanted == "held" or (task.state.value == "ready" and _stop(task, stops) is not None):
        return "held"
    return WORDS.get(task.state.value, task.state.value)


def note(task: Task, stops: Stops | None = None) -> str:
    """Return what a person would ask next: what it waits for, why it ended or stands still."""
    state = task.state.value
    if state == "waiting":
        return f"agentos approvals show {task.approval}"
    if state == "waiting-children":
        return f"{len(task.waits)} child{'' if len(task.waits) == 1 else 'ren'}"
    if state == "ready":
        stop = _stop(task, stops)
        return stop.said if stop is not None else task.reason
    if task.wanted in ("kill", "suspend"):
        return f"{task.wanted} was asked for"
    if state in (task.reason, "done") or (state == "killed" and task.reason.startswith("waits for")):
        return ""
    return task.reason.replace("DeniedError: ", "denied: ", 1)


def age(seconds: float) -> str:
    """Return how long something has been there, short: 12s, 4m, 3h, 2d."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size * 2:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"


def _stop(task: Task, stops: Stops | None) -> Any:
    from dataclasses import replace  # noqa: PLC0415

    if not stops:
        return None
    return stops.holding(replace(task.principal, session=task.id), task.lineage)


def row(task: Task, now: float) -> list[Cell]:
    """Return a task as a row under HEADER."""
    state = word(task)
    said = note(task) or (json.dumps(task.result, ensure_ascii=False) if task.result is not None else "")
    return [task.id, (state, COLOURS.get(state, "")), what(task)[:48], _who(task), age(now - task.created), said[:300]]


def what(task: Task) -> str:
    """Return what a task is for, in a few words."""
    text = task.input.get("task")
    if isinstance(text, str) and text:
        return f"{task.program}: {text}" if task.program != "agent" else text
    actions = task.input.get("actions")
    if task.program == "actions" and isinstance(actions, list):
        return f"{len(actions)} action{'' if len(actions) == 1 else 's'}"
    return task.program


def echo_whole(task: Task) -> None:
    """Print one task whole, for people."""
    for name, text, colour in _lines(task):
        heading = f"{name:<{WIDE}}"
        shown = printable(text)
        if coloured():
            heading, shown = typer.style(heading, fg="bright_black"), typer.style(shown, fg=colour) if colour else shown
        typer.echo(heading + shown)


def _lines(task: Task) -> Iterator[tuple[str, str, str]]:
    state = word(task)
    yield "task", task.id, ""
    yield (
        "state",
        state + (f" ({task.wanted} was asked for)" if task.wanted in ("kill", "suspend") else ""),
        COLOURS.get(state, ""),
    )
    if task.reason and task.reason != state:
        yield "because", task.reason, ""
    if state in ("failed", "dead letter", "killed"):
        yield "", f"agentos task redo {task.id}   runs it again; what was done is not done again", "bright_black"
    if task.approval and state == "waiting for a person":
        yield "asks", f"agentos approvals show {task.approval}", "yellow"
    yield "program", task.program, ""
    yield "input", _json(dict(task.input)), ""
    if task.result is not None:
        yield "result", _json(task.result), "green"
    yield "for", f"{_who(task)}, as {'/'.join((*task.principal.parents, task.principal.agent))}", ""
    if task.parent:
        yield "parent", task.parent, ""
    if task.waits:
        yield "waits for", " ".join(task.waits), "cyan"
    if task.rights.role:
        limits = ", ".join(f"{amount:g} {unit}" for unit, amount in sorted(task.rights.limits.items()))
        yield "role", task.rights.role + (f" (at most {limits})" if limits else ""), ""
    if task.schedule:
        yield "schedule", task.schedule, ""
    yield "policy", " ".join(task.policies) or "pack:baseline", ""
    yield "workspace", task.workspace, ""
    yield (
        "queue",
        f"{task.queue}, priority {task.priority}"
        + (f", to start by {_moment(task.deadline)}" if task.deadline else ""),
        "",
    )
    yield "submitted", _moment(task.created), ""
    if task.started:
        starts = f", {task.attempts} starts" if task.attempts > 1 else ""
        yield "started", f"{_moment(task.started)}{starts}", ""
    if task.ended:
        took = f" (after {age(task.ended - task.started)})" if task.started else ""
        yield "ended", _moment(task.ended) + took, ""


def _who(task: Task) -> str:
    user, tenant = task.principal.user, task.principal.tenant
    return user if tenant == "default" else f"{tenant}/{user}"


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().isoformat(" ", "seconds")


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= TEXT_CHARS_MAX else f"{text[:TEXT_CHARS_MAX]}… ({len(text)} characters: --json has all)"
