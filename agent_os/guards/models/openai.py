"""OpenAI chat completions (the API as published, and as NIM, vLLM, Ollama and LiteLLM serve it), to and from neutral. Pure.

A field that is not understood is an error that names it: nothing is dropped on the way in. Tools that a provider would
execute (web search, code, files, remote MCP) are no function tools and are refused here; `models.provider_tools` does not
open them for the gateway.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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
    tool_schema,
)
from agent_os.guards.models.parts import openai_in, openai_out

PARAMS: Final = frozenset(
    {"temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "response_format", "reasoning_effort",
     "parallel_tool_calls", "logit_bias", "verbosity"}
)  # fmt: skip
_IGNORED: Final = frozenset({"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"})
"""Fields about the caller's account: the gateway's account is another, so they do not travel."""
_KNOWN: Final = PARAMS | _IGNORED | {
    "model", "messages", "tools", "tool_choice", "max_tokens", "max_completion_tokens", "stop", "stream",
    "stream_options", "n",
}  # fmt: skip
DIMENSIONS_MAX: Final = 65_536
"""Of an embedding: more is no number of dimensions but a number that says something else."""
_FINISH: Final = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool",
    "content_filter": "filter",
    "function_call": "tool",
}
_FINISH_OUT: Final = {"stop": "stop", "length": "length", "tool": "tool_calls", "filter": "content_filter"}


def parse_request(body: Any) -> Request:
    """Return the request in a body. Raises ActionError naming the field."""
    if not isinstance(body, Mapping):
        raise ActionError("must be an object", field="body")
    unknown = sorted(set(body) - _KNOWN)
    if unknown:
        raise ActionError("is not understood", field=unknown[0], hint="known: " + ", ".join(sorted(_KNOWN)))
    if body.get("n") not in (None, 1):
        raise ActionError("only one answer at a time", field="n")
    model = canonical.name(body.get("model"), field="model")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ActionError("must be a list of messages", field="messages")
    most = body.get("max_completion_tokens") or body.get("max_tokens") or 0
    options = body.get("stream_options") or {}
    return Request(
        model=model,
        messages=tuple(_message_in(item, f"messages[{index}]") for index, item in enumerate(messages)),
        tools=tuple(_tool_in(item, f"tools[{index}]") for index, item in enumerate(listed(body.get("tools"), "tools"))),
        tool_choice=_choice_in(body.get("tool_choice")),
        max_tokens=canonical.integer(most, field="max_tokens", minimum=0, maximum=2**31),
        stop=stops(body.get("stop"), "stop"),
        params={name: body[name] for name in sorted(PARAMS & set(body)) if body[name] is not None},
        stream=body.get("stream") is True,
        stream_usage=isinstance(options, Mapping) and options.get("include_usage") is True,
    )


def parse_embeddings(model: str, body: Mapping[str, Any]) -> tuple[Request, dict[str, Any]]:
    """Return the texts of a request for embeddings as messages, and the protocol's words that travel beside them.

    Nothing else can be said in those words: what nobody scans would leave in them. Raises ActionError naming the field.
    """
    texts = body.get("input")
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ActionError("must be a text or a list of texts", field="input")
    more = {name: body[name] for name in ("dimensions", "encoding_format") if body.get(name) is not None}
    if "dimensions" in more:
        canonical.integer(more["dimensions"], field="dimensions", minimum=1, maximum=DIMENSIONS_MAX)
    if more.get("encoding_format", "float") not in ("float", "base64"):
        raise ActionError("must be float or base64", field="encoding_format")
    return Request(model, tuple({"role": "user", "content": text} for text in texts), max_tokens=1), more


def _message_in(item: Any, field: str) -> dict[str, Any]:
    if not isinstance(item, Mapping) or not isinstance(item.get("role"), str):
        raise ActionError("must be a message", field=field)
    role = {"developer": "system", "function": "tool"}.get(item["role"], item["role"])
    if role not in ("system", "user", "assistant", "tool"):
        raise ActionError("is no known role", field=f"{field}.role")
    said: dict[str, Any] = {"role": role, "content": openai_in(item.get("content"), f"{field}.content")}
    if isinstance(item.get("name"), str):
        said["name"] = item["name"]
    if role == "tool":
        said["tool_call_id"] = canonical.text(item.get("tool_call_id", ""), field=f"{field}.tool_call_id")
    calls = listed(item.get("tool_calls"), f"{field}.tool_calls")
    if calls:
        said["tool_calls"] = [_call_in(call, f"{field}.tool_calls[{index}]") for index, call in enumerate(calls)]
    return said


def _call_in(call: Any, field: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        raise ActionError("must be a function call", field=field)
    return {
        "id": canonical.text(call.get("id", ""), field=f"{field}.id"),
        "name": canonical.name(function.get("name"), field=f"{field}.name"),
        "args": parse_arguments(function.get("arguments")),
    }


def _tool_in(item: Any, field: str) -> Tool:
    function = item.get("function") if isinstance(item, Mapping) else None
    if not isinstance(function, Mapping) or item.get("type") != "function":
        raise ActionError("must be a function: tools that the provider executes run past the guard", field=field)
    return Tool(
        canonical.name(function.get("name"), field=f"{field}.name"),
        str(function.get("description") or ""),
        tool_schema(function.get("parameters"), f"{field}.parameters"),
    )


def _choice_in(choice: Any) -> str | None:
    if choice is None:
        return None
    if choice in ("auto", "none", "required"):
        return "any" if choice == "required" else str(choice)
    function = choice.get("function") if isinstance(choice, Mapping) else None
    if isinstance(function, Mapping) and isinstance(function.get("name"), str):
        return f"tool:{function['name']}"
    raise ActionError("is not understood", field="tool_choice")


def render_request(request: Request, *, stream: bool) -> dict[str, Any]:
    """Return the body to send to a provider."""
    body: dict[str, Any] = {"model": request.model, "messages": [_message_out(item) for item in request.messages]}
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.schema)},
            }
            for tool in request.tools
        ]
    choice = request.tool_choice
    if choice is not None:
        named = {"type": "function", "function": {"name": choice.removeprefix("tool:")}}
        body["tool_choice"] = named if choice.startswith("tool:") else {"any": "required"}.get(choice, choice)
    if request.max_tokens:
        body["max_tokens"] = request.max_tokens
    if request.stop:
        body["stop"] = list(request.stop)
    body.update({name: value for name, value in request.params.items() if name in PARAMS})
    if stream:
        body.update(stream=True, stream_options={"include_usage": True})
    return body


def _message_out(item: Mapping[str, Any]) -> dict[str, Any]:
    content = openai_out(item.get("content", ""))
    said: dict[str, Any] = {"role": item["role"], "content": content}
    for name in ("name", "tool_call_id"):
        if item.get(name):
            said[name] = item[name]
    if item.get("tool_calls"):
        said["tool_calls"] = [_call_out(call) for call in item["tool_calls"]]
        said["content"] = content or None
    return said


def _call_out(call: Mapping[str, Any]) -> dict[str, Any]:
    function = {"name": call["name"], "arguments": json.dumps(call["args"], ensure_ascii=False)}
    return {"id": call["id"], "type": "function", "function": function}


def parse_answer(body: Any) -> Answer:
    """Return the answer in a provider's body. Raises EffectError when it is none."""
    try:
        choice = body["choices"][0]
        message = choice["message"]
        if held := [name for name in ("audio", "images", "video") if message.get(name)]:
            raise EffectError(f"the provider's answer holds {', '.join(held)}: answers are text here")
        text = message.get("content") or ""
        if not isinstance(text, str):
            raise TypeError
        calls = tuple(
            {"id": str(call["id"]), "name": str(call["function"]["name"]),
             "args": parse_arguments(call["function"].get("arguments"))}
            for call in message.get("tool_calls") or ()
        )  # fmt: skip
        reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
        finish = _FINISH.get(str(choice.get("finish_reason")), "stop")
        return Answer(text, str(reasoning), calls, finish, _usage_in(body.get("usage"), len(text)))
    except (KeyError, IndexError, TypeError, AttributeError, ActionError):
        raise EffectError("the provider's answer is not a chat completion") from None


