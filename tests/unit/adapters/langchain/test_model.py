"""The governed chat model: whole answers, streams, provider tools, callbacks and tracing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelFallbackMiddleware, SummarizationMiddleware
from langchain.agents.structured_output import ToolStrategy
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.tracers.langchain import LangChainTracer
from pydantic import BaseModel

from agent_os import DeniedError, EffectError
from agent_os.adapters.langchain import GovernedModel, ScriptedModel
from agent_os.adapters.langchain.messages import neutral_messages, rewritten_messages
from agent_os.core.errors import StoppedError
from agent_os.runtime.audit import open_audit
from tests.unit.adapters.langchain.sessions import MODELS, records, session

TOOLS = "{read_file: {allow: true}}"
DENIED = "models: {providers: {other: {kind: openai, models: ['gpt-*']}}}\n"


class Spy(BaseCallbackHandler):
    """Remembers what callbacks get to see."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
        self.seen.append(str(messages))


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream", "batch"])
def test_every_way_to_call_a_model_goes_through_the_door(tmp_path: Path, way: str) -> None:
    """Sync, async, streaming and batch calls answer as the inner model does, and each leaves one intent."""
    with session(tmp_path, TOOLS) as os:
        model = os.model(ScriptedModel(script=["A longer answer in pieces."]))

        async def streamed() -> str:
            return "".join([chunk.text async for chunk in model.astream("hi")])

        match way:
            case "invoke":
                text = model.invoke("hi").text
            case "ainvoke":
                text = asyncio.run(model.ainvoke("hi")).text
            case "stream":
                text = "".join(chunk.text for chunk in model.stream("hi"))
            case "astream":
                text = asyncio.run(streamed())
            case _:
                text = model.batch(["hi"])[0].text
    assert text == "A longer answer in pieces."
    assert [record["type"] for record in records(tmp_path, "model.call")] == ["intent"]


class Endless(ScriptedModel):
    """Answers in pieces, and after the first of them never, or a piece a moment."""

    async def _astream(self, *given: Any, **more: Any) -> AsyncIterator[Any]:
        yield ChatGenerationChunk(message=AIMessageChunk(content="a"))
        await asyncio.Event().wait()

    def _stream(self, *given: Any, **more: Any) -> Iterator[Any]:
        while True:
            yield ChatGenerationChunk(message=AIMessageChunk(content="a"))


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_halt_cuts_off_a_streamed_answer(tmp_path: Path, way: str) -> None:
    """Once a person has halted everything no more pieces come, and the call is settled as it was reserved."""
    with session(tmp_path, TOOLS) as os:
        model = os.model(Endless(script=["never"]))

        async def drain() -> None:
            async for _ in model.astream("hi"):
                await os.stops.ahalt(by="lea", reason="odd")

        def read() -> None:
            for _ in model.stream("hi"):
                os.stops.halt(by="lea", reason="odd")

        ways = {"stream": read, "astream": lambda: asyncio.run(asyncio.wait_for(drain(), 30))}
        with pytest.raises(StoppedError, match="odd"):
            ways[way]()
    reader = open_audit(environment={"AGENTOS_STATE": str(tmp_path / "state")})
    (outcome,) = [record for record in reader.records() if record["type"] == "outcome"]
    assert (outcome["ok"], outcome["usage"]["estimated"]) == (False, 1.0)


@pytest.mark.parametrize("way", ["invoke", "stream", "astream"])
def test_a_model_no_rule_allows_is_not_called(tmp_path: Path, way: str) -> None:
    """A denied model call raises with its decision; the inner model sees nothing."""
    inner = ScriptedModel(script=["never"])
    with session(tmp_path, TOOLS, DENIED) as os:
        model = os.model(inner)

        async def drain() -> None:
            async for _ in model.astream("hi"):
                pass

        ways = {
            "invoke": lambda: model.invoke("hi"),
            "stream": lambda: list(model.stream("hi")),
            "astream": lambda: asyncio.run(drain()),
        }
        with pytest.raises(DeniedError):
            ways[way]()
    assert inner.prompts == []


def test_streams_come_in_pieces_and_are_settled(tmp_path: Path) -> None:
    """Chunks pass as they come; usage settles the call; tool calls put together from slices are whole."""
    with session(tmp_path, TOOLS) as os:
        model = os.model(
            ScriptedModel(script=["one two three", [("read_file", {"path": "a"}), ("read_file", {"path": "b"})]])
        )
        assert len([chunk for chunk in model.stream("hi") if chunk.text]) == 2
        whole = None
        for chunk in model.stream("hi"):
            whole = chunk if whole is None else whole + chunk
        assert whole is not None
        assert [call["args"] for call in whole.tool_calls] == [{"path": "a"}, {"path": "b"}]
        assert whole.usage_metadata["input_tokens"] > 0


