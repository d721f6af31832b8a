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

    from agent_os.core.approval import Approval, StandingGrant

WIDE: Final = 12
LINES_SHOWN_MAX: Final = 400
GOES_ON: Final = "\u2026 "
_UNSEEN: Final = frozenset(
    map(
        chr,
        (
            *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x180B, 0x180C, 0x180D, 0x180F, 0x2800, 0x3164, 0xFFA0),
            *range(0xFE00, 0xFE0F),
            *range(0xE0100, 0xE01F0),
        ),
    )
)
"""Printable by Unicode's word, and yet nothing to be seen: fillers, blanks, variation selectors (but the one of emoji)."""
SAID: Final = {
    "authority_from_untrusted": "! stands in text that anybody could have written",
    "authority_of_unknown_origin": "! nobody vouches for it: not the task, no trusted record",
    "effect_beyond_scope": "the task does not ask for this effect",
    "repeats_beyond_scope": "the task asks for this effect fewer times",
    "contradicts_prompt": "! the task says otherwise",
    "secrets_to_untrusted": "! holds a guarded value, and nobody vouches for who gets it",
    "secrets_to_named": "! holds a guarded value",
    "personal_to_untrusted": "! holds data that its recipient is not to read",
    "untrusted_url": "! holds a web address that the task does not have",
    "untrusted_image": "! loads by itself, from an address that the task does not have",
    "shared_write": "carries text of unknown authors",
    "invite_write": "! puts text of unknown authors into other people's calendars",
    "code_from_untrusted": "! is code that the task does not have",
    "code_write": "! puts text of unknown authors into a file of code",
    "autorun_write": "! puts text of unknown authors into a file that runs by itself",
    "policy_write": "! puts text of unknown authors into a policy or into orders for agents",
    "schedule_write": "! puts text of unknown authors into what runs later",
    "memory_poisoning": "! has text of unknown authors remembered",
    "injection_suspected": "a classifier suspects what was read, or could not look at it",
    "credential_use": "changes credentials after untrusted text was read",
    "unknown_tool": "nobody described this tool: it is judged by its name",
}
"""What a concern of the flow guard says to a person."""
_NAMES_DETAIL: Final = frozenset({"untrusted_url", "untrusted_image", "injection_suspected"})


def in_full(approval: Approval) -> list[tuple[str, str]]:
    """Return the lines of an ask with a style each (a name of rich's)."""
    return [(printable(text), style) for text, style in _lines(approval)]


def _lines(approval: Approval) -> Iterator[tuple[str, str]]:
    preview = dict(approval.preview)
    kind, effect = preview.pop("kind", approval.action.get("kind", "")), preview.pop("effect", "")
    yield f"{kind}  {preview.pop('target', '')}" + (f"  ({effect})" if effect else ""), "bold"
    yield _row("ask", f"{approval.id}, {approval.state}"), "dim"
    task = preview.pop("task", "")
    if task:
        yield _row("the task", f"“{' '.join(task.split())}”"), "green"
    going = preview.pop("destination", "")
    if going:
        yield _row("goes to", going), "cyan"
    labels, concerns = preview.pop("labels", ()), told_once(preview.pop("provenance", ()))
    yield from _arguments(preview.pop("arguments", {}), preview.pop("roles", {}), kind, concerns)
    yield from _difference(preview.pop("difference", None))
    told = {item.get("argument") for item in concerns}
    for item in concerns:
        if not item.get("argument"):
            yield from concern_lines(item)
    for label in labels:
        guarded = label["confidentiality"] != "public"
        if guarded or (not concerns and label["argument"] not in told):
            said = f"{label['argument']}: {label['integrity']}, {label['confidentiality']}"
            sources = ", ".join(label["sources"])
            yield _row("label", said + (f", from {sources}" if sources else "")), "magenta"
    preview.pop("on_timeout", None)
    preview.pop("reason", None)
    for name, value in sorted(preview.items()):
        yield _row(name, _json(value)), ""
    yield _row("asked by", f"{approval.agent} for {approval.requester or '-'} (tenant {approval.tenant})"), ""
    if not concerns:
        yield _row("because", approval.reason), "yellow"
    yield _row("rules", " ".join(approval.rules)), ""
    yield from _terms(approval)


