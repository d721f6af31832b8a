"""The `agentos` command: a table of verbs, each imported when it is used, and one place that turns errors into exits.

Exit status: 0 done, 1 anything else, 2 usage, 3 denied by policy, 4 policy file invalid, 5 this machine cannot enforce
it. Errors are lower case on stderr, one problem a line, with its fix; a traceback is a defect (set AGENTOS_DEBUG=1 to
see one).
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any, Final, NoReturn

os.environ.setdefault(
    "TYPER_USE_RICH", "0"
)  # read at import: help and errors in plain lines, for pipes and narrow terminals

import typer
from typer.core import TyperGroup

from agent_os.cli.quoting import escaped
from agent_os.core.errors import AgentOSError, DeniedError, EnforcementError, PolicyError

sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
# httpx imports its own command line (rich, pygments, click) with itself; in this process nobody calls it

GROUPS: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "Begin": {
        "demo": ("demo", "The guided tour: an agent does real work on real files under a policy, attacks included."),
        "init": ("init", "Write a policy and a configuration for this folder."),
        "doctor": ("doctor", "Say layer by layer what this machine can enforce, and what a policy needs of it."),
    },
    "Run": {
        "run": ("run", "Run any program in the sandbox under a policy."),
        "agent": ("agent", "Give the built-in agent a task under a policy."),
        "serve": ("serve", "Serve the model gateway on loopback."),
        "diff": ("diff", "Show what a snapshot run changed."),
        "commit": ("commit", "Apply what a snapshot run changed."),
        "discard": ("discard", "Throw away what a snapshot run changed."),
        "undo": ("undo", "Put back what the last commit or undoable run changed."),
    },
    "Policy and record": {
        "policy": ("policy", "Check, test, explain, decide, diff, replay, learn, bundle and roll back policies."),
        "approvals": ("approvals", "List, show and answer what agents ask."),
        "audit": ("audit", "Read, verify, export and send on the audit."),
        "privacy": ("privacy", "Find, redact and restore personal data and secrets."),
        "tenant": ("tenant", "Export everything of a tenant, and erase it."),
        "net": ("net", "Watch what the network guard lets through."),
        "budget": ("budget", "Show what was spent and what is left; the bill of a month."),
    },
    "Agents at work": {
        "task": ("task", "Submit and control durable tasks."),
        "schedule": ("schedule", "Add, list, pause, resume and remove schedules."),
        "worker": ("worker", "Run tasks from a queue on this machine."),
        "ps": ("ps", "Show agents at work as a tree."),
        "kill": ("kill", "End an agent and everything it started."),
        "halt": ("stops", "The kill switch: no agent begins anything more, until it is released."),
        "quarantine": ("stops", "Stop one agent, role, task, user or tenant; it keeps its state."),
        "release": ("stops", "Lift a halt or a quarantine."),
        "stops": ("stops", "List what is halted or quarantined."),
    },
    "What agents use": {
        "tools": ("tools", "Add, inspect, approve and remove tool servers."),
        "models": ("models", "List models, pull the local one."),
        "secret": ("secret", "Set, list and remove secrets, bound to their destination."),
        "keys": ("keys", "List and rotate the runtime's own keys."),
    },
}
"""Heading -> verb -> (module in agent_os.cli, one line of help). A module has `app`, or a function named like the verb."""
VERBS: Final = {name: entry for group in GROUPS.values() for name, entry in group.items()}


class _Verbs(TyperGroup):
    """A group that imports a verb's module only when that verb is used."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name in VERBS if _installed(name)]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Name the nearest verbs when there is none of that name."""
        wanted = args[0]
        if wanted not in VERBS and not wanted.startswith("-"):
            from difflib import get_close_matches  # noqa: PLC0415 - only for a slip

            near = get_close_matches(wanted, self.list_commands(ctx), n=3, cutoff=0.5)
            more = f"did you mean {' or '.join(near)}?" if near else "`agentos --help` lists the verbs"
            ctx.fail(escaped(f"there is no verb {wanted!r}: {more}"))
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in VERBS or not _installed(cmd_name):
            return None
        module = importlib.import_module(f"agent_os.cli.{VERBS[cmd_name][0]}")
        app = getattr(module, f"{cmd_name}_app", None) or getattr(module, "app", None)
        if app is None:
            app = typer.Typer(add_completion=False)
            app.command(name=cmd_name)(getattr(module, cmd_name))
        command = typer.main.get_command(app)
        command.name = cmd_name
        _show_whole(command)
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help from the table, without importing any verb."""
        formatter.write_usage("agentos", "[--version] VERB [ARGS]...")
        formatter.write_paragraph()
        formatter.write_text("One policy, one door: agents at work under a policy that holds.")
        widest = max(map(len, VERBS))
        for heading, group in GROUPS.items():
            with formatter.section(heading):
                rows = [(f"{name:<{widest}}", said) for name, (_, said) in group.items() if _installed(name)]
                formatter.write_dl(rows or [("-", "none")])
        with formatter.section("Options"):
            formatter.write_dl(
                [
                    ("--version", "Show the version."),
                    ("--install-completion", "Install completion for this shell."),
                    ("--show-completion", "Print the completion script of this shell."),
                    ("--help", "Show this message. `agentos VERB --help` says more."),
                ]
            )


def _show_whole(command: Any) -> None:
    """Let the help of a group show each verb's sentence whole: click cuts it at half a line."""
    for each in getattr(command, "commands", {}).values():
        each.short_help = " ".join((each.help or "").split("\n\n")[0].split())


def _installed(name: str) -> bool:
    path = os.path.join(os.path.dirname(__file__), VERBS[name][0] + ".py")
    return os.path.exists(path)


app = typer.Typer(cls=_Verbs, no_args_is_help=True, pretty_exceptions_enable=False)


def _version(value: bool) -> None:
    if value:
        from agent_os import __version__  # noqa: PLC0415

        typer.echo(f"agentos {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", is_eager=True, callback=_version, help="Show the version."),
) -> None:
    """One policy, one door: agents at work under a policy that holds."""


def _leave_no_core() -> None:
    """Have a crash write no memory image: it would hold keys and prompts, in the folder that programs read next."""
    import resource  # noqa: PLC0415

    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))


def main() -> NoReturn:
    """Run the command line and exit with the status of the module's table."""
    _leave_no_core()
    try:
        app(prog_name="agentos")
    except AgentOSError as error:
        if os.environ.get("AGENTOS_DEBUG"):
            raise
        fail(error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader went away: nothing more to say to it
        sys.exit(0)
    except OSError as error:
        if os.environ.get("AGENTOS_DEBUG"):
            raise
        where = f"{error.filename}: " if error.filename else ""
        typer.echo(escaped(f"agentos: {where}{(error.strerror or str(error)).lower()}"), err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def fail(error: AgentOSError) -> NoReturn:
    """Print an error the way every verb does and exit with its status."""
    if isinstance(error, PolicyError):
        for problem in error.problems:
            typer.echo(escaped(f"agentos: {problem}", keep="\n"), err=True)
        sys.exit(4)
    if isinstance(error, DeniedError):
        typer.echo(escaped(f"agentos: denied: {error.decision.reason}"), err=True)
        if error.decision.advice:
            typer.echo(escaped(f"         allowed instead: {error.decision.advice}"), err=True)
        sys.exit(3)
    typer.echo(escaped(f"agentos: {error}", keep="\n"), err=True)
    sys.exit(5 if isinstance(error, EnforcementError) else 1)
