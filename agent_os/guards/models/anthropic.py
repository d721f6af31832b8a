"""Anthropic Messages, to and from neutral. Pure.

A field that is not understood is an error that names it. Server tools (typed tools other than `custom`) and MCP servers are
refused: the provider would execute them past the guard.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from agent_os.core import canonical
from agent_os.core.errors import ActionError, EffectError
from agent_os.guards.models.neutral import (
    Answer,
    Delta,
    Request,
    Tool,
    Usage,
    listed,
    parse_arguments,
    stops,
    text_of,
    tool_schema,
)
from agent_os.guards.models.parts import anthropic_in, anthropic_out

VERSION: Final = "2023-06-01"
MAX_TOKENS_DEFAULT: Final = 4096
PARAMS: Final = frozenset({"temperature", "top_p", "top_k", "thinking"})
_KNOWN: Final = PARAMS | {
    "model", "messages", "system", "tools", "tool_choice", "max_tokens", "stop_sequences", "stream", "metadata",
    "service_tier",
}  # fmt: skip
_FINISH: Final = {
    "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool", "refusal": "filter",
    "pause_turn": "stop",
}  # fmt: skip
_FINISH_OUT: Final = {"stop": "end_turn", "length": "max_tokens", "tool": "tool_use", "filter": "refusal"}
_UNTRANSLATABLE: Final = ("response_format", "logit_bias")


def parse_request(body: Any) -> Request:
    """Return the request in a body. Raises ActionError naming the field."""
    if not isinstance(body, Mapping):
        raise ActionError("must be an object", field="body")
    unknown = sorted(set(body) - _KNOWN)
    if unknown:
        raise ActionError("is not understood", field=unknown[0], hint="known: " + ", ".join(sorted(_KNOWN)))
    given = body.get("messages")
    if not isinstance(given, list) or not given:
        raise ActionError("must be a list of messages", field="messages")
    messages: list[Mapping[str, Any]] = []
    if body.get("system"):
        messages.append({"role": "system", "content": anthropic_in(body["system"], "system")})
    for index, item in enumerate(given):
        messages.extend(_messages_in(item, f"messages[{index}]"))
    return Request(
        model=canonical.name(body.get("model"), field="model"),
        messages=tuple(messages),
        tools=tuple(_tool_in(item, f"tools[{index}]") for index, item in enumerate(listed(body.get("tools"), "tools"))),
        tool_choice=_choice_in(body.get("tool_choice")),
        max_tokens=canonical.integer(body.get("max_tokens"), field="max_tokens", minimum=1, maximum=2**31),
        stop=stops(body.get("stop_sequences"), "stop_sequences"),
        params={name: body[name] for name in sorted(PARAMS & set(body)) if body[name] is not None},
        stream=body.get("stream") is True,
        stream_usage=True,
    )


def _messages_in(item: Any, field: str) -> Iterator[dict[str, Any]]:
    role = item.get("role") if isinstance(item, Mapping) else None
    if role not in ("user", "assistant"):
        raise ActionError("must be user or assistant", field=f"{field}.role")
    content = item.get("content")
    if isinstance(content, str):
        yield {"role": role, "content": content}
        return
    if not isinstance(content, list):
        raise ActionError("must be a text or a list of blocks", field=f"{field}.content")
    kept: list[Any] = []
    calls: list[dict[str, Any]] = []
    for index, block in enumerate(content):
        place = f"{field}.content[{index}]"
        kind = block.get("type") if isinstance(block, Mapping) else None
        if kind == "tool_result" and role == "user":
            yield {
                "role": "tool",
                "tool_call_id": canonical.text(block.get("tool_use_id", ""), field=place),
                "content": anthropic_in(block.get("content") or "", place),
                **({"status": "error"} if block.get("is_error") else {}),
            }
        elif kind == "tool_use" and role == "assistant":
            name = canonical.name(block.get("name"), field=place)
            calls.append({"id": str(block.get("id", "")), "name": name, "args": parse_arguments(block.get("input"))})
        else:
            kept.append(block)
    if kept or calls:
        said: dict[str, Any] = {"role": role, "content": anthropic_in(kept, f"{field}.content") if kept else ""}
        if calls:
            said["tool_calls"] = calls
        yield said


def _tool_in(item: Any, field: str) -> Tool:
    if not isinstance(item, Mapping) or item.get("type") not in (None, "custom"):
        raise ActionError("must be a custom tool: tools that the provider executes run past the guard", field=field)
    return Tool(
        canonical.name(item.get("name"), field=f"{field}.name"),
        str(item.get("description") or ""),
        tool_schema(item.get("input_schema"), f"{field}.input_schema"),
    )


def _choice_in(choice: Any) -> str | None:
    if choice is None:
        return None
    kind = choice.get("type") if isinstance(choice, Mapping) else None
    if kind in ("auto", "none", "any"):
        return str(kind)
    if kind == "tool":
        return f"tool:{choice.get('name')}"
    raise ActionError("is not understood", field="tool_choice")


def render_request(request: Request, *, stream: bool) -> dict[str, Any]:
    """Return the body to send to a provider. Raises ActionError for what this protocol cannot say."""
    for name in _UNTRANSLATABLE:
        if name in request.params:
            raise ActionError("cannot be said to this provider", field=name)
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_tokens or MAX_TOKENS_DEFAULT,
        "messages": [],
    }
    system = [text_of(item.get("content")) for item in request.messages if item["role"] == "system"]
    if system:
        body["system"] = "\n\n".join(system)
    for item in request.messages:
        if item["role"] == "system":
            continue
        said = _message_out(item)
        last = body["messages"][-1] if body["messages"] else None
        if last is not None and last["role"] == said["role"]:
            last["content"].extend(said["content"])
        else:
            body["messages"].append(said)
    if request.tools:
        body["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": dict(tool.schema)}
            for tool in request.tools
        ]
    choice = request.tool_choice
    if choice is not None:
        named = {"type": "tool", "name": choice.removeprefix("tool:")}
        body["tool_choice"] = named if choice.startswith("tool:") else {"type": choice}
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    body.update({name: value for name, value in request.params.items() if name in PARAMS})
    if stream:
        body["stream"] = True
    return body


def _message_out(item: Mapping[str, Any]) -> dict[str, Any]:
    blocks = anthropic_out(item.get("content", ""))
    if item["role"] == "tool":
        result: dict[str, Any] = {"type": "tool_result", "tool_use_id": item.get("tool_call_id", ""), "content": blocks}
        if item.get("status") == "error":
            result["is_error"] = True
        return {"role": "user", "content": [result]}
    for call in item.get("tool_calls") or ():
        blocks.append({"type": "tool_use", "id": call["id"], "name": call["name"], "input": call["args"]})
    return {"role": item["role"], "content": blocks}


def parse_answer(body: Any) -> Answer:
    """Return the answer in a provider's body. Raises EffectError when it is none."""
    try:
        text = reasoning = signature = ""
        calls: list[dict[str, Any]] = []
        for block in body["content"]:
            if block["type"] == "text":
                text += block["text"]
            elif block["type"] == "thinking":
                signature = (
                    "" if reasoning else str(block.get("signature", ""))
                )  # two blocks in one fit neither signature
                reasoning += block["thinking"]
            elif block["type"] == "tool_use":
                calls.append(
                    {"id": str(block["id"]), "name": str(block["name"]), "args": parse_arguments(block["input"])}
                )
        finish = _FINISH.get(str(body.get("stop_reason")), "stop")
        return Answer(text, reasoning, tuple(calls), finish, _usage_in(body.get("usage"), len(text)), signature)
    except (KeyError, TypeError, AttributeError, ActionError):
        raise EffectError("the provider's answer is no message") from None


