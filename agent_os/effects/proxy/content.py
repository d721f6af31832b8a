"""Content stages: what bodies pass through under policy. Each has a deadline, and a stage that fails denies.

A stage sees whole bodies (bounded by `Limits.body_inspect_bytes`), or follows one that streams (`passing.py`); what no stage
asks for passes only the meters here: size, growth of compressed bodies, type. Threat: archive bombs, bodies too large to look
at, content of a kind the policy never meant.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeVar

from agent_os.core.action import NetRequest
from agent_os.core.ports import Door
from agent_os.effects.proxy.http1 import Body
from agent_os.effects.proxy.limits import Limits
from agent_os.effects.proxy.rules import Treatment

CODINGS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""Content codings the guard can open -> zlib window bits."""
_PIECE_BYTES: Final = 1 << 18
T = TypeVar("T")


class ContentError(Exception):
    """A body is refused; `rule` names the stage or meter."""

    def __init__(self, rule: str, reason: str, status: int = 403) -> None:
        self.rule, self.reason, self.status = rule, reason, status
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Content:
    """A body as a stage sees it: decoded of its content coding. `direction` is "request" or "response"."""

    direction: str
    host: str
    port: int
    content_type: str
    body: bytes
    treatment: Treatment
    action: NetRequest | None = None


class Stage(Protocol):
    """An inspector of bodies."""

    @property
    def name(self) -> str:
        """Names the stage in denials."""
        ...

    def wants(self, direction: str, host: str, treatment: Treatment) -> bool:
        """Whether it must see such bodies; then they are read whole before they go on."""
        ...

    async def inspect(self, content: Content) -> bytes:
        """Return the body that goes on: the same, or (responses only) another in its place.

        Raises ContentError to refuse it; the reason names types and bounds, never a value of the body.
        """
        ...


class Follower(Protocol):
    """An inspector of one body that streams. What it returns may go on; what it holds waits for what follows."""

    @property
    def holds(self) -> bool:
        """Whether something waits that could go on if nothing follows."""
        ...

    async def feed(self, data: bytes, *, last: bool) -> bytes:
        """Take the next bytes (decoded) and return what may go on. Raises ContentError."""
        ...

    async def rest(self) -> bytes:
        """Return what waits: nothing followed for a while. Raises ContentError."""
        ...


class StreamStage(Stage, Protocol):
    """A stage that need not see every body whole."""

    def follow(self, content_type: str, treatment: Treatment) -> Follower | None:
        """Return what follows a response of this type, or None where it must be read whole."""
        ...


class HeadStage(Stage, Protocol):
    """A stage that looks at the fields of a response as well."""

    async def inspect_fields(self, fields: Sequence[tuple[str, str]], treatment: Treatment) -> list[tuple[str, str]]:
        """Return the fields that go on. Raises ContentError."""
        ...


class RequestStage(Stage, Protocol):
    """A stage that looks at all fields of a request, those too that enter no action."""

    async def inspect_request(self, action: NetRequest, fields: Sequence[tuple[str, str]]) -> None:
        """Raise ContentError to refuse the request."""
        ...


class Restorer(Protocol):
    """Puts originals back into one response whose chunks may be cut anywhere (privacy: pseudonyms went out)."""

    def feed(self, chunk: bytes) -> bytes:
        """Return what can go on after this chunk."""
        ...

    def finish(self) -> bytes:
        """Return what was held back."""
        ...


FindRestorer = Callable[[Door, str], Restorer | None]
"""(the session's door, content type of a response) -> what restores it, or None where nothing was replaced."""


async def run_stages(stages: Sequence[Stage], content: Content, limits: Limits) -> bytes:
    """Show a body to every stage that wants it and return what goes on.

    Raises ContentError; a stage that fails or is late refuses, and so does one that would change a request: that was
    judged as it is.
    """
    for stage in stages:
        if not wanted((stage,), content.direction, content.host, content.treatment):
            continue
        body = await in_time(stage.name, stage.inspect(content), limits)
        if body != content.body:
            if content.direction == "request":
                raise ContentError(f"content.{stage.name}", "a request cannot be changed after it was judged")
            content = replace(content, body=body)
    return content.body


async def run_request_stages(
    stages: Sequence[Stage], action: NetRequest, fields: Sequence[tuple[str, str]], limits: Limits
) -> None:
    """Show the fields of a request, credentials included, to every stage that looks at them. Raises ContentError."""
    for stage in stages:
        look = getattr(stage, "inspect_request", None)
        if look is not None:
            await in_time(stage.name, look(action, fields), limits)


