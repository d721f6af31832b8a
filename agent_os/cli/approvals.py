"""`agentos approvals`: list, show, approve and deny what agents ask.

The answer is given as the user this command runs as. `approve` shows the exact action first, and on a terminal asks for
confirmation. Exit status 3 when the answer is not this person's to give.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import typer

if TYPE_CHECKING:
    from agent_os.core.ports import Approval
    from agent_os.runtime.approvals import ApprovalDesk

T = TypeVar("T")
app = typer.Typer(no_args_is_help=True, help="List, show and answer what agents ask.")
JSON = typer.Option(False, "--json", help="Print JSON.")


def _with_desk(work: Callable[[ApprovalDesk], Awaitable[T]], *, answering: bool = False) -> T:
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
    import json  # noqa: PLC0415

    return json.dumps(value, ensure_ascii=True, sort_keys=True)


@app.command("list")
def list_(
    state: str = typer.Option("waiting", help="waiting, approved, denied, expired, used or all."),
    as_json: bool = JSON,
) -> None:
    """List asks, oldest first."""
    found = _with_desk(lambda desk: desk.list(None if state == "all" else state))
    if as_json:
        typer.echo(_dump([_data(approval) for approval in found]))
        return
    if not found:
        typer.echo("nothing waits" if state == "waiting" else "none")
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table("id", "state", "asked", "left", "what", "rules", "answers", box=None, pad_edge=False)
    for approval in found:
        what = f"{approval.preview.get('kind', approval.action.get('kind', ''))} {approval.preview.get('target', '')}"
        answers = f"{len(approval.approvals)}/{approval.needed}"
        cells = (approval.id, approval.state, _ago(approval.requested_at), _left(approval), what)
        table.add_row(*(escape(_printable(cell)) for cell in (*cells, " ".join(approval.rules), answers)))
    Console().print(table)


@app.command()
def show(approval_id: str = typer.Argument(help="The ask's id."), as_json: bool = JSON) -> None:
    """Show one ask in full: effect, exact arguments, rules, and what happens when nobody answers."""
    approval = _with_desk(lambda desk: desk.get(approval_id))
    typer.echo(_dump(_data(approval)) if as_json else _in_full(approval))


@app.command()
def approve(
    approval_id: str = typer.Argument(help="The ask's id."),
    note: str = typer.Option("", help="A note for the record."),
    yes: bool = typer.Option(False, "--yes", "-y", help="Do not ask again on the terminal."),
    as_json: bool = JSON,
) -> None:
    """Approve exactly the action shown, once."""
    _answer(approval_id, approve=True, note=note, yes=yes, as_json=as_json)


@app.command()
def deny(
    approval_id: str = typer.Argument(help="The ask's id."),
    reason: str = typer.Option("", "--reason", help="What the agent is told."),
    as_json: bool = JSON,
) -> None:
    """Deny the action; the agent sees the reason."""
    _answer(approval_id, approve=False, note=reason, yes=True, as_json=as_json)


def _answer(approval_id: str, *, approve: bool, note: str, yes: bool, as_json: bool) -> None:
    from agent_os.core.errors import ActionError  # noqa: PLC0415

    async def work(desk: ApprovalDesk) -> Approval:
        desk.refuse_inside_agent()
        approval = await desk.get(approval_id)
        if not as_json:
            typer.echo(_in_full(approval))
        if not yes:
            if not sys.stdin.isatty():
                typer.echo("agentos: not a terminal: add --yes to approve exactly what is shown", err=True)
                raise typer.Exit(2)
            if not typer.confirm("Approve exactly this, once?"):
                raise typer.Exit(1)
        return await desk.answer(approval, approve=approve, note=note)

    try:
        approval = _with_desk(work, answering=True)
    except ActionError as error:
        typer.echo(f"agentos: {error}", err=True)
        raise typer.Exit(3) from None
    typer.echo(_dump(_data(approval)) if as_json else f"{approval.id}: {approval.state}{_still(approval)}")


def _still(approval: Approval) -> str:
    missing = approval.needed - len(approval.approvals)
    return f" ({missing} more must approve)" if approval.state == "waiting" and missing > 0 else ""


def _in_full(approval: Approval) -> str:
    import json  # noqa: PLC0415

    preview = dict(approval.preview)
    lines = [
        f"ask        {approval.id} ({approval.state}, {_left(approval)} left)",
        f"action     {preview.pop('kind', approval.action.get('kind', ''))} {preview.pop('target', '')}",
        f"digest     {approval.action_digest}",
        f"asked for  {approval.requester or '-'}",
        f"because    {approval.reason}",
        f"rules      {' '.join(approval.rules)}",
        f"policy     {approval.policy_digest}",
        f"people     {len(approval.approvals)} of {approval.needed} approved"
        + (f" ({', '.join(approval.approvals)})" if approval.approvals else ""),
        "unanswered it expires, which denies",
    ]
    if approval.approvers:
        lines.insert(-1, f"approvers  {', '.join(approval.approvers)}")
    shown = json.dumps(preview, indent=2, ensure_ascii=True, sort_keys=True)
    return "\n".join(_printable(line) for line in lines) + "\n" + shown


def _printable(text: str) -> str:
    """Return text without control characters: what an agent asks for must not drive the approver's terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _ago(moment: float) -> str:
    import time  # noqa: PLC0415

    return _span(time.time() - moment) + " ago"


def _left(approval: Approval) -> str:
    import time  # noqa: PLC0415

    return _span(max(0.0, approval.expires_at - time.time())) if approval.state in ("waiting", "approved") else "-"


def _span(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size * 2:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
