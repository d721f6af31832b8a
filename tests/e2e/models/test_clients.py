"""The unmodified `openai` and `anthropic` clients against the gateway, with providers of both protocols behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from agent_os.runtime.serving.start import Serving
from tests.e2e.models.providers import Asked, Provider, Reply, anthropic_reply, openai_reply, provider
from tests.e2e.models.serving import records, serving

POLICY = """
version: 1
models:
  providers:
    near: {{kind: vllm, base_url: "{near}/v1", secret: NEAR_KEY, models: [near-model, embedder]}}
    far: {{kind: anthropic, base_url: "{far}", secret: FAR_KEY, models: [far-model]}}
  aliases: {{default: near/near-model}}
  max_tokens: 500
"""
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "d",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def answer(asked: Asked) -> Reply:
    """Answer with a tool call where a tool is offered and not yet used, else with the last words heard."""
    speak = anthropic_reply if asked.path.endswith("/messages") else openai_reply
    if asked.path.endswith("/embeddings"):
        data = [
            {"object": "embedding", "index": index, "embedding": [0.5, float(index)]}
            for index, _ in enumerate(asked.body["input"])
        ]
        return Reply(
            body={"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 4, "total_tokens": 4}}
        )
    last = asked.body["messages"][-1]
    used = last["role"] == "tool" or (isinstance(last["content"], list) and last["content"][0]["type"] == "tool_result")
    if asked.body.get("tools") and not used:
        return speak("", asked, calls=[("weather", {"city": "Lyon"}), ("weather", {"city": "Kraków"})])
    return speak("You said: héllo wörld", asked)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Serving, Provider, Provider, Path]]:
    """Two providers and a gateway in front of them."""
    monkeypatch.setenv("NEAR_KEY", "near-secret-key")
    monkeypatch.setenv("FAR_KEY", "far-secret-key")
    with (
        provider(answer) as near,
        provider(answer) as far,
        serving(tmp_path, POLICY.format(near=near.url, far=far.url)) as served,
    ):
        yield served, near, far, tmp_path


def openai_client(served: Serving) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key=served.token, max_retries=0)


def anthropic_client(served: Serving) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=served.url, api_key=served.token, max_retries=0)


@pytest.mark.parametrize("model", ["near-model", "far-model", "default", "near/near-model"])
def test_openai_client_whole_answers(world: Any, model: str) -> None:
    """Chat completions come back whole from providers of either protocol, under the caller's model name."""
    served, *_ = world
    done = openai_client(served).chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])
    assert done.choices[0].message.content == "You said: héllo wörld"
    assert (done.choices[0].finish_reason, done.model) == ("stop", model)
    assert done.usage is not None
    assert done.usage.prompt_tokens == 10