def _usage_in(usage: Any, chars: int = 0) -> Usage:
    if not isinstance(usage, Mapping):
        return Usage()
    more, less = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    return Usage.of(
        usage.get("prompt_tokens"),
        usage.get("completion_tokens"),
        more.get("cached_tokens", 0) if isinstance(more, Mapping) else 0,
        less.get("reasoning_tokens", 0) if isinstance(less, Mapping) else 0,
        chars=chars,
    )


def read_event(_name: str, data: str) -> Iterator[Delta]:
    """Yield the pieces in one server-sent event of a provider. Raises EffectError when it is none."""
    if data == "[DONE]":
        return
    try:
        event = canonical.foreign_json(data)
        if event.get("error"):
            raise EffectError("the provider broke its answer off with an error")
        for choice in (event.get("choices") or [])[:1]:
            delta = choice.get("delta") or {}
            reasoning = delta.get("reasoning_content") or delta.get("reasoning")
            if isinstance(reasoning, str) and reasoning:
                yield Delta("reasoning", reasoning)
            if isinstance(delta.get("content"), str) and delta["content"]:
                yield Delta("text", delta["content"])
            for call in delta.get("tool_calls") or ():
                function = call.get("function") or {}
                yield Delta(
                    "tool", function.get("arguments") or "", int(call.get("index", 0)), call.get("id") or "",
                    function.get("name") or "",
                )  # fmt: skip
            if choice.get("finish_reason"):
                yield Delta("finish", _FINISH.get(str(choice["finish_reason"]), "stop"))
        if event.get("usage"):
            yield Delta("usage", usage=_usage_in(event["usage"]))
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise EffectError("the provider's stream holds something that is no chat completion chunk") from None


