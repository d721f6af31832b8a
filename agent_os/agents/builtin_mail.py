"""The built-in tools for messages between agents. Pure but for the door.

Threats: an agent that reads another's mailbox (there is no argument for whose: it is the caller's), a message that passes
for an instruction of the user (its body is untrusted whatever its sender's label was).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent_os.agents.tool_door import BuiltinTool, ToolDoor, performed
from agent_os.core.errors import EffectError
from agent_os.core.manifest import Argument, Effect, Result, Role, ToolSpec


async def _send(door: ToolDoor, args: Mapping[str, Any]) -> Any:
    to = args["to"] if isinstance(args["to"], list) else [args["to"]]
    return await performed(door, {"kind": "message.send", "to": to, "channel": "agent", "body": args["body"]})


async def _read(door: ToolDoor, args: Mapping[str, Any]) -> Any:
    mail = door.mail
    if mail is None:
        raise EffectError("there is no mailbox here")
    found = await mail.read(door.principal, after=args.get("after", ""), limit=args.get("limit", 20))
    return {"messages": [each.shown() for each in found]}


MAIL_TOOLS: Final[tuple[BuiltinTool, ...]] = (
    BuiltinTool(
        ToolSpec(
            name="send_message",
            description="Send a message to another agent: its name, task:ID, or box:NAME.",
            effect=Effect.SEND,
            verbs=("send", "tell", "message", "report", "notify"),
            arguments={
                "to": Argument(role=Role.AUTHORITY, type="name"),
                "body": Argument(role=Role.PAYLOAD, type="text"),
            },
            results={"$": Result(integrity="trusted")},
            input_schema={
                "type": "object",
                "properties": {
                    "to": {
                        "anyOf": [
                            {"type": "string", "minLength": 1},
                            {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
                        ]
                    },
                    "body": {"description": "text, or an object"},
                },
                "required": ["to", "body"],
                "additionalProperties": False,
            },
        ),
        _send,
    ),
    BuiltinTool(
        ToolSpec(
            name="read_messages",
            description="Read the messages sent to you, oldest first; `after` is the id of the last one you have read.",
            effect=Effect.READ,
            arguments={"after": Argument(role=Role.SELECTOR, type="id"), "limit": Argument(role=Role.SELECTOR)},
            results={"$": Result(integrity="untrusted")},
            input_schema={
                "type": "object",
                "properties": {
                    "after": {"type": "string"},
                    "limit": {"type": "integer", "minimum": 1, "maximum": 100},
                },
                "additionalProperties": False,
            },
        ),
        _read,
    ),
)
"""The tools for messages."""
