"""The live review of `agentos approvals`: waits for asks, shows each in full, takes a word for an answer."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.text import Text

from agent_os.cli.approvals_show import echo_in_full, still
from agent_os.cli.typed import forget_typed_ahead
from agent_os.core.approval import Answer, Approval
from agent_os.core.errors import ActionError, DeniedError, EffectError

if TYPE_CHECKING:
    from agent_os.runtime.approvals import ApprovalDesk

POLL_SECONDS: Final = 0.5


async def live(desk: ApprovalDesk) -> int:
    """Review asks until the person quits; returns the exit status."""
    desk.refuse_inside_agent()
    console, skipped, quiet = Console(highlight=False), set[str](), False
    console.print(f"Reviewing as [bold]{desk.identity.user}[/]. Ctrl-C or q ends it.")
    try:
        while True:
            waiting = [each for each in await desk.list() if each.id not in skipped and _may(desk, each)]
            if not waiting:
                if not quiet:
                    console.print("[dim]nothing waits; watching …[/]")
                quiet = True
                await asyncio.sleep(POLL_SECONDS)
                continue
            quiet = False
            if not await _one(desk, waiting[0], len(waiting), console, skipped):
                return 0
    except (KeyboardInterrupt, EOFError, asyncio.CancelledError):
        console.print()
        return 0


def _may(desk: ApprovalDesk, approval: Approval) -> bool:
    """Whether there is something for this person to say: one person answers once."""
    return desk.identity.user not in approval.approvals


async def _one(desk: ApprovalDesk, approval: Approval, count: int, console: Console, skipped: set[str]) -> bool:
    """Show one ask and take its answer; False when the person quits."""
    console.rule(f"1 of {count}", style="yellow")
    echo_in_full(approval)
    choices = _choices(approval)
    console.print(Text("  ".join(f"[{key}] {what}" for key, what in choices.items()), style="bold"))
    forget_typed_ahead()
    said = (await asyncio.to_thread(input, "> ")).strip()
    word, _, rest = said.partition(" ")
    if word == "q":
        return False
    if word == "k" or word not in choices:
        if word == "k":
            skipped.add(approval.id)
        else:
            console.print(f"one of: {', '.join(choices)}", style="red")
        return True
    given = await _given(word, rest, approval)
    if given is None:
        console.print("nothing answered", style="dim")
        return True
    try:
        answered = await desk.answer(approval, given)
    except (ActionError, DeniedError, EffectError) as error:
        console.print(Text(str(error), style="red"))
        skipped.add(approval.id)
        return True
    took = time.time() - approval.requested_at
    console.print(Text(f"{answered.id}: {answered.state}{still(answered)}, {took:.0f} s after it was asked", "green"))
    return True


def _choices(approval: Approval) -> dict[str, str]:
    choices = {"y": "approve once"}
    if "session" in approval.offers:
        choices["s"] = "for this session"
    if "always" in approval.offers:
        choices["a"] = "always"
    if "edit" in approval.offers:
        choices["e"] = "edit the arguments"
    return {**choices, "n": "deny (n REASON)", "k": "skip", "q": "quit"}


async def _given(word: str, rest: str, approval: Approval) -> Answer | None:
    match word:
        case "y":
            return Answer(True, "", rest)
        case "n":
            return Answer(False, "", rest or await asyncio.to_thread(input, "reason (the agent sees it): "))
        case "e":
            arguments = await asyncio.to_thread(_edit, approval)
            return None if arguments is None else Answer(True, "", arguments=arguments)
    lasting = "session" if word == "s" else "always"
    width = "exact"
    if "same" in approval.scopes:
        chosen = await asyncio.to_thread(input, "covers: [1] exactly these arguments  [2] what `may last` says: ")
        if chosen.strip() not in ("1", "2"):
            return None
        width = "same" if chosen.strip() == "2" else "exact"
    return Answer(True, "", rest, lasting=lasting, width=width)


def _edit(approval: Approval) -> dict[str, Any] | None:
    """Ask for each argument; an empty line keeps it. Values are JSON, or text where they are none."""
    arguments = approval.preview.get("arguments", {})
    if approval.preview.get("kind") == "tool.call":
        arguments = arguments.get("args", {})
    result, changed = dict(arguments), False
    for name, value in arguments.items():
        said = input(f"{name} [{json.dumps(value)}]: ").strip()
        if said:
            changed = True
            try:
                result[name] = json.loads(said)
            except ValueError:
                result[name] = said
    return result if changed else None
