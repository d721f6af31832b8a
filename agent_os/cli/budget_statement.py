"""`agentos budget statement`: what a tenant's agents used in a month, as a bill that the audit stands behind."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

_COLUMNS: Final = (
    "tenant", "team", "agent", "provider", "model", "tier", "calls", "failed", "input", "output", "cached", "reasoning", "usd",
)  # fmt: skip


def statement(
    month: Annotated[str, typer.Option(help="A month (2026-11).")] = "",
    begins: Annotated[str, typer.Option("--from", help="The first day (2026-11-01), instead of a month.")] = "",
    ends: Annotated[str, typer.Option("--until", help="The day after the last one.")] = "",
    zone: Annotated[str, typer.Option(help="Time zone whose days count, for example Europe/Berlin.")] = "UTC",
    tenant: Annotated[str, typer.Option(help="Only this tenant.")] = "",
    agent: Annotated[str, typer.Option(help="Only this agent (a sub-agent: main/reader-1).")] = "",
    also: Annotated[
        list[Path] | None, typer.Option(help="State directory of another worker: its audit counts too.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV: the lines, without a total.")] = False,
) -> None:
    """State what models cost, by tenant, agent, model and price tier, summed from the audit: it adds up to the cent.

    Says which logs it stands on; one that does not verify is an error (exit 1) after the statement was printed.
    """
    from agent_os.runtime.statement import statement as state  # noqa: PLC0415

    first, last = _days(month, begins, ends)
    only = {name: value for name, value in (("tenant", tenant), ("agent", agent)) if value}
    found = state(first, last, zone=zone, only=only, also=also or ())
    if as_json:
        typer.echo(json.dumps(found))
    elif as_csv:
        from agent_os.cli.quoting import spreadsheet  # noqa: PLC0415

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows([spreadsheet(line[column]) for column in _COLUMNS] for line in found["lines"])
    else:
        _print(found)
    broken = [f"{each['at']}: {each['writer']}" for each in found["audit"] if not each["verified"]]
    if broken:
        typer.echo(
            f"this proves nothing: the audit does not verify ({', '.join(broken)}): agentos audit verify", err=True
        )
        raise typer.Exit(1)


def _days(month: str, begins: str, ends: str) -> tuple[str, str]:
    """Return the first day and the day after the last one."""
    if bool(month) == bool(begins or ends) or bool(begins) != bool(ends):
        raise typer.BadParameter("give --month 2026-11, or --from and --until", param_hint="--month")
    if not month:
        return begins, ends
    year, _, number = month.partition("-")
    if len(year) != 4 or not (year + number).isdigit() or not 1 <= int(number) <= 12:
        raise typer.BadParameter("write a month as 2026-11", param_hint="--month")
    after = (int(year) + 1, 1) if int(number) == 12 else (int(year), int(number) + 1)
    return f"{year}-{int(number):02d}-01", f"{after[0]:04d}-{after[1]:02d}-01"


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from agent_os.cli.quoting import escaped  # noqa: PLC0415

    typer.echo(f"from {found['from']} until {found['until']} ({found['zone']})")
    table = Table(*_COLUMNS[:6], box=None, pad_edge=False)
    for column in _COLUMNS[6:]:
        table.add_column(column, justify="right")
    for line in found["lines"]:
        names = [escape(escaped(line[column] or "-")) for column in _COLUMNS[:6]]
        table.add_row(*names, *(f"{line[column]:,}" for column in _COLUMNS[6:-1]), line["usd"])
    total = found["total"]
    table.add_row("total", *[""] * 5, *(f"{total[column]:,}" for column in _COLUMNS[6:-1]), total["usd"], style="bold")
    Console().print(table)
    if found["unreported"]:
        typer.echo(f"{found['unreported']} calls as they were reserved: nobody reported what they used")
    if found["without_outcome"]:
        typer.echo(
            f"{found['without_outcome']} calls have no outcome: a crash, or still under way; not in the sums, and at most "
            f"{found['without_outcome_usd']} dollars"
        )
    meter = found.get("meter")
    if meter is not None and not meter["agrees"]:
        typer.echo(f"the meter counted {meter['calls']} calls and {meter['usd']} dollars (agentos budget usage)")
    for each in found["audit"]:
        says = f"verified up to record {each['last']}, {each['head'][:16]}…" if each["verified"] else "DOES NOT VERIFY"
        typer.echo(f"audit {each['writer']}: {says}")
