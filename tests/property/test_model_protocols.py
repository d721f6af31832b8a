"""Laws of the model protocols: nothing is lost between wire and neutral form, streams are their answers, no bytes crash."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent_os.core.errors import ActionError, EffectError
from agent_os.core.facts import Finding
from agent_os.guards.models import anthropic, openai
from agent_os.guards.models.answer_secrets import SecretWatch
from agent_os.guards.models.answer_secrets import cut as without
from agent_os.guards.models.answers import Defang, Rules, defanged
from agent_os.guards.models.neutral import Answer, Delta, Gathering, Request, Tool, Usage, deltas_of, request_of

WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
NAMES = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
ARGS = st.dictionaries(NAMES, st.one_of(WORDS, st.integers(-(2**40), 2**40), st.booleans(), st.none()), max_size=3)
CALLS = st.lists(st.fixed_dictionaries({"id": NAMES, "name": NAMES, "args": ARGS}), max_size=3)
PROTOCOLS = pytest.mark.parametrize("protocol", [openai, anthropic], ids=["openai", "anthropic"])


@st.composite
def conversations(draw: Any) -> tuple[dict[str, Any], ...]:
    """A conversation as both protocols can say it."""
    messages: list[dict[str, Any]] = []
    if draw(st.booleans()):
        messages.append({"role": "system", "content": draw(WORDS)})
    for turn in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(WORDS)})
        calls = draw(CALLS)
        said: dict[str, Any] = {"role": "assistant", "content": draw(WORDS)}
        if calls:
            said["tool_calls"] = [{**call, "id": f"c{turn}_{index}"} for index, call in enumerate(calls)]
        messages.append(said)
        messages += [
            {"role": "tool", "tool_call_id": call["id"], "content": draw(WORDS)} for call in said.get("tool_calls", [])
        ]
    return tuple(messages)


REQUESTS = st.builds(
    Request,
    model=NAMES,
    messages=conversations(),
    tools=st.lists(st.builds(Tool, NAMES, WORDS, st.just({"type": "object", "properties": {}})), max_size=2).map(tuple),
    tool_choice=st.sampled_from([None, "auto", "none", "any", "tool:f"]),
    max_tokens=st.integers(1, 10_000),
    stop=st.lists(WORDS, max_size=2).map(tuple),
    params=st.fixed_dictionaries({}, optional={"temperature": st.sampled_from([0.0, 0.5, 1.0]), "top_p": st.just(0.9)}),
)


def texts(message: dict[str, Any]) -> Any:
    """A message with its content as one text, whatever parts it came in."""
    content = message["content"]
    joined = content if isinstance(content, str) else "".join(part["text"] for part in content)
    return {**message, "content": joined}


@PROTOCOLS
@settings(max_examples=60, deadline=None)
@given(request=REQUESTS)
def test_requests_survive_the_wire(protocol: Any, request: Request) -> None:
    """What is rendered for a provider reads back as the same request."""
    body = json.loads(json.dumps(protocol.render_request(request, stream=False)))
    back = protocol.parse_request(body)
    assert (back.model, back.tools, back.tool_choice, back.max_tokens) == (
        request.model, request.tools, request.tool_choice, request.max_tokens,
    )  # fmt: skip
    assert (back.stop, dict(back.params)) == (request.stop, dict(request.params))
    assert [texts(dict(message)) for message in back.messages] == _merged(request.messages, protocol)


def _merged(messages: Any, protocol: Any) -> list[dict[str, Any]]:
    """Messages as the Anthropic protocol merges them: neighbours of one side are one message."""
    if protocol is openai:
        return [dict(message) for message in messages]
    merged: list[dict[str, Any]] = []
    for message in map(dict, messages):
        if merged and message["role"] == merged[-1]["role"] == "user":
            merged[-1] = {**merged[-1], "content": merged[-1]["content"] + message["content"]}
        else:
            merged.append(message)
    return merged


@settings(max_examples=60, deadline=None)
@given(request=REQUESTS)
def test_the_action_holds_the_whole_request(request: Request) -> None:
    """From an action's messages comes the same request: what is judged is what is sent."""
    back = request_of(request.model, request.neutral(), max_tokens=request.max_tokens)
    assert back == request


ANSWERS = st.builds(
    Answer,
    text=st.one_of(st.just(""), WORDS),
    tool_calls=CALLS.map(lambda calls: tuple({**call, "id": f"c{index}"} for index, call in enumerate(calls))),
    finish=st.sampled_from(["stop", "length", "tool", "filter"]),
    usage=st.builds(Usage, st.integers(0, 1000), st.integers(10, 1000)),
)


@PROTOCOLS
@settings(max_examples=60, deadline=None)
@given(answer=ANSWERS)
def test_answers_survive_the_wire_whole_and_streamed(protocol: Any, answer: Answer) -> None:
    """An answer written for a caller reads back the same, as a body and as a stream of events."""
    body = json.loads(json.dumps(protocol.render_answer(answer, id="x", model="m", created=1)))
    whole = protocol.parse_answer(body)
    writer, gathered = protocol.Writer(id="x", model="m", created=1, usage=True), Gathering()
    raw = b"".join(writer.write(delta) for delta in deltas_of(answer)) + writer.end()
    for block in raw.decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        for delta in protocol.read_event(lines.get("event", ""), lines["data"]) if "data" in lines else ():
            gathered.add(delta)
    streamed = gathered.answer()
    for back in (whole, streamed):
        assert (back.text, back.finish) == (answer.text, answer.finish)
        assert [(call["name"], call["args"]) for call in back.tool_calls] == [
            (call["name"], call["args"]) for call in answer.tool_calls
        ]
        assert (back.usage.input, back.usage.output) == (answer.usage.input, answer.usage.output)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(
        st.sampled_from(["model", "messages", "role", "content", "type", "text", "tools", "choices", "delta", "message", "usage",
                         "function", "name", "arguments", "index", "id", "input", "source", "tool_calls", "max_tokens"]), inner, max_size=6)),
    max_leaves=25,
)  # fmt: skip


