"""Calls to model providers by plain httpx: one permitted `model.call`, one HTTP request.

A retry or another provider is another action, so neither happens here. Keys come from a source of the operator's, go into
one header and are never in an outcome, an error or a log, whatever the provider writes back. Threats: a provider that
redirects, answers garbage, half a stream, one byte a minute or without end; a header smuggled in a model's name; an
environment proxy.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from agent_os.core import canonical
from agent_os.core.action import Action, ModelCall
from agent_os.core.errors import ActionError, EffectError
from agent_os.core.label import UNTRUSTED
from agent_os.core.ports import Outcome, Permit
from agent_os.effects.models.local import LocalModels
from agent_os.guards.models import anthropic, openai
from agent_os.guards.models.echo import EchoWatch, without
from agent_os.guards.models.neutral import (
    Answer,
    Delta,
    Gathering,
    Request,
    media_kinds,
    request_of,
    worded,
)

ANSWER_BYTES_MAX: Final = 32 * 1024 * 1024
EVENT_BYTES_MAX: Final = 4 * 1024 * 1024
CONNECT_SECONDS_MAX: Final = 10.0
IDLE_SECONDS_MAX: Final = 120.0
"""Longest silence inside a stream."""
CONNECTIONS_MAX: Final = 600
POOLS: Final = 12
"""Connections are spread over this many pools: the work of one pool grows with the square of its connections."""
BREAKER_FAILURES: Final = 5
BREAKER_SECONDS: Final = 30.0
RETRYABLE: Final = frozenset({408, 409, 429, 500, 502, 503, 504, 529})
BASES: Final = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "nvidia": "https://integrate.api.nvidia.com/v1",
    "ollama": "http://127.0.0.1:11434/v1",
}
KEYS: Final = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY", "nvidia": "NVIDIA_API_KEY"}
"""The secret that holds a kind's key where policy names none, at the kind's own address only."""
_OURS: Final = frozenset({"authorization", "x-api-key", "api-key", "host", "content-length", "cookie", "connection"})
NOTHING: Final = {"tokens": 0.0}
"""What a call used that no provider took."""
Key = Callable[[str, str, int], Awaitable[str | None]]
"""(name of a secret, host, port) -> its value, or None. Raises RefusedError where it is bound to other hosts."""


class UnavailableError(EffectError):
    """The provider cannot answer now: another try, or another provider, may. `after` is in seconds."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        self.after = after
        super().__init__(message)


class RefusedError(EffectError):
    """The provider did not take the request, or it was not sent: nothing was used, and the same again is pointless."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a provider is and how it is spoken to. `protocol` is openai or anthropic."""

    name: str
    kind: str
    base_url: str
    protocol: str
    secret: str = ""
    timeout_s: float = 120.0
    headers: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def of(name: str, kind: str, base_url: str | None, **more: Any) -> Endpoint:
        """Return the endpoint of a provider. Raises EffectError where its kind needs a base_url, or is not HTTP."""
        if kind == "local":
            return Endpoint(name, kind, "", "openai", **more)
        if kind in ("langchain", "scripted"):
            raise EffectError(f"the provider {name!r} is not reached over HTTP")
        base = (base_url or BASES.get(kind, "")).rstrip("/")
        if not base:
            raise EffectError(f"the provider {name!r} needs a base_url")
        return Endpoint(name, kind, base, "anthropic" if kind == "anthropic" else "openai", **more)

    def url(self, what: str) -> str:
        """Return the URL of `answer` or `embeddings`."""
        if self.protocol == "anthropic":
            return f"{self.base_url.removesuffix('/v1')}/v1/messages"
        return f"{self.base_url}/{'embeddings' if what == 'embeddings' else 'chat/completions'}"


