"""The way back: a response is checked before anything of it reaches the client, then forwarded piece by piece.

Masked where a secret went out, restored where pseudonyms did, metered where it is compressed, shown to content stages
where they want it. Framing towards the client is our own. Threat: responses that two parsers read differently, echoes
of secrets, archive bombs, a part taken for the whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent_os.effects.proxy import answers, http1
from agent_os.effects.proxy.content import (
    CODINGS,
    Content,
    ContentError,
    Inflation,
    Restorer,
    decode,
    follow,
    read_whole,
    run_head_stages,
    run_stages,
    wanted,
)
from agent_os.effects.proxy.fill import Resolved
from agent_os.effects.proxy.http1 import CHUNKED, UNTIL_CLOSE, Body, Head, HttpError
from agent_os.effects.proxy.limits import FOLLOW_HELD_BYTES, INFORMATIONAL_MAX, Limits
from agent_os.effects.proxy.parts import Parts
from agent_os.effects.proxy.passing import Passing
from agent_os.effects.proxy.route import Route
from agent_os.effects.proxy.stream import Stream, StreamClosedError
from agent_os.guards.egress.records import EVENTS, LINES

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


@dataclass(slots=True)
class Checked:
    """A response that may go on: its fields, and its body whole, followed by stages, or (neither) as it comes."""

    fields: list[tuple[str, str]]
    whole: bytes | None = None
    passing: Passing | None = None


async def inspect_response(
    parts: Parts, head: Head, route: Route, response: Head, body: Body, secrets: Resolved, hold: Callable[[int], None]
) -> Checked:
    """Check a response before anything of it reaches the client; return what goes on.

    `hold` takes memory for a body that is read whole. Raises ContentError, HttpError, StreamClosedError.
    """
    treatment, limits = route.treatment, parts.limits
    kind, coding = response.get("content-type"), response.get("content-encoding").strip().lower()
    fields = http1.forwarded(response)
    if response.has("content-length") and (head.method == "HEAD" or response.status == 304):
        fields.append(("content-length", response.get("content-length")))
    fields = await run_head_stages(parts.stages, fields, route.host, treatment, limits)
    if secrets.masker is not None:
        fields = [(name, secrets.masker.text(value)) for name, value in fields]
        if coding not in ("", "identity", *CODINGS) and not body.done:
            raise ContentError("secrets.echo", "a coded response cannot be searched for echoes of a secret", 502)
    if body.done:
        return Checked(fields, b"")
    if treatment.content_types and kind.partition(";")[0].strip().lower() not in treatment.content_types:
        raise ContentError("content.type", "the response has a content type that is not allowed")
    most = treatment.response_bytes or limits.response_bytes
    if most and response.length > most:
        raise ContentError("content.size", "the response body is larger than allowed")
    opened = secrets.masker is not None or _restorer(parts, response) is not None  # its bytes are looked for in
    if not wanted(parts.stages, "response", route.host, treatment):
        if coding in CODINGS and opened:
            return Checked(_of_other_bytes(fields), passing=Passing(body, coding, (), limits, most=most))
        return Checked(fields)
    if response.status == _PARTIAL:
        raise ContentError("content.partial", "a part of a body cannot be inspected", 502)
    if not 0 <= response.length <= limits.body_inspect_bytes:
        followers = follow(parts.stages, kind, route.host, treatment)
        if followers is not None:
            hold(FOLLOW_HELD_BYTES)
            passing = Passing(body, coding, followers, limits, most=most)
            if not is_live(kind):
                await _begun(passing)
            return Checked(_of_other_bytes(fields), passing=passing)
    whole, plain = await _whole(parts, response, body, coding, hold)
    content = Content("response", route.host, route.port, kind, plain, treatment)
    clean = await run_stages(parts.stages, content, limits)
    if clean != plain or (clean != whole and opened):
        return Checked(_of_other_bytes(fields), clean)
    return Checked(fields, whole)


async def _begun(passing: Passing) -> None:
    try:
        await passing.begin()
    except BaseException:
        await passing.close()
        raise


async def _whole(
    parts: Parts, response: Head, body: Body, coding: str, hold: Callable[[int], None]
) -> tuple[bytes, bytes]:
    """Return a body that is read whole, as it came and opened. Raises ContentError, HttpError, StreamClosedError."""
    most = parts.limits.body_inspect_bytes
    hold(min(response.length, most) if response.length > 0 else most)
    try:
        whole = await read_whole(body, most, parts.limits)
    except HttpError as error:
        if error.status == _TOO_LARGE:
            raise ContentError("content.size", "the response is larger than can be inspected", 502) from None
        raise
    return whole, decode(whole, coding, parts.limits)


def _of_other_bytes(fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in fields if name not in _OF_OTHER_BYTES]


def is_live(content_type: str) -> bool:
    """Whether a response is a stream of records, which a client reads as they come."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == EVENTS or kind in LINES