def test_a_stream_left_early_is_closed_in_the_audit(tmp_path: Path) -> None:
    """Whoever stops reading leaves an outcome that says so, not an intent without one."""
    from agent_os.runtime.audit import open_audit

    with session(tmp_path, TOOLS) as os:
        stream = os.model(ScriptedModel(script=["one two three four five"])).stream("hi")
        next(stream)
        stream.close()
    reader = open_audit(environment={"AGENTOS_STATE": str(tmp_path / "state")})
    outcomes = [record for record in reader.records() if record["type"] == "outcome"]
    assert [(record["ok"], record["error"]) for record in outcomes] == [(False, "broken-off")]


def test_agents_stream_messages_and_events(tmp_path: Path) -> None:
    """`stream_mode="messages"` and `astream_events` work through the wrapper."""
    with session(tmp_path, TOOLS) as os:
        (Path(os.workspace) / "a").write_text("x")

        def graph() -> Any:
            script = [[("read_file", {"path": "a"})], "all done now"]
            return create_agent(os.model(ScriptedModel(script=script)), tools=os.tools(), middleware=[os.middleware()])

        given = {"messages": [("user", "hi")]}
        pieces = [part for part, _ in graph().stream(given, stream_mode="messages")]
        assert "".join(part.text for part in pieces if part.type == "AIMessageChunk") == "all done now"

        async def events() -> list[str]:
            return [event["event"] async for event in graph().astream_events(given, version="v2")]

        names = asyncio.run(events())
        assert "on_chat_model_stream" in names
        assert "on_tool_end" in names


def test_provider_executed_tools_are_denied_unless_named(tmp_path: Path) -> None:
    """A search the provider would run is refused when bound or slipped in; a policy that lists it lets it be offered."""
    search = {"type": "web_search_20250305", "name": "web_search"}
    with session(tmp_path, TOOLS) as os:
        model = os.model(ScriptedModel(script=["never"]))
        for attempt in (
            lambda: model.bind_tools([search]),
            lambda: model.bind(tools=[search]).invoke("hi"),
            lambda: model.invoke("hi", mcp_servers=[{"url": "https://x.example"}]),
            lambda: create_agent(model, tools=[search], middleware=[os.middleware()]).invoke({"messages": []}),
        ):
            with pytest.raises(DeniedError, match="provider_tools"):
                attempt()
        assert model.bind_tools([{"name": "f", "parameters": {"type": "object", "properties": {}}}]) is not None
    listed = "models: {providers: {scripted: {kind: scripted, models: ['*']}}, provider_tools: [web_search_20250305]}\n"
    with session(tmp_path, TOOLS, listed) as os:
        assert os.model(ScriptedModel(script=["found"])).bind_tools([search]).invoke("hi").text == "found"


def test_models_that_others_bring_are_governed(tmp_path: Path) -> None:
    """A raw model given to the agent, one a fallback swaps in, and the one a summary uses all leave intents."""
    inner, spare = ScriptedModel(script=[]), ScriptedModel(script=["from the spare"])
    with session(tmp_path, TOOLS) as os:
        graph = create_agent(inner, tools=os.tools(), middleware=[ModelFallbackMiddleware(spare), os.middleware()])
        assert graph.invoke({"messages": [("user", "hi")]})["messages"][-1].text == "from the spare"
        summary = SummarizationMiddleware(
            model=os.model(ScriptedModel(script=["a summary"])), trigger=("messages", 3), keep=("messages", 1)
        )
        chat = create_agent(os.model(ScriptedModel(script=["fine"])), middleware=[summary, os.middleware()])
        chat.invoke({"messages": [("user", "a"), ("ai", "b"), ("user", "c"), ("ai", "d"), ("user", "e")]})
    assert [record["type"] for record in records(tmp_path, "model.call")] == ["intent"] * 4


def test_foreign_callbacks_of_the_inner_model_see_nothing(tmp_path: Path) -> None:
    """Callbacks and caches built into the inner model are left out; those of the application see the wrapper."""
    spy, mine = Spy(), Spy()
    with session(tmp_path, TOOLS) as os:
        model = os.model(ScriptedModel(script=["a", "b"], callbacks=[spy]))
        model.invoke("the secret prompt", config={"callbacks": [mine]})
        list(model.stream("the secret prompt"))
    assert spy.seen == []
    assert len(mine.seen) == 1