def _usage_in(usage: Any, chars: int = 0) -> Usage:
    if not isinstance(usage, Mapping):
        return Usage()
    given, cached = usage.get("input_tokens"), usage.get("cache_read_input_tokens") or 0
    beside = [cached, usage.get("cache_creation_input_tokens") or 0]  # the API counts these beside input_tokens
    if isinstance(given, int) and all(isinstance(count, int) and count >= 0 for count in beside):
        given += sum(beside)
    return Usage.of(given, usage.get("output_tokens"), cached, chars=chars)


def read_event(name: str, data: str) -> Iterator[Delta]:
    """Yield the pieces in one server-sent event of a provider. Raises EffectError when it is none."""
    try:
        event = canonical.foreign_json(data)
        kind = event.get("type", name)
        if kind == "error":
            raise EffectError("the provider broke its answer off with an error")
        if kind == "message_start":
            yield Delta("usage", usage=replace(_usage_in(event["message"].get("usage")), output=-1))
        elif kind == "content_block_start" and event["content_block"]["type"] == "tool_use":
            block = event["content_block"]
            yield Delta("tool", "", int(event["index"]), str(block["id"]), str(block["name"]))
        elif kind == "content_block_delta":
            piece = event["delta"]
            index = int(event["index"])
            match piece["type"]:
                case "text_delta":
                    yield Delta("text", piece["text"])
                case "thinking_delta":
                    yield Delta("reasoning", piece["thinking"])
                case "signature_delta":
                    yield Delta("signature", piece["signature"])
                case "input_json_delta":
                    yield Delta("tool", piece["partial_json"], index)
        elif kind == "message_delta":
            yield Delta("usage", usage=_usage_in(event.get("usage")))
            if event["delta"].get("stop_reason"):
                yield Delta("finish", _FINISH.get(str(event["delta"]["stop_reason"]), "stop"))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise EffectError("the provider's stream holds something that is no message event") from None


