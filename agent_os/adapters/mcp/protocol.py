"""A client of the Model Context Protocol over JSON-RPC, without I/O: line by line (stdio) or message by message (HTTP).

`call` returns bytes to send; `feed` takes bytes of lines that arrived, `message` one whole message; both return answers.
The threat is the server: it may send lines without end, answers nobody asked for, requests of its own (sampling, elicitation,
roots), or other shapes than the protocol's. Lines are bounded, unasked answers dropped, its requests refused, shapes checked.
Source: modelcontextprotocol.io, schema 2025-06-18 (transports, tools).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent_os.core import canonical
from agent_os.core.errors import ActionError, EffectError

PROTOCOL_VERSION: Final = "2025-06-18"
VERSIONS_SPOKEN: Final = frozenset({"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"})
"""What a server may answer with; what we use of the protocol is the same in each."""
LINE_BYTES_MAX: Final = 8 * 1024 * 1024
UNASKED_BYTES_MAX: Final = 16 * 1024 * 1024
"""Sent without an answer among them: a server that only talks is ended."""
TOOLS_MAX: Final = 512
PAGES_MAX: Final = 64
NAME_CHARS_MAX: Final = 128
REQUESTS_MAX: Final = 10_000
"""Requests of its own that a server may send on one connection; each is refused."""
ID_CHARS_MAX: Final = 200
TEXT_CHARS_MAX: Final = 20_000
"""Of a tool's description; longer ones are refused, not cut: what is pinned is what is shown."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One finished call. `error` is set when the server refused it."""

    id: int
    result: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


HINTS: Final = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")
"""Annotations of a tool that are kept, shown and pinned; a server may say what it likes with them."""


@dataclass(frozen=True, slots=True)
class ServerTool:
    """A tool as its server describes it; nothing of it is believed beyond what a person accepted."""

    name: str
    description: str
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any] | None = None
    hints: Mapping[str, bool] = field(default_factory=dict)
    """What its annotations say (HINTS): the server's own word, which a draft may be graver for and never lighter."""

    def to_json(self) -> dict[str, Any]:
        """Return the form that is pinned and shown."""
        return {
            "name": self.name,
            "description": self.description,
            "input_schema": dict(self.input_schema),
            "output_schema": dict(self.output_schema) if self.output_schema is not None else None,
            **({"hints": dict(self.hints)} if self.hints else {}),
        }


