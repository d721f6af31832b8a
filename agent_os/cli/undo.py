"""`agentos undo`: put the workspace back to what it was before the last commit or undoable run."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from agent_os.cli.quoting import quoted

app = typer.Typer(add_completion=False)


@app.command()
def undo(
    workspace: Annotated[str, typer.Option(help="The workspace.")] = ".",
    force: Annotated[bool, typer.Option("--force", help="Also where a path was changed since.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Put back what the last commit or undoable run changed."""
    from agent_os.runtime.sandbox.snapshots import undo_commit  # noqa: PLC0415

    paths = undo_commit(workspace, force=force)
    if json_:
        typer.echo(json.dumps({"restored": list(paths)}, indent=2))
        return
    for path in paths:
        typer.echo(f"put back {quoted(path)}")
    typer.echo("undone")