async def forward_response(
    parts: Parts,
    client: Stream,
    head: Head,
    response: Head,
    body: Body,
    checked: Checked,
    keep: bool,
    secrets: Resolved,
    route: Route,
) -> None:
    """Write the response to the client, piece by piece.

    Raises HttpError, StreamClosedError, ContentError; the connection can then only be cut.
    """
    whole, passing, masker = checked.whole, checked.passing, secrets.masker
    length = len(whole) if whole is not None else response.length
    coded = any(name == "content-encoding" and value.lower() != "identity" for name, value in checked.fields)
    restorer = _restorer(parts, response) if not coded and (not body.done or whole) else None
    if restorer is not None and whole:
        whole = restorer.feed(whole) + restorer.finish()
        length = len(whole)
    elif restorer is not None or passing is not None:
        length = UNTIL_CLOSE
    if length in (UNTIL_CLOSE, CHUNKED):
        length = CHUNKED if head.minor == 1 else UNTIL_CLOSE
    bodyless = head.method == "HEAD" or response.status in (204, 304)
    announced = [] if bodyless else http1.framing(length)
    closing = [] if keep else [("connection", "close")]
    out = http1.write_head(
        f"HTTP/1.1 {response.status} {answers.phrase(response.status)}", [*checked.fields, *announced, *closing]
    )
    if whole is not None:
        client.write(out + (masker.feed(whole, last=True) if masker is not None else whole))
        return
    coding = response.get("content-encoding")
    meter = Inflation(coding, parts.limits) if coding and passing is None else None
    limit = route.treatment.response_bytes or parts.limits.response_bytes
    plain = masker is None and meter is None and restorer is None and passing is None and not limit
    client.write(out + (body.ready() if plain else b""))
    source: Body | Passing = passing or body
    while not source.done:
        await client.drain()
        piece = await (passing.next() if passing is not None else body.read())
        if passing is None and limit and body.size > limit:
            raise ContentError("content.size", "the response body is larger than allowed")
        if meter is not None:
            meter.feed(piece)
        if masker is not None:
            piece = masker.feed(piece, last=source.done)
        if restorer is not None:
            piece = restorer.feed(piece) + (restorer.finish() if source.done else b"")
        if piece:
            client.write(http1.chunk(piece) if length == CHUNKED else piece)
    if length == CHUNKED:
        client.write(http1.chunk(b""))
    await client.drain()


def last_words(response: Head, head: Head, error: ContentError) -> bytes:
    """Return what tells the reader of a stream of events why it ends here; nothing for other bodies."""
    if response.get("content-type").partition(";")[0].strip().lower() != EVENTS:
        return b""
    said = {"error": {"type": "denied_by_policy", "rule": error.rule, "message": f"denied by policy: {error.reason}"}}
    event = f"event: error\ndata: {json.dumps(said)}\n\n".encode()
    return http1.chunk(event) if head.minor == 1 else event


def _restorer(parts: Parts, response: Head) -> Restorer | None:
    """Return what restores a response, where this session's pseudonyms went out."""
    return parts.restorer(parts.door, response.get("content-type")) if parts.restorer is not None else None
