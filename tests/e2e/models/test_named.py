"""A model of the policy's own provider by its name: an agent at a plain OpenAI-like server, with no package for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent

from agent_os import ActionError, AgentOS, DeniedError, Policy
from tests.e2e.models.providers import Asked, Provider, Reply, anthropic_reply, openai_reply, provider
from tests.e2e.models.serving import records

POLICY = """
version: 1
filesystem_policy: {{include_workdir: true}}
tools: {{read_file: {{allow: {{path: {{under: notes}}}}}}}}
models: {{providers: {{house: {{kind: {kind}, base_url: "{url}", models: ["tiny-*"]}}}}}}
privacy: [{{find: [EMAIL_ADDRESS], to: any, do: pseudonymise}}]
"""


def answer(asked: Asked) -> Reply:
    """Read a note where that is offered and not yet done, else say what was heard last."""
    speak = anthropic_reply if asked.path.endswith("/messages") else openai_reply
    last = asked.body["messages"][-1]
    heard = last["role"] == "tool" or (
        isinstance(last["content"], list) and last["content"][0]["type"] == "tool_result"
    )
    if asked.body.get("tools") and not heard:
        return speak("", asked, calls=[("read_file", {"path": "notes/a.txt"})])
    return speak(f"heard: {last['content']}", asked)


@pytest.fixture(params=["vllm", "anthropic"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[AgentOS, Provider, Path]]:
    """A session whose policy names one provider, of each protocol."""
    (tmp_path / "ws/notes").mkdir(parents=True)
    (tmp_path / "ws/notes/a.txt").write_text("write to ana@corp.example\n")
    with provider(answer) as server:
        url = f"{server.url}/v1" if request.param == "vllm" else server.url
        policy = Policy.parse(POLICY.format(kind=request.param, url=url))
        with AgentOS.open(policy, principal="ana", workspace=tmp_path / "ws", state=tmp_path / "state") as system:
            yield system, server, tmp_path


def test_an_agent_works_at_it(world: tuple[AgentOS, Provider, Path]) -> None:
    """Tools are called, results heard, what was found is pseudonymised on the way out and restored on the way back."""
    system, server, folder = world
    agent: Any = create_agent(system.model("house:tiny-1"), tools=system.tools(), middleware=[system.middleware()])
    said = agent.invoke({"messages": [{"role": "user", "content": "Read notes/a.txt."}]})["messages"]
    assert "write to ana@corp.example" in said[-1].content
    assert "ana@corp.example" not in str(server.asked[-1].body) and "EMAIL_ADDRESS" in str(server.asked[-1].body)
    assert said[-1].usage_metadata["output_tokens"] > 0
    calls = [record for record in records(folder, "intent") if record["action"]["kind"] == "model.call"]
    assert [call["action"]["provider"] for call in calls] == ["house", "house"]


async def test_it_answers_without_a_thread_and_in_streams(tmp_path: Path) -> None:
    """`ainvoke` and streams, which come as one piece."""
    with provider(answer) as server:
        policy = Policy.parse(POLICY.format(kind="vllm", url=f"{server.url}/v1"))
        (tmp_path / "ws").mkdir()
        async with AgentOS.open(policy, principal="ana", workspace=tmp_path / "ws", state=tmp_path / "state") as system:
            model = system.model("house:tiny-1", temperature=0)
            assert (await model.ainvoke("hello")).content == "heard: hello"
            assert "".join([str(part.content) async for part in model.astream("hello")]) == "heard: hello"
            assert server.asked[-1].body["temperature"] == 0


def test_what_the_policy_does_not_serve_is_denied_and_an_unknown_name_said(
    world: tuple[AgentOS, Provider, Path],
) -> None:
    """A model outside `models` is a denial; a provider nobody knows is an error that says what names there are."""
    system, server, _ = world
    with pytest.raises(DeniedError):
        system.model("house:other").invoke("hello")
    with pytest.raises(ActionError, match="'nowhere:tiny-1' is no known model"):
        system.model("nowhere:tiny-1")
    assert not server.asked
