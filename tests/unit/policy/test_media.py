"""What of a message is no text, in the shapes of every library: found, or nobody would look at it."""

from __future__ import annotations

from typing import Any

import pytest

from agent_os.policy.media import media_of

B64 = "iVBORw0KGgoAAAANSUhEUg" * 8
MEDIA: dict[str, tuple[dict[str, Any], str]] = {
    "openai picture": ({"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}, "images"),
    "openai sound": ({"type": "input_audio", "input_audio": {"data": B64, "format": "wav"}}, "audio"),
    "openai file": ({"type": "file", "file": {"file_data": "data:application/pdf;base64,AA"}}, "files"),
    "openai stored file": ({"type": "file", "file": {"file_id": "file-1"}}, "files"),
    "responses picture": ({"type": "input_image", "image_url": "data:image/png;base64,AA"}, "images"),
    "responses stored file": ({"type": "input_file", "file_id": "file-1"}, "files"),
    "anthropic picture": ({"type": "image", "source": {"type": "base64", "data": B64}}, "images"),
    "anthropic document": ({"type": "document", "source": {"type": "url", "url": "https://x.example/a.pdf"}}, "files"),
    "langchain picture": ({"type": "image", "base64": B64, "mime_type": "image/png"}, "images"),
    "langchain stored picture": ({"type": "image", "file_id": "f-1"}, "images"),
    "langchain video": ({"type": "video", "url": "https://x.example/a.mp4"}, "video"),
    "langchain text of bytes": ({"type": "text-plain", "base64": B64, "mime_type": "text/plain"}, "files"),
    "langchain foreign": ({"type": "non_standard", "value": {"picture": B64}}, "other"),
    "gemini": ({"type": "media", "mime_type": "audio/wav", "data": B64}, "other"),
    "gemini inline": ({"inline_data": {"mime_type": "image/png", "data": B64}}, "other"),
    "bedrock picture": ({"image": {"format": "png", "source": {"bytes": B64}}}, "images"),
    "bedrock document": (
        {"document": {"format": "pdf", "name": "a", "source": {"s3Location": {"uri": "s3://b/a"}}}},
        "files",
    ),
    "a kind of tomorrow": ({"type": "hologram", "payload": "x"}, "other"),
    "an address of data": ({"type": "text", "text": "data:image/png;base64,AAAA"}, "images"),
}
WORDS: dict[str, Any] = {
    "text": {"type": "text", "text": "hello"},
    "text with a type": {"type": "text-plain", "text": "hello", "mime_type": "text/plain"},
    "a document written out": {"type": "document", "source": {"type": "text", "data": "hello"}},
    "thinking": {"type": "thinking", "thinking": "hm", "signature": B64},
    "a call": {"type": "tool_use", "id": "1", "name": "show", "input": {"type": "document", "id": "D-7"}},
    "reasoning": {"type": "reasoning", "summary": [{"type": "summary_text", "text": "x"}]},
}  # fmt: skip


@pytest.mark.parametrize("name", MEDIA)
def test_a_medium_is_found_in_every_shape(name: str) -> None:
    """By its kind, at its place; a shape that nobody knows counts too."""
    part, kind = MEDIA[name]
    found = media_of([{"role": "user", "content": [{"type": "text", "text": "see"}, part]}])
    assert [medium.kind for medium in found] == [kind]
    assert found[0].pointer.startswith("/messages/0/content/1")


@pytest.mark.parametrize("name", WORDS)
def test_words_are_no_medium(name: str) -> None:
    """What is text in a known kind of part is read like any other."""
    assert media_of([{"role": "user", "content": [WORDS[name]]}]) == ()


def test_rows_of_a_tool_are_no_media() -> None:
    """Benign twins: a table's `type: file`, a document by number, a picture's title in a call's arguments."""
    from agent_os.core.action import Action
    from agent_os.policy.media import unreadable

    args = {"rows": [{"type": "file", "id": "7"}, {"document": {"data": {"a": 1}}}, {"image": {"source": "crm"}}]}
    assert unreadable(Action.parse({"kind": "tool.call", "tool": "t", "args": args})) == ()
    blob = {"document": {"format": "pdf", "source": {"bytes": B64}}}
    assert unreadable(Action.parse({"kind": "tool.call", "tool": "t", "args": blob})) == ("/args",)
