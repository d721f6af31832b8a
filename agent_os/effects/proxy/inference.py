"""`inference.local`: language models for whatever runs in a sandbox, answered by the gateway and not by a destination.

A request here is no egress: it is read whole and handed to the gateway behind the connection's own door, where it becomes
a `model.call` that the policy judges. Credentials and other fields of the caller end here. Threat: a program in the
sandbox that wants a provider's key, another session's rights, or a way out through the one host it can always name.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from agent_os.core import canonical
from agent_os.core.errors import ActionError
from agent_os.effects.models.server import BODY_BYTES_MAX, HttpRequest, HttpResponse
from agent_os.effects.proxy import http1
from agent_os.effects.proxy.content import ContentError, read_whole
from agent_os.effects.proxy.http1 import Body, Head, HttpError
from agent_os.effects.proxy.parts import Parts

if TYPE_CHECKING:
    from agent_os.effects.proxy.flows import Flow

CHUNKED_HELD_BYTES: Final = 16 * 1024 * 1024
"""The longest request body that does not say its length."""
INFERENCE_HOST: Final = "inference.local"
MODEL_VARIABLES: Final = {
    "OPENAI_BASE_URL": f"https://{INFERENCE_HOST}/v1",
    "OPENAI_API_BASE": f"https://{INFERENCE_HOST}/v1",
    "OPENAI_API_KEY": "agentos-inference",
    "ANTHROPIC_BASE_URL": f"https://{INFERENCE_HOST}",
    "ANTHROPIC_API_KEY": "agentos-inference",
}
"""What the usual clients read. The keys are words for clients that insist on one; they are not looked at."""


def serves_inference(parts: Parts, host: str) -> bool:
    """Whether a host is answered by the gateway in this guard."""
    return host == INFERENCE_HOST and parts.inference is not None


async def serve_inference(parts: Parts, flow: Flow, head: Head) -> bool:
    """Answer one request; return whether the connection goes on. Raises HttpError, StreamClosedError."""
    if parts.inference is None:
        raise HttpError("no models are configured", 503)
    try:
        if canonical.split_authority(head.get("host"))[0] != INFERENCE_HOST:
            raise HttpError("this door answers for inference.local only", 421)
    except ActionError as error:
        raise HttpError(str(error)) from None
    flow.mode, flow.host, flow.verdict = INFERENCE_HOST, INFERENCE_HOST, "allow"
    flow.idle_limit = 0.0  # a model may think for long; its provider's deadline bounds it
    content = await _content(parts, flow, head)
    path = head.target.partition("?")[0].removeprefix(f"http://{INFERENCE_HOST}")
    fields = {name: value for name, value in head.fields if name in ("content-type", "anthropic-version")}
    flow.last = f"{head.method} {path}"[:200]
    response = await parts.inference(parts.door)(HttpRequest(head.method, path, fields, content))
    await _send(flow, response, keep=head.keep_alive, only_head=head.method == "HEAD")
    return head.keep_alive


async def _content(parts: Parts, flow: Flow, head: Head) -> bytes:
    """Return the body of a request, in bounded time; it counts among the bodies that are held here while it is read."""
    held = min(head.length, BODY_BYTES_MAX) if head.length >= 0 else CHUNKED_HELD_BYTES
    if parts.inspecting.value + held > parts.limits.inspect_bytes_total:
        raise HttpError("the guard holds as many bodies as it may; try again", 503)
    parts.inspecting.value += held
    try:
        if head.get("expect").lower() == "100-continue":
            flow.client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return await read_whole(
            Body(flow.client, head.length), held if head.length < 0 else BODY_BYTES_MAX, parts.limits
        )
    except ContentError as error:
        raise HttpError(error.reason, error.status) from None
    finally:
        parts.inspecting.value -= held


async def _send(flow: Flow, response: HttpResponse, *, keep: bool, only_head: bool) -> None:
    client = flow.client
    length = http1.CHUNKED if response.stream is not None else len(response.body)
    fields = [("content-type", response.content_type), ("cache-control", "no-store"), *http1.framing(length)]
    if not keep:
        fields.append(("connection", "close"))
    phrase = HTTPStatus(response.status).phrase
    client.write(http1.write_head(f"HTTP/1.1 {response.status} {phrase}", fields))
    if response.stream is None:
        if not only_head:
            client.write(response.body)
        await client.drain()
        return
    stream = response.stream
    try:
        async for part in stream:
            if part:
                client.write(http1.chunk(part))
                await client.drain()
        client.write(http1.chunk(b""))
        await client.drain()
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()
