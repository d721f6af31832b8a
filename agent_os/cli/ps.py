"""`agentos ps`: the tree of agents at work (tasks that are not done), the sessions that applications have open, what is stopped,
and the processes that run them.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from agent_os.cli.columns import Cell, columns
from agent_os.cli.task import with_desk
from agent_os.cli.task_show import COLOURS, age, note, word

if TYPE_CHECKING:
    from agent_os.core.stop import Stops
    from agent_os.core.task import SessionView, Task
    from agent_os.runtime.tasks.desk import TaskDesk

WATCH_SECONDS: Final = 1.0
SHOWN_MAX: Final = 100_000


def ps(
    everything: Annotated[bool, typer.Option("--all", "-a", help="Ended ones too.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Live: again every second, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show agents at work as a tree: each task with its children, its state, and what it waits for.

    A dead letter is shown with --all; `agentos task show ID` has the whole of one, `agentos kill ID` ends it with all below.
    """

    async def work(desk: TaskDesk) -> None:
        while True:
            found = await _look(desk, everything=everything, whole=as_json)
            if as_json:
                typer.echo(json.dumps(found.wire()))
            else:
                _print(found.lines(), live=watch)
            if not watch:
                return
            await asyncio.sleep(WATCH_SECONDS)

    try:
        with_desk(work)
    except KeyboardInterrupt:
        return


class _Found:
    """What one look showed."""

    def __init__(
        self, tasks: list[Task], workers: list[Any], stops: Stops, sessions: Sequence[SessionView],
        others: list[tuple[int, str]],
    ) -> None:  # fmt: skip
        self.tasks, self.workers, self.stops, self.sessions, self.others = tasks, workers, stops, sessions, others

    def wire(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        workers = [
            {"id": each.id, "host": each.host, "pid": each.pid, "queues": list(each.queues)} for each in self.workers
        ]
        return {
            "tasks": [task.to_json() for task in self.tasks],
            "workers": workers,
            "stops": [stop.to_json() for stop in self.stops.all],
            "sessions": [view.to_json() for view in self.sessions],
            "others": [{"pid": pid, "command": command} for pid, command in self.others],
        }

    def lines(self) -> list[str]:
        """Return it for people."""
        from agent_os.cli.stops import stop_lines  # noqa: PLC0415

        lines = [typer.style(line, fg="red", bold=True) for line in stop_lines(self.stops.all)]
        lines += tree(self.tasks, self.stops) if self.tasks else ["no agent is at work"] if not self.sessions else []
        if self.sessions:
            lines += [*([""] if self.tasks else []), *open_sessions(self.sessions, self.stops)]
        states = Counter(word(task, self.stops) for task in self.tasks)
        counted = ", ".join(f"{count} {state}" for state, count in states.most_common())
        lines += [
            "",
            f"{len(self.tasks)} task{'' if len(self.tasks) == 1 else 's'}" + (f": {counted}" if counted else ""),
        ]
        where = ", ".join(f"{each.host}:{each.pid} ({' '.join(each.queues)})" for each in self.workers)
        lines.append(f"workers: {where or 'none (one starts with the next task)'}")
        if self.others:
            lines.append("other processes on this state: " + ", ".join(f"{pid} ({what})" for pid, what in self.others))
        return lines


async def _look(desk: TaskDesk, *, everything: bool, whole: bool) -> _Found:
    from agent_os.core.task import TaskState  # noqa: PLC0415
    from agent_os.runtime.stopping import look, others_of  # noqa: PLC0415

    states = () if everything else tuple(state for state in TaskState if not state.ended)
    tasks = list(await desk.ledger.list(states, limit=SHOWN_MAX, brief=not whole))
    workers = list(await desk.workers())
    stops, sessions = look(desk.environment)
    here = {each.pid for each in workers} | {each.pid for each in sessions} | {os.getpid()}
    return _Found(tasks, workers, stops, sessions, others_of(desk.path, here))


def _print(lines: list[str], *, live: bool) -> None:
    if live and sys.stdout.isatty():
        height = shutil.get_terminal_size().lines - 1
        if len(lines) > height:
            lines = [*lines[: height - 1], f"… {len(lines) - height + 1} more lines"]
        typer.echo("\x1b[H\x1b[J" + "\n".join(lines))
        return
    for line in lines:
        typer.echo(line)


def tree(tasks: list[Task], stops: Stops | None = None) -> list[str]:
    """Return a heading and a line a task, children below their parent, oldest first."""
    known = {task.id for task in tasks}
    below: dict[str, list[Task]] = {}
    for task in sorted(tasks, key=lambda each: (each.created, each.id)):
        below.setdefault(task.parent if task.parent in known else "", []).append(task)
    now, rows = time.time(), list[list[Cell]]()
    roots = below.get("", [])
    level: list[tuple[Task, str, str]] = [(task, "", "") for task in reversed(roots)]
    while level:
        task, before, under = level.pop()
        state = word(task, stops)
        agent = task.principal.agent if task.principal.agent != "main" else task.program
        user = (
            task.principal.user
            if task.principal.tenant == "default"
            else f"{task.principal.tenant}/{task.principal.user}"
        )
        rows.append(
            [before + task.id, agent, (state, COLOURS.get(state, "")), user, age(now - task.created), note(task, stops)]
        )
        children = below.get(task.id, [])
        for place in reversed(range(len(children))):
            last = place == len(children) - 1
            level.append((children[place], under + ("└─ " if last else "├─ "), under + ("   " if last else "│  ")))
    return columns(("TASK", "AGENT", "STATE", "FOR", "AGE", "NOTE"), rows)


def open_sessions(sessions: Sequence[SessionView], stops: Stops) -> list[str]:
    """Return a heading and a line for each session that an application or a sandboxed program has open."""
    from agent_os.core.principal import Principal  # noqa: PLC0415

    now, rows = time.time(), list[list[Cell]]()
    for view in sessions:
        who = Principal(tenant=view.tenant, user=view.user, agent=view.agent, session=view.id)
        stop = stops.holding(who) if stops else None
        state = "open" if stop is None else "killed" if stop.scope == "session" else "held"
        user = view.user if view.tenant == "default" else f"{view.tenant}/{view.user}"
        where = f"{view.host}:{view.pid}"
        rows.append([view.id, view.agent, (state, COLOURS.get(state, "")), user, age(now - view.since), where])
    return columns(("SESSION", "AGENT", "STATE", "FOR", "AGE", "WHERE"), rows)
