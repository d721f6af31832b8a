"""Real HTTP servers that speak the providers' protocols, for tests without keys and network."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Asked:
    """One request as the provider saw it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Reply:
    """What the provider does: a JSON body, or raw chunks sent with a pause between them."""

    status: int = 200
    body: Any = None
    chunks: list[bytes] | None = None
    pause: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = ""
    cut: bool = False
    """End the connection without ending the body."""


Script = Callable[[Asked], Reply]


@dataclass
class Provider:
    """A running provider."""

    url: str
    asked: list[Asked] = field(default_factory=list)


@contextmanager
def provider(script: Script) -> Iterator[Provider]:
    """Run a provider on a free port."""
    running = Provider("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
            asked = Asked(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            running.asked.append(asked)
            self._reply(script(asked))

        def _reply(self, reply: Reply) -> None:
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if reply.chunks is None:
                content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                self.send_header("content-type", reply.content_type or "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                return
            self.send_header("content-type", reply.content_type or "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for chunk in reply.chunks:
                self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
                self.wfile.flush()
                if reply.pause:
                    time.sleep(reply.pause)
            if reply.cut:
                self.close_connection = True
                return
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: object) -> None:
            return

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 1024

        def handle_error(self, *_: object) -> None:
            return

    server = Quiet(("127.0.0.1", 0), Handler)
    running.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


# ---- providers that answer ------------------------------------------------------------------------------------------


def sse(*events: Any) -> list[bytes]:
    """Return server-sent events, one chunk each: dicts, (event, dict) pairs or raw text."""
    chunks = []
    for event in events:
        name, data = event if isinstance(event, tuple) else ("", event)
        text = data if isinstance(data, str) else json.dumps(data)
        chunks.append((f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode())
    return chunks


def openai_reply(text: str, asked: Asked, *, calls: list[tuple[str, dict[str, Any]]] = []) -> Reply:  # noqa: B006
    """Answer as an OpenAI-compatible server does, streaming or not."""
    tools = [
        {"id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": json.dumps(args)}}
        for index, (name, args) in enumerate(calls)
    ]
    finish = "tool_calls" if tools else "stop"
    usage = {"prompt_tokens": 10, "completion_tokens": max(1, len(text) // 4), "total_tokens": 0}
    if not asked.body.get("stream"):
        message: dict[str, Any] = {"role": "assistant", "content": text or None}
        if tools:
            message["tool_calls"] = tools
        return Reply(body={"choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": usage})

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    events: list[Any] = [chunk({"role": "assistant", "content": ""})]
    events += [chunk({"content": text[start : start + 3]}) for start in range(0, len(text), 3)]
    for index, tool in enumerate(tools):
        function = tool["function"]
        assert isinstance(function, dict)
        events.append(chunk({"tool_calls": [{**tool, "index": index, "function": {**function, "arguments": ""}}]}))
        args = function["arguments"]
        events += [
            chunk({"tool_calls": [{"index": index, "function": {"arguments": args[start : start + 5]}}]})
            for start in range(0, len(args), 5)
        ]
    events += [chunk({}, finish), {"choices": [], "usage": usage}, "[DONE]"]
    return Reply(chunks=sse(*events))


def anthropic_reply(text: str, asked: Asked, *, calls: list[tuple[str, dict[str, Any]]] = []) -> Reply:  # noqa: B006
    """Answer as the Messages API does, streaming or not."""
    blocks: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    blocks += [
        {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": args}
        for index, (name, args) in enumerate(calls)
    ]
    stop = "tool_use" if calls else "end_turn"
    usage = {"input_tokens": 10, "output_tokens": max(1, len(text) // 4)}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": asked.body.get("model", "")}
    if not asked.body.get("stream"):
        return Reply(body={**head, "content": blocks, "stop_reason": stop, "stop_sequence": None, "usage": usage})
    start = {
        **head,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 1},
    }
    events: list[Any] = [("message_start", {"type": "message_start", "message": start}), ("ping", {"type": "ping"})]
    for index, block in enumerate(blocks):
        if block["type"] == "text":
            empty: dict[str, Any] = {"type": "text", "text": ""}
            pieces = [{"type": "text_delta", "text": text[at : at + 3]} for at in range(0, len(text), 3)]
        else:
            empty, args = {**block, "input": {}}, json.dumps(block["input"])
            pieces = [{"type": "input_json_delta", "partial_json": args[at : at + 5]} for at in range(0, len(args), 5)]
        events.append(("content_block_start", {"type": "content_block_start", "index": index, "content_block": empty}))
        events += [
            ("content_block_delta", {"type": "content_block_delta", "index": index, "delta": piece}) for piece in pieces
        ]
        events.append(("content_block_stop", {"type": "content_block_stop", "index": index}))
    delta = {
        "type": "message_delta",
        "delta": {"stop_reason": stop, "stop_sequence": None},
        "usage": {"output_tokens": usage["output_tokens"]},
    }
    events += [("message_delta", delta), ("message_stop", {"type": "message_stop"})]
    return Reply(chunks=sse(*events))