class Providers:
    """The effector of `model.call`: endpoints by provider name."""

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        key: Key,
        *,
        local: LocalModels | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self.endpoints, self._key, self._local, self._trust = dict(endpoints), key, local, trust
        self._pools: dict[asyncio.AbstractEventLoop, list[_Pool]] = {}
        self._broken: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def reconfigure(self, endpoints: Mapping[str, Endpoint], key: Key) -> None:
        """Call other endpoints from here on; what is under way ends where it began."""
        self.endpoints, self._key = dict(endpoints), key

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of action this effector carries out."""
        return frozenset({"model.call"})

    async def aclose(self) -> None:
        """Close every connection."""
        while self._pools:
            _, pools = self._pools.popitem()
            for pool in pools:
                await pool.client.aclose()

    async def execute(self, permit: Permit, action: Action) -> Outcome:
        """Call the model and return its answer as a neutral message. Raises EffectError."""
        if not isinstance(action, ModelCall):
            raise EffectError(f"models cannot carry out {action.kind}")
        try:
            answer = await self.answer(action)
        except (UnavailableError, RefusedError) as error:
            return Outcome(error="failed", detail=str(error), usage=NOTHING)
        return Outcome(answer.to_json(), UNTRUSTED, usage=answer.usage.believed(action.messages).amounts())

    async def answer(self, action: ModelCall) -> Answer:
        """Return the answer to a permitted call. Raises UnavailableError, EffectError, ActionError."""
        endpoint = self._endpoint(action)
        sent = _rendered(endpoint, action, stream=False)
        if endpoint.kind == "local":
            body = await self._here(endpoint, self._engines().answer(action.model, sent))
        else:
            body = await self._json(endpoint, "answer", sent)
        answer: Answer = _protocol(endpoint).parse_answer(body)
        return answer

    async def embeddings(self, action: ModelCall, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a provider's embeddings as it gives them; `body` has the model and the permitted input."""
        endpoint = self._endpoint(action)
        if endpoint.protocol != "openai" or endpoint.kind == "local":
            raise RefusedError(f"the provider {endpoint.name!r} has no embeddings")
        answer = await self._json(endpoint, "embeddings", body)
        if not isinstance(answer, Mapping) or not isinstance(answer.get("data"), list):
            raise EffectError("the provider's answer is no list of embeddings")
        return answer

    async def stream(self, action: ModelCall) -> AsyncIterator[Delta]:
        """Yield the pieces of the answer to a permitted call.

        Tool calls are numbered from 0. Raises UnavailableError before the first piece, EffectError later, also when the
        stream ends before the model said that it has finished.
        """
        endpoint = self._endpoint(action)
        protocol, numbers, whole = _protocol(endpoint), dict[int, int](), Gathering()
        body = _rendered(endpoint, action, stream=True)
        if endpoint.kind == "local":
            async for piece in self._engines().stream(action.model, body):
                for delta in protocol.read_event("", piece):
                    whole.add(delta)
                    yield delta
            return
        key = await self._secret(endpoint)
        echo = EchoWatch(key)
        async with self._response(endpoint, "answer", body, key) as response:
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise EffectError("the provider did not answer with a stream")
            async for name, data in _events(response):
                for delta in worded(protocol.read_event(name, data)):
                    if delta.kind == "tool":
                        number = numbers.setdefault(delta.index, len(numbers))
                        delta = Delta("tool", delta.text, number, delta.id, delta.name)
                    for shown in echo.feed(delta):
                        whole.add(shown)
                        yield shown
            for shown in echo.finish():
                whole.add(shown)
                yield shown
        if not whole.finished:
            raise EffectError("the stream ended before the answer did")

    def _engines(self) -> LocalModels:
        if self._local is None:
            raise RefusedError("no local models are open here")
        return self._local

    @staticmethod
    async def _here(endpoint: Endpoint, answering: Awaitable[Any]) -> Any:
        try:
            async with asyncio.timeout(endpoint.timeout_s):
                return await answering
        except TimeoutError:
            raise EffectError(f"{endpoint.name}: no whole answer within {endpoint.timeout_s:g} s") from None

    def _endpoint(self, action: ModelCall) -> Endpoint:
        endpoint = self.endpoints.get(action.provider)
        if endpoint is None:
            raise EffectError(f"no provider {action.provider!r} is configured")
        return endpoint

    async def _json(self, endpoint: Endpoint, what: str, body: Mapping[str, Any]) -> Any:
        key = await self._secret(endpoint)
        async with self._response(endpoint, what, body, key) as response:
            content = bytearray()
            async for part in response.aiter_bytes():
                content += part
                if len(content) > ANSWER_BYTES_MAX:
                    raise EffectError(f"the provider's answer is larger than {ANSWER_BYTES_MAX} bytes")
        try:
            answer = canonical.foreign_json(bytes(content))
            # a key stands in JSON as it is, or with characters written as escapes
            return without(answer, key) if key and (key.encode() in content or b"\\" in content) else answer
        except (ValueError, RecursionError):
            raise EffectError("the provider's answer is no JSON") from None

    @asynccontextmanager
    async def _response(
        self, endpoint: Endpoint, what: str, body: Mapping[str, Any], key: str
    ) -> AsyncIterator[httpx.Response]:
        """Send one request and yield a successful response. Raises UnavailableError or EffectError otherwise."""
        self._check_breaker(endpoint.name)
        headers = _headers(endpoint, key)
        try:
            async with (
                asyncio.timeout(endpoint.timeout_s),
                self._client() as client,
                client.stream(
                    "POST", endpoint.url(what), content=json.dumps(body, ensure_ascii=False).encode(), headers=headers
                ) as response,
            ):
                if response.status_code != 200:
                    await self._refused(endpoint, response)
                self._broken.pop(endpoint.name, None)
                yield response
        except TimeoutError:
            self._failed(endpoint.name)
            raise UnavailableError(f"{endpoint.name}: no whole answer within {endpoint.timeout_s:g} s") from None
        except httpx.HTTPError as error:
            self._failed(endpoint.name)
            raise UnavailableError(f"{endpoint.name}: {_failure(error)}") from None

    async def _refused(self, endpoint: Endpoint, response: httpx.Response) -> None:
        """Raise what a status other than 200 means; the provider's own words may hold anything and are not passed on."""
        status = response.status_code
        if status in RETRYABLE:
            self._failed(endpoint.name)
            raise UnavailableError(f"{endpoint.name}: status {status}", _after(response))
        if 300 <= status < 400:
            raise RefusedError(f"{endpoint.name}: redirects, which is not followed")
        if status in (401, 403):
            raise RefusedError(
                f"{endpoint.name}: the key was refused (status {status}); check the secret {endpoint.secret!r}"
            )
        raise RefusedError(f"{endpoint.name}: status {status}")

    async def _secret(self, endpoint: Endpoint) -> str:
        """Return the key of an endpoint; empty where it needs none. Raises RefusedError where there is none to be had."""
        if not endpoint.secret:
            return ""
        url = httpx.URL(endpoint.base_url)
        key = await self._key(endpoint.secret, url.host, url.port or {"https": 443}.get(url.scheme, 80))
        if not key:
            raise RefusedError(
                f"{endpoint.name}: there is no secret {endpoint.secret!r}: set the variable, or "
                f"agentos secret set {endpoint.secret} --to {url.host}"
            )
        if not key.isascii() or not key.isprintable():
            raise RefusedError(f"{endpoint.name}: the secret {endpoint.secret!r} holds characters no header may")
        return key

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[httpx.AsyncClient]:
        """Yield the client of the first pool that has room (so that few calls reuse few connections)."""
        loop = asyncio.get_running_loop()
        pools = self._pools.setdefault(loop, [])
        room = CONNECTIONS_MAX // POOLS
        pool = next((pool for pool in pools if pool.calls < room), None)
        if pool is None and len(pools) < POOLS:
            pool = _Pool(self._opened(room))
            pools.append(pool)
        if pool is None:
            pool = min(pools, key=lambda each: each.calls)
        pool.calls += 1
        try:
            pool.client.cookies.clear()
            yield pool.client
        finally:
            pool.calls -= 1

    def _opened(self, connections: int) -> httpx.AsyncClient:
        if self._trust is None:
            self._trust = ssl.create_default_context()
        return httpx.AsyncClient(
            verify=self._trust,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(IDLE_SECONDS_MAX, connect=CONNECT_SECONDS_MAX, pool=CONNECT_SECONDS_MAX),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            headers={"user-agent": "agent-os"},
        )

    def _check_breaker(self, name: str) -> None:
        failures, since = self._broken.get(name, (0, 0.0))
        if failures >= BREAKER_FAILURES and time.monotonic() - since < BREAKER_SECONDS:
            raise UnavailableError(f"{name}: failed {failures} times in a row, not asked again yet", BREAKER_SECONDS)

    def _failed(self, name: str) -> None:
        failures, _ = self._broken.get(name, (0, 0.0))
        self._broken[name] = (failures + 1, time.monotonic())


