"""What of an action is no text: pictures, sound, video, files and parts of kinds nobody knows. Pure.

Content blocks have a shape for every provider and library (OpenAI's two, Anthropic, Bedrock, Gemini, LangChain's own). A
part is *read* only if it is of a kind that is known to be text; whatever else stands among the parts of a message counts
as media, so that a shape invented tomorrow is denied where media are, and not passed. Threats: a passport's picture that
no detector reads; a file that lies at the provider already; an address that the provider fetches by itself, with data in
it (it passes every guard of this machine).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent_os.core.action import Action, MessageSend, ModelCall, NetRequest, ToolCall

DEPTH_MAX: Final = 64
"""Values nested deeper count as media: nobody looked."""
IMAGE, AUDIO, VIDEO, FILE, OTHER = "images", "audio", "video", "files", "other"
_KINDS: Final = {
    "image": IMAGE, "image_url": IMAGE, "input_image": IMAGE, "output_image": IMAGE, "image_file": IMAGE,
    "image_generation_call": IMAGE, "audio": AUDIO, "input_audio": AUDIO, "output_audio": AUDIO, "video": VIDEO,
    "input_video": VIDEO, "video_url": VIDEO, "file": FILE, "input_file": FILE, "document": FILE, "media": OTHER,
    "container_upload": FILE, "search_result": "", "non_standard": OTHER,
}  # fmt: skip
_PAYLOADS: Final = frozenset(
    {"image_url", "source", "data", "file", "input_audio", "url", "base64", "file_data", "bytes"}
)
_REFERENCES: Final = frozenset(
    {"file_id", "image_file", "id", "value", "uri", "file_url", "video_url", "result", "audio"}
)
"""Members of parts of a message alone: elsewhere `{"type": "file", "id": 7}` is a row of somebody's table."""
_BARE: Final = {"image": IMAGE, "audio": AUDIO, "video": VIDEO, "document": FILE, "inline_data": OTHER, "inlineData": OTHER,
                "file_data": FILE, "fileData": FILE}  # fmt: skip
"""Members that hold a medium in a part without a type (Bedrock, Gemini)."""
_INLINE: Final = ("bytes", "data", "base64")
_ELSEWHERE: Final = frozenset({"fileUri", "file_uri", "s3Location"})
_BLOB: Final = re.compile(r"[A-Za-z0-9+/_=-]{64,}", re.ASCII)
_READ: Final = frozenset(
    {"text", "input_text", "output_text", "refusal", "thinking", "redacted_thinking", "reasoning", "reasoning_content",
     "tool_use", "tool_result", "tool_call", "tool_call_chunk", "invalid_tool_call", "server_tool_use", "server_tool_call",
     "server_tool_result", "server_tool_call_result", "function_call", "function_call_output", "input_json_delta", "citation",
     "web_search_call",
     "web_search_tool_result", "web_search_result", "code_interpreter_call", "mcp_call", "message", "item_reference",
     "cache_point"}
)  # fmt: skip
"""Kinds of parts whose members are words, or are looked at one by one."""
_PART: Final = re.compile(r"/messages/\d+(?:/content(?:/\d+)?)+")
"""Where parts of a message stand, those of a tool's result too; what a call's arguments hold is no part."""
_ADDRESS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://", re.ASCII)
_FETCH_DEPTH: Final = 6


@dataclass(frozen=True, slots=True)
class Medium:
    """One part that is no text: where it stands, of what kind, how long its JSON about is, and the addresses it names."""

    pointer: str
    kind: str
    chars: int = 0
    addresses: tuple[str, ...] = ()


def media(action: Action) -> tuple[Medium, ...]:
    """Return every part of an action that is no text."""
    if isinstance(action, NetRequest):
        blind = action.size > 0 and action.body is None and action.jsonrpc is None and action.graphql is None
        return (Medium("/body", OTHER, action.size),) if blind else tuple(_media(action.body, "/body", 0))
    if isinstance(action, ModelCall):
        return media_of(action.messages)
    if isinstance(action, ToolCall):
        return tuple(_media(action.args, "/args", 0))
    return tuple(_media(action.body, "/body", 0)) if isinstance(action, MessageSend) else ()


def media_of(messages: Any) -> tuple[Medium, ...]:
    """Return every part of the messages of a model call that is no text."""
    return tuple(_media(messages, "/messages", 0))


