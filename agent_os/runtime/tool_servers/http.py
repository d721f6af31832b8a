"""MCP over streamable HTTP: a server somewhere else, reached through the egress guard, judged request by request.

Each message is a POST; its answer is one JSON document or a stream of events that ends with it. The session id a server hands
out goes with every later request and nowhere else. Threats: a server that never ends a stream, fills it, answers other
questions, asks questions of its own (refused), or hands out a session id that smuggles a header.
Source: modelcontextprotocol.io, 2025-06-18, *Transports*: streamable HTTP (no stream is opened by GET: nothing is offered to it).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from agent_os.adapters.mcp.protocol import LINE_BYTES_MAX, Answer, Client
from agent_os.adapters.mcp.sse import EventStream
from agent_os.core.errors import EffectError
from agent_os.effects.mcp_http import HttpChannel, Reply
from agent_os.runtime.tool_servers.door import ManifestDoor

if TYPE_CHECKING:
    from agent_os.effects.proxy import Listener

STREAM_BYTES_MAX: Final = 16 * 1024 * 1024
REFUSALS_MAX: Final = 16
"""Requests of the server within one answer that are refused one by one; with more the connection ends."""
GOODBYE_SECONDS: Final = 2.0
TELL_SECONDS: Final = 30.0
_SESSION_ID: Final = re.compile(r"[\x21-\x7e]{1,512}")
_POSTED: Final = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


class GuardDenialError(EffectError):
    """One request was denied at the wire; the session stands."""


class HttpTransport:
    """Implements `Transport` over a channel through the guard; owns the channel and the guard's listener for it."""

    def __init__(self, client: Client, channel: HttpChannel, listener: Listener, door: ManifestDoor) -> None:
        self._client, self._channel, self._listener, self._door = client, channel, listener, door
        self._session = ""
        self._version = ""
        self._failure = ""

    @property
    def alive(self) -> bool:
        """Whether the session stands as far as is known."""
        return not self._failure

    @property
    def said(self) -> str:
        """A server elsewhere has no stderr."""
        return ""

    async def ask(self, number: int, data: bytes, seconds: float) -> Answer:
        """Post a request and return its answer."""
        if self._failure:
            raise EffectError(self._failure)
        try:
            async with asyncio.timeout(seconds), self._channel.send("POST", data, self._headers(), seconds) as reply:
                await self._check(reply)
                answer = await self._answer(reply, number)
        except TimeoutError:
            raise self._failed("the tool server did not answer in time") from None
        except GuardDenialError:
            raise
        except EffectError as error:
            raise self._failed(str(error)) from None
        self._opened(reply, answer)
        return answer

    async def tell(self, data: bytes) -> None:
        """Post a notification (or an answer); the server accepts it with no content."""
        try:
            async with (
                asyncio.timeout(TELL_SECONDS),
                self._channel.send("POST", data, self._headers(), TELL_SECONDS) as reply,
            ):
                await self._check(reply)
        except TimeoutError:
            raise self._failed("the tool server did not take a message in time") from None
        except EffectError as error:
            raise self._failed(str(error)) from None

    async def aclose(self) -> None:
        """Say goodbye if there is a session, and close the way to the server."""
        if self._session and not self._failure:
            with contextlib.suppress(EffectError, TimeoutError):
                async with (
                    asyncio.timeout(GOODBYE_SECONDS),
                    self._channel.send("DELETE", b"", self._headers(), GOODBYE_SECONDS),
                ):
                    pass
        self._failure = self._failure or "closed"
        await self._channel.aclose()
        self._listener.close()

    # ---- one answer -------------------------------------------------------------------------------------------------

    def _headers(self) -> dict[str, str]:
        headers = dict(_POSTED)
        if self._version:
            headers["mcp-protocol-version"] = self._version
        if self._session:
            headers["mcp-session-id"] = self._session
        return headers

    def _opened(self, reply: Reply, answer: Answer) -> None:
        """Keep what the answer to `initialize` settles: the session's id and the version spoken."""
        if self._version or answer.error:
            return
        given = reply.headers.get("mcp-session-id", "")
        if given and not _SESSION_ID.fullmatch(given):
            raise self._failed("the tool server handed out a session id that is none")
        self._session = given
        self._version = str(answer.result.get("protocolVersion", ""))[:32]

    async def _check(self, reply: Reply) -> None:
        if reply.status in (200, 202):
            return
        if reply.headers.get("x-agentos-guard"):
            raise GuardDenialError(f"the network guard denied it: {await _detail(reply)}")
        if reply.status == 404 and self._session:
            raise EffectError("the tool server ended the session: the next call opens another")
        if 300 <= reply.status < 400:
            raise EffectError("the tool server redirects elsewhere: add it with the address that is meant")
        hint = " (does it want an Authorization header? --header)" if reply.status in (401, 403) else ""
        raise EffectError(f"the tool server answered with status {reply.status}{hint}")

    async def _answer(self, reply: Reply, number: int) -> Answer:
        kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            found = self._client.message(await _whole(reply, LINE_BYTES_MAX))
            if found is None or found.id != number:
                raise EffectError("the tool server answered another question")
            return found
        if kind != "text/event-stream":
            raise EffectError("the tool server answered with neither JSON nor an event stream")
        events, size = EventStream(), 0
        async for piece in reply.pieces:
            size += len(piece)
            if size > STREAM_BYTES_MAX:
                raise EffectError(f"the tool server sent a stream of more than {STREAM_BYTES_MAX} bytes")
            for data in events.feed(piece):
                found = self._client.message(data)
                await self._refuse()
                if found is not None and found.id == number:
                    return found
        raise EffectError("the tool server ended the stream without an answer")

    async def _refuse(self) -> None:
        """Refuse what the server asked of us."""
        if len(self._client.refusals) > REFUSALS_MAX:
            raise EffectError("the tool server asks too much of its client")
        while self._client.refusals:
            async with self._channel.send("POST", self._client.refusals.pop(0), self._headers(), TELL_SECONDS):
                pass

    def _failed(self, why: str) -> EffectError:
        """Return the failure; where the guard denied the connection, with what it said."""
        denial = self._door.take_denial()
        if denial is not None:
            advice = f" ({denial.advice})" if denial.advice else ""
            why = f"the network guard denied it: {denial.reason}{advice}"
        self._failure = self._failure or why
        return EffectError(why)


async def _whole(reply: Reply, most: int) -> bytes:
    parts, size = [], 0
    async for piece in reply.pieces:
        parts.append(piece)
        size += len(piece)
        if size > most:
            raise EffectError(f"the tool server sent more than {most} bytes")
    return b"".join(parts)


async def _detail(reply: Reply) -> str:
    """Return what the guard says about its own refusal."""
    try:
        form = json.loads(await _whole(reply, 65536))
    except (ValueError, EffectError):
        form = {}
    detail = form.get("detail") if isinstance(form, Mapping) else None
    return str(detail)[:500] if detail else f"status {reply.status}"
