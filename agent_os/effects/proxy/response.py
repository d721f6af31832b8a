"""The way back: a response is checked before anything of it reaches the client, then forwarded piece by piece.

Masked where a secret went out, restored where pseudonyms did, metered where it is compressed, shown to content stages
where they want it. Framing towards the client is our own. Threat: responses that two parsers read differently, echoes
of secrets, archive bombs, a part taken for the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agent_os.effects.proxy import answers, http1
from agent_os.effects.proxy.content import (
    Content,
    ContentError,
    Inflation,
    Restorer,
    decode,
    read_whole,
    run_stages,
    wanted,
)
from agent_os.effects.proxy.fill import Resolved
from agent_os.effects.proxy.http1 import CHUNKED, UNTIL_CLOSE, Body, Head, HttpError
from agent_os.effects.proxy.limits import INFORMATIONAL_MAX, Limits
from agent_os.effects.proxy.parts import Parts
from agent_os.effects.proxy.route import Route
from agent_os.effects.proxy.stream import Stream, StreamClosedError

_PARTIAL: Final = 206
_TOO_LARGE: Final = 413
_OF_OTHER_BYTES: Final = frozenset(
    {"content-encoding", "content-md5", "digest", "repr-digest", "content-digest", "etag"}
)
"""Fields that speak of the bytes as they came: they go when a stage puts other bytes in their place."""


async def read_response_head(upstream: Stream, method: str, limits: Limits) -> Head:
    """Return the head of the final response, 1xx ones read past. Raises HttpError, StreamClosedError."""
    for _ in range(INFORMATIONAL_MAX):
        try:
            raw = await http1.read_head(upstream, limits.head_bytes)
        except HttpError as error:
            raise HttpError(f"response: {error}", 502) from None
        if raw is None:
            raise StreamClosedError("upstream closed without a response")
        head = http1.parse_response(raw, method)
        if head.status >= 200 or head.status == 101:
            return head
    raise HttpError("too many informational responses", 502)


async def inspect_response(
    parts: Parts, head: Head, route: Route, response: Head, body: Body, secrets: Resolved, hold: Callable[[int], None]
) -> tuple[list[tuple[str, str]], bytes | None]:
    """Check a response before anything of it reaches the client; return its fields and, if read whole, its body.

    `hold` takes memory for a body that is read whole. Raises ContentError, HttpError, StreamClosedError.
    """
    treatment = route.treatment
    kind, coding = response.get("content-type"), response.get("content-encoding").lower()
    fields = http1.forwarded(response)
    if response.has("content-length") and (head.method == "HEAD" or response.status == 304):
        fields.append(("content-length", response.get("content-length")))
    if secrets.masker is not None:
        fields = [(name, secrets.masker.text(value)) for name, value in fields]
        if coding not in ("", "identity") and not body.done:
            raise ContentError("secrets.echo", "a coded response cannot be searched for echoes of a secret", 502)
    if body.done:
        return fields, b""
    if treatment.content_types and kind.partition(";")[0].strip().lower() not in treatment.content_types:
        raise ContentError("content.type", "the response has a content type that is not allowed")
    limit = treatment.response_bytes or parts.limits.response_bytes
    if limit and response.length > limit:
        raise ContentError("content.size", "the response body is larger than allowed")
    if not wanted(parts.stages, "response", route.host, treatment):
        return fields, None
    if response.status == _PARTIAL:
        raise ContentError("content.partial", "a part of a body cannot be inspected", 502)
    most = parts.limits.body_inspect_bytes
    hold(min(response.length, most) if response.length > 0 else most)
    try:
        whole = await read_whole(body, most, parts.limits)
    except HttpError as error:
        if error.status == _TOO_LARGE:
            raise ContentError("content.size", "the response is larger than can be inspected", 502) from None
        raise
    plain = decode(whole, coding, parts.limits)
    content = Content("response", route.host, route.port, kind, plain, treatment)
    clean = await run_stages(parts.stages, content, parts.limits)
    if clean == plain:
        return fields, whole
    return [(name, value) for name, value in fields if name not in _OF_OTHER_BYTES], clean


async def forward_response(
    parts: Parts,
    client: Stream,
    head: Head,
    response: Head,
    body: Body,
    fields: list[tuple[str, str]],
    whole: bytes | None,
    keep: bool,
    secrets: Resolved,
    route: Route,
) -> None:
    """Write the response to the client, piece by piece."""
    length = len(whole) if whole is not None else response.length
    restorer = _restorer(parts, response) if not body.done or whole else None
    if restorer is not None and whole:
        whole = restorer.feed(whole) + restorer.finish()
        length = len(whole)
    elif restorer is not None:
        length = UNTIL_CLOSE
    if length in (UNTIL_CLOSE, CHUNKED):
        length = CHUNKED if head.minor == 1 else UNTIL_CLOSE
    bodyless = head.method == "HEAD" or response.status in (204, 304)
    announced = [] if bodyless else http1.framing(length)
    closing = [] if keep else [("connection", "close")]
    out = http1.write_head(
        f"HTTP/1.1 {response.status} {answers.phrase(response.status)}", [*fields, *announced, *closing]
    )
    masker, coding = secrets.masker, response.get("content-encoding")
    meter = Inflation(coding, parts.limits) if coding else None
    limit = route.treatment.response_bytes or parts.limits.response_bytes
    if whole is not None:
        client.write(out + (masker.feed(whole, last=True) if masker is not None else whole))
        return
    first = body.ready() if masker is None and meter is None and restorer is None and not limit else b""
    client.write(out + first)
    while not body.done:
        await client.drain()
        piece = await body.read()
        if limit and body.size > limit:
            raise ContentError("content.size", "the response body is larger than allowed")
        if meter is not None:
            meter.feed(piece)
        if masker is not None:
            piece = masker.feed(piece, last=body.done)
        if restorer is not None:
            piece = restorer.feed(piece) + (restorer.finish() if body.done else b"")
        if piece:
            client.write(http1.chunk(piece) if length == CHUNKED else piece)
    if length == CHUNKED:
        client.write(http1.chunk(b""))
    await client.drain()


def _restorer(parts: Parts, response: Head) -> Restorer | None:
    """Return what restores a response, where this session's pseudonyms went out and the body can be read."""
    if parts.restorer is None or response.get("content-encoding").lower() not in ("", "identity"):
        return None
    return parts.restorer(parts.door, response.get("content-type"))
