"""The egress guard's reading side: bytes off the wire to values that policy judges. Pure and sans-IO.

For whoever holds a connection (the egress proxy, the HTTP tool):

- `split_head`, `parse_request`, `parse_response`, `ChunkedBody`: HTTP/1.1 that can be read one way only, else HttpError;
- `speaks_http(start)`, `HostWatch`: plain requests inside a tunnel that is passed, each held to the judged host;
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
from agent_os.guards.egress.placeholders import PlaceholderError, fill_header, fill_target, fill_text
from agent_os.guards.egress.watch import HostWatch, speaks_http
from agent_os.policy.network.graphql import classify, classify_message
from agent_os.policy.network.jsonrpc import BodyError, parse_messages

__all__ = [
    "BodyError", "ChunkedBody", "HostWatch", "HttpError", "InferenceApi", "PlaceholderError", "RequestHead", "ResponseHead",
    "classify", "classify_message", "detect_inference", "fill_header", "fill_target", "fill_text", "parse_messages",
    "parse_request", "parse_response", "redact_keys", "speaks_http", "split_head",
]  # fmt: skip