def render_answer(answer: Answer, *, id: str, model: str, created: int) -> dict[str, Any]:
    """Return the body for a caller that speaks chat completions."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or (None if answer.tool_calls else "")}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = [_call_out(call) for call in answer.tool_calls]
    choice = {"index": 0, "message": message, "finish_reason": _FINISH_OUT[answer.finish], "logprobs": None}
    return {
        "id": id, "object": "chat.completion", "created": created, "model": model, "choices": [choice],
        "usage": _usage_out(answer.usage),
    }  # fmt: skip


def _usage_out(usage: Usage) -> dict[str, Any]:
    given, answered = max(usage.input, 0), max(usage.output, 0)
    return {
        "prompt_tokens": given,
        "completion_tokens": answered,
        "total_tokens": given + answered,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


class Writer:
    """Writes a stream as server-sent events of chat completion chunks."""

    def __init__(self, *, id: str, model: str, created: int, usage: bool) -> None:
        self._head = {"id": id, "object": "chat.completion.chunk", "created": created, "model": model}
        self._wants_usage, self._opened, self._usage = usage, False, Usage()

    def write(self, delta: Delta) -> bytes:
        """Return the bytes of one piece."""
        said: dict[str, Any] = {}
        finish = None
        match delta.kind:
            case "text":
                said["content"] = delta.text
            case "reasoning":
                said["reasoning_content"] = delta.text
            case "tool":
                call: dict[str, Any] = {"index": delta.index, "function": {"arguments": delta.text}}
                if delta.id:
                    call.update(id=delta.id, type="function")
                if delta.name:
                    call["function"]["name"] = delta.name
                said["tool_calls"] = [call]
            case "finish":
                finish = _FINISH_OUT[delta.text]
            case "usage":
                old, new = self._usage, delta.usage
                self._usage = Usage(*(max(pair) for pair in zip(_counts(old), _counts(new), strict=True)))
                return b""
            case _:
                return b""
        if not self._opened:
            self._opened = True
            said = {"role": "assistant", **said}
        return _event({**self._head, "choices": [{"index": 0, "delta": said, "finish_reason": finish}]})

    def end(self) -> bytes:
        """Return the bytes that end the stream: the usage where it was asked for, then the end mark."""
        usage = _event({**self._head, "choices": [], "usage": _usage_out(self._usage)}) if self._wants_usage else b""
        return usage + b"data: [DONE]\n\n"

    def error(self, message: str) -> bytes:
        """Return the bytes of an error inside the stream."""
        return _event({"error": {"message": message, "type": "agent_os", "code": "failed"}}) + b"data: [DONE]\n\n"


def _counts(usage: Usage) -> tuple[int, int, int, int]:
    return usage.input, usage.output, usage.cached, usage.reasoning


def _event(body: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
