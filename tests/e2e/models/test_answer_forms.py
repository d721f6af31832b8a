"""`agentos serve` and answers that call home: every form of a picture, streamed in small pieces over the real server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_os.runtime.serving.start import Serving
from tests.e2e.models.providers import Asked, Reply, provider, sse
from tests.e2e.models.serving import serving
from tests.property.test_answers import FORMS, KEPT, Page, leads

POLICY = """
version: 1
models: {{providers: {{p: {{kind: vllm, base_url: "{url}/v1", models: ["m*"], retries: 0}}}}{models}}}
network_policies: {{ok: {{endpoints: [{{host: ok.example, port: 443}}]}}}}
{more}
"""
SAID = [f"Before. {form} after." for form in FORMS]


def script(asked: Asked) -> Reply:
    """Answer with the text whose number is asked for, whole or in pieces of three characters."""
    text = [*SAID, *KEPT][int(asked.body["messages"][-1]["content"])]
    if not asked.body.get("stream"):
        return Reply(body={"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]})
    pieces = [{"choices": [{"delta": {"content": text[at : at + 3]}}]} for at in range(0, len(text), 3)]
    return Reply(chunks=sse(*pieces, {"choices": [{"delta": {}, "finish_reason": "stop"}]}, "[DONE]"))


def ask(client: httpx.Client, served: Serving, number: int, path: str, *, stream: bool) -> str:
    """Return what a reader puts together of an answer, over OpenAI's or Anthropic's protocol."""
    body = {"model": "m", "messages": [{"role": "user", "content": str(number)}], "max_tokens": 99, "stream": stream}
    answer = client.post(served.url + path, json=body, headers={"authorization": f"Bearer {served.token}"}, timeout=20)
    assert answer.status_code == 200, answer.text
    if not stream:
        said: dict[str, Any] = answer.json()
        if path == "/v1/messages":
            return "".join(block.get("text", "") for block in said["content"])
        return str(said["choices"][0]["message"]["content"])
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    if path == "/v1/messages":
        return "".join(event.get("delta", {}).get("text", "") for event in events)
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event.get("choices", ()))


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_no_form_of_a_picture_reaches_a_caller(tmp_path: Path, path: str, stream: bool) -> None:
    """ATTACK: each form, cut anywhere; a renderer fetches nothing of the stranger. Ordinary answers come as they were said."""
    with (
        provider(script) as near,
        serving(tmp_path, POLICY.format(url=near.url, models=", bare_links: defang", more="")) as served,
        httpx.Client() as client,
    ):
        for number, said in enumerate(SAID):
            page = Page(ask(client, served, number, path, stream=stream))
            assert not any(map(leads, page.loads)), said
            assert not any(map(leads, page.links)), said
        for number, kept in enumerate(KEPT, len(SAID)):
            assert ask(client, served, number, path, stream=stream) == kept


@pytest.mark.parametrize(
    ("flow", "taken"),
    [("flow: {}", True), ("flow: {untrusted_image: warn}", False), ("flow: {trusted_domains: [evil.example]}", False)],
)
def test_a_flow_section_takes_images_out_whatever_models_say(tmp_path: Path, flow: str, taken: bool) -> None:
    """Where `inspect_answers` is off, the class `untrusted_image` holds in answers of the server too, trusted domains aside."""
    with (
        provider(script) as near,
        serving(tmp_path, POLICY.format(url=near.url, models=", inspect_answers: false", more=flow)) as served,
        httpx.Client() as client,
    ):
        shown = ask(client, served, 0, "/v1/chat/completions", stream=True)
        assert any(map(leads, Page(shown).loads)) is not taken
