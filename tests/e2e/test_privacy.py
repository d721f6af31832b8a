"""The privacy router through the whole runtime: what leaves is rewritten, what comes back is restored, in streams as well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage

from agent_os import AgentOS, DeniedError, Policy
from agent_os.adapters.langchain import ScriptedModel
from agent_os.core.manifest import ToolSpec
from agent_os.core.ports import Outcome

IBAN, MAIL = "DE89370400440532013000", "maria.schmidt@corp.example"
POLICY = """
version: 1
models:
  providers:
    scripted: {kind: scripted, models: ['*'], destination: external}
tools:
  note: {allow: true}
  web_form: {allow: true, destination: external}
privacy:
  names: lists
  rules:
    - {find: [IBAN_CODE, EMAIL_ADDRESS, PERSON], to: external, do: pseudonymise}
    - {find: [SECRET], to: any, do: deny}
"""


def _echo(messages: list[BaseMessage]) -> Any:
    """Answer with what was in the prompt, as text and as the arguments of a tool call."""
    said = str(messages[-1].content)
    return AIMessage(
        content=f"You said: {said}", tool_calls=[{"name": "note", "args": {"text": said, "q": 'a "b"'}, "id": "c1"}]
    )


@pytest.fixture
def system(tmp_path: Path) -> Any:
    """An open session over the policy."""
    (tmp_path / "ws").mkdir()
    with AgentOS.open(
        Policy.parse(POLICY), principal="ana@corp.example", workspace=tmp_path / "ws", state=tmp_path / "state"
    ) as os:
        yield os


@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_a_model_never_sees_and_the_user_never_misses(system: AgentOS, way: str) -> None:
    """The provider gets placeholders; answer and tool-call arguments come back with the originals, streamed or whole."""
    inner = ScriptedModel(script=_echo)
    model = system.model(inner)
    asked = f"write to {MAIL} about {IBAN}"
    if way == "invoke":
        answer = model.invoke(asked)
    else:
        pieces = list(model.stream(asked))
        answer = pieces[0]
        for piece in pieces[1:]:
            answer = answer + piece
        assert sum(bool(piece.text) for piece in pieces) > 2, "the text came in one piece: nothing was streamed"
        assert not any("EMAIL_ADDRESS" in piece.text for piece in pieces)
    sent = str(inner.prompts[-1][-1].content)
    assert MAIL not in sent
    assert IBAN not in sent
    assert answer.text == f"You said: {asked}"
    assert answer.tool_calls[0]["args"] == {"text": asked, "q": 'a "b"'}


def test_a_secret_in_a_prompt_is_denied_without_its_value(system: AgentOS) -> None:
    """The call does not happen and the reason names the kind only."""
    inner = ScriptedModel(script=["never"])
    key = "ghp_abcdEFGH1234abcdEFGH1234abcdEFGH1234"
    with pytest.raises(DeniedError) as caught:
        system.model(inner).invoke(f"use {key}")
    assert inner.prompts == []
    assert "SECRET_GITHUB_TOKEN" in str(caught.value)
    assert key not in str(caught.value)


def test_local_tools_get_originals_and_external_ones_do_not(system: AgentOS) -> None:
    """The same arguments towards a tool here and towards one outside; what the outside echoes is restored."""
    got: dict[str, Any] = {}

    def tool(name: str) -> Any:
        async def run(args: Any) -> Any:
            got[name] = dict(args)
            return {"echo": args["text"]}

        return run

    for name in ("note", "web_form"):
        system.toolbox.register(ToolSpec(name=name), tool(name), code=name.encode())
    for name in ("note", "web_form"):
        done = system.perform({"kind": "tool.call", "tool": name, "args": {"text": f"pay {IBAN}"}})
        assert isinstance(done, Outcome)
        assert done.value == {"echo": f"pay {IBAN}"}
    assert got["note"] == {"text": f"pay {IBAN}"}
    assert got["web_form"]["text"].startswith("pay [IBAN_CODE_1_")


def test_nothing_of_it_is_in_the_audit(system: AgentOS, tmp_path: Path) -> None:
    """Neither the audit nor the state holds what was pseudonymised."""
    system.model(ScriptedModel(script=["ok"])).invoke(f"write to {MAIL} about {IBAN}")
    for path in (tmp_path / "state").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert MAIL.encode() not in data, path
            assert IBAN.encode() not in data, path


def test_a_users_pseudonyms_outlive_a_session(tmp_path: Path) -> None:
    """With `scope: user` a later session of that user restores and repeats them; another user's session does not."""
    (tmp_path / "ws").mkdir()
    policy = Policy.parse(POLICY.replace("names: lists", "names: lists\n  scope: user"))

    def session(user: str) -> AgentOS:
        return AgentOS.open(policy, principal=user, workspace=tmp_path / "ws", state=tmp_path / "state")

    inner = ScriptedModel(script=lambda messages: str(messages[-1].content))
    with session("ana@corp.example") as os:
        os.model(inner).invoke(f"pay {IBAN}")
    first = str(inner.prompts[-1][-1].content)
    with session("ana@corp.example") as os:
        assert os.model(inner).invoke(f"pay {IBAN}").text == f"pay {IBAN}"
        assert str(inner.prompts[-1][-1].content) == first
        assert os.model(ScriptedModel(script=[first])).invoke("again?").text == f"pay {IBAN}"
    with session("bob@corp.example") as os:
        assert os.model(ScriptedModel(script=[first])).invoke("again?").text == first
