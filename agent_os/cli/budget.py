"""`agentos budget`: what was spent, what is reserved, what is left."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="Show what was spent and what is left.")


@app.callback()
def _budget() -> None:
    """Show what was spent and what is left."""


@app.command()
def show(
    name: str = typer.Argument("", help="Only budgets whose name begins like this."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
    as_csv: bool = typer.Option(False, "--csv", help="Print CSV."),
) -> None:
    """Show every account: whom it is counted for, its period, used, reserved, limit and what is left."""
    import csv  # noqa: PLC0415
    import json  # noqa: PLC0415
    import sys  # noqa: PLC0415

    from agent_os.runtime.budget import accounts  # noqa: PLC0415

    rows = accounts(name)
    if as_json:
        typer.echo(json.dumps(rows))
        return
    columns = ("budget", "for", "period", "unit", "used", "reserved", "limit", "left")
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([row[column] for column in columns] for row in rows)
        return
    if not rows:
        typer.echo("nothing was counted yet")
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(*columns[:4], box=None, pad_edge=False)
    for column in columns[4:]:
        table.add_column(column, justify="right")
    table.add_column("")
    for row in rows:
        share = min(1.0, (row["used"] + row["reserved"]) / row["limit"]) if row["limit"] else 1.0
        bar = "█" * round(share * 20) + "░" * (20 - round(share * 20))
        amounts = [f"{row[column]:,.6f}".rstrip("0").rstrip(".") for column in columns[4:]]
        table.add_row(*(escape(str(row[column])) for column in columns[:4]), *amounts, f"{bar} {share:4.0%}")
    Console().print(table)