@dataclass(slots=True)
class _Pool:
    """One client with its connections, and how many calls are under way in it."""

    client: httpx.AsyncClient
    calls: int = 0


def _headers(endpoint: Endpoint, key: str) -> dict[str, str]:
    headers = {name.lower(): value for name, value in endpoint.headers.items() if name.lower() not in _OURS}
    headers["content-type"] = "application/json"
    headers["accept-encoding"] = "identity"
    if key:
        match endpoint.kind:
            case "anthropic":
                headers["x-api-key"] = key
            case "azure":
                headers["api-key"] = key
            case _:
                headers["authorization"] = f"Bearer {key}"
    if endpoint.protocol == "anthropic":
        headers["anthropic-version"] = anthropic.VERSION
    return headers


def _request(action: ModelCall) -> Request:
    return request_of(action.model, action.messages, max_tokens=action.max_tokens)


def _rendered(endpoint: Endpoint, action: ModelCall, *, stream: bool) -> Any:
    """Return the body to send. Raises ActionError for what the protocol, or the model of this machine, cannot be told."""
    if endpoint.kind == "local" and (kinds := media_kinds(action.messages)):
        raise ActionError(f"hold {', '.join(kinds)}: the model of this machine reads text only", field="messages")
    return _protocol(endpoint).render_request(_request(action), stream=stream)