@PROTOCOLS
@settings(max_examples=150, deadline=None)
@given(body=JSON)
def test_no_body_crashes_a_parser(protocol: Any, body: Any) -> None:
    """Whatever JSON comes in, from a caller or a provider, is a request, an answer, or a typed error."""
    for parse in (
        protocol.parse_request,
        protocol.parse_answer,
        lambda each: list(protocol.read_event("", json.dumps(each))),
    ):
        try:
            parse(body)
        except (ActionError, EffectError):
            continue


TEXTS = st.lists(
    st.sampled_from(
        ["hello ", "![a](", "![](https://evil.example/x)", "[b](https://ok.example/y)", "[c](https://evil.example/?q=1)", ")", "[", "]", "!",
         "<img src=https://evil.example/z>", "<", ">", "(", " ", "\n\n", "a < b", "x[1](2)", "[l](/local)", "<https://evil.example>",
         "![p][r]", "[r]: https://evil.example/r.png", "\n"]
    ),
    max_size=12,
).map("".join)  # fmt: skip


@example(text="![a](https://evil.example/x(1))", cuts=[])
@example(text='<img alt="<" src=https://evil.example/q>', cuts=[7])
@example(text="![a [b] c](https://evil.example/x)", cuts=[])
@example(text="![a](![](https://evil.example/x)", cuts=[])
@example(text="[![](https://evil.example/x)](https://ok.example/y)", cuts=[3, 9])
@settings(max_examples=200, deadline=None)
@given(text=TEXTS, cuts=st.lists(st.integers(0, 200), max_size=8))
def test_streams_are_defanged_as_whole_texts_are(text: str, cuts: list[int]) -> None:
    """For every text and every chunking, what a stream shows has no live picture or link to an undeclared host."""

    def allowed(host: str) -> bool:
        return host == "ok.example"

    stream, shown, start = Defang(Rules.of_hosts(allowed)), [], 0
    for cut in [*sorted(cuts), len(text)]:
        piece, start = text[start : max(cut, start)], max(cut, start)
        shown += [delta.text for delta in stream.feed(Delta("text", piece))]
    shown += [delta.text for delta in stream.flush()]
    streamed = "".join(shown)
    for result in (streamed, defanged(text, Rules.of_hosts(allowed))):
        assert "](https://evil" not in result
        assert "]: https://evil" not in result
        assert "<img" not in result
    assert streamed.count("](https://ok.example/y)") <= text.count("](https://ok.example/y)")


SECRET = "ghp_" + "aB3dE6gH9jK2mN5pQ8rS1tU4vW7xY0zA1bC2"


@settings(max_examples=200, deadline=None)
@given(
    parts=st.lists(
        st.sampled_from(["https://evil.example/x", "http://ok.example/y", "ht", "tp", "s://", " ", "\n", "word", SECRET, "(", "[a]"]),
        max_size=12,
    ),
    cuts=st.lists(st.integers(0, 300), max_size=8),
)  # fmt: skip
def test_bare_addresses_and_secrets_do_not_pass_however_a_stream_is_cut(parts: list[str], cuts: list[int]) -> None:
    """For every chunking no undeclared address stays live, and no secret that stands on one line is shown in part."""
    text = " ".join(parts)
    defang, shown, start = Defang(Rules.of_hosts(lambda host: host == "ok.example", bare=True)), [], 0
    watch = SecretWatch(find_secrets, redact=True)
    whole = without(text, find_secrets(text))
    for place in [*sorted(cuts), len(text)]:
        piece, start = text[start : max(place, start)], max(place, start)
        for safe in watch.feed(Delta("text", piece)):
            shown += defang.feed(safe)
    for safe in watch.flush():
        shown += defang.feed(safe)
    result = "".join(delta.text for delta in [*shown, *defang.flush()])
    assert "https://evil.example" not in result
    assert SECRET not in result
    assert result == defanged(whole, Rules.of_hosts(lambda host: host == "ok.example", bare=True))


def find_secrets(text: str) -> list[Finding]:
    """A finder of one secret, wherever it stands."""
    return [
        Finding("SECRET_GITHUB_TOKEN", match.start(), match.end(), 1.0)
        for match in re.finditer(re.escape(SECRET), text)
    ]


@pytest.mark.parametrize(
    "piece",
    ["[", "![", "](", "![a](", "<img ", "<", "[a]: ", "[a]:", "!", "](https://evil.example/", "  ", "[a](", "https://"],
)
def test_no_answer_takes_more_than_linear_time(piece: str) -> None:
    """A megabyte of any construct's beginning are read in a moment, whole and as a stream."""
    text = piece * (1_000_000 // len(piece))
    started = time.monotonic()
    defanged(text, Rules.of_hosts(lambda _: False))
    stream = Defang(Rules.of_hosts(lambda _: False, bare=True))
    for start in range(0, 200_000, 1000):
        stream.feed(Delta("text", text[start : start + 1000]))
    stream.flush()
    assert time.monotonic() - started < 20