def render_answer(answer: Answer, *, id: str, model: str, created: int) -> dict[str, Any]:
    """Return the body for a caller that speaks Messages."""
    content: list[dict[str, Any]] = []
    if answer.reasoning:
        content.append({"type": "thinking", "thinking": answer.reasoning, "signature": answer.signature})
    if answer.text:
        content.append({"type": "text", "text": answer.text})
    for call in answer.tool_calls:
        content.append({"type": "tool_use", "id": call["id"], "name": call["name"], "input": call["args"]})
    return {
        "id": id, "type": "message", "role": "assistant", "model": model, "content": content,
        "stop_reason": _FINISH_OUT[answer.finish], "stop_sequence": None, "usage": _usage_out(answer.usage),
    }  # fmt: skip


def _usage_out(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": max(usage.input - usage.cached, 0),
        "output_tokens": max(usage.output, 0),
        "cache_read_input_tokens": usage.cached,
        "cache_creation_input_tokens": 0,
    }


class Writer:
    """Writes a stream as server-sent events of Messages."""

    def __init__(self, *, id: str, model: str, created: int, usage: bool) -> None:
        self._id, self._model = id, model
        self._opened, self._open, self._index = False, "", -1
        self._usage, self._finish = Usage(), "stop"

    def write(self, delta: Delta) -> bytes:
        """Return the bytes of one piece; usage and finish are held for the end."""
        match delta.kind:
            case "usage":
                old = self._usage
                new = delta.usage
                self._usage = Usage(max(old.input, new.input), max(old.output, new.output), max(old.cached, new.cached))
                return b""
            case "finish":
                self._finish = delta.text
                return b""
            case "signature":
                return self._piece("thinking", {"type": "signature_delta", "signature": delta.text})
            case "reasoning":
                return self._piece("thinking", {"type": "thinking_delta", "thinking": delta.text})
            case "text":
                return self._piece("text", {"type": "text_delta", "text": delta.text})
            case _:
                block = {"type": "tool_use", "id": delta.id, "name": delta.name, "input": {}}
                opened = self._block(f"tool:{delta.index}", block)
                return (
                    opened + self._delta({"type": "input_json_delta", "partial_json": delta.text})
                    if delta.text
                    else opened
                )

    def _piece(self, kind: str, delta: dict[str, Any]) -> bytes:
        empty = (
            {"type": "text", "text": ""} if kind == "text" else {"type": "thinking", "thinking": "", "signature": ""}
        )
        return self._block(kind, empty) + self._delta(delta)

    def _block(self, key: str, block: dict[str, Any]) -> bytes:
        if self._open == key:
            return b""
        out = self._start() + self._close()
        self._open, self._index = key, self._index + 1
        return out + _event("content_block_start", {"index": self._index, "content_block": block})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", {"index": self._index, "delta": delta})

    def _start(self) -> bytes:
        if self._opened:
            return b""
        self._opened = True
        message: dict[str, Any] = {
            "id": self._id, "type": "message", "role": "assistant", "model": self._model, "content": [],
            "stop_reason": None, "stop_sequence": None, "usage": _usage_out(self._usage),
        }  # fmt: skip
        return _event("message_start", {"message": message})

    def _close(self) -> bytes:
        if not self._open:
            return b""
        self._open = ""
        return _event("content_block_stop", {"index": self._index})

    def end(self) -> bytes:
        """Return the bytes that end the stream."""
        out = self._start() + self._close()
        delta = {"stop_reason": _FINISH_OUT[self._finish], "stop_sequence": None}
        return (
            out
            + _event("message_delta", {"delta": delta, "usage": _usage_out(self._usage)})
            + _event("message_stop", {})
        )

    def error(self, message: str) -> bytes:
        """Return the bytes of an error inside the stream."""
        return _event("error", {"error": {"type": "api_error", "message": message}})


def _event(name: str, body: Mapping[str, Any]) -> bytes:
    data = json.dumps({"type": name, **body}, ensure_ascii=False, separators=(",", ":"))
    return f"event: {name}\ndata: {data}\n\n".encode()
