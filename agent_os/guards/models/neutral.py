"""The neutral form of a model call, its answer and its stream. Pure values.

Everything that will be sent to a provider stands in the neutral form, and all of it enters the Action: the conversation,
and the rest (tools with their schemas, parameters) as one message of the role `request` in front. So what detectors scan,
a policy rewrites and an approval binds to is the whole request. Threats: a field that travels unscanned, a usage report
that lowers a bill, a tool call whose arguments are no JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from agent_os.core import canonical
from agent_os.core.errors import ActionError, EffectError
from agent_os.policy.media import media_of

CHARS_PER_TOKEN: Final = 3
IMAGE_TOKENS: Final = 8192
"""Reserved for a picture, however many bytes it has: providers count its area, and none counts more for one."""
REMOTE_TOKENS: Final = 65_536
"""Reserved for a file, sound or video that the provider fetches: nobody here knows its size."""
MESSAGE_OVERHEAD_TOKENS: Final = 8
TOKENS_SANE_MAX: Final = 2**40
CHARS_PER_TOKEN_MAX: Final = 64
"""No tokenizer puts more characters into a token on average; a report beyond that is not believed."""
REQUEST_ROLE: Final = "request"
FINISHES: Final = ("stop", "length", "tool", "filter")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as a provider reports them; -1: not said (what was reserved is charged)."""

    input: int = -1
    output: int = -1
    cached: int = 0
    reasoning: int = 0

    @staticmethod
    def of(given: Any, answered: Any, cached: Any = 0, reasoning: Any = 0, *, chars: int = 0) -> Usage:
        """Return a report that can be believed: counts that are none, negative, absurd or too small count as not said."""
        counts = [
            count if isinstance(count, int) and not isinstance(count, bool) and 0 <= count < TOKENS_SANE_MAX else -1
            for count in (given, answered)
        ]
        if counts[1] >= 0 and counts[1] * CHARS_PER_TOKEN_MAX < chars:
            counts[1] = -1
        extra = [
            count if isinstance(count, int) and 0 <= count < TOKENS_SANE_MAX else 0 for count in (cached, reasoning)
        ]
        return Usage(counts[0], counts[1], *extra)

    def believed(self, messages: Sequence[Any]) -> Usage:
        """Return this report, its input not said where that is too small for the texts that were sent."""
        few = 0 <= self.input * CHARS_PER_TOKEN_MAX < sum(map(_chars, messages))
        return replace(self, input=-1) if few else self

    def amounts(self) -> dict[str, float]:
        """Return what was used, by unit; empty where the provider said nothing believable. What it costs the monitor says."""
        if self.input < 0 or self.output < 0:
            return {}
        return {
            "tokens": float(self.input + self.output),
            "input_tokens": float(self.input),
            "output_tokens": float(self.output),
            "cached_tokens": float(min(self.cached, self.input)),
            "reasoning_tokens": float(min(self.reasoning, self.output)),
        }


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool offered to the model: executed by whoever asked, never by the provider."""

    name: str
    description: str = ""
    schema: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """One call. Messages are `{"role": user|assistant|system|tool, "content": text or parts, …}`.

    Parts are `{"type": "text", "text"}`, `{"type": "image", "url"}` (https or data:), `{"type": "audio", "data", "format"}`,
    `{"type": "file", "url", "name"}` (https or data:) and `{"type": "thinking", …}`.
    Assistant messages may have `tool_calls` `[{"id", "name", "args"}]`, tool messages have `tool_call_id`.
    `tool_choice` is None, auto, none, any, or a tool's name after `tool:`.
    """

    model: str
    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: str | None = None
    max_tokens: int = 0
    stop: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    stream: bool = False
    stream_usage: bool = False

    def neutral(self) -> list[dict[str, Any]]:
        """Return all that will be sent, as messages of an Action."""
        rest: dict[str, Any] = {}
        if self.tools:
            rest["tools"] = [
                {"name": tool.name, "description": tool.description, "schema": dict(tool.schema)} for tool in self.tools
            ]
        if self.tool_choice is not None:
            rest["tool_choice"] = self.tool_choice
        if self.stop:
            rest["stop"] = list(self.stop)
        if self.params:
            rest["params"] = dict(self.params)
        head = [{"role": REQUEST_ROLE, "content": rest}] if rest else []
        whole: list[dict[str, Any]] = canonical.json_value([*head, *map(dict, self.messages)], field="messages")
        return whole

    def estimate(self) -> int:
        """Return about how many tokens the request has; on the high side."""
        return estimated_tokens(self.neutral()) + MESSAGE_OVERHEAD_TOKENS


def estimated_tokens(messages: Sequence[Any]) -> int:
    """Return about how many tokens neutral messages have, pictures and files among them; on the high side."""
    chars, tokens = len(canonical.json_bytes(messages)), MESSAGE_OVERHEAD_TOKENS * len(messages)
    for medium in media_of(messages):
        if medium.kind == "images":
            chars, tokens = chars - medium.chars, tokens + IMAGE_TOKENS
        elif medium.addresses:
            tokens += REMOTE_TOKENS
    return max(chars, 0) // CHARS_PER_TOKEN + tokens


def media_kinds(messages: Sequence[Any]) -> list[str]:
    """Return the kinds of what is no text in neutral messages, sorted: images, audio, video, files, other."""
    return sorted({medium.kind for medium in media_of(messages)})


def request_of(model: str, messages: Any, *, max_tokens: int, stream: bool = False) -> Request:
    """Return the request that an Action's messages say. Raises ActionError when they are no neutral form."""
    if not isinstance(messages, list) or not all(isinstance(item, Mapping) and "role" in item for item in messages):
        raise ActionError("must be a list of messages", field="messages")
    rest: Mapping[str, Any] = {}
    if messages and messages[0]["role"] == REQUEST_ROLE:
        rest, messages = messages[0].get("content") or {}, messages[1:]
    try:
        tools = tuple(
            Tool(str(each["name"]), str(each["description"]), each["schema"]) for each in rest.get("tools", [])
        )
    except (KeyError, TypeError):
        raise ActionError("has malformed tools", field="messages[0]") from None
    return Request(
        model=model,
        messages=tuple(messages),
        tools=tools,
        tool_choice=rest.get("tool_choice"),
        max_tokens=max_tokens,
        stop=tuple(rest.get("stop", ())),
        params=rest.get("params", {}),
        stream=stream,
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    finish: str = "stop"
    usage: Usage = Usage()
    signature: str = ""
    """What a provider needs to see again beside its reasoning; opaque."""
    flags: tuple[str, ...] = ()
    """What was found in it that its reader should know of: kinds of secrets."""

    def to_json(self) -> dict[str, Any]:
        """Return the answer as a neutral message: what an outcome holds."""
        said: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.reasoning:
            said["reasoning"] = self.reasoning
        if self.tool_calls:
            said["tool_calls"] = [dict(call) for call in self.tool_calls]
        return said

    def restored(self, said: Any) -> Answer:
        """Return this answer with text and tool calls as its (restored) neutral message has them."""
        if not isinstance(said, Mapping):
            return self
        return Answer(
            str(said.get("content", "")),
            str(said.get("reasoning", "")),
            tuple(said.get("tool_calls", ())),
            self.finish,
            self.usage,
            self.signature,
        )


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed answer. `kind` is text, reasoning, signature, tool (`index`, and `id`, `name`, `text` as they
    come), finish (`text` is one of FINISHES), usage, or flag (`text` is what was found in the answer).
    """

    kind: str
    text: str = ""
    index: int = 0
    id: str = ""
    name: str = ""
    usage: Usage = Usage()


class Gathering:
    """Puts the pieces of a stream together."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._signature: list[str] = []
        self._tools: dict[int, dict[str, str]] = {}
        self._usage, self._finish = Usage(), ""

    @property
    def finished(self) -> bool:
        """Whether the model said that it has finished."""
        return bool(self._finish)

    @property
    def reasoned(self) -> tuple[str, str]:
        """The reasoning so far and its signature; that of several blocks in one fits none of them."""
        return "".join(self._reasoning), self._signature[0] if len(self._signature) == 1 else ""

    def add(self, delta: Delta) -> None:
        """Take one piece."""
        match delta.kind:
            case "text":
                self._text.append(delta.text)
            case "reasoning":
                self._reasoning.append(delta.text)
            case "signature":
                self._signature.append(delta.text)
            case "tool":
                call = self._tools.setdefault(delta.index, {"id": "", "name": "", "args": ""})
                call["id"] += delta.id
                call["name"] += delta.name
                call["args"] += delta.text
            case "finish":
                self._finish = delta.text
            case "usage":
                old, new = self._usage, delta.usage
                self._usage = Usage(
                    new.input if new.input >= 0 else old.input,
                    new.output if new.output >= 0 else old.output,
                    max(new.cached, old.cached),
                    max(new.reasoning, old.reasoning),
                )

    def answer(self) -> Answer:
        """Return the whole answer. Raises ActionError for tool arguments that are no JSON object."""
        calls = tuple(
            {"id": call["id"], "name": call["name"], "args": parse_arguments(call["args"])}
            for _, call in sorted(self._tools.items())
        )
        text, reasoning = "".join(self._text), "".join(self._reasoning)
        usage = Usage.of(
            self._usage.input, self._usage.output, self._usage.cached, self._usage.reasoning, chars=len(text)
        )
        return Answer(text, reasoning, calls, self._finish or "stop", usage, "".join(self._signature))


def worded(deltas: Iterable[Delta]) -> Iterator[Delta]:
    """Yield a provider's pieces. Raises EffectError for one whose words are no text."""
    for delta in deltas:
        if not (isinstance(delta.text, str) and isinstance(delta.id, str) and isinstance(delta.name, str)):
            raise EffectError("the provider's stream holds a piece that is no text")
        yield delta


def listed(value: Any, field: str) -> list[Any]:
    """Return an optional list of a body; nothing is an empty one. Raises ActionError naming the field."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise ActionError("must be a list", field=field)
    return value


def stops(value: Any, field: str) -> tuple[str, ...]:
    """Return the texts at which a model is to stop. Raises ActionError naming the field."""
    texts = listed([value] if isinstance(value, str) else value, field)
    if not all(isinstance(text, str) for text in texts):
        raise ActionError("must be a text or a list of texts", field=field)
    return tuple(texts)


def tool_schema(value: Any, field: str) -> Mapping[str, Any]:
    """Return the schema of a tool's arguments; none is one without arguments. Raises ActionError naming the field."""
    if value is not None and not isinstance(value, Mapping):
        raise ActionError("must be a JSON Schema (an object)", field=field)
    return value or {"type": "object", "properties": {}}


def parse_arguments(text: Any) -> dict[str, Any]:
    """Return the arguments of a tool call as plain JSON. Raises ActionError when they are no object."""
    if isinstance(text, Mapping):
        return dict(canonical.json_value(text, field="arguments"))
    try:
        value = canonical.foreign_json(text or "{}")
    except (ValueError, RecursionError, TypeError, AttributeError):
        raise ActionError("are no JSON", field="arguments") from None
    if not isinstance(value, dict):
        raise ActionError("must be an object", field="arguments")
    return dict(canonical.json_value(value, field="arguments"))


def _chars(message: Any) -> int:
    """Return how many characters of text a message has; pictures are not text."""
    content = message.get("content") if isinstance(message, Mapping) else None
    return len(text_of(content))


def text_of(content: Any) -> str:
    """Return the text of a message's content."""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "".join(
            part.get("text", "") for part in content if isinstance(part, Mapping) and part.get("type") == "text"
        )
    return ""


def deltas_of(answer: Answer) -> list[Delta]:
    """Return a whole answer as the pieces of a stream."""
    import json  # noqa: PLC0415

    deltas: list[Delta] = []
    if answer.reasoning:
        deltas.append(Delta("reasoning", answer.reasoning))
    if answer.signature:
        deltas.append(Delta("signature", answer.signature))
    if answer.text:
        deltas.append(Delta("text", answer.text))
    for index, call in enumerate(answer.tool_calls):
        deltas.append(Delta("tool", json.dumps(call["args"]), index, str(call["id"]), str(call["name"])))
    deltas.append(Delta("finish", answer.finish))
    deltas.append(Delta("usage", usage=answer.usage))
    return deltas