async def run_head_stages(
    stages: Sequence[Stage], fields: list[tuple[str, str]], host: str, treatment: Treatment, limits: Limits
) -> list[tuple[str, str]]:
    """Show the fields of a response to every stage that looks at them; return those that go on. Raises ContentError."""
    for stage in stages:
        look = getattr(stage, "inspect_fields", None)
        if look is None or not wanted((stage,), "response", host, treatment):
            continue
        fields = await in_time(stage.name, look(fields, treatment), limits)
    return fields


def follow(stages: Sequence[Stage], content_type: str, host: str, treatment: Treatment) -> list[Follower] | None:
    """Return what follows a response that streams, or None where a stage must see it whole."""
    found: list[Follower] = []
    for stage in stages:
        if not wanted((stage,), "response", host, treatment):
            continue
        offer = getattr(stage, "follow", None)
        follower = offer(content_type, treatment) if offer is not None else None
        if follower is None:
            return None
        found.append(follower)
    return found


async def in_time(name: str, work: Awaitable[T], limits: Limits) -> T:
    """Return what a stage returns. Raises ContentError when it fails or is late."""
    try:
        async with asyncio.timeout(limits.stage_seconds):
            return await work
    except ContentError:
        raise
    except TimeoutError:
        raise ContentError(f"content.{name}", "the inspection took too long") from None
    except Exception as error:
        raise ContentError(f"content.{name}", f"the inspection failed: {type(error).__name__}") from None


async def read_whole(body: Body, most: int, limits: Limits) -> bytes:
    """Return a body that must be read whole. Raises HttpError (413) when it is too long, ContentError when too slow."""
    try:
        async with asyncio.timeout(limits.whole_seconds):
            return await body.whole(most)
    except TimeoutError:
        raise ContentError("content.slow", "the body did not arrive in time", 408) from None


def wanted(stages: Sequence[Stage], direction: str, host: str, treatment: Treatment) -> bool:
    """Whether any stage wants such bodies; a stage that cannot say wants them (and then refuses them)."""
    for stage in stages:
        try:
            if stage.wants(direction, host, treatment):
                return True
        except Exception:
            return True
    return False


def decode(body: bytes, coding: str, limits: Limits) -> bytes:
    """Return a body without its content coding. Raises ContentError for unknown codings and bombs."""
    coding = coding.strip().lower()
    if coding in ("", "identity"):
        return body
    if coding not in CODINGS:
        raise ContentError("content.coding", "the content coding cannot be inspected", 415)
    meter = Inflation(coding, limits, keep=True)
    meter.feed(body)
    if not meter.complete:
        raise ContentError("content.coding", "the body ends before its content coding does", 415)
    return b"".join(meter.kept)


class Inflation:
    """Follows a compressed body and refuses when it grows beyond bounds (archive bombs)."""

    def __init__(self, coding: str, limits: Limits, *, keep: bool = False) -> None:
        self._bits = CODINGS.get(coding.strip().lower())
        self._opener = zlib.decompressobj(self._bits) if self._bits else None
        self._limits, self._keep = limits, keep
        self._in = self._out = 0
        self.kept: list[bytes] = []

    def take(self) -> bytes:
        """Return what came out since the last call (`keep` only)."""
        out, self.kept = b"".join(self.kept), []
        return out

    @property
    def complete(self) -> bool:
        """Whether the coded body has come to its own end: what is cut off was not seen whole."""
        return self._opener is None or self._opener.eof

    def feed(self, data: bytes) -> None:
        """Count one piece. Raises ContentError past `inflate_bytes`, or past `inflate_ratio` once over 1 MiB."""
        if self._opener is None:
            return
        self._in += len(data)
        try:
            while True:
                piece = self._opener.decompress(data, _PIECE_BYTES)
                self._out += len(piece)
                if self._keep:
                    self.kept.append(piece)
                if self._out > self._limits.inflate_bytes or (
                    self._out > 1 << 20 and self._out > self._limits.inflate_ratio * self._in
                ):
                    raise ContentError("content.inflation", "the compressed body grows beyond the limit", 413)
                data = self._opener.unconsumed_tail
                if self._opener.eof:
                    if not self._opener.unused_data:
                        return
                    data, self._opener = self._opener.unused_data, zlib.decompressobj(self._bits or 31)
                elif not data and len(piece) < _PIECE_BYTES:  # a full piece: more may be held inside
                    return
        except zlib.error:
            raise ContentError("content.coding", "the body is not of its content coding", 502) from None
