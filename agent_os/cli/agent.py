"""`agentos agent`: the built-in agent on a task, under a policy. Output and questions; `runtime/agent.py` does."""

from __future__ import annotations

import json
import re
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from agent_os.cli.approvals_show import echo_in_full
from agent_os.cli.typed import forget_typed_ahead

if TYPE_CHECKING:
    from agent_os.core.approval import Approval
    from agent_os.runtime.agent import Heard

LINE_CHARS_MAX: Final = 160
_ASK: Final = re.compile(r"\bwaits for a person's approval (apr_[0-9a-f]+)")
MARKS: Final = {"call": "  > ", "result": "  < ", "refused": "  ! "}


def agent(
    task: Annotated[str, typer.Argument(help="What the agent is to do; `-` reads it from stdin.", metavar="TASK")],
    policy: Annotated[
        list[str] | None, typer.Option("--policy", "-p", help="A policy file or pack:NAME; several are layers.")
    ] = None,
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="A LangChain model (openai:gpt-5), or PROVIDER:MODEL of the policy."),
    ] = "",
    workspace: Annotated[Path, typer.Option("--workspace", "-w", help="The folder to work in.")] = Path("."),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Answer every ask yes, in your name.")] = False,
    ask: Annotated[
        bool | None, typer.Option("--ask/--park", help="Ask at the terminal, or leave asks for `agentos approvals`.")
    ] = None,
    session: Annotated[
        str, typer.Option("--session", help="Go on as this session: what people answered to its asks holds.")
    ] = "",
    json_: Annotated[bool, typer.Option("--json", help="Print each step as a line of JSON.")] = False,
) -> None:
    """Give the built-in agent a task under a policy (default: pack `baseline` and the model you name)."""
    from agent_os.runtime.agent import run_agent  # noqa: PLC0415
    from agent_os.runtime.agent_terms import agent_policy, default_model  # noqa: PLC0415

    if task == "-":
        task = sys.stdin.read()
    if not task.strip():
        raise typer.BadParameter("is empty", param_hint="TASK")
    named = model or default_model()
    if not named:
        raise typer.BadParameter(
            "name a model: --model provider:name, $AGENTOS_MODEL or `agentos init --model` (agentos demo needs none)",
            param_hint="--model",
        )
    approver: Any = None
    if yes:
        approver = _always
    elif ask or (ask is None and sys.stdin.isatty() and sys.stdout.isatty()):
        approver = _at_the_terminal
    waiting: set[str] = set()
    session = session or f"agent-{secrets.token_hex(8)}"

    def say(heard: Heard) -> None:
        if heard.kind == "refused":
            waiting.update(_ASK.findall(heard.text))
        (_json_line if json_ else _plain_line)(heard)

    run_agent(
        task,
        model=named,
        policy=agent_policy(policy or [], named),
        workspace=workspace,
        approver=approver,
        tell=say,
        session=session,
    )
    if waiting:
        typer.echo(f"agentos: waits for a person: agentos approvals show {' '.join(sorted(waiting))}", err=True)
        typer.echo(f"agentos: once answered: run the same with --session {session}", err=True)


def _always(approval: Approval) -> tuple[bool, str, str]:
    return True, approval.requester, "answered by --yes"


def _at_the_terminal(approval: Approval) -> tuple[bool, str, str] | None:
    typer.echo("")
    typer.echo("The agent asks:", err=True)
    echo_in_full(approval, error=True)
    forget_typed_ahead()
    try:
        answered = typer.prompt("Allow exactly this once? (yes/no/later)", default="later", err=True)
    except typer.Abort:
        return None
    if answered.strip().lower() in ("y", "yes"):
        return True, approval.requester, "answered at the terminal"
    if answered.strip().lower() in ("n", "no"):
        return False, approval.requester, "answered at the terminal"
    return None


def _plain_line(heard: Heard) -> None:
    if heard.kind == "text":
        typer.echo(_printable(heard.text, keep="\n\t"))
        return
    text = f"{MARKS[heard.kind]}{heard.tool}: {_printable(heard.text)}"
    colour = {"refused": typer.colors.RED, "call": typer.colors.CYAN}.get(heard.kind)
    short = text if len(text) <= LINE_CHARS_MAX else text[: LINE_CHARS_MAX - 1] + "…"
    typer.secho(short, fg=colour, err=True)


def _json_line(heard: Heard) -> None:
    typer.echo(json.dumps({"kind": heard.kind, "tool": heard.tool, "text": heard.text}, ensure_ascii=False))


def _printable(text: str, keep: str = "") -> str:
    """Return text without control characters: what a model or a file says cannot drive the terminal."""
    return "".join(char if char.isprintable() or char in keep else " " for char in text)
