"""`agentos discard`: throw away what snapshot runs changed."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def discard(
    name: Annotated[str, typer.Argument(help="The snapshot; may be left out when there is one.")] = "",
    workspace: Annotated[str, typer.Option(help="The workspace.")] = ".",
) -> None:
    """Throw away what a snapshot run changed."""
    from agent_os.runtime.sandbox.snapshots import open_snapshot  # noqa: PLC0415

    snapshot = open_snapshot(workspace, name)
    with snapshot.held():
        snapshot.discard()
    typer.echo(f"discarded {snapshot.name}")
