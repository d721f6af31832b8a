"""One streamed answer of a governed model: originals put back and strangers' addresses taken out as chunks pass.

Pure of effects: chunks in, chunks and an outcome out. Threat: a placeholder cut over two chunks that is shown as it is, an
original that a stream shows and the whole answer would not, a picture that is complete before anybody looked at it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final, cast

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from agent_os.adapters.langchain.messages import message_usage, neutral_message
from agent_os.adapters.langchain.session import Session
from agent_os.core.ports import Admission, Outcome
from agent_os.guards.privacy.stream import PieceRestorer
from agent_os.monitor.shown import Streamed

_TEXTS: Final = {"text": "text", "thinking": "thinking", "reasoning": "thinking", "partial_json": "json"}
"""Fields of content blocks that hold a piece of text, and of what kind it is."""


class AnswerStream:
    """One streamed answer: originals are put back as its chunks pass, however placeholders are cut over them.

    Each text block and each tool call's arguments is a channel of its own; what a channel holds back (never more than one
    placeholder's length) comes with the last chunk.
    """

    def __init__(self, session: Session) -> None:
        privacy = session.monitor.session.privacy
        self._pieces = PieceRestorer(privacy) if privacy is not None else None
        monitor = session.monitor
        self._monitor = monitor
        self.shown = Streamed(monitor) if monitor.session.flow is not None else None
        self._whole: AIMessageChunk | None = None
        self.ended = False

    def feed(self, chunk: BaseMessage) -> list[ChatGenerationChunk]:
        """Take one chunk of the inner model and return what may be shown now."""
        if not isinstance(chunk, AIMessageChunk):
            chunk = AIMessageChunk(**chunk.model_dump(exclude={"type"}))
        self._whole = chunk if self._whole is None else self._whole + chunk
        if self._pieces is None and self.shown is None:
            return [ChatGenerationChunk(message=chunk)]
        return [ChatGenerationChunk(message=self._passed(chunk))]

    def _passed(self, chunk: AIMessageChunk) -> AIMessageChunk:
        """Return a chunk with originals put back and what its user may not be shown taken out or held back."""
        pieces, content = self._pieces, chunk.content
        if pieces is not None:
            content = _each_text(content, lambda lane, text: pieces.feed(lane, text, json=lane[0] == "json"))
        if self.shown is not None:
            shown = self.shown
            content = _each_text(content, lambda lane, text: text if lane[0] == "json" else shown.feed(lane, text))
        if pieces is None:
            return chunk.model_copy(update={"content": content})
        extra = {key: value for key, value in chunk.additional_kwargs.items() if key != "tool_calls"}
        return AIMessageChunk(
            content=content,
            id=chunk.id,
            name=chunk.name,
            additional_kwargs=extra,
            tool_call_chunks=[
                {**call, "args": pieces.feed(("tool", call.get("index")), call["args"] or "", json=True)}
                for call in chunk.tool_call_chunks
            ],
            usage_metadata=chunk.usage_metadata,
            response_metadata=chunk.response_metadata,
        )

    def flush(self) -> list[ChatGenerationChunk]:
        """Return what was held back, after the last chunk."""
        held: dict[Any, str] = dict(self._pieces.finish()) if self._pieces is not None else {}
        if self.shown is not None:
            for channel in [each for each in held if isinstance(each, tuple) and each[0] in ("text", "thinking")]:
                held[channel] = self.shown.feed(channel, held[channel])
            for lane, rest in self.shown.finish():
                held[lane] = held.get(lane, "") + rest
        if not any(held.values()) or self._whole is None:
            return []
        content: Any = ""
        calls: list[Any] = []
        for channel, text in held.items():
            kind, index = channel if isinstance(channel, tuple) else ("text", None)
            if not text:
                continue
            if kind == "tool":
                calls.append({"name": None, "args": text, "id": None, "index": index, "type": "tool_call_chunk"})
            elif index is None:
                content = text
            else:
                block = {"type": "thinking", "thinking": text} if kind == "thinking" else {"type": "text", "text": text}
                content = [*(content or []), {**block, "index": index}]
        return [ChatGenerationChunk(message=AIMessageChunk(content=content, tool_call_chunks=calls, id=self._whole.id))]

    async def settled(self, admission: Admission) -> None:
        """Settle a streamed call, however it ended, and record what was taken out of its answer."""
        await self._monitor.settle(admission, self.outcome())
        await self.recorded()

    async def recorded(self) -> None:
        """Record what was taken out of the answer, if anything was."""
        if self.shown is not None:
            await self.shown.record()

    def outcome(self) -> Outcome:
        """Return what the stream came to, so far."""
        if self._whole is None:
            return Outcome(None) if self.ended else Outcome(error="broken-off", detail="the stream gave nothing")
        message = _message(self._whole)
        if self.ended:
            return Outcome(neutral_message(message), usage=message_usage(message))
        return Outcome(
            neutral_message(message), error="broken-off", detail="the stream ended early"
        )  # no report of it yet


def _each_text(content: Any, change: Callable[[tuple[str, Any], str], str]) -> Any:
    """Return a chunk's content with each of its texts changed; a text's lane is its kind and the index of its block."""
    if isinstance(content, str):
        return change(("text", None), content) if content else content
    if not isinstance(content, list):
        return content
    blocks: list[Any] = []
    for place, block in enumerate(content):
        if isinstance(block, str):
            blocks.append(change(("text", None), block))
            continue
        for name, kind in _TEXTS.items() if isinstance(block, dict) else ():
            if isinstance(block.get(name), str):
                block = {**block, name: change((kind, block.get("index", place)), block[name])}
        blocks.append(block)
    return blocks


def whole_as_chunks(result: ChatResult) -> Iterator[ChatGenerationChunk]:
    """Yield a whole answer as one chunk."""
    message = cast("AIMessage", result.generations[0].message)
    calls: list[Any] = [
        {
            "name": call["name"],
            "args": json.dumps(call["args"]),
            "id": call["id"],
            "index": index,
            "type": "tool_call_chunk",
        }
        for index, call in enumerate(message.tool_calls)
    ]
    yield ChatGenerationChunk(
        message=AIMessageChunk(
            content=message.content, id=message.id, tool_call_chunks=calls, usage_metadata=message.usage_metadata
        )
    )


def _message(chunk: AIMessageChunk) -> AIMessage:
    return AIMessage(
        content=chunk.content,
        tool_calls=chunk.tool_calls,
        invalid_tool_calls=chunk.invalid_tool_calls,
        additional_kwargs=chunk.additional_kwargs,
        usage_metadata=chunk.usage_metadata,
        response_metadata=chunk.response_metadata,
        id=chunk.id,
    )


def shown_token(chunk: ChatGenerationChunk) -> str:
    """Return the text of a chunk that callbacks are told of."""
    return chunk.message.content if isinstance(chunk.message.content, str) else ""
