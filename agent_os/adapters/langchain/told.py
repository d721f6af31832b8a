"""What comes back from a governed tool: the part of its answer that guards apply to, and what the model is told.

Threat: an answer whose restored or cleaned part is shown beside the raw one; a denial that gives a value away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from langchain_core.messages import ToolMessage
from langchain_core.messages.tool import ToolOutputMixin
from langgraph.types import Command

from agent_os.adapters.langchain.messages import jsonable
from agent_os.core.decision import Decision
from agent_os.core.errors import ActionError
from agent_os.core.ports import Outcome, Pending

ADVICE: Final = "Do not look for another way to the same effect: go on without it, or say what you need and why."


def denial_text(decision: Decision) -> str:
    """Return what the model is told of a denial: rules, reason, what would be allowed; never a value."""
    rules = [rule for rule in decision.rules if rule not in decision.reason]
    named = f" ({', '.join(rules)})" if rules else ""
    said = f"denied by policy{named}: {decision.reason.removeprefix('denied by ')}."
    if decision.advice:
        said += f" Allowed instead: {decision.advice}."
    return f"{said} {ADVICE}"


def pending_text(pending: Pending) -> str:
    """Return what the model is told of a call that waits for a person."""
    return (
        f"waits for a person's approval {pending.approval_id}: {pending.decision.reason}. "
        "It was not carried out. Go on with other work, or make exactly the same call again once it is approved."
    )


def outcome_of(raw: Any) -> Outcome:
    return Outcome(plain_value(raw))


def plain_value(raw: Any) -> Any:
    """Return what a tool answered as plain JSON: the part that labels, restoration and the audit apply to."""
    if isinstance(raw, ToolMessage):
        return jsonable(raw.content)
    if isinstance(raw, Command):
        update = raw.update if isinstance(raw.update, Mapping) else {}
        return {"messages": [plain_value(item) for item in update.get("messages", []) if isinstance(item, ToolMessage)]}
    if isinstance(raw, list) and raw and all(isinstance(item, ToolOutputMixin) for item in raw):
        return [plain_value(item) for item in raw]
    if isinstance(raw, bytes):
        return raw
    try:
        return jsonable(raw)
    except ActionError:
        return str(raw)


def replaced(raw: Any, value: Any) -> Any:
    """Return the raw answer with its plain part replaced (restored) by `value`."""
    if isinstance(raw, ToolMessage):
        return raw.model_copy(update={"content": value if isinstance(value, (str, list)) else str(value)})
    if isinstance(raw, Command) and isinstance(value, Mapping) and isinstance(raw.update, Mapping):
        restored = iter(value.get("messages", []))
        messages = [
            replaced(item, next(restored)) if isinstance(item, ToolMessage) else item
            for item in raw.update.get("messages", [])
        ]
        return Command(graph=raw.graph, update={**raw.update, "messages": messages}, resume=raw.resume, goto=raw.goto)
    if isinstance(raw, list) and raw and all(isinstance(item, ToolOutputMixin) for item in raw):
        return [replaced(item, new) for item, new in zip(raw, value, strict=True)]
    return value


def noted(output: Any, note: str) -> Any:
    """Return an answer that tells the model what it must know beside the result: a person changed its arguments."""
    if not note or not isinstance(output, ToolMessage) or not isinstance(output.content, str):
        return output
    return output.model_copy(update={"content": f"({note} before this was done)\n{output.content}"})
