"""The parts of a message's content in both protocols: words, pictures, sound and files, to the neutral form and back. Pure.

Neutral parts are those of `neutral.Request`. A part is understood or refused with its field: what nobody judged does not travel.
What lies at the provider already (`file_id`) is refused, because nobody here can look at it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent_os.core.errors import ActionError

# ---- OpenAI chat completions ----------------------------------------------------------------------------------------


def openai_in(content: Any, field: str) -> Any:
    """Return the neutral content of a message. Raises ActionError naming the part."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ActionError("must be a text or a list of parts", field=field)
    parts = []
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in ("text", "refusal"):
            parts.append({"type": "text", "text": str(part.get("text", part.get("refusal", "")))})
        elif kind == "image_url" and isinstance(part.get("image_url"), Mapping):
            parts.append({"type": "image", "url": str(part["image_url"].get("url", ""))})
        elif kind == "input_audio" and isinstance(part.get("input_audio"), Mapping):
            sound = part["input_audio"]
            parts.append(
                {"type": "audio", "data": str(sound.get("data", "")), "format": str(sound.get("format", "wav"))}
            )
        elif kind == "file" and isinstance(part.get("file"), Mapping):
            parts.append(_file_in(part["file"], f"{field}[{index}]"))
        else:
            raise ActionError("is no text, image_url, input_audio or file", field=f"{field}[{index}]")
    return parts


def _file_in(file: Mapping[str, Any], field: str) -> dict[str, Any]:
    data = file.get("file_data")
    if not isinstance(data, str) or not data.startswith("data:"):
        hint = "file_data: data:application/pdf;base64,… (what lies at the provider already cannot be judged here)"
        raise ActionError("must hold the file's bytes", field=f"{field}.file", hint=hint)
    return {"type": "file", "url": data, "name": str(file.get("filename") or "file")}


def openai_out(content: Any) -> Any:
    """Return a neutral content as this protocol has it. Raises ActionError for what it cannot say."""
    if not isinstance(content, list):
        return content
    return [said for part in content if (said := _part_out(part)) is not None]


def _part_out(part: Mapping[str, Any]) -> dict[str, Any] | None:
    match part["type"]:
        case "text":
            return {"type": "text", "text": part["text"]}
        case "image":
            return {"type": "image_url", "image_url": {"url": part["url"]}}
        case "audio":
            return {"type": "input_audio", "input_audio": {"data": part["data"], "format": part["format"]}}
        case "file":
            if not str(part["url"]).startswith("data:"):
                raise ActionError("cannot be said to this provider", field="file", hint="send the file's bytes")
            return {"type": "file", "file": {"filename": part.get("name") or "file", "file_data": part["url"]}}
    return None  # another provider's thinking says nothing to this one


# ---- Anthropic Messages --------------------------------------------------------------------------------------------


def anthropic_in(content: Any, field: str) -> Any:
    """Return the neutral content of a message. Raises ActionError naming the block."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ActionError("must be a text or a list of blocks", field=field)
    parts: list[dict[str, Any]] = []
    for index, block in enumerate(content):
        kind = block.get("type") if isinstance(block, Mapping) else None
        source = block.get("source") if isinstance(block, Mapping) else None
        if kind == "text":
            parts.append({"type": "text", "text": str(block.get("text", ""))})
        elif kind == "image" and isinstance(source, Mapping) and source.get("type") == "base64":
            parts.append({"type": "image", "url": f"data:{source.get('media_type')};base64,{source.get('data')}"})
        elif kind == "image" and isinstance(source, Mapping) and source.get("type") == "url":
            parts.append({"type": "image", "url": str(source.get("url", ""))})
        elif kind == "document" and isinstance(source, Mapping):
            parts.extend(_document_in(source, str(block.get("title") or ""), f"{field}[{index}]"))
        elif kind in ("thinking", "redacted_thinking"):
            parts.append({name: str(value) for name, value in block.items()})
        else:
            raise ActionError("is no text, image, document or thinking", field=f"{field}[{index}]")
    return parts


def _document_in(source: Mapping[str, Any], title: str, field: str) -> Iterator[dict[str, Any]]:
    """Yield a document as parts; one that is written out is text like any other. Raises ActionError for a stored one."""
    kind, named = source.get("type"), {"name": title} if title else {}
    if kind == "base64":
        url = f"data:{source.get('media_type')};base64,{source.get('data')}"
        yield {"type": "file", "url": url, **named}
    elif kind == "url":
        yield {"type": "file", "url": str(source.get("url", "")), **named}
    elif kind == "text":
        yield {"type": "text", "text": f"{title}\n{source.get('data', '')}" if title else str(source.get("data", ""))}
    else:
        hint = "base64, url or text (what lies at the provider already cannot be judged here)"
        raise ActionError("must hold the document", field=f"{field}.source", hint=hint)


def anthropic_out(content: Any) -> list[dict[str, Any]]:
    """Return a neutral content as blocks. Raises ActionError for what this protocol cannot say."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    blocks: list[dict[str, Any]] = []
    for part in content:
        if part["type"] == "image":
            blocks.append({"type": "image", "source": _source(str(part["url"]))})
        elif part["type"] == "file":
            title = {"title": part["name"]} if part.get("name") else {}
            blocks.append({"type": "document", "source": _source(str(part["url"])), **title})
        elif part["type"] == "audio":
            raise ActionError(
                "cannot be said to this provider", field="audio", hint="a provider of kind openai takes it"
            )
        else:
            blocks.append(dict(part))
    return blocks


def _source(url: str) -> dict[str, str]:
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    media, _, data = url.removeprefix("data:").partition(";base64,")
    return {"type": "base64", "media_type": media, "data": data}
