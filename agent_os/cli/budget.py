"""`agentos budget`: what was spent, what is reserved, what is left; what models used by day, month and year."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from agent_os.cli.budget_statement import statement
from agent_os.cli.quoting import escaped, spreadsheet

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Show what was spent and what is left.")
app.command()(statement)
BAR_CELLS: Final = 20
CHART_CELLS: Final = 40
CHART_DAYS: Final = 14
JSON = typer.Option("--json", help="Print JSON.")
CSV = typer.Option("--csv", help="Print CSV.")
_COUNTS: Final = ("calls", "input", "output", "cached", "reasoning", "unreported", "tokens", "usd")


@app.callback()
def _budget() -> None:
    """Show what was spent and what is left."""


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Only budgets whose name begins like this.")] = "",
    as_json: Annotated[bool, JSON] = False,
    as_csv: Annotated[bool, CSV] = False,
) -> None:
    """Show every account (whom it is counted for, its period, used, reserved, limit, left), and the tokens of the last days."""
    from agent_os.runtime.budget import accounts  # noqa: PLC0415

    rows = accounts(name)
    columns = ("budget", "for", "period", "unit", "used", "reserved", "limit", "left")
    if _printed(rows, columns, as_json=as_json, as_csv=as_csv):
        return
    days = _last_days() if not name else []
    if not rows and not days:
        typer.echo("nothing was counted yet")
        return
    from rich.console import Console  # noqa: PLC0415

    if rows:
        Console().print(_accounts_table(rows, columns))
    if days:
        if rows:
            typer.echo("")
        typer.echo(f"model tokens, last {CHART_DAYS} days (agentos budget usage --by model)")
        Console().print(_chart(days, "period"))


@app.command()
def usage(
    by: Annotated[str, typer.Option(help="tenant, user, team, agent, task, provider, model, tier or day.")] = "model",
    per: Annotated[str, typer.Option(help="day, month, year or total.")] = "month",
    since: Annotated[str, typer.Option(help="Only from this date on (2026-11-01).")] = "",
    only: Annotated[list[str] | None, typer.Option(help="KEY=VALUE, for example user=ana or tier=high.")] = None,
    as_json: Annotated[bool, JSON] = False,
    as_csv: Annotated[bool, CSV] = False,
) -> None:
    """Show what models used: calls, tokens in, out, cached and reasoned, and dollars by the policy's prices."""
    from datetime import date  # noqa: PLC0415

    from agent_os.runtime.metering import usage_rows  # noqa: PLC0415

    where: dict[str, str] = {}
    for item in only or []:
        key, sign, value = item.partition("=")
        if not sign:
            raise typer.BadParameter("write KEY=VALUE, for example user=ana", param_hint="--only")
        where[key] = value
    try:
        since = date.fromisoformat(since).isoformat() if since else ""
    except ValueError:
        raise typer.BadParameter("write a date as 2026-11-01", param_hint="--since") from None
    try:
        rows = usage_rows(by, per, since=since, where=where)
    except ValueError:
        known = "--by and --only: tenant, user, team, agent, task, provider, model, tier, day; --per: day, month, year, total"
        raise typer.BadParameter(known) from None
    if _printed(rows, ("period", by, *_COUNTS), as_json=as_json, as_csv=as_csv):
        return
    if not rows:
        typer.echo("nothing was counted" + (" for this" if where or since else " yet"))
        return
    from rich.console import Console  # noqa: PLC0415

    Console().print(_chart(rows, by))


def _printed(rows: list[dict[str, Any]], columns: tuple[str, ...], *, as_json: bool, as_csv: bool) -> bool:
    """Print rows for programs, where that was asked for."""
    if as_json:
        import json  # noqa: PLC0415

        typer.echo(json.dumps(rows))
    elif as_csv:
        import csv  # noqa: PLC0415
        import sys  # noqa: PLC0415

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([spreadsheet(row[column]) for column in columns] for row in rows)
    return as_json or as_csv


def _last_days() -> list[dict[str, Any]]:
    from datetime import UTC, datetime, timedelta  # noqa: PLC0415

    from agent_os.runtime.metering import usage_rows  # noqa: PLC0415

    since = datetime.now(UTC) - timedelta(days=CHART_DAYS - 1)
    rows = usage_rows("day", "day", since=since.strftime("%Y-%m-%d"))
    return rows


def _accounts_table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> Any:
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(*columns[:4], box=None, pad_edge=False)
    for column in columns[4:]:
        table.add_column(column, justify="right")
    table.add_column("")
    for row in rows:
        share = min(1.0, (row["used"] + row["reserved"]) / row["limit"]) if row["limit"] else 1.0
        bar = "█" * round(share * BAR_CELLS) + "░" * (BAR_CELLS - round(share * BAR_CELLS))
        amounts = [_amount(row[column]) for column in columns[4:]]
        table.add_row(*(escape(escaped(str(row[column]))) for column in columns[:4]), *amounts, f"{bar} {share:4.0%}")
    return table


def _chart(rows: list[dict[str, Any]], by: str) -> Any:
    """Return a table of sums with a bar each: tokens in and tokens out."""
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table("period", *([by] if by not in ("period", "day") else []), box=None, pad_edge=False)
    for column in ("calls", "in", "out", "cached", "reasoning", "usd"):
        table.add_column(column, justify="right")
    table.add_column("█ in ▒ out")
    most = max((row["tokens"] for row in rows), default=0) or 1
    for row in rows:
        into, out = (round(row[part] / most * CHART_CELLS) for part in ("input", "output"))
        names = [str(row["period"]), *([str(row[by]) or "-"] if by not in ("period", "day") else [])]
        counts = [f"{row[part]:,}" for part in ("calls", "input", "output", "cached", "reasoning")]
        mark = " (estimated in part)" if row["unreported"] else ""
        table.add_row(
            *(escape(escaped(name)) for name in names), *counts, _amount(row["usd"]), "█" * into + "▒" * out + mark
        )
    return table


def _amount(value: float) -> str:
    return f"{value:,.6f}".rstrip("0").rstrip(".")