@pytest.mark.parametrize("model", ["near-model", "far-model"])
def test_openai_client_streams_and_tools(world: Any, model: str) -> None:
    """Streams and parallel tool calls arrive as the client expects, also across protocols, and results go back."""
    served, near, far, _ = world
    client = openai_client(served)
    messages: list[Any] = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "weather?"}]
    calls: dict[int, dict[str, str]] = {}
    finish = None
    for chunk in client.chat.completions.create(model=model, messages=messages, tools=[TOOL], stream=True):  # type: ignore[call-overload]
        if not chunk.choices:
            continue
        finish = chunk.choices[0].finish_reason or finish
        for piece in chunk.choices[0].delta.tool_calls or []:
            call = calls.setdefault(piece.index, {"id": "", "name": "", "arguments": ""})
            call["id"] += piece.id or ""
            call["name"] += piece.function.name or ""
            call["arguments"] += piece.function.arguments or ""
    assert finish == "tool_calls"
    assert [call["arguments"] for call in calls.values()] == ['{"city": "Lyon"}', '{"city": "Krak\\u00f3w"}']
    messages.append({
        "role": "assistant", "content": None,
        "tool_calls": [{"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}} for call in calls.values()],
    })  # fmt: skip
    messages += [{"role": "tool", "tool_call_id": call["id"], "content": "sunny"} for call in calls.values()]
    stream = client.chat.completions.create(
        model=model, messages=messages, tools=[TOOL], stream=True, stream_options={"include_usage": True}
    )  # type: ignore[call-overload]
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "You said: héllo wörld"
    assert chunks[-1].usage.completion_tokens > 0
    sent = (near if model == "near-model" else far).asked[-1].body
    assert str(sent["messages"]).count("sunny") == 2
    assert "Kraków" in str(sent["messages"])


@pytest.mark.parametrize("model", ["near-model", "far-model"])
def test_anthropic_client(world: Any, model: str) -> None:
    """Messages, streams, tools and images work with the Anthropic client, also in front of an OpenAI-like provider."""
    served, near, far, _ = world
    client = anthropic_client(served)
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    done = client.messages.create(
        model=model, max_tokens=100, system="be brief",
        messages=[{"role": "user", "content": [image, {"type": "text", "text": "what?"}]}],  # type: ignore[list-item]
    )  # fmt: skip
    assert done.content[0].text == "You said: héllo wörld"  # type: ignore[union-attr]
    assert (done.stop_reason, done.usage.input_tokens) == ("end_turn", 10)
    assert "aGk=" in str((near if model == "near-model" else far).asked[-1].body)
    tools: Any = [{"name": "weather", "description": "d", "input_schema": {"type": "object", "properties": {}}}]
    with client.messages.stream(
        model=model, max_tokens=100, tools=tools, messages=[{"role": "user", "content": "weather?"}]
    ) as stream:
        final = stream.get_final_message()
    used = [block for block in final.content if block.type == "tool_use"]
    assert [block.input for block in used] == [{"city": "Lyon"}, {"city": "Kraków"}]
    assert final.stop_reason == "tool_use"
    results: Any = [{"type": "tool_result", "tool_use_id": block.id, "content": "sunny"} for block in used]
    with client.messages.stream(
        model=model, max_tokens=100, tools=tools,
        messages=[{"role": "user", "content": "weather?"}, {"role": "assistant", "content": final.content}, {"role": "user", "content": results}],
    ) as stream:  # fmt: skip
        assert "".join(stream.text_stream) == "You said: héllo wörld"
    assert client.messages.count_tokens(model=model, messages=[{"role": "user", "content": "hi"}]).input_tokens > 0


def test_embeddings_and_models(world: Any) -> None:
    """Embeddings of several texts, and the list of models, in both dialects."""
    served, near, *_ = world
    client = openai_client(served)
    done = client.embeddings.create(model="embedder", input=["a", "b"], encoding_format="float")
    assert [item.embedding for item in done.data] == [[0.5, 0.0], [0.5, 1.0]]
    assert near.asked[-1].path == "/v1/embeddings"
    assert {model.id for model in client.models.list()} == {"near-model", "far-model", "embedder", "default"}
    assert {model.id for model in anthropic_client(served).models.list()} >= {"near-model", "far-model"}


def test_the_providers_key_is_put_in_outside_the_caller(world: Any) -> None:
    """The caller's token and headers stop at the gateway; each provider gets its own key; neither is in the audit."""
    served, near, far, folder = world
    client = openai_client(served)
    for model in ("near-model", "far-model"):
        client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "hi"}],
            extra_headers={"X-Tenant": "other", "X-Api-Key": served.token, "Cookie": "a=b", "Proxy-Authorization": "x"},
        )  # fmt: skip
    assert near.asked[-1].headers["authorization"] == "Bearer near-secret-key"
    assert far.asked[-1].headers["x-api-key"] == "far-secret-key"
    for asked in (near.asked[-1], far.asked[-1]):
        assert served.token not in str(asked.headers)
        assert not {"x-tenant", "cookie", "proxy-authorization"} & set(asked.headers)
    assert near.asked[-1].body["max_tokens"] == 500
    logs = b"".join(path.read_bytes() for path in (folder / "state/audit").rglob("*.jsonl"))
    assert b"near-secret-key" not in logs
    assert served.token.encode() not in logs


def test_denials_and_bad_requests_are_errors_of_the_clients_own_kind(world: Any) -> None:
    """A model nobody serves, a wrong token, unknown fields and provider-executed tools raise the clients' own errors."""
    served, near, far, folder = world
    client, messages = openai_client(served), [{"role": "user", "content": "hi"}]
    with pytest.raises(openai.PermissionDeniedError, match="denied by policy"):
        client.chat.completions.create(model="unknown-model", messages=messages)  # type: ignore[arg-type]
    with pytest.raises(openai.PermissionDeniedError):
        list(client.chat.completions.create(model="unknown-model", messages=messages, stream=True))  # type: ignore[call-overload]
    with pytest.raises(openai.BadRequestError, match="surprise"):
        client.chat.completions.create(model="near-model", messages=messages, extra_body={"surprise": 1})  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError, match="past the guard"):
        client.chat.completions.create(model="near-model", messages=messages, tools=[{"type": "web_search"}])  # type: ignore[call-overload]
    with pytest.raises(anthropic.BadRequestError, match="past the guard"):
        anthropic_client(served).messages.create(
            model="far-model", max_tokens=5, messages=messages, tools=[{"type": "web_search_20250305", "name": "web_search"}]  # type: ignore[arg-type]
        )  # fmt: skip
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="wrong", max_retries=0).models.list()
    with pytest.raises(anthropic.AuthenticationError):
        anthropic.Anthropic(base_url=served.url, api_key="wrong", max_retries=0).messages.create(
            model="far-model", max_tokens=5, messages=messages  # type: ignore[arg-type]
        )  # fmt: skip
    assert (near.asked, far.asked) == ([], [])
    assert len(records(folder, "denied")) == 2
