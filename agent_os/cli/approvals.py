"""`agentos approvals`: what agents ask, and a person's answers.

Without a verb it is a live review on the terminal: each ask as it comes, in full, and a key for the answer. The answer is
given as the user this command runs as. Exit status 3 when the answer is not this person's to give.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from agent_os.cli.approvals_show import echo_in_full, still
from agent_os.cli.typed import forget_typed_ahead

if TYPE_CHECKING:
    from agent_os.core.approval import Approval
    from agent_os.runtime.approvals import ApprovalDesk

T = TypeVar("T")
app = typer.Typer(
    add_completion=False, help="Review, list, show and answer what agents ask. Without a verb: a live review."
)
JSON = typer.Option(False, "--json", help="Print JSON.")


@app.callback(invoke_without_command=True)
def review(context: typer.Context) -> None:
    """Review what agents ask. Without a verb, on a terminal: live, one ask after the other."""
    if context.invoked_subcommand is not None:
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        list_(state="waiting", as_json=False)
        return
    from agent_os.cli.approvals_review import live  # noqa: PLC0415

    raise typer.Exit(with_desk(live, answering=True))


def with_desk(work: Callable[[ApprovalDesk], Awaitable[T]], *, answering: bool = False) -> T:
    """Run work with the approvals open as the user this process runs as."""
    from agent_os.runtime.approvals import open_desk  # noqa: PLC0415

    async def run() -> T:
        desk = open_desk(answering=answering)
        try:
            return await work(desk)
        finally:
            desk.close()

    return asyncio.run(run())


def _data(approval: Approval) -> dict[str, Any]:
    from dataclasses import asdict  # noqa: PLC0415

    data = asdict(approval)
    return {**data, "rules": list(approval.rules), "approvals": list(approval.approvals)}


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, sort_keys=True)


@app.command("list")
def list_(
    state: str = typer.Option("waiting", help="waiting, approved, edited, denied, expired, used or all."),
    as_json: bool = JSON,
) -> None:
    """List asks, oldest first."""
    found = with_desk(lambda desk: desk.list(None if state == "all" else state))
    if as_json:
        typer.echo(_dump([_data(approval) for approval in found]))
        return
    if not found:
        typer.echo("nothing waits" if state == "waiting" else "none")
        return
    import time  # noqa: PLC0415

    from agent_os.cli.approvals_show import left, span  # noqa: PLC0415
    from agent_os.cli.columns import echo_columns  # noqa: PLC0415

    rows = []
    for approval in found:
        what = f"{approval.preview.get('kind', approval.action.get('kind', ''))} {approval.preview.get('target', '')}"
        answers = f"{len(approval.approvals)}/{approval.needed}"
        asked = span(time.time() - approval.requested_at) + " ago"
        rules = " ".join(approval.rules)
        rows.append((approval.id, approval.state, asked, left(approval), answers, what, rules))
    echo_columns(("id", "state", "asked", "left", "answers", "what", "rules"), rows, "nothing waits")


@app.command()
def show(approval_id: str = typer.Argument(help="The ask's id."), as_json: bool = JSON) -> None:
    """Show one ask in full: effect, exact arguments and change, destination, labels, rules, and what a timeout means."""
    approval = with_desk(lambda desk: desk.get(approval_id))
    if as_json:
        typer.echo(_dump(_data(approval)))
    else:
        echo_in_full(approval)


@app.command()
def approve(
    approval_id: str = typer.Argument(help="The ask's id."),
    note: str = typer.Option("", help="A note for the record."),
    lasting: str = typer.Option("once", "--for", help="once, session or always (what the policy offers)."),
    width: str = typer.Option("exact", "--scope", help="With session and always: exact (these arguments) or same."),
    changes: list[str] = typer.Option([], "--set", help="NAME=JSON: change an argument; it is decided again."),
    yes: bool = typer.Option(False, "--yes", "-y", help="Do not ask again on the terminal."),
    as_json: bool = JSON,
) -> None:
    """Approve exactly the action shown, once; or with changed arguments, or for longer where the policy offers it."""
    from agent_os.core.approval import Answer  # noqa: PLC0415

    def given(approval: Approval) -> Answer:
        arguments = edited(approval, changes) if changes else None
        return Answer(True, "", note, lasting=lasting, width=width, arguments=arguments)

    _answer(approval_id, given, yes=yes, as_json=as_json)


@app.command()
def deny(
    approval_id: str = typer.Argument(help="The ask's id."),
    reason: str = typer.Option("", "--reason", help="What the agent is told."),
    as_json: bool = JSON,
) -> None:
    """Deny the action; the agent sees the reason."""
    from agent_os.core.approval import Answer  # noqa: PLC0415

    _answer(approval_id, lambda _: Answer(False, "", reason), yes=True, as_json=as_json)


@app.command()
def standing(as_json: bool = JSON) -> None:
    """List what was approved for a session or for always: what it covers, who gave it, how often it was used."""
    from agent_os.cli.approvals_show import standing_lines  # noqa: PLC0415

    found = with_desk(lambda desk: desk.standing())
    if as_json:
        typer.echo(
            _dump(
                [
                    {
                        "id": each.grant.id,
                        "state": each.state,
                        "rules": list(each.grant.rules),
                        "approvers": list(each.grant.approvers),
                        "expires_at": each.grant.expires_at,
                        "given_at": each.given_at,
                        "uses": each.uses,
                        "approval": each.approval,
                        "scope": each.grant.scope.to_json() if each.grant.scope is not None else None,
                    }
                    for each in found
                ]
            )
        )
        return
    for each in found:
        for line in standing_lines(each):
            typer.echo(line)
    if not found:
        typer.echo("nothing stands")


@app.command()
def overlay(grants: list[str] = typer.Argument(None, help="Lasting grants (std_…); none: all that live.")) -> None:
    """Print what was approved for always as a policy file, to be reviewed and put under `extends:` of the asking file."""
    from agent_os.policy.standing import overlay as document  # noqa: PLC0415
    from agent_os.policy.workbench.writing import dumped  # noqa: PLC0415

    found = with_desk(lambda desk: desk.standing())
    chosen = [each.grant for each in found if each.state == "live" and (not grants or each.grant.id in grants)]
    missing = sorted(set(grants or ()) - {each.id for each in chosen})
    if missing:
        raise typer.BadParameter(f"no lasting grant that lives is called {missing[0]!r}")
    typer.echo(dumped(document(chosen)), nl=False)


@app.command()
def revoke(grant_id: str = typer.Argument(help="A lasting grant (std_…), or an approval not used yet.")) -> None:
    """End a lasting grant, or take back an approval that was not used."""
    with_desk(lambda desk: desk.revoke(grant_id), answering=True)
    typer.echo(f"{grant_id}: revoked")


def edited(approval: Approval, changes: list[str]) -> dict[str, Any]:
    """Return the ask's arguments with changes `NAME=JSON` put in (a value that is no JSON is text). Exit 2 on nonsense."""
    arguments = approval.preview.get("arguments", {})
    if approval.preview.get("kind") == "tool.call":
        arguments = arguments.get("args", {})
    result = dict(arguments)
    for change in changes:
        name, separator, text = change.partition("=")
        if not separator or not name:
            raise typer.BadParameter(f"NAME=JSON is needed, not {change!r}", param_hint="--set")
        try:
            result[name] = json.loads(text)
        except ValueError:
            result[name] = text
    return result


def _answer(approval_id: str, given: Callable[[Approval], Any], *, yes: bool, as_json: bool) -> None:
    from agent_os.core.errors import ActionError  # noqa: PLC0415

    async def work(desk: ApprovalDesk) -> Approval:
        desk.refuse_inside_agent()
        approval = await desk.get(approval_id)
        if not as_json:
            echo_in_full(approval)
        if not yes:
            if not sys.stdin.isatty():
                typer.echo("agentos: not a terminal: add --yes to approve exactly what is shown", err=True)
                raise typer.Exit(2)
            forget_typed_ahead()
            if not typer.confirm("Approve exactly this?"):
                raise typer.Exit(1)
        return await desk.answer(approval, given(approval))

    try:
        approval = with_desk(work, answering=True)
    except ActionError as error:
        typer.echo(f"agentos: {error}", err=True)
        raise typer.Exit(3) from None
    typer.echo(_dump(_data(approval)) if as_json else f"{approval.id}: {approval.state}{still(approval)}")