class Client:
    """One connection's state."""

    def __init__(self) -> None:
        self._next = 0
        self._open: set[int] = set()
        self._buffer = bytearray()
        self._searched = 0
        """Bytes of the buffer that hold no line end: each is looked at once."""
        self._unasked = 0
        self.refusals: list[bytes] = []
        """Answers to requests of the server, to be sent back."""
        self._refused = 0
        self.list_changed = False
        """Whether the server announced another list of tools."""

    def call(self, method: str, params: Mapping[str, Any] | None = None) -> tuple[int, bytes]:
        """Return (id, bytes to send) of a request."""
        self._next += 1
        self._open.add(self._next)
        form: dict[str, Any] = {"jsonrpc": "2.0", "id": self._next, "method": method}
        if params is not None:
            form["params"] = dict(params)
        return self._next, _line(form)

    def hello(self) -> tuple[int, bytes]:
        """Return the request that opens a connection; nothing is offered to the server."""
        return self.call(
            "initialize",
            {
                "protocolVersion": PROTOCOL_VERSION,
                "capabilities": {},
                "clientInfo": {"name": "agent-os", "version": "1"},
            },
        )

    @staticmethod
    def ready() -> bytes:
        """Return the notification that ends the opening."""
        return _line({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def feed(self, data: bytes) -> list[Answer]:
        """Take bytes that arrived. Raises EffectError for lines too long or no JSON-RPC, and talk without answers."""
        self._unasked += len(data)
        # empty lines without end cost no turn each
        self._buffer += data if self._buffer else data.lstrip()
        answers = []
        while (end := self._buffer.find(b"\n", self._searched)) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._searched = 0
            if line.strip():
                answer = self.message(line)
                if answer is not None:
                    answers.append(answer)
        self._searched = len(self._buffer)
        if self._searched > LINE_BYTES_MAX:
            raise EffectError(f"the tool server sent a message of more than {LINE_BYTES_MAX} bytes")
        self._unasked = 0 if answers else self._unasked
        if self._unasked > UNASKED_BYTES_MAX:
            raise EffectError(f"the tool server sent {UNASKED_BYTES_MAX} bytes that answer nothing")
        return answers

    def message(self, line: bytes) -> Answer | None:
        """Take one message. Return the answer it is, or None. Raises EffectError for what is no JSON-RPC."""
        if len(line) > LINE_BYTES_MAX:
            raise EffectError(f"the tool server sent a message of more than {LINE_BYTES_MAX} bytes")
        try:
            form = canonical.foreign_json(line)
        except (ValueError, RecursionError):
            raise EffectError("the tool server sent a message that is no JSON") from None
        if not isinstance(form, dict):
            raise EffectError("the tool server sent a message that is no object")
        number = form.get("id")
        if "method" in form:
            if number is not None:
                self._refused += 1
                if self._refused > REQUESTS_MAX or len(str(number)[: ID_CHARS_MAX + 1]) > ID_CHARS_MAX:
                    raise EffectError("the tool server asks too much of its client")
                refusal = {"code": -32601, "message": "not offered by this client"}
                self.refusals.append(_line({"jsonrpc": "2.0", "id": number, "error": refusal}))
            elif form["method"] == "notifications/tools/list_changed":
                self.list_changed = True
            return None
        if not isinstance(number, int) or isinstance(number, bool) or number not in self._open:
            return None
        self._open.discard(number)
        if "error" in form:
            error = form["error"]
            message = error.get("message") if isinstance(error, dict) else error
            return Answer(number, error=str(message)[:500] or "refused")
        result = form.get("result")
        if not isinstance(result, dict):
            return Answer(number, error="the tool server's result is no object")
        try:
            canonical.json_value(result, field="result")
        except ActionError as problem:
            return Answer(number, error=f"the tool server's result cannot be used: {problem}")
        return Answer(number, result)


def _line(form: Mapping[str, Any]) -> bytes:
    return json.dumps(form, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def parse_tools(result: Mapping[str, Any]) -> tuple[list[ServerTool], str]:
    """Return (tools, cursor of the next page) of a `tools/list` result. Raises EffectError for other shapes."""
    listed = result.get("tools")
    if not isinstance(listed, list):
        raise EffectError("the tool server's list of tools is no list")
    tools = []
    for entry in listed:
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARS_MAX or not name.isprintable() or "/" in name:
            raise EffectError("the tool server lists a tool without a usable name")
        description, schema, output = (
            entry.get("description") or "",
            entry.get("inputSchema"),
            entry.get("outputSchema"),
        )
        if not isinstance(description, str) or len(description) > TEXT_CHARS_MAX:
            raise EffectError(f"the description of {name} is no text or longer than {TEXT_CHARS_MAX} characters")
        if not isinstance(schema, dict) or (output is not None and not isinstance(output, dict)):
            raise EffectError(f"the schema of {name} is no object")
        said = entry.get("annotations")
        hints = {name: said[name] for name in HINTS if isinstance(said, dict) and isinstance(said.get(name), bool)}
        tools.append(ServerTool(name, description, schema, output, hints))
    cursor = result.get("nextCursor")
    return tools, cursor if isinstance(cursor, str) else ""


def value_of(result: Mapping[str, Any]) -> tuple[Any, bool]:
    """Return (value, whether the tool says it failed) of a `tools/call` result: structured content, else its text."""
    failed = result.get("isError") is True
    structured = result.get("structuredContent")
    if structured is not None and not failed:
        return structured, False
    parts = result.get("content")
    texts = []
    for part in parts if isinstance(parts, list) else []:
        if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif isinstance(part, dict):
            texts.append(f"[{part.get('type', 'content')} left out]")
    return "\n".join(texts), failed
