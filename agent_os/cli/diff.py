"""`agentos diff`: what snapshot runs changed. `commit` takes it over, `discard` throws it away."""

from __future__ import annotations

import json
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)
_SIGNS = {"added": "A", "modified": "M", "deleted": "D"}


@app.command()
def diff(
    name: Annotated[str, typer.Argument(help="The snapshot; may be left out when there is one.")] = "",
    workspace: Annotated[str, typer.Option(help="The workspace.")] = ".",
    patch: Annotated[bool, typer.Option("--patch", help="Show the changed lines.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show what a snapshot run changed, and what a commit would leave out."""
    from agent_os.runtime.sandbox.snapshots import open_snapshot, patch_of  # noqa: PLC0415

    snapshot = open_snapshot(workspace, name)
    changes = snapshot.changes()
    if json_:
        form = {"snapshot": snapshot.name, "workspace": snapshot.workspace, "changes": [c.to_json() for c in changes]}
        typer.echo(json.dumps(form, indent=2))
        return
    for change in changes:
        held = f"   [left out: {change.withheld}]" if change.withheld else ""
        typer.echo(f"{_SIGNS[change.change]} {change.path}{'/' if change.type == 'dir' else ''}{held}")
    if patch:
        typer.echo(patch_of(snapshot, changes), nl=False)
    if not changes:
        typer.echo("nothing changed")
