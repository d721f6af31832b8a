"""What a person who is asked is shown: the exact effect, where it goes, and on whose word each of its arguments stands. Pure but
for the port that shows what a file holds now.

The person sees the user's own words, the arguments as they will be used, and for each doubtful one the place it came from with
the words that named it there. Nothing here is a sentence of the agent's: what it wrote stands among the arguments, as that.
Threat: an ask that lets the agent argue its case, or that hides a recipient in a list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, Final

from agent_os.core.action import Action, ModelCall, ToolCall
from agent_os.core.approval import Preview
from agent_os.core.decision import Decision
from agent_os.core.facts import Facts
from agent_os.core.label import Integrity
from agent_os.core.manifest import Role, ToolSpec
from agent_os.guards.privacy.preview import pictured

PREVIEW_SECONDS: Final = 5.0
"""How long the difference to what is there now may take to make; without it the ask says so."""
LABELS_SHOWN_MAX: Final = 200
TASK_CHARS_MAX: Final = 1_000
"""Characters of the user's last message that an ask shows; of a longer one the beginning."""


async def picture(
    preview: Preview | None, spec: ToolSpec | None, action: Action, decision: Decision, facts: Facts
) -> Mapping[str, Any]:
    """Return what the person is shown; no secret in it."""
    action = pictured(action, facts.findings)
    shown: dict[str, Any] = {
        "kind": action.kind,
        "target": action.target,
        "effect": spec.effect.value if spec is not None else "",
        "task": facts.task[:TASK_CHARS_MAX],
        "destination": destination(action, spec),
        "arguments": action.arguments,
        "roles": _roles(action, spec),
        "reason": decision.reason,
        "on_timeout": "deny",
        "provenance": [
            {
                "sink": item.sink,
                "argument": item.argument,
                "source": _near(item.source, facts.workspace),
                "detail": _near(item.detail, facts.workspace),
                "quote": item.quote,
            }
            for item in facts.flow or ()
        ],
        "labels": [
            {
                "argument": pointer or "(all)",
                "integrity": label.integrity.name.lower(),
                "confidentiality": label.confidentiality.name.lower(),
                "sources": [_near(source, facts.workspace) for source in label.sources],
            }
            for pointer, label in list((facts.labels or {}).items())[:LABELS_SHOWN_MAX]
            if label.integrity is not Integrity.TRUSTED or label.confidentiality or label.sources
        ],
    }
    if preview is not None:
        try:
            async with asyncio.timeout(PREVIEW_SECONDS):
                shown.update(await preview.show(action))
        except Exception as error:  # a kindness: the exact arguments are shown in any case
            shown["difference"] = f"cannot be shown: {type(error).__name__}"
    return shown


def _roles(action: Action, spec: ToolSpec | None) -> dict[str, str]:
    """Return what each argument of a tool call is for, as its manifest says."""
    if not isinstance(action, ToolCall):
        return {}
    return {name: (spec.argument(name).role if spec is not None else Role.AUTHORITY).value for name in action.args}


def _near(source: str, workspace: str) -> str:
    """Return a source as a person names it: below the workspace, without the number of the call."""
    return source.replace(f"{workspace}/", "").partition("#")[0]


def destination(action: Action, spec: ToolSpec | None) -> str:
    """Say where an effect goes, in one line; every recipient of a list is named."""
    given = action.arguments
    if isinstance(action, ToolCall):
        aimed = [
            f"{name}={value}"
            for name, argument in action.args.items()
            if spec is None or spec.argument(name).role is Role.AUTHORITY
            for value in _plain(argument)
        ]
        return ", ".join(aimed) or action.target
    if isinstance(action, ModelCall):
        return f"{action.provider}/{action.model}" if action.provider else action.model
    if action.kind == "net.request":
        return f"{given['method']} {given['scheme']}://{given['host']}:{given['port']}{given['path']}"
    if action.kind == "message.send":
        return f"{given['channel']}: {', '.join(given['to'])}"
    if action.kind == "process.exec":
        return " ".join(given["argv"])
    return action.target


def _plain(value: Any) -> Iterator[Any]:
    """Yield the scalars of an argument in order."""
    if isinstance(value, Mapping):
        for part in value.values():
            yield from _plain(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _plain(part)
    elif value is not None:
        yield value