def test_tracing_is_off_whatever_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LANGSMITH_TRACING exports nothing from a governed process, and a tracer among the callbacks is left out."""
    started: list[Any] = []
    monkeypatch.setattr(LangChainTracer, "on_chat_model_start", lambda self, *args, **kwargs: started.append(args))
    monkeypatch.setenv("LANGSMITH_TRACING", "true")
    monkeypatch.setenv("LANGCHAIN_TRACING_V2", "true")
    monkeypatch.setenv("LANGSMITH_API_KEY", "not-a-key")
    from langsmith import utils

    utils.get_env_var.cache_clear()
    with session(tmp_path, TOOLS) as os:
        graph = create_agent(os.model(ScriptedModel(script=["a", "b"])), tools=os.tools(), middleware=[os.middleware()])
        graph.invoke({"messages": [("user", "hi")]})
        os.model(ScriptedModel(script=["c"])).invoke("hi", config={"callbacks": [LangChainTracer()]})
    assert started == []


def test_structured_output_works_through_the_wrapper(tmp_path: Path) -> None:
    """`response_format` with a tool strategy gives the typed answer."""

    class Answer(BaseModel):
        number: int

    with session(tmp_path, TOOLS) as os:
        model = os.model(ScriptedModel(script=[[("Answer", {"number": 7})]]))
        graph = create_agent(model, tools=[], response_format=ToolStrategy(Answer), middleware=[os.middleware()])
        assert graph.invoke({"messages": [("user", "hi")]})["structured_response"] == Answer(number=7)


def test_answers_are_clamped_as_the_policy_says(tmp_path: Path) -> None:
    """`max_tokens` of the policy reaches the inner model."""
    got: list[Any] = []

    class Listening(ScriptedModel):
        def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
            got.append(kwargs.get("max_tokens"))
            return super()._generate(messages, stop, run_manager, **kwargs)

    with session(tmp_path, TOOLS, MODELS.replace("{providers", "{max_tokens: 50, providers")) as os:
        os.model(Listening(script=["a", "b"])).invoke("hi")
        os.model(Listening(script=["a", "b"])).invoke("hi", max_tokens=9)
    assert got == [50, 9]


def test_a_route_leads_to_another_model_or_nowhere(tmp_path: Path) -> None:
    """A routed call goes to the model handed in under that name; without one it fails and nothing is sent."""
    routed = (
        "models: {providers: {scripted: {kind: scripted, models: ['*']}, house: {kind: local, model: small}},"
        " routes: [{use: house}]}\n"
    )
    asked, house = ScriptedModel(script=["from afar"]), ScriptedModel(script=["from the house"])
    with session(tmp_path, TOOLS, routed) as os:
        with pytest.raises(EffectError, match="house/"):
            os.model(asked).invoke("hi")
        assert asked.prompts == []
        answer = os.model(asked, routes={"house/small": house, "house/scripted": house}).invoke("hi")
    assert answer.text == "from the house"
    assert asked.prompts == []


def test_messages_keep_their_meaning_as_plain_json() -> None:
    """Neutral form and back: untouched messages are the same objects, changed ones say what the form says."""
    conversation = [
        SystemMessage("be brief"),
        HumanMessage([{"type": "text", "text": "hi"}], name="ana"),
        AIMessage("", tool_calls=[{"name": "f", "args": {"x": 1}, "id": "c1", "type": "tool_call"}],
                  additional_kwargs={"raw": "corner"}),
        ToolMessage("result", tool_call_id="c1", status="error"),
    ]  # fmt: skip
    neutral = neutral_messages(conversation)
    assert rewritten_messages(conversation, neutral) == conversation
    assert all(one is two for one, two in zip(rewritten_messages(conversation, neutral), conversation, strict=True))
    neutral[2]["tool_calls"][0]["args"]["x"] = 2
    del neutral[2]["extra"]
    neutral[3]["content"] = "[hidden]"
    changed = rewritten_messages(conversation, neutral)
    assert changed[:2] == conversation[:2]
    assert changed[2].tool_calls[0]["args"] == {"x": 2}  # type: ignore[attr-defined]
    assert changed[2].additional_kwargs == {}
    assert (changed[3].content, changed[3].status) == ("[hidden]", "error")  # type: ignore[attr-defined]
    assert [message.type for message in rewritten_messages([], neutral)] == ["system", "human", "ai", "tool"]


def test_naming_a_model_without_its_package_says_what_to_install(tmp_path: Path) -> None:
    """A provider whose package is missing is an error with the install line."""
    with session(tmp_path, TOOLS) as os, pytest.raises(EffectError, match="pip install"):
        os.model("mistralai:mistral-large")


def test_a_governed_model_is_wrapped_once(tmp_path: Path) -> None:
    """Governing a governed model changes nothing."""
    with session(tmp_path, TOOLS) as os:
        model = os.model(ScriptedModel(script=[]))
        assert isinstance(model, GovernedModel)
        assert os.model(model) is model
