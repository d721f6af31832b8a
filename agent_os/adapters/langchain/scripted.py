"""A chat model that follows a script: for demos, examples and tests with neither key nor network.

It is a real `BaseChatModel`: tools bind, calls may be parallel, streams come in pieces (text by words, tool-call
arguments cut at arbitrary places). A script is a list of turns, or a function that reads the conversation so far and
says the next turn; that function sees the real results of the tools, so what such a model does depends on what it was
told.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field, PrivateAttr

from agent_os.core.errors import EffectError

SLICE_CHARS: Final = 7
Turn = AIMessage | str | Sequence[tuple[str, Mapping[str, Any]]]
"""One answer: a text, tool calls as (name, arguments), or a whole message."""
Script = Sequence[Turn] | Callable[[list[BaseMessage]], Turn]


class ScriptedModel(BaseChatModel):
    """A chat model whose answers are written down. Raises EffectError when the script has ended."""

    script: Any = Field(exclude=True, repr=False)
    name: str | None = "scripted"
    offered: list[list[str]] = Field(default_factory=list, exclude=True, repr=False)
    """The names of the tools offered in each call, for whoever wants to look."""
    prompts: list[list[BaseMessage]] = Field(default_factory=list, exclude=True, repr=False)
    """The messages of each call."""
    _turn: Any = PrivateAttr(default_factory=itertools.count)
    _call: Any = PrivateAttr(default_factory=lambda: itertools.count(1))

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": "scripted", "ls_model_name": self.name or "scripted", "ls_model_type": "chat"}

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools in the OpenAI form; a dict of an unknown kind is kept as it is."""
        formatted = [given if _is_provider_tool(given) else convert_to_openai_tool(given) for given in tools]
        return self.bind(tools=formatted, **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages, kwargs))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        answer = self._answer(messages, kwargs)
        for chunk in _pieces(answer):
            out = ChatGenerationChunk(message=chunk)
            if run_manager is not None:
                run_manager.on_llm_new_token(str(chunk.content), chunk=out)
            yield out

    def _answer(self, messages: list[BaseMessage], kwargs: Mapping[str, Any]) -> AIMessage:
        self.prompts.append(list(messages))
        self.offered.append([_name(given) for given in kwargs.get("tools") or ()])
        if callable(self.script):
            turn: Turn = self.script(list(messages))
        else:
            number = next(self._turn)
            if number >= len(self.script):
                raise EffectError("the script of the model has ended")
            turn = self.script[number]
        if isinstance(turn, AIMessage):
            return turn.model_copy()
        if isinstance(turn, str):
            return AIMessage(turn, usage_metadata=_usage(messages, turn))
        calls = [
            {"name": name, "args": dict(args), "id": f"call_{id(self):x}_{next(self._call)}", "type": "tool_call"}
            for name, args in turn
        ]
        return AIMessage("", tool_calls=calls, usage_metadata=_usage(messages, json.dumps(calls, default=str)))


def _usage(messages: Sequence[BaseMessage], said: str) -> Any:
    given, answered = sum(len(str(message.content)) for message in messages) // 4 + 1, len(said) // 4 + 1
    return {"input_tokens": given, "output_tokens": answered, "total_tokens": given + answered}


def _pieces(answer: AIMessage) -> Iterator[AIMessageChunk]:
    text = answer.content if isinstance(answer.content, str) else ""
    for start in range(0, len(text), SLICE_CHARS):
        yield AIMessageChunk(content=text[start : start + SLICE_CHARS])
    for index, call in enumerate(answer.tool_calls):
        args = json.dumps(call["args"])
        for start in range(0, max(len(args), 1), SLICE_CHARS):
            first = start == 0
            piece = tool_call_chunk(
                name=call["name"] if first else None,
                args=args[start : start + SLICE_CHARS],
                id=call["id"] if first else None,
                index=index,
            )
            yield AIMessageChunk(content="", tool_call_chunks=[piece])
    yield AIMessageChunk(content="", usage_metadata=answer.usage_metadata, chunk_position="last")


def _is_provider_tool(given: Any) -> bool:
    return isinstance(given, Mapping) and given.get("type", "function") not in ("function", "custom")


def _name(given: Any) -> str:
    function = given.get("function") if isinstance(given, Mapping) else None
    return str(function["name"] if isinstance(function, Mapping) else given.get("name", given.get("type", "")))
