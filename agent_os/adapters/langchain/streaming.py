"""One streamed answer of a governed model: originals put back as chunks pass, and what the stream came to.

Pure of effects: chunks in, chunks and an outcome out. Threat: a placeholder cut over two chunks that is shown as it is, or an
original that a stream shows and the whole answer would not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from agent_os.adapters.langchain.messages import message_usage, neutral_message
from agent_os.adapters.langchain.session import Session
from agent_os.core.ports import Outcome
from agent_os.guards.privacy.stream import PieceRestorer


class AnswerStream:
    """One streamed answer: originals are put back as its chunks pass, however placeholders are cut over them.

    Each text block and each tool call's arguments is a channel of its own; what a channel holds back (never more than one
    placeholder's length) comes with the last chunk.
    """

    def __init__(self, session: Session) -> None:
        privacy = session.monitor.session.privacy
        self._pieces = PieceRestorer(privacy) if privacy is not None else None
        self._whole: AIMessageChunk | None = None
        self.ended = False

    def feed(self, chunk: BaseMessage) -> list[ChatGenerationChunk]:
        """Take one chunk of the inner model and return what may be shown now."""
        if not isinstance(chunk, AIMessageChunk):
            chunk = AIMessageChunk(**chunk.model_dump(exclude={"type"}))
        self._whole = chunk if self._whole is None else self._whole + chunk
        if self._pieces is None:
            return [ChatGenerationChunk(message=chunk)]
        return [ChatGenerationChunk(message=self._restored(chunk, self._pieces))]

    def _restored(self, chunk: AIMessageChunk, pieces: PieceRestorer) -> AIMessageChunk:
        extra = {key: value for key, value in chunk.additional_kwargs.items() if key != "tool_calls"}
        return AIMessageChunk(
            content=_restored_content(chunk.content, pieces),
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
        held = self._pieces.finish() if self._pieces is not None else []
        if not held or self._whole is None:
            return []
        content: Any = ""
        calls: list[Any] = []
        for channel, text in held:
            kind, index = channel if isinstance(channel, tuple) else ("text", None)
            if kind == "tool":
                calls.append({"name": None, "args": text, "id": None, "index": index, "type": "tool_call_chunk"})
            elif index is None:
                content = text
            else:
                content = [*(content or []), {"type": "text", "text": text, "index": index}]
        return [ChatGenerationChunk(message=AIMessageChunk(content=content, tool_call_chunks=calls, id=self._whole.id))]

    def outcome(self) -> Outcome:
        """Return what the stream came to, so far."""
        if self._whole is None:
            return Outcome(None) if self.ended else Outcome(error="broken-off", detail="the stream gave nothing")
        message = _message(self._whole)
        done = Outcome(neutral_message(message), usage=message_usage(message))
        return done if self.ended else replace(done, error="broken-off", detail="the stream ended early")


def _restored_content(content: Any, pieces: PieceRestorer) -> Any:
    if isinstance(content, str):
        return pieces.feed(("text", None), content) if content else content
    if not isinstance(content, list):
        return content
    blocks: list[Any] = []
    for place, block in enumerate(content):
        if isinstance(block, str):
            blocks.append(pieces.feed(("text", None), block))
        elif isinstance(block, dict) and isinstance(block.get("text"), str):
            blocks.append({**block, "text": pieces.feed(("text", block.get("index", place)), block["text"])})
        elif isinstance(block, dict) and isinstance(block.get("partial_json"), str):
            text = pieces.feed(("json", block.get("index", place)), block["partial_json"], json=True)
            blocks.append({**block, "partial_json": text})
        else:
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
