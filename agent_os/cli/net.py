"""`agentos net`: what the network guard lets through, live."""

from __future__ import annotations

from typing import Any

import typer

app = typer.Typer(no_args_is_help=True, help="Watch what the network guard lets through.")


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
    if once or not console.is_terminal:
        console.print(_table(live_tables(state)))
        return
    import time  # noqa: PLC0415

    from rich.live import Live  # noqa: PLC0415

    with Live(_table(live_tables(state)), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(interval)
            live.update(_table(live_tables(state)), refresh=True)


def _table(tables: list[dict[str, Any]]) -> Any:
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(
        "guard", "agent", "program", "destination", "address", "mode", "verdict", "requests", "denied", "up", "down",
        "last", box=None, pad_edge=False,
    )  # fmt: skip
    for guard in tables:
        for row in guard["live"]:
            destination = f"{row['host']}:{row['port']}" if row["host"] else "-"
            cells = [guard["pid"], row["agent"], row["program"] or "-", destination, row["address"] or "-", row["mode"],
                     row["verdict"], row["requests"], row["denied"], row["bytes_up"], row["bytes_down"],
                     row["last"]]  # fmt: skip
            table.add_row(*(escape(_shown(cell)) for cell in cells))
        counts = guard["counts"]
        table.caption = (
            f"{counts['flows']} connections, {counts['requests']} requests, {counts['denied']} denied, "
            f"{counts['alerts']} alerts"
        )
    if not tables:
        table.caption = "no guard is running"
    return table


def _shown(cell: Any) -> str:
    """A cell without control characters: names and paths come from programs."""
    return "".join(char if char.isprintable() else "?" for char in str(cell))
