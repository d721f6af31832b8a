"""`agentos policy bundle` and `rollback`: arguments and output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from agent_os.core.errors import EffectError


def make(source: str, output: str, revision: int | None, as_json: bool) -> None:
    """Write the signed bundle of a policy."""
    from agent_os.runtime.bundles import build  # noqa: PLC0415

    data, about = build(source, revision=revision)
    Path(output).write_bytes(data)
    if as_json:
        typer.echo(json.dumps({**about, "bundle": output}))
    else:
        typer.echo(f"{output}: {about['name']} revision {about['revision']}, {len(about['files'])} files")
        typer.echo(f"policy {about['policy']}")
        typer.echo(f"signed by {about['key']}; others trust it with --trust {about['public_key']}")


def install(path: str, trust: list[str], as_json: bool) -> None:
    """Put a bundle in force."""
    from agent_os.runtime.bundles import MAX_BUNDLE_BYTES  # noqa: PLC0415
    from agent_os.runtime.bundles import install as installed  # noqa: PLC0415

    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BUNDLE_BYTES + 1)
    except OSError as error:
        raise EffectError(f"cannot read {path}: {(error.strerror or 'error').lower()}") from None
    _tell(installed(data, trust=trust), as_json)


def roll_back(to: str | None, as_json: bool) -> None:
    """Put an earlier version in force."""
    from agent_os.runtime.bundles import roll_back as rolled_back  # noqa: PLC0415

    _tell(rolled_back(to), as_json)


def show(as_json: bool) -> None:
    """List the installed versions."""
    from agent_os.runtime.bundles import listed  # noqa: PLC0415

    items = list(listed())
    if as_json:
        typer.echo(json.dumps(items))
        return
    if not items:
        typer.echo("no bundle is installed: agentos policy bundle POLICY makes one, --install FILE puts one in force")
    for item in items:
        mark = "*" if item["in_force"] else " "
        typer.echo(f"{mark} {item['version']}  {item['name']}  {item['policy'][:19]}…  signed by {item['key']}")


def _tell(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(result))
        return
    if result.get("changed") is False:
        typer.echo(f"{result['version']} is in force already")
        return
    typer.echo(f"{result['version']} is in force")
    if result["dynamic"]:
        typer.echo("at once: " + ", ".join(result["dynamic"]))
    if result["needs_restart"]:
        typer.echo("needs a restart of running programs: " + ", ".join(result["needs_restart"]))
