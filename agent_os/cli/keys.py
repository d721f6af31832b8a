"""`agentos keys`: list and rotate the runtime's own keys. Secrets are never printed."""

from __future__ import annotations

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, help="List and rotate the runtime's own keys.")
JSON = typer.Option(False, "--json", help="Print JSON.")


@app.command("list")
def list_(as_json: bool = JSON) -> None:
    """List keys by purpose: id, age, where they come from, the public half of signing keys."""
    import json  # noqa: PLC0415

    from agent_os.audit.export import moment  # noqa: PLC0415
    from agent_os.runtime.keys import list_keys  # noqa: PLC0415

    keys = list_keys()
    if as_json:
        typer.echo(json.dumps(keys))
        return
    from agent_os.cli.columns import echo_columns  # noqa: PLC0415

    rows = []
    for key in keys:
        created = moment({"time": key["created"]}) if key["created"] > 1 else "-"
        current = "yes" if key["current"] else ""
        rows.append((key["purpose"], key["id"], current, key["provider"], created, key["public"]))
    echo_columns(("purpose", "id", "current", "from", "created", "public"), rows, "no keys yet")


@app.command()
def rotate(
    purpose: str = typer.Argument(help="audit, digest, vault, payload, ca or bundle."),
    as_json: bool = JSON,
) -> None:
    """Make a new current key; older ones stay for reading and verifying. Running processes take it up at their
    start.
    """
    import json  # noqa: PLC0415

    from agent_os.runtime.keys import rotate_key  # noqa: PLC0415

    key = rotate_key(purpose)
    typer.echo(json.dumps(key) if as_json else f"{key['purpose']}: {key['id']} is the current key now")
