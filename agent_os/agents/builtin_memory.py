"""The built-in tools that remember: `remember` and `recall`, for what should outlive a session. Pure but for the door.

Their inner effects are `memory.write` and `memory.read`, judged by the policy's `memory:` section. Threat: memory poisoning. What
was remembered after untrusted text was read is recalled as untrusted, in every session to come.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent_os.agents.tool_door import BuiltinTool, ToolDoor, performed
from agent_os.core.manifest import Argument, Effect, Result, Role, ToolSpec

_KEY: Final = {"type": "string", "minLength": 1, "maxLength": 200}


async def _remember(door: ToolDoor, args: Mapping[str, Any]) -> Any:
    return await performed(door, {"kind": "memory.write", "key": args["key"], "value": args["value"]})


async def _recall(door: ToolDoor, args: Mapping[str, Any]) -> Any:
    return await performed(door, {"kind": "memory.read", "key": args["key"]})


MEMORY_TOOLS: Final[tuple[BuiltinTool, ...]] = (
    BuiltinTool(
        ToolSpec(
            name="remember",
            description="Remember a text under a key, for later sessions of the same user.",
            effect=Effect.WRITE_OWN,
            verbs=("remember", "save", "store", "note", "memorize", "keep"),
            objects=("memory", "preference", "fact", "note"),
            arguments={
                "key": Argument(role=Role.PAYLOAD, type="name"),
                "value": Argument(role=Role.PAYLOAD, type="text"),
            },
            results={"$.key": Result(integrity="trusted"), "$.bytes": Result(integrity="trusted")},
            idempotent=True,
            input_schema={
                "type": "object",
                "properties": {"key": _KEY, "value": {"type": "string"}},
                "required": ["key", "value"],
                "additionalProperties": False,
            },
        ),
        _remember,
    ),
    BuiltinTool(
        ToolSpec(
            name="recall",
            description="Recall the text that was remembered under a key.",
            effect=Effect.READ,
            arguments={"key": Argument(role=Role.SELECTOR, type="name")},
            results={"$": Result()},
            idempotent=True,
            input_schema={
                "type": "object",
                "properties": {"key": _KEY},
                "required": ["key"],
                "additionalProperties": False,
            },
        ),
        _recall,
    ),
)
