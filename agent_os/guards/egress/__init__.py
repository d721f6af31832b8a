"""The egress guard's reading side: bytes off the wire to actions that policy judges. Pure and sans-IO.

For whoever holds a connection (the egress proxy, the HTTP tool):

- `split_head`, `parse_request`, `parse_response`, `ChunkedBody`: HTTP/1.1 that can be read one way only, else HttpError;
- `speaks_http(start)`, `HostWatch`: plain requests inside a tunnel that is passed, each held to the judged host;
- `request_action(head, host=, port=, body=, inspection=)`: one request -> `NetRequest`; `message_action(opened, text)`:
  one WebSocket text -> `NetRequest` with method WEBSOCKET_TEXT; `check_upgrade(head)`;
- `parse_messages` (JSON-RPC, MCP, batches), `classify` and `classify_message` (GraphQL): bodies alone;
- `detect_inference(method, path)`: is this a model call; `fill_header`, `fill_target`, `fill_text`: credential
  placeholders; `redact_keys`: API keys in text.

Nothing here decides: the actions go through the monitor's door.
"""

from agent_os.guards.egress.http1 import (
    ChunkedBody,
    HttpError,
    RequestHead,
    ResponseHead,
    parse_request,
    parse_response,
    split_head,
)
from agent_os.guards.egress.inference import InferenceApi, detect_inference
from agent_os.guards.egress.keys import redact_keys
from agent_os.guards.egress.messages import TEXT_METHOD, check_upgrade, message_action, request_action
from agent_os.guards.egress.placeholders import PlaceholderError, fill_header, fill_target, fill_text, has_placeholder
from agent_os.guards.egress.watch import HostWatch, speaks_http
from agent_os.policy.network.graphql import classify, classify_message
from agent_os.policy.network.jsonrpc import BodyError, parse_messages, receive_stream

__all__ = [
    "TEXT_METHOD", "BodyError", "ChunkedBody", "HostWatch", "HttpError", "InferenceApi", "PlaceholderError", "RequestHead",
    "ResponseHead", "check_upgrade", "classify", "classify_message", "detect_inference", "fill_header", "fill_target",
    "fill_text", "has_placeholder", "message_action", "parse_messages", "parse_request", "parse_response",
    "receive_stream", "redact_keys", "request_action", "speaks_http", "split_head",
]  # fmt: skip
