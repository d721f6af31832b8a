"""LangChain messages as plain JSON and back, so that what is judged is what is sent. Pure.

Threat: text that travels in a corner nobody scanned (`additional_kwargs`, artifacts, raw tool calls). Whatever is sent
to a model stands in the neutral form; a message that a rewrite touched is rebuilt from it and keeps nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from pydantic_core import to_jsonable_python

from agent_os.core import canonical
from agent_os.core.errors import ActionError, EffectError

_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}


def neutral_message(message: BaseMessage) -> dict[str, Any]:
    """Return `{"role", "content", …}` of a message: all that a provider may get to see of it."""
    kind = message.type.removesuffix("MessageChunk").lower() if message.type.endswith("Chunk") else message.type
    role = getattr(message, "role", None) if isinstance(message, ChatMessage) else _ROLES.get(kind)
    if not isinstance(role, str):
        raise ActionError(f"a message of the kind {kind!r} is not understood", field="messages")
    said: dict[str, Any] = {"role": role, "content": jsonable(message.content)}
    if message.name:
        said["name"] = message.name
    if isinstance(message, AIMessage):
        if message.tool_calls:
            said["tool_calls"] = [
                {"id": call.get("id") or "", "name": call["name"], "args": jsonable(call["args"])}
                for call in message.tool_calls
            ]
        if message.invalid_tool_calls:
            said["invalid_tool_calls"] = jsonable(message.invalid_tool_calls)
    if isinstance(message, ToolMessage):
        said["tool_call_id"] = message.tool_call_id
        if message.status != "success":
            said["status"] = message.status
    if message.additional_kwargs:
        said["extra"] = jsonable(message.additional_kwargs)
    return said


def neutral_messages(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """Return the neutral form of messages."""
    return [neutral_message(message) for message in messages]


def rewritten_messages(originals: Sequence[BaseMessage], neutral: Any) -> list[BaseMessage]:
    """Return messages that say what `neutral` says: originals where nothing changed, rebuilt ones elsewhere.

    Raises ActionError when `neutral` is no list of messages.
    """
    if not isinstance(neutral, list) or not all(isinstance(item, Mapping) for item in neutral):
        raise ActionError("must be a list of messages", field="messages")
    before = [neutral_message(message) for message in originals]
    if len(before) != len(neutral):
        return [_built(item) for item in neutral]
    return [
        original if was == item else _built(item, original)
        for original, was, item in zip(originals, before, neutral, strict=True)
    ]


def _built(said: Mapping[str, Any], original: BaseMessage | None = None) -> BaseMessage:
    content, name = said.get("content", ""), said.get("name")
    common: dict[str, Any] = {"content": content, "id": original.id if original is not None else None}
    if name:
        common["name"] = name
    if "extra" in said:
        common["additional_kwargs"] = dict(said["extra"])
    match said.get("role"):
        case "user":
            return HumanMessage(**common)
        case "system":
            return SystemMessage(**common)
        case "assistant":
            calls = [{**call, "type": "tool_call"} for call in said.get("tool_calls", [])]
            return AIMessage(**common, tool_calls=calls, invalid_tool_calls=said.get("invalid_tool_calls", []))
        case "tool":
            return ToolMessage(
                **common, tool_call_id=str(said.get("tool_call_id", "")), status=said.get("status", "success")
            )
        case str() as role:
            return ChatMessage(**common, role=role)
    raise ActionError("has no role", field="messages")


def recorded_message(said: Any) -> AIMessage:
    """Return the answer whose neutral form was recorded. Raises EffectError when it is none."""
    if not isinstance(said, Mapping) or said.get("role") != "assistant":
        raise EffectError("model.call: nothing was answered")
    return cast("AIMessage", _built(said))


def restored_message(message: AIMessage, said: Any) -> AIMessage:
    """Return an answer with its content and tool calls replaced by those of its (restored) neutral form."""
    if not isinstance(said, Mapping) or neutral_message(message) == said:
        return message
    calls = [{**call, "type": "tool_call"} for call in said.get("tool_calls", [])]
    changes: dict[str, Any] = {
        "content": said.get("content", ""),
        "tool_calls": calls,
        "additional_kwargs": dict(said.get("extra", {})),
    }
    return message.model_copy(update=changes)


def jsonable(value: Any) -> Any:
    """Return plain JSON of a value. Raises ActionError for what has no JSON form."""
    try:
        return canonical.json_value(to_jsonable_python(value))
    except (TypeError, ValueError, RecursionError):
        raise ActionError(f"has no JSON form ({type(value).__name__})", field="value") from None


def message_usage(message: AIMessage) -> dict[str, float]:
    """Return what the provider says was used, by unit; nothing where it says nothing or says nonsense."""
    said = message.usage_metadata
    if not said:
        return {}
    given, answered = said.get("input_tokens", 0), said.get("output_tokens", 0)
    if not all(isinstance(count, int) and 0 <= count < 2**40 for count in (given, answered)):
        return {}
    used = {"tokens": float(given + answered), "input_tokens": float(given), "output_tokens": float(answered)}
    for name, count in (
        ("cached_tokens", (said.get("input_token_details") or {}).get("cache_read")),
        ("reasoning_tokens", (said.get("output_token_details") or {}).get("reasoning")),
    ):
        if isinstance(count, int) and 0 < count < 2**40:
            used[name] = float(count)
    return used