def unreadable(action: Action) -> tuple[str, ...]:
    """Return pointers of the parts of an action that are not text: media in messages, bodies that were not decoded."""
    return tuple(medium.pointer for medium in media(action))


def _media(value: Any, pointer: str, depth: int) -> Iterator[Medium]:
    if depth > DEPTH_MAX:
        yield Medium(pointer, OTHER)
    elif isinstance(value, Mapping):
        kind = _kind(value, pointer)
        if kind:
            yield Medium(pointer, kind, _chars(value, 0), tuple(_addresses(value, 0)))
            return
        for key, item in value.items():
            name = str(key).replace("~", "~0").replace("/", "~1")
            yield from _media(item, f"{pointer}/{name}", depth + 1)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _media(item, f"{pointer}/{index}", depth + 1)
    elif isinstance(value, (bytes, bytearray)):
        yield Medium(pointer, OTHER, len(value))
    elif isinstance(value, str) and value[:5].lower() == "data:" and not value[5:10].lower().startswith("text/"):
        yield Medium(pointer, _by_type(value[5:20]), len(value))


def _kind(part: Mapping[str, Any], pointer: str) -> str:
    """Return what kind of medium a mapping is, an empty text for none."""
    kind, spoken = part.get("type"), _PART.fullmatch(pointer) is not None
    if isinstance(kind, str) and kind in _KINDS:
        holds = any(key in part for key in _PAYLOADS) or (spoken and any(key in part for key in _REFERENCES))
        if not holds or _written(part):
            return ""
        return _KINDS[kind] or _by_type(_media_type(part))
    if kind == "text-plain":
        return "" if isinstance(part.get("text"), str) and not {"base64", "url", "file_id"} & part.keys() else FILE
    for key, meant in _BARE.items():
        inner = part.get(key)
        if isinstance(inner, Mapping) and (_holds(inner, spoken) or _holds(inner.get("source"), spoken)):
            return meant
    typed = _media_type(part)
    if typed and not typed.startswith("text/") and _holds(part, spoken):
        return _by_type(typed)
    if isinstance(kind, str) and kind not in _READ and spoken:
        return OTHER  # a part of a kind that nobody here knows
    return ""


def _holds(inner: Any, spoken: bool) -> bool:
    """Whether a mapping holds bytes, or names a file elsewhere; `spoken`: in a message, where short ones count too."""
    if not isinstance(inner, Mapping):
        return False
    for name in _INLINE:
        value = inner.get(name)
        if isinstance(value, (bytes, bytearray)):
            return True
        if isinstance(value, str) and value and (spoken or _BLOB.match(value[:256])):
            return True
    return bool(_ELSEWHERE & inner.keys()) or (spoken and isinstance(inner.get("uri"), str))


def _written(part: Mapping[str, Any]) -> bool:
    """Whether a document is written out as text (Anthropic's `source: {type: text}`), which is read like any text."""
    source = part.get("source")
    return part.get("type") in ("document", "search_result") and (
        (isinstance(source, Mapping) and source.get("type") in ("text", "content")) or isinstance(source, str)
    )


def _media_type(part: Mapping[str, Any]) -> str:
    found = next((part[key] for key in ("mime_type", "media_type", "mimeType") if isinstance(part.get(key), str)), "")
    return str(found).lower()


def _by_type(media_type: str) -> str:
    family = media_type.lower().partition("/")[0]
    return {"image": IMAGE, "audio": AUDIO, "video": VIDEO, "application": FILE}.get(family, OTHER)


def _chars(value: Any, depth: int) -> int:
    if depth > DEPTH_MAX:
        return 0
    if isinstance(value, Mapping):
        return sum(len(str(key)) + _chars(item, depth + 1) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return sum(_chars(item, depth + 1) for item in value)
    return len(value) if isinstance(value, (str, bytes, bytearray)) else 8


def _addresses(value: Any, depth: int) -> Iterator[str]:
    """Yield the texts of a medium that are addresses of something elsewhere (any scheme but `data:`)."""
    if isinstance(value, str):
        if len(value) < 10_000 and _ADDRESS.match(value.strip()):
            yield value.strip()
    elif isinstance(value, Mapping) and depth < _FETCH_DEPTH:
        for item in value.values():
            yield from _addresses(item, depth + 1)
    elif isinstance(value, (list, tuple)) and depth < _FETCH_DEPTH:
        for item in value:
            yield from _addresses(item, depth + 1)
