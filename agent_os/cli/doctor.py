"""`agentos doctor`: what this machine and user can enforce, tried for real, and what it would take."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)
_SIGNS = {"enforced": "ok", "partly": "partly", "missing": "MISSING", "n/a": "-"}


@app.command()
def doctor(
    policy: Annotated[
        list[str] | None,
        typer.Option("--policy", "-p", help="Also say what this policy needs here; repeat for layers."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say layer by layer what this machine can enforce, and what a policy needs of it.

    Exit 5 when no sandbox can be had, or a part that the policy stands on is missing.
    """
    from agent_os.runtime.doctor import report  # noqa: PLC0415

    needs = _needs(policy) if policy else []
    missing = sum(need["state"] == "missing" for need in needs)
    found = report()
    if policy:
        found["needs"] = needs
    if json_:
        typer.echo(json.dumps(found, indent=2))
    else:
        who = "root" if found["user"] == 0 else f"uid {found['user']}"
        typer.echo(f"Linux {found['kernel']} on {found['machine']}, as {who}")
        for row in found["layers"]:
            typer.echo(f"  {_SIGNS[row['state']]:<8} {row['layer']:<18} {row['detail']}")
            if row["fix"]:
                typer.echo(f"           {'':<18} to have more: {row['fix']}")
        for part in found["speed"]:
            typer.echo(f"  {'fast' if part['fast'] else 'slower':<8} {part['part']:<18} {part['detail']}")
            if part["fix"]:
                typer.echo(f"           {'':<18} to have more: {part['fix']}")
        for name in found["collisions"]:
            typer.echo(f"agentos: {name} installs a package agent_os as well: uninstall one of the two", err=True)
        if found["failure"]:
            typer.echo(f"agentos: no sandbox could be built: {found['failure']}", err=True)
        typer.echo("sandboxes: " + ("yes" if found["sandbox"] else "NO"))
        for need in needs:
            typer.echo(f"  {'ok' if need['state'] == 'here' else 'MISSING':<8} {need['section']:<18} {need['part']}")
            if need["fix"]:
                typer.echo(f"           {'':<18} {need['fix']}")
        if policy:
            typer.echo(f"what the policy needs: {'all here' if not missing else f'{missing} of {len(needs)} missing'}")
    sys.exit(0 if found["sandbox"] and not missing else 5)


def _needs(policy: list[str]) -> list[dict[str, str]]:
    from agent_os.runtime import load_policy  # noqa: PLC0415
    from agent_os.runtime.needed import needed  # noqa: PLC0415

    return [need.to_json() for need in needed(load_policy(policy))]
