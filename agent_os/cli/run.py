"""`agentos run`: any program in the sandbox under a policy. Arguments in, the program's own status out.

125 is the runtime's own failure (its reason on stderr and in `--status-file`), 126 and 127 are a program that cannot be
run or found, everything else is what the program ended with (128 + n for signal n), as a shell shows it.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from agent_os.cli.quoting import escaped, quoted
from agent_os.cli.status_file import StatusFile
from agent_os.core.errors import AgentOSError, DeniedError, EnforcementError, PolicyError

app = typer.Typer(add_completion=False)

OWN_FAILURE = 125
_PASS_ON = {"allow_interspersed_args": False}


@app.command(context_settings=_PASS_ON)
def run(
    command: Annotated[list[str] | None, typer.Argument(help="The program and its arguments.", metavar="CMD")] = None,
    policy: Annotated[
        list[str] | None, typer.Option("--policy", "-p", help="A policy file or pack:NAME; several are layers.")
    ] = None,
    workspace: Annotated[str, typer.Option(help="The folder the program works in.")] = ".",
    cwd: Annotated[str, typer.Option(help="Where in the workspace it starts.")] = "",
    plan: Annotated[bool, typer.Option("--plan", help="Print what would be enforced and run nothing.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="With --plan: as JSON.")] = False,
    status_file: Annotated[str, typer.Option(help="Write how the run ended to this file, as JSON.")] = "",
    env: Annotated[
        list[str] | None, typer.Option("--env", "-e", help="NAME passes a variable on, NAME=VALUE sets one.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0, help="End the run after so many seconds.", show_default=False)] = 0.0,
    max_output: Annotated[
        int, typer.Option(min=0, help="End the run after so many bytes of output.", show_default=False)
    ] = 0,
    allow_missing: Annotated[
        list[str] | None, typer.Option(help="Run although this layer cannot be enforced here; recorded.")
    ] = None,
    snapshot: Annotated[str, typer.Option(help="Keep changes apart under this name: see agentos diff.")] = "",
    copy: Annotated[bool, typer.Option("--copy", help="Work on a copy; nothing of it is kept.")] = False,
    undoable: Annotated[
        bool, typer.Option("--undoable", help="Take changes over at the end so that agentos undo puts everything back.")
    ] = False,
    observe: Annotated[
        bool, typer.Option("--observe", help="Let denied network requests to public addresses pass; see policy learn.")
    ] = False,
    tty: Annotated[bool | None, typer.Option("--tty/--no-tty", help="Give the program a terminal of its own.")] = None,
) -> None:
    """Run any program in the sandbox under a policy (default: pack `baseline`, this folder).

    A SIGHUP reads the policy files again; what is no longer allowed is cut.
    """
    if not command and not plan:
        typer.echo("agentos: name a program: agentos run -- CMD ARG...", err=True)
        raise typer.Exit(2)
    if sum((bool(snapshot), copy, undoable)) > 1:
        typer.echo("agentos: choose one of --snapshot, --copy and --undoable", err=True)
        raise typer.Exit(2)
    if json_ and not plan:
        raise typer.BadParameter("goes with --plan; --status-file writes how a run ended", param_hint="--json")
    if tty and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise typer.BadParameter("stdin and stdout are no terminal", param_hint="--tty")
    from agent_os.runtime.sandbox import run as sandbox_run  # noqa: PLC0415

    status = _status_file(status_file)
    names, values = _variables(env or [])
    request = sandbox_run.RunRequest(
        argv=tuple(command or ()),
        policies=tuple(policy or ()),
        workspace=workspace,
        cwd=cwd,
        environment=names,
        values=values,
        wall_seconds=timeout,
        output_bytes=max_output,
        allow_missing=tuple(allow_missing or ()),
        snapshot=snapshot,
        throw_away=copy,
        undoable=undoable,
        terminal=tty,
        observe=observe,
    )
    try:
        if plan:
            made = sandbox_run.plan_of(request)
            text = json.dumps(made.to_json(), indent=2) if json_ else escaped(made.to_text(), keep="\n")
            typer.echo(text, nl=json_)
            return
        finished = sandbox_run.run(request)
    except AgentOSError as error:
        if plan:
            raise
        _own_failure(error, status)
    ended = finished.ended
    for path in finished.left_out:
        typer.echo(f"agentos: left out: {quoted(path)}", err=True)
    if ended.reason:
        typer.echo(f"agentos: the run was ended: {ended.reason}", err=True)
    if ended.advice:
        typer.echo(f"agentos: {ended.advice}", err=True)
    _status(
        status,
        {
            "status": ended.returncode,
            "signal": ended.signal,
            "ended_by": ended.reason or "itself",
            "cpu_seconds": round(ended.cpu_seconds, 3),
            "wall_seconds": round(ended.wall_seconds, 3),
            "max_rss_bytes": ended.max_rss_bytes,
        },
    )
    sys.stdout.flush()
    sys.exit(ended.returncode)


def _variables(given: list[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    names, values = [], {}
    for entry in given:
        name, equals, value = entry.partition("=")
        if not name:
            raise typer.BadParameter("needs a name: NAME or NAME=VALUE", param_hint="--env")
        if equals:
            values[name] = value
        else:
            names.append(name)
    return tuple(names), values


def _own_failure(error: AgentOSError, status: StatusFile) -> None:
    kind = "error"
    if isinstance(error, DeniedError):
        kind = "denied"
    elif isinstance(error, PolicyError):
        kind = "policy-invalid"
    elif isinstance(error, EnforcementError):
        kind = "cannot-enforce"
    code = OWN_FAILURE
    own = getattr(error, "exit_status", None)
    if isinstance(own, int):
        code = own
    typer.echo(escaped(f"agentos: {error}", keep="\n"), err=True)
    _status(status, {"status": code, "failure": kind, "reason": str(error)})
    sys.exit(code)


def _status_file(path: str) -> StatusFile:
    try:
        return StatusFile(path)
    except OSError as error:
        typer.echo(f"agentos: the status file cannot be written: {error.strerror}", err=True)
        raise typer.Exit(OWN_FAILURE) from None


def _status(file: StatusFile, form: dict[str, Any]) -> None:
    try:
        file.write(form)
    except OSError as error:
        typer.echo(f"agentos: the status file cannot be written: {error.strerror}", err=True)