def told_once(provenance: Any) -> list[Any]:
    """Return the concerns, one for each thing: an image's address is not told a second time as a mere address."""
    images = {item.get("detail") for item in provenance if item.get("sink") == "untrusted_image"}
    return [item for item in provenance if item.get("sink") != "untrusted_url" or item.get("detail") not in images]


def concern_lines(item: Any, indent: str = "careful") -> Iterator[tuple[str, str]]:
    """Return what speaks against a value or a call, and the words that named it where it came from."""
    sink, detail = str(item.get("sink", "")), str(item.get("detail", ""))
    said = SAID.get(sink, sink.replace("_", " "))
    if sink in _NAMES_DETAIL and detail:
        said = f"{said}: {detail}"
    source = str(item.get("source", ""))
    yield _row(indent, f"{said}" + (f", read from {_source(source)}" if source else "")), "red"
    if item.get("quote"):
        yield _row("", f"  “{item['quote']}”"), "red"


def _source(source: str) -> str:
    kind, _, name = source.partition(":")
    return {
        "file": name,
        "tool": f"a result of {name}",
        "host": f"the host {name}",
        "memory": f"the memory {name}",
    }.get(kind, source)


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


def _arguments(arguments: Any, roles: Any, kind: str, concerns: list[Any]) -> Iterator[tuple[str, str]]:
    """Return the arguments: first what decides where the effect goes, each with what speaks against it."""
    given = arguments.get("args", arguments) if kind == "tool.call" and isinstance(arguments, dict) else arguments
    if not isinstance(given, dict):
        yield _row("with", _json(given)), ""
        return
    for name, value in sorted(given.items(), key=lambda item: roles.get(item[0]) not in ("authority", "handle", None)):
        carried = roles.get(name) == "payload"
        yield _row("carries" if carried else "with", f"{name} = {_json(value)}"), ""
        for item in concerns:
            pointer = str(item.get("argument", ""))
            if pointer == f"/{name}" or pointer.startswith(f"/{name}/"):
                yield from concern_lines(item, "")


def _difference(lines: Any) -> Iterator[tuple[str, str]]:
    if not lines:
        return
    if isinstance(lines, str):
        yield _row("change", lines), ""
        return
    for line in lines[:LINES_SHOWN_MAX]:
        style = "green" if line.startswith("+") else "red" if line.startswith("-") else "dim"
        yield " " * WIDE + line.expandtabs(4), style
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
    """Return text without control and format characters, and without such as leave no mark: what an agent asks for must
    neither drive the terminal nor hide in it."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char
        if char.isprintable() and char not in _UNSEEN and unicodedata.category(char) != "Cf"
        else "\N{REPLACEMENT CHARACTER}"
        for char in text
    )


def folded(line: str, width: int) -> list[str]:
    """Return a line in parts of at most `width` cells, each but the first set in and marked as going on.

    A terminal that breaks a long value by itself would begin the next line with words of whoever wrote it, which could look
    like a line of ours.
    """
    from rich.cells import chop_cells  # noqa: PLC0415 - columns use `printable` without rich

    if len(line) * 2 <= width or width <= 2 * WIDE:
        return [line]
    parts = chop_cells(line, width)
    if len(parts) == 1:
        return parts
    rest = line[len(parts[0]) :]
    return [parts[0], *(f"{GOES_ON:>{WIDE}}{part}" for part in chop_cells(rest, width - WIDE))]


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


def echo_in_full(approval: Approval, *, error: bool = False) -> None:
    """Print an ask, to standard error where that is asked for."""
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False, soft_wrap=True, stderr=error)
    for line, style in in_full(approval):
        for part in folded(line, console.width) if console.is_terminal else [line]:
            console.print(Text(part, style=style))


def still(approval: Approval) -> str:
    """Say how many people are still needed."""
    missing = approval.needed - len(approval.approvals)
    return f" ({missing} more must approve)" if approval.state == "waiting" and missing > 0 else ""
