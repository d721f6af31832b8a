"""How an ask looks to the person who answers it: what happens, where to, with which data, on whose word, by which rule.

Threat: text that an agent wrote and that drives the approver's terminal, or hides what matters: control characters and
characters that reorder text are replaced, every value is shown as JSON.
"""

from __future__ import annotations

import json
import time
import unicodedata
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent_os.core.ports import Approval, StandingGrant

WIDE: Final = 12
LINES_SHOWN_MAX: Final = 400


def in_full(approval: Approval) -> list[tuple[str, str]]:
    """Return the lines of an ask with a style each (a name of rich's)."""
    return [(printable(text), style) for text, style in _lines(approval)]


def _lines(approval: Approval) -> Iterator[tuple[str, str]]:
    preview = dict(approval.preview)
    kind = preview.pop("kind", approval.action.get("kind", ""))
    yield f"{kind}  {preview.pop('target', '')}", "bold"
    yield _row("ask", f"{approval.id}, {approval.state}"), "dim"
    going = preview.pop("destination", "")
    if going:
        yield _row("goes to", going), "cyan"
    yield from _arguments(preview.pop("arguments", {}), kind)
    yield from _difference(preview.pop("difference", None))
    for item in preview.pop("provenance", ()):
        where = " ".join(part for part in (item.get("argument"), "from", item.get("source") or "unknown text") if part)
        yield _row("careful", f"{item.get('sink')}: {where} {item.get('detail', '')}".rstrip()), "red"
        if item.get("quote"):
            yield _row("", f"“{item['quote']}”"), "red"
    for label in preview.pop("labels", ()):
        said = f"{label['argument']}: {label['integrity']}, {label['confidentiality']}"
        sources = ", ".join(label["sources"])
        yield _row("label", said + (f", from {sources}" if sources else "")), "magenta"
    preview.pop("on_timeout", None)
    preview.pop("reason", None)
    for name, value in sorted(preview.items()):
        yield _row(name, _json(value)), ""
    yield _row("asked by", f"{approval.agent} for {approval.requester or '-'} (tenant {approval.tenant})"), ""
    yield _row("because", approval.reason), "yellow"
    yield _row("rules", " ".join(approval.rules)), ""
    yield from _terms(approval)


def _terms(approval: Approval) -> Iterator[tuple[str, str]]:
    given = f" ({', '.join(approval.approvals)})" if approval.approvals else ""
    yield _row("people", f"{len(approval.approvals)} of {approval.needed} approved{given}"), ""
    if approval.approvers:
        yield _row("approvers", ", ".join(approval.approvers)), ""
    if approval.separate:
        yield _row("", "the requester may not approve"), ""
    if approval.answer:
        yield _row("note", approval.answer), ""
    if approval.edited is not None:
        yield _row("edited", _json(dict(approval.edited))), "yellow"
    if "same" in approval.scopes:
        yield _row("may last", f"{_and(approval.offers)}: {scope_text(approval.scopes['same'])}"), "dim"
    elif "exact" in approval.scopes:
        yield _row("may last", f"{_and(approval.offers)}: exactly these arguments"), "dim"
    yield _row("bound to", f"action {approval.action_digest[:23]}…, policy {approval.policy_digest[:23]}…"), "dim"
    yield _row("unanswered", f"it expires in {left(approval)}, which denies"), "dim"


def _arguments(arguments: Any, kind: str) -> Iterator[tuple[str, str]]:
    given = arguments.get("args", arguments) if kind == "tool.call" and isinstance(arguments, dict) else arguments
    if not isinstance(given, dict):
        yield _row("with", _json(given)), ""
        return
    for name, value in given.items():
        yield _row("with", f"{name} = {_json(value)}"), ""


def _difference(lines: Any) -> Iterator[tuple[str, str]]:
    if not lines:
        return
    if isinstance(lines, str):
        yield _row("change", lines), ""
        return
    for line in lines[:LINES_SHOWN_MAX]:
        style = "green" if line.startswith("+") else "red" if line.startswith("-") else "dim"
        yield " " * WIDE + line, style
    if len(lines) > LINES_SHOWN_MAX:
        yield " " * WIDE + f"… {len(lines) - LINES_SHOWN_MAX} more lines", "dim"


def scope_text(scope: Any) -> str:
    """Return a scope in words."""
    parts = [f"{name} = {_json(value)}" for name, value in scope.get("equal", {}).items()]
    parts += [f"{name} at most {most:g}" for name, most in scope.get("at_most", {}).items()]
    parts += [f"any {name}" for name in scope.get("free", ())]
    agent, session = "/".join(scope["who"]["agent"]), scope.get("session")
    who = f"for {scope['who']['user']} ({agent})" + (f" in session {session}" if session else "")
    return printable(f"{scope['kind']} {scope['target']} with {', '.join(parts) or 'no argument'} {who}")


def standing_lines(grant: StandingGrant) -> list[str]:
    """Return the lines of a lasting grant."""
    scope = grant.grant.scope
    ends = f"{span(max(0.0, grant.grant.expires_at - time.time()))} left" if grant.state == "live" else grant.state
    head = f"{grant.grant.id}  {ends}, used {grant.uses} times, given by {', '.join(grant.grant.approvers)}"
    return [
        printable(head),
        printable(f"  answers {' '.join(grant.grant.rules)}"),
        f"  covers  {scope_text(scope.to_json()) if scope is not None else '-'}",
    ]


def printable(text: str) -> str:
    """Return text without control and format characters: what an agent asks for must not drive the terminal."""
    return "".join(
        char if char.isprintable() and unicodedata.category(char) != "Cf" else "\N{REPLACEMENT CHARACTER}"
        for char in text
    )


def left(approval: Approval) -> str:
    """Return how long an ask still lives."""
    return span(max(0.0, approval.expires_at - time.time())) if approval.state in ("waiting", "approved") else "-"


def span(seconds: float) -> str:
    """Return a span of time in words."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size * 2:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _row(name: str, text: str) -> str:
    return f"{name:<{WIDE}}{text}"


def _and(offers: tuple[str, ...]) -> str:
    return " or ".join(offer for offer in offers if offer != "edit")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def echo_in_full(approval: Approval) -> None:
    """Print an ask."""
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False, soft_wrap=True)
    for line, style in in_full(approval):
        console.print(Text(line, style=style))


def still(approval: Approval) -> str:
    """Say how many people are still needed."""
    missing = approval.needed - len(approval.approvals)
    return f" ({missing} more must approve)" if approval.state == "waiting" and missing > 0 else ""
