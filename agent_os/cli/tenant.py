"""`agentos tenant show | export | erase`: everything the state holds of one tenant, written out or taken out."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from agent_os.runtime.tenants import TenantDesk

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Export everything of a tenant, and erase it.")
Name = Annotated[str, typer.Argument(help="The tenant.", metavar="TENANT")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """Show how much the state holds of a tenant, by kind."""
    _say(_with_desk(name, lambda desk: desk.held()), as_json=as_json)


@app.command()
def export(
    name: Name,
    to: Annotated[Path, typer.Option("--to", help="The file to write (JSON, for your eyes alone: 0600).")],
) -> None:
    """Write everything of a tenant, opened, into a new file: asks, budgets, use, memories, messages, tasks, audit."""
    found = _with_desk(name, lambda desk: desk.export())
    try:
        descriptor = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise typer.BadParameter(f"{to}: {error.strerror}", param_hint="--to") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(found, file, ensure_ascii=False, indent=1, default=list)
    typer.echo(
        f"{to}: " + ", ".join(f"{len(part)} {kind}" for kind, part in found.items() if isinstance(part, list | dict))
    )


@app.command()
def erase(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do it: it cannot be undone.")] = False,
    as_json: Json = False,
) -> None:
    """Erase a tenant that is quarantined: everything but the audit's records (names, digests and amounts) and sums of use.

    Recorded in the audit first. The audit's chain verifies as before, and statements of past months stay as they are.
    """
    if not yes:
        raise typer.BadParameter(
            "say --yes: it cannot be undone (agentos tenant export writes it out first)", param_hint="--yes"
        )
    _say(_with_desk(name, lambda desk: desk.erase()), as_json=as_json)


def _with_desk(name: str, work: Callable[[TenantDesk], Awaitable[Any]]) -> Any:
    from agent_os.runtime.tenants import open_tenant  # noqa: PLC0415

    desk = open_tenant(name)
    try:
        return asyncio.run(_run(work, desk))
    finally:
        desk.close()


async def _run(work: Callable[[TenantDesk], Awaitable[Any]], desk: TenantDesk) -> Any:
    return await work(desk)


def _say(found: dict[str, int], *, as_json: bool) -> None:
    typer.echo(json.dumps(found) if as_json else "\n".join(f"{count:>8}  {kind}" for kind, count in found.items()))
