"""`agentos serve`: run the model gateway on loopback until it is interrupted."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

TOKEN_VARIABLE: Final = "AGENTOS_SERVE_TOKEN"  # noqa: S105 - the name of a variable
APPROVER_VARIABLE: Final = "AGENTOS_APPROVER_TOKEN"


def serve(
    policy: Annotated[
        list[str] | None, typer.Option("--policy", "-p", help="A policy file or pack:NAME; several are layers.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port on 127.0.0.1; 0 chooses a free one.")] = 8377,
    workspace: Annotated[Path, typer.Option("--workspace", "-w", help="The folder of the session.")] = Path("."),
    callers: Annotated[
        Path | None, typer.Option("--callers", help="A TOML file of callers: tokens and an OpenID Connect issuer.")
    ] = None,
    new_token: Annotated[
        str | None,
        typer.Option("--new-token", metavar="USER", help="Print a token for a user and its row for --callers."),
    ] = None,
    tenant: Annotated[str, typer.Option(help="The tenant of --new-token.")] = "default",
    agent: Annotated[str, typer.Option(help="The agent of --new-token.")] = "",
    starts: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Its first day (UTC).")] = None,
    expires: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Its last day (UTC).")] = None,
    may: Annotated[
        list[str] | None, typer.Option(help="What it opens: models, metrics, all-metrics, approvals.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print where it listens as one line of JSON.")] = False,
) -> None:
    """Serve the model gateway: /v1/chat/completions, /v1/messages, /v1/embeddings and /v1/models; and /v1/approvals.

    Callers show the token that is printed (or $AGENTOS_SERVE_TOKEN) as their API key. What agents ask is answered with the
    approver's token (or $AGENTOS_APPROVER_TOKEN), as the user who runs this: never give it to an agent. Ctrl-C ends it;
    SIGHUP reads the policy files and the callers' file again and puts them in force for every caller, whole or not at all.
    """
    if new_token is not None:
        since, until = (day.date() if day is not None else None for day in (starts, expires))
        _print_token(new_token, tenant, agent, since, until, may or (), as_json=json_)
        return
    if not policy:
        raise typer.BadParameter("name a policy with a `models:` section", param_hint="--policy")
    from agent_os.runtime import event_loop  # noqa: PLC0415
    from agent_os.runtime.agent_terms import local_user  # noqa: PLC0415
    from agent_os.runtime.policies import load_policy  # noqa: PLC0415
    from agent_os.runtime.reload import Asks  # noqa: PLC0415
    from agent_os.runtime.serving.start import start_serving  # noqa: PLC0415

    loaded = load_policy(list(policy))
    known = None
    if callers is not None:
        from agent_os.runtime.serving.callers import load_callers  # noqa: PLC0415

        known = load_callers(callers)

    async def run() -> None:
        token = os.environ.get(TOKEN_VARIABLE, "")
        approver = os.environ.get(APPROVER_VARIABLE, "")
        serving = await start_serving(
            loaded,
            principal=local_user(),
            workspace=workspace,
            port=port,
            token=token,
            approver_token=approver,
            callers=known,
        )
        asks = Asks(lambda: serving.reload(policy, callers), lambda line: typer.echo(f"agentos: {line}", err=True))
        loop, main = asyncio.get_running_loop(), asyncio.current_task()
        loop.add_signal_handler(signal.SIGHUP, asks.ask)
        for number in (signal.SIGTERM, signal.SIGINT):  # also where whoever started it had an interrupt ignored
            if main is not None:
                loop.add_signal_handler(number, main.cancel)
        try:
            if json_:
                typer.echo(
                    json.dumps({"url": serving.url, "token": serving.token, "approver_token": serving.approver_token})
                )
            else:
                shown = serving.token or "<their token>"
                typer.echo(f"listening on {serving.url} (Ctrl-C ends it)")
                if callers is not None:
                    typer.echo(f"  callers are those of {callers}")
                typer.echo(f"  OpenAI clients:     OPENAI_BASE_URL={serving.url}/v1 OPENAI_API_KEY={shown}")
                typer.echo(f"  Anthropic clients:  ANTHROPIC_BASE_URL={serving.url} ANTHROPIC_API_KEY={shown}")
                typer.echo(f"  approvals, for you: {serving.url}/v1/approvals  with  Bearer {serving.approver_token}")
            await serving.server.forever()
        finally:
            await asks.aclose()
            await serving.aclose()

    try:
        event_loop.run(run())
    except (KeyboardInterrupt, asyncio.CancelledError):
        typer.echo("stopped", err=True)


def _print_token(
    user: str, tenant: str, agent: str, starts: date | None, expires: date | None, may: Sequence[str], *, as_json: bool
) -> None:
    from agent_os.runtime.serving.callers import new_token  # noqa: PLC0415

    token, row = new_token(user, tenant, agent=agent, starts=starts, expires=expires, may=may)
    if as_json:
        typer.echo(json.dumps({"token": token, "row": row}))
        return
    typer.echo(f"token, shown once: {token}", err=True)
    typer.echo(row, nl=False)
