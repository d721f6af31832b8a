"""`agentos doctor`: what this machine and user can enforce, tried for real, and what it would take."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)
_SIGNS = {"enforced": "ok", "partly": "partly", "missing": "MISSING", "n/a": "-"}


@app.command()
def doctor(json_: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Say layer by layer what this machine can enforce. Exit 5 when no sandbox can be had."""
    from agent_os.runtime.doctor import report  # noqa: PLC0415

    found = report()
    if json_:
        typer.echo(json.dumps(found, indent=2))
    else:
        who = "root" if found["user"] == 0 else f"uid {found['user']}"
        typer.echo(f"Linux {found['kernel']} on {found['machine']}, as {who}")
        for row in found["layers"]:
            typer.echo(f"  {_SIGNS[row['state']]:<8} {row['layer']:<18} {row['detail']}")
            if row["fix"]:
                typer.echo(f"           {'':<18} to have more: {row['fix']}")
        for name in found["collisions"]:
            typer.echo(f"agentos: {name} installs a package agent_os as well: uninstall one of the two", err=True)
        if found["failure"]:
            typer.echo(f"agentos: no sandbox could be built: {found['failure']}", err=True)
        typer.echo("sandboxes: " + ("yes" if found["sandbox"] else "NO"))
    sys.exit(0 if found["sandbox"] else 5)
