"""What an admitted request sends: fields the guard can answer for, keys taken out of it, a body that streams.

Threat: an answer in a coding the guard cannot look into, a placeholder cut in two by chunks, a body longer than it said.
"""

from __future__ import annotations

from dataclasses import replace

from agent_os.core.errors import DeniedError
from agent_os.effects.proxy import http1
from agent_os.effects.proxy.content import ContentError, wanted
from agent_os.effects.proxy.fill import Resolved
from agent_os.effects.proxy.flows import Flow
from agent_os.effects.proxy.http1 import Body, Head
from agent_os.effects.proxy.parts import Parts
from agent_os.effects.proxy.route import Route, denied
from agent_os.effects.proxy.stream import Stream
from agent_os.guards.egress import redact_keys
from agent_os.guards.egress.placeholders import BodyFiller


async def upload(
    parts: Parts,
    flow: Flow,
    head: Head,
    route: Route,
    upstream: Stream,
    body: Body,
    secrets: Resolved,
    *,
    chunked: bool,
) -> None:
    """Send a body on, placeholders filled. Raises DeniedError, HttpError, StreamClosedError."""
    limit = route.treatment.request_bytes or parts.limits.request_bytes
    filler = BodyFiller(secrets.values, head.get("content-type"))
    opened = not head.get("content-encoding")
    while not body.done:
        piece = await body.read()
        if limit and body.size > limit:
            decision = parts.refusal("content.size", "the request body is larger than allowed")
            denied(parts, flow, decision, "upload")
            raise DeniedError(decision)
        if opened:
            piece = filler.ready(piece, last=body.done)
            await secrets.learn(piece)
            piece = filler.fill(piece)
        if piece:
            upstream.write(http1.chunk(piece) if chunked else piece)
            await upstream.drain()
    if chunked:
        upstream.write(http1.chunk(b""))


def without_keys(head: Head, whole: bytes, plain: bytes) -> tuple[Head, bytes, bytes]:
    """Return a request without API keys in its body: head, bytes to send, opened body."""
    try:
        clean = redact_keys(plain.decode()).encode()
    except UnicodeDecodeError:
        raise ContentError("egress.middleware", "the body is no text, and keys must be taken out of it") from None
    if clean == plain:
        return head, whole, plain
    fields = tuple((name, value) for name, value in head.fields if name != "content-encoding")
    return replace(head, fields=fields), clean, clean


def acceptable(fields: list[tuple[str, str]], secrets: Resolved, parts: Parts, route: Route) -> list[tuple[str, str]]:
    """Return the fields without those whose answers the guard could not look into, where it must.

    A part of a body is asked for whole then: what is found in it could be cut in two by ranges.
    """
    looked_at = wanted(parts.stages, "response", route.host, route.treatment)
    if secrets.masker is not None or (parts.restorer is not None and parts.restorer(parts.door, "") is not None):
        allowed = "identity"
    elif looked_at:
        allowed = "gzip, deflate"
    else:
        return fields
    if secrets.masker is not None or looked_at:
        fields = [(name, value) for name, value in fields if name not in ("range", "if-range")]
    kept = [(name, value) for name, value in fields if name != "accept-encoding"]
    return [*kept, ("accept-encoding", allowed)]
