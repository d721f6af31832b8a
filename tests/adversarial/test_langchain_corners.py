"""Corners of a LangChain request that are sent to a model beside its messages: what stands in them is judged like the rest."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field

from agent_os import AgentOS, Policy
from agent_os.core.errors import DeniedError

IBAN = "DE89370400440532013000"
POLICY = """
version: 1
models: {providers: {p: {kind: langchain, models: ["*"]}}}
privacy: {names: "off", rules: [{find: [IBAN_CODE], to: any, do: %s}]}
"""


class Listening(BaseChatModel):
    """A model that keeps the words it was told to stop at."""

    stops: list[Any] = Field(default_factory=list)
    model_name: str = "m"

    @property
    def _llm_type(self) -> str:
        return "listening"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": "p", "ls_model_name": "m", "ls_model_type": "chat"}

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any) -> ChatResult:
        self.stops.append(stop)
        return ChatResult(generations=[ChatGeneration(message=AIMessage("fine"))])

    def _stream(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **_: Any) -> Any:
        self.stops.append(stop)
        yield ChatGenerationChunk(message=AIMessageChunk(content="fine"))


def ways(model: Any, **said: Any) -> list[Any]:
    """Return the ways to ask a model, each a function."""

    async def streamed() -> list[Any]:
        return [chunk async for chunk in model.astream("hi", **said)]

    return [
        lambda: model.invoke("hi", **said),
        lambda: list(model.stream("hi", **said)),
        lambda: asyncio.run(model.ainvoke("hi", **said)),
        lambda: asyncio.run(streamed()),
    ]


@pytest.mark.parametrize("way", range(4), ids=["invoke", "stream", "ainvoke", "astream"])
def test_the_words_to_stop_at_are_judged(tmp_path: Path, way: int) -> None:
    """ATTACK: an account number among the words to stop at is denied, or sent as a pseudonym; plain words arrive as they are."""
    (tmp_path / "ws").mkdir()
    for do, number in (("deny", 0), ("pseudonymise", 1)):
        inner = Listening()
        opened: dict[str, Any] = {"workspace": tmp_path / "ws", "state": tmp_path / f"state{number}"}
        with AgentOS.open(Policy.parse(POLICY % do), principal="ana", **opened) as system:
            model = system.model(inner)
            ways(model, stop=["Observation:"])[way]()
            assert inner.stops == [["Observation:"]]
            if do == "deny":
                with pytest.raises(DeniedError):
                    ways(model, stop=[IBAN])[way]()
                assert len(inner.stops) == 1
            else:
                ways(model, stop=[IBAN, "\n"])[way]()
                assert inner.stops[1][1] == "\n"
                assert inner.stops[1][0].startswith("[IBAN_CODE_1_")
            ways(model)[way]()
            assert inner.stops[-1] is None
