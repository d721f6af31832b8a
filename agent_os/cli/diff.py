"""`agentos diff`: what snapshot runs changed. `commit` takes it over, `discard` throws it away.

A program that nobody trusts wrote the names and contents: a terminal gets them with escapes, a file byte for byte.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from agent_os.cli.quoting import escaped, quoted

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
        leads = f" -> {quoted(change.target)}" if change.target else ""
        typer.echo(f"{_SIGNS[change.change]} {quoted(change.path)}{'/' if change.type == 'dir' else ''}{leads}{held}")
    if patch:
        text = patch_of(snapshot, changes, quoted)
        typer.echo(escaped(text, keep="\n\t") if sys.stdout.isatty() else text, nl=False)
    if not changes:
        typer.echo("nothing changed")
