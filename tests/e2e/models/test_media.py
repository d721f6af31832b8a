"""Pictures, sound and files through the gateway: what passes in both protocols, and what is denied with which words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from agent_os.runtime.serving.start import Serving
from tests.e2e.models.providers import Asked, Provider, Reply, anthropic_reply, openai_reply, provider
from tests.e2e.models.serving import serving

PNG, WAV, PDF = "iVBORw0KGgo=", "UklGRg==", "JVBERi0xLjQ="
POLICY = """
version: 1
models:
  providers:
    near: {{kind: vllm, base_url: "{near}/v1", models: [near-model], capabilities: [{near_takes}]}}
    far: {{kind: anthropic, base_url: "{far}", models: [far-model], destination: external}}
network_policies: {{cdn: {{endpoints: [{{host: cdn.corp.example, port: 443}}], binaries: [{{path: /usr/bin/curl}}]}}}}
{more}
"""
TEXT: dict[str, Any] = {"type": "text", "text": "what is it?"}
IMAGE: dict[str, Any] = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
SOUND: dict[str, Any] = {"type": "input_audio", "input_audio": {"data": WAV, "format": "wav"}}
FILE: dict[str, Any] = {
    "type": "file",
    "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"},
}
DOCUMENT: dict[str, Any] = {
    "type": "document", "title": "a.pdf", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
}  # fmt: skip


def answer(asked: Asked) -> Reply:
    """Answer in the protocol that was spoken."""
    return (anthropic_reply if asked.path.endswith("/messages") else openai_reply)("seen", asked)


class World:
    """Two providers of both protocols and a gateway."""

    def __init__(self, opened: Serving, near: Provider, far: Provider) -> None:
        self.near, self.far = near, far
        self.openai = openai.OpenAI(base_url=f"{opened.url}/v1", api_key=opened.token, max_retries=0)
        self.anthropic = anthropic.Anthropic(base_url=opened.url, api_key=opened.token, max_retries=0)

    def ask(self, model: str, *parts: dict[str, Any]) -> str:
        """Ask with the OpenAI client."""
        told: Any = [{"role": "user", "content": [TEXT, *parts]}]
        return self.openai.chat.completions.create(model=model, messages=told).choices[0].message.content or ""


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """The world of a policy with `request.param` = (capabilities of near, more of the policy)."""
    takes, more = getattr(request, "param", ("", ""))
    with provider(answer) as near, provider(answer) as far:
        text = POLICY.format(near=near.url, far=far.url, near_takes=takes, more=more)
        with serving(tmp_path, text) as opened:
            yield World(opened, near, far)


def test_pictures_sound_and_files_reach_a_provider_of_the_same_protocol(world: World) -> None:
    """Each part arrives as it was sent."""
    assert world.ask("near-model", IMAGE, SOUND, FILE) == "seen"
    assert world.near.asked[-1].body["messages"][-1]["content"] == [TEXT, IMAGE, SOUND, FILE]
    told: Any = [{"role": "user", "content": [TEXT, DOCUMENT]}]
    world.anthropic.messages.create(model="far-model", max_tokens=9, messages=told)
    assert world.far.asked[-1].body["messages"][-1]["content"] == [TEXT, DOCUMENT]


def test_files_are_said_in_the_other_protocol_and_sound_is_refused_there(world: World) -> None:
    """A PDF crosses in both directions; what the other protocol has no words for is an error that names it."""
    assert world.ask("far-model", FILE) == "seen"
    assert world.far.asked[-1].body["messages"][-1]["content"][1] == DOCUMENT
    told: Any = [{"role": "user", "content": [DOCUMENT]}]
    world.anthropic.messages.create(model="near-model", max_tokens=9, messages=told)
    assert world.near.asked[-1].body["messages"][-1]["content"] == [FILE]
    with pytest.raises(openai.APIStatusError, match="audio: cannot be said to this provider"):
        world.ask("far-model", SOUND)


def test_a_document_that_is_written_out_is_text(world: World) -> None:
    """It is scanned and sent as the words it is."""
    told: Any = [{"role": "user", "content": [{"type": "document", "title": "Note", "source":
                  {"type": "text", "media_type": "text/plain", "data": "hello"}}]}]  # fmt: skip
    world.anthropic.messages.create(model="far-model", max_tokens=9, messages=told)
    assert world.far.asked[-1].body["messages"][-1]["content"] == [{"type": "text", "text": "Note\nhello"}]


def test_what_lies_at_the_provider_is_refused(world: World) -> None:
    """ATTACK: a file that nobody here can look at; its twin holds the bytes."""
    with pytest.raises(openai.BadRequestError, match="must hold the file's bytes"):
        world.ask("near-model", {"type": "file", "file": {"file_id": "file-1"}})
    assert world.ask("near-model", FILE) == "seen" and len(world.near.asked) == 1


def test_what_the_provider_would_fetch_stays_within_the_hosts_of_the_policy(world: World) -> None:
    """ATTACK: a picture's address carries data out, and the provider fetches it past every guard; a declared host is fine."""

    def at(url: str) -> str:
        return world.ask("near-model", {"type": "image_url", "image_url": {"url": url}})

    for url in (
        "https://evil.example/?d=secret",
        "https://cdn.corp.example@evil.example/",
        "gs://bucket/x",
        "http:///x",
    ):
        with pytest.raises(openai.PermissionDeniedError, match="by itself"):
            at(url)
    assert not world.near.asked
    assert at("https://cdn.corp.example/logo.png") == "seen"


@pytest.mark.parametrize("world", [("tools, images", "")], indirect=True)
def test_a_provider_that_states_what_it_takes_gets_nothing_else(world: World) -> None:
    """A call with sound is denied, with what is missing; a picture goes."""
    assert world.ask("near-model", IMAGE) == "seen"
    with pytest.raises(openai.PermissionDeniedError) as caught:
        world.ask("near-model", SOUND)
    assert "near states that it takes no audio" in caught.value.response.text and len(world.near.asked) == 1


PRIVACY = "privacy: [{find: [EMAIL_ADDRESS], to: external, do: pseudonymise}]"
SHAPES: dict[str, dict[str, Any]] = {
    "a picture": {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
    "a document": DOCUMENT,
}


@pytest.mark.parametrize("world", [("", PRIVACY)], indirect=True)
@pytest.mark.parametrize("shape", SHAPES)
def test_where_personal_data_may_not_go_what_nobody_can_read_does_not_go(world: World, shape: str) -> None:
    """Denied towards the destination the rule speaks of, with the pointer; the text beside it goes; so does the near one."""
    told: Any = [{"role": "user", "content": [TEXT, SHAPES[shape]]}]
    with pytest.raises(anthropic.PermissionDeniedError, match="cannot be read as text"):
        world.anthropic.messages.create(model="far-model", max_tokens=9, messages=told)
    assert not world.far.asked
    plain: Any = [{"role": "user", "content": [TEXT]}]
    world.anthropic.messages.create(model="far-model", max_tokens=9, messages=plain)
    assert world.ask("near-model", IMAGE) == "seen"


@pytest.mark.parametrize("world", [("", "budgets: [{per: user, window: day, tokens: 20000}]")], indirect=True)
def test_a_large_picture_does_not_use_up_a_budget(world: World) -> None:
    """A picture is reserved by what providers count for one, not by its bytes."""
    large = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400_000}}
    assert world.ask("near-model", large) == "seen"
