"""`agentos net`: what the network guard lets through, live and afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer

PIPED_COLUMNS: Final = 200
DENIED_SHOWN_MAX: Final = 10
"""Causes of denials that the live view shows."""

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Watch what the network guard lets through.")


@app.callback()
def _net() -> None:
    """Watch what the network guard lets through."""


@app.command()
def top(
    as_json: bool = typer.Option(False, "--json", help="Print the tables once, as JSON."),
    once: bool = typer.Option(False, "--once", help="Print the table once."),
    interval: float = typer.Option(1.0, "--interval", min=0.2, max=60.0, help="Seconds between two looks."),
) -> None:
    """Show the connections of every running guard: who, where to, by which rule, how much."""
    from agent_os.runtime.network import live_tables  # noqa: PLC0415
    from agent_os.runtime.state import state_directory  # noqa: PLC0415

    state = state_directory()
    if as_json:
        import json  # noqa: PLC0415

        typer.echo(json.dumps(live_tables(state)))
        return
    from rich.console import Console  # noqa: PLC0415

    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPED_COLUMNS)
    if once or not console.is_terminal:
        console.print(_view(live_tables(state)))
        return
    import time  # noqa: PLC0415

    from rich.live import Live  # noqa: PLC0415

    with contextlib.suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            live.update(_view(live_tables(state)), refresh=True)
            time.sleep(interval)


@app.command()
def har(
    output: Path | None = typer.Option(None, "-o", "--output", help="A file instead of standard output."),
    since: str | None = typer.Option(None, help="From this time on (ISO 8601, UTC unless it says otherwise)."),
    until: str | None = typer.Option(None, help="Before this time."),
    session: str | None = typer.Option(None, help="Only this session."),
) -> None:
    """Write the flow log as an HTTP Archive (HAR 1.2) that developer tools open: no bodies, header fields or queries."""
    from agent_os import __version__  # noqa: PLC0415
    from agent_os.audit.har import archive, is_entry  # noqa: PLC0415
    from agent_os.cli.audit import moment_option, writing  # noqa: PLC0415
    from agent_os.runtime.audit import open_audit  # noqa: PLC0415
    from agent_os.runtime.network import flow_rows  # noqa: PLC0415
    from agent_os.runtime.state import state_directory  # noqa: PLC0415

    start, end = moment_option(since, "--since"), moment_option(until, "--until")
    state = state_directory()

    def rows() -> Iterator[dict[str, Any]]:
        found = flow_rows(state, since=start, until=end)
        return (row for row in found if session is None or row.get("session") == session)

    wanted = {str(row["audit"]) for row in rows() if row.get("audit") and is_entry(row)}
    intents = {
        str(record["ref"]): record
        for record in open_audit().records()
        if record.get("ref") in wanted and "action" in record
    }
    with writing(output) as write:
        for piece in archive(rows(), intents, __version__):
            write(piece)


def _view(tables: list[dict[str, Any]]) -> Any:
    """Live connections first, the busiest on top; below them what was denied lately and why."""
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    if not tables:
        return Text("no guard is running")
    counts = {
        name: sum(guard["counts"][name] for guard in tables) for name in ("flows", "requests", "denied", "alerts")
    }
    line = "{flows} connections, {requests} requests, {denied} denied, {alerts} alerts so far".format(**counts)
    return Group(_live(tables), Text(line, style="dim"), *_denied(tables))


def _live(tables: list[dict[str, Any]]) -> Any:
    from rich.table import Table  # noqa: PLC0415

    table = Table(
        "guard", "agent", "program", "destination", "address", "mode", "verdict", "requests", "denied", "up", "down", "age",
        "last", box=None, pad_edge=False,
    )  # fmt: skip
    rows = [(guard["pid"], row) for guard in tables for row in guard["live"]]
    for pid, row in sorted(rows, key=lambda entry: entry[1]["bytes_up"] + entry[1]["bytes_down"], reverse=True):
        _add(table, pid, row["agent"], row["program"] or "-", _destination(row), row["address"] or "-", row["mode"],
             row["verdict"], row["requests"], row["denied"], _bytes(row["bytes_up"]), _bytes(row["bytes_down"]),
             f"{row['seconds']:.0f} s", row["last"])  # fmt: skip
    return table


def _denied(tables: list[dict[str, Any]]) -> list[Any]:
    """The last denials and alerts, the latest first, those with one cause in one line; nothing where there were none."""
    from rich.table import Table  # noqa: PLC0415

    seen: dict[tuple[str, ...], int] = {}
    for guard in tables:
        for row in reversed(guard["recent"]):
            if row.get("verdict") == "deny" or row["type"] == "alert":
                rules = ", ".join(row["rules"]) if row.get("rules") else row.get("rule", "-")
                key: tuple[str, ...] = (
                    str(row.get("agent", "-")),
                    _destination(row),
                    rules or "-",
                    str(row.get("reason", "")),
                )
                seen[key] = seen.get(key, 0) + 1
    if not seen:
        return []
    table = Table("denied lately", "destination", "rule", "why", "times", box=None, pad_edge=False)
    for cause, times in list(seen.items())[:DENIED_SHOWN_MAX]:
        _add(table, *cause, times)
    return [table]


def _destination(row: dict[str, Any]) -> str:
    host, port = str(row.get("host") or ""), row.get("port")
    return f"{host}:{port}" if host and port else host or "-"


def _bytes(count: int) -> str:
    """A byte count for people, in powers of 1,024."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return str(count)


def _add(table: Any, *cells: Any) -> None:
    from rich.markup import escape  # noqa: PLC0415

    table.add_row(*(escape(_shown(cell)) for cell in cells))


def _shown(cell: Any) -> str:
    """A cell without control characters: names and paths come from programs."""
    return "".join(char if char.isprintable() else "?" for char in str(cell))
