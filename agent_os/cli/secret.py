"""`agentos secret`: secrets that only the egress guard puts in, bound to their destination."""

from __future__ import annotations

import typer

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Set, list and remove secrets, bound to their destination."
)
JSON = typer.Option(False, "--json", help="Print JSON.")


@app.command("set")
def set_(
    name: str = typer.Argument(help="Its name; agents hold agentos-secret:NAME."),
    to: list[str] = typer.Option([], "--to", help="Host or host:port it may be sent to; once for each."),
    as_json: bool = JSON,
) -> None:
    """Read a value from the terminal (unseen) or stdin and keep it sealed in the vault."""
    import json  # noqa: PLC0415
    import sys  # noqa: PLC0415

    from agent_os.runtime.secrets import set_secret  # noqa: PLC0415

    if sys.stdin.isatty():
        import getpass  # noqa: PLC0415

        value = getpass.getpass(f"value of {name}: ")
    else:
        value = sys.stdin.read().removesuffix("\n")
    kept = set_secret(name, value, to)
    if as_json:
        typer.echo(json.dumps(kept))
        return
    typer.echo(f"{name} is kept for {', '.join(kept['destinations'])}; agents write agentos-secret:{name}")
    typer.echo(f"the policy must name it too: secrets: {{{name}: {{from: vault, destinations: [...]}}}}")


@app.command("list")
def list_(as_json: bool = JSON) -> None:
    """List names and destinations, never values."""
    import json  # noqa: PLC0415

    from agent_os.runtime.secrets import held_secrets  # noqa: PLC0415

    held = held_secrets()
    if as_json:
        typer.echo(json.dumps(held))
        return
    if not held:
        typer.echo("no secrets are kept here: agentos secret set NAME --to HOST")
    for entry in held:
        typer.echo(f"{entry['name']}\t{', '.join(entry['destinations'])}")


@app.command()
def remove(name: str = typer.Argument(help="Its name."), as_json: bool = JSON) -> None:
    """Destroy a secret."""
    import json  # noqa: PLC0415

    from agent_os.runtime.secrets import drop_secret  # noqa: PLC0415

    gone = drop_secret(name)
    typer.echo(
        json.dumps({"name": name, "removed": gone}) if as_json else f"{name}: {'removed' if gone else 'not kept'}"
    )
    if not gone:
        raise typer.Exit(1)