def _protocol(endpoint: Endpoint) -> Any:
    return anthropic if endpoint.protocol == "anthropic" else openai


async def _events(response: httpx.Response) -> AsyncIterator[tuple[str, str]]:
    """Yield (event, data) of a stream of server-sent events (WHATWG HTML, 9.2.6); bounded."""
    name, data, size = "", list[str](), 0
    async for line in _lines(response):
        size += len(line)
        if size > EVENT_BYTES_MAX:
            raise EffectError("the provider's stream holds an event larger than its bound")
        if not line:
            if data:
                yield name, "\n".join(data)
            name, data, size = "", [], 0
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif line.startswith("event:"):
            name = line[6:].strip()
    if data:
        yield name, "\n".join(data)


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    """Yield the lines of a response; none is longer than EVENT_BYTES_MAX and all together ANSWER_BYTES_MAX."""
    buffer, total = b"", 0
    async for part in response.aiter_bytes():
        total += len(part)
        buffer += part
        if len(buffer) > EVENT_BYTES_MAX or total > ANSWER_BYTES_MAX:
            raise EffectError("the provider's stream is larger than its bound")
        *whole, buffer = buffer.split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")
    if buffer:
        yield buffer.removesuffix(b"\r").decode("utf-8", "replace")


def _after(response: httpx.Response) -> float:
    try:
        return max(0.0, min(float(response.headers.get("retry-after", "0")), BREAKER_SECONDS))
    except ValueError:
        return 0.0


def _failure(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return "the TLS handshake failed"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return "cannot be reached"
    return "timed out" if isinstance(error, httpx.TimeoutException) else "the connection broke off"
