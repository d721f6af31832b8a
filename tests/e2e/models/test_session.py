"""Models through a session: `perform` of a model.call, and a LangChain agent whose whole request is judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langchain_anthropic import ChatAnthropic

from agent_os import AgentOS, Policy
from tests.e2e.models.providers import anthropic_reply, openai_reply, provider


def open_session(folder: Path, text: str) -> AgentOS:
    (folder / "ws").mkdir(exist_ok=True)
    return AgentOS.open(Policy.parse(text), principal="ana", workspace=folder / "ws", state=folder / "state")


def test_a_model_call_can_be_performed_like_any_action(tmp_path: Path, monkeypatch: Any) -> None:
    """Without LangChain: the action goes in, the answer comes out as a neutral message, usage is settled."""
    monkeypatch.setenv("NEAR_KEY", "near-secret-key")
    with provider(lambda asked: openai_reply("four", asked)) as near:
        text = f'version: 1\nmodels: {{providers: {{p: {{kind: vllm, base_url: "{near.url}/v1", models: [m], secret: NEAR_KEY}}}}}}\n'
        with open_session(tmp_path, text) as session:
            messages = [{"role": "user", "content": "two and two?"}]
            done: Any = session.perform({"kind": "model.call", "model": "m", "provider": "p", "messages": messages})
    assert done.value == {"role": "assistant", "content": "four"}
    assert near.asked[0].headers["authorization"] == "Bearer near-secret-key"
    assert near.asked[0].body["messages"] == messages


PRIVATE = """
version: 1
filesystem_policy: {include_workdir: true}
tools: {read_file: {allow: true}, note: {allow: true}}
models: {providers: {anthropic: {kind: anthropic, models: ["*"]}}}
privacy: [{find: [EMAIL_ADDRESS], to: external, do: pseudonymise}]
"""


def test_tools_and_parameters_are_scanned_with_the_prompt(tmp_path: Path) -> None:
    """An address in a tool's description leaves as a pseudonym too; the answer's address is the real one again."""

    def note(text: str) -> str:
        """Take a note; ask clerk.anna@corp.example when in doubt."""
        return text

    def reply(asked: Any) -> Any:
        content = asked.body["messages"][0]["content"]
        words = content if isinstance(content, str) else content[0]["text"]
        return anthropic_reply(f"I will write to {words.split()[-1]} soon", asked)

    with provider(reply) as cloud, open_session(tmp_path, PRIVATE) as session:
        inner = ChatAnthropic(model_name="claude-test", api_key="x", base_url=cloud.url, timeout=10, stop=None)  # type: ignore[arg-type]
        model = session.model(inner)
        answer = model.bind_tools(session.wrap([note])).invoke("write to bob.builder@mail.example")
        streamed = "".join(chunk.text for chunk in model.stream("write to bob.builder@mail.example"))
    assert answer.text == "I will write to bob.builder@mail.example soon"
    assert streamed == answer.text
    sent = str([asked.body for asked in cloud.asked])
    assert "bob.builder@mail.example" not in sent
    assert "clerk.anna@corp.example" not in sent
    assert "EMAIL_ADDRESS" in sent
