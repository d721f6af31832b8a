"""`agentos commit`: take the changes of a snapshot over into the workspace, protected names left out."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from agent_os.cli.quoting import quoted

app = typer.Typer(add_completion=False)


@app.command()
def commit(
    name: Annotated[str, typer.Argument(help="The snapshot; may be left out when there is one.")] = "",
    workspace: Annotated[str, typer.Option(help="The workspace.")] = ".",
    include: Annotated[list[str] | None, typer.Option(help="A protected path to take over all the same.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Take over only this path; the snapshot stays.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Also where the workspace has changed since.")] = False,
    undo: Annotated[bool, typer.Option("--undo/--no-undo", help="Keep what is replaced, for agentos undo.")] = True,
    json_: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Apply what a snapshot run changed."""
    from agent_os.runtime.sandbox.snapshots import open_snapshot  # noqa: PLC0415

    snapshot = open_snapshot(workspace, name)
    with snapshot.held():
        left = snapshot.commit(include=include or (), only=only or (), force=force, undo=undo)
    if json_:
        typer.echo(json.dumps({"left_out": [change.to_json() for change in left]}, indent=2))
        return
    for change in left:
        typer.echo(f"left out: {quoted(change.path)} ({change.withheld or 'not chosen'})")
    typer.echo("committed")
