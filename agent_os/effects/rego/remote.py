"""OPA servers: a decision asked over REST, with deadline, breaker and cache. Unreachable means deny.

Through `opa-python-client`, with what it leaves open closed here: redirects are not followed (they lead away from the
server that is trusted), nothing is retried (a late answer is no answer), answers are bounded and must be JSON with a
result. Threat: a server that stalls, answers 200 without a result, with a page of HTML, or sends the question on.
"""

from __future__ import annotations

import json
import os
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from agent_os.core.errors import EffectError, MissingPartError
from agent_os.core.facts import ExternalVerdict
from agent_os.core.ports import Clock
from agent_os.guards.rego import RegoLayer, failed, verdict_of

ANSWER_BYTES_MAX: Final = 1 << 20
CACHE_ENTRIES_MAX: Final = 4096
SecretValue = Callable[[str], Awaitable[str]]
FAILURES_MAX: Final = 5
"""Failures in a row after which the server is left alone for BREAK_S; every action is denied meanwhile."""
BREAK_S: Final = 5.0


class RemoteOpa:
    """One OPA server's decision path. `secret` returns the value of a secret by name (bearer token, PEM with key)."""

    def __init__(self, layer: RegoLayer, clock: Clock, *, revision: str, secret: SecretValue) -> None:
        self.layer, self._clock, self._revision, self._secret = layer, clock, revision, secret
        self._client: Any = None
        self._cache: OrderedDict[str, tuple[float, ExternalVerdict]] = OrderedDict()
        self._failures = 0
        self._broken_until = 0.0

    async def evaluate(self, document: Mapping[str, Any], digest: str) -> ExternalVerdict:
        """Return the server's verdict on an action. Never raises, but for cancellation."""
        layer, now = self.layer, self._clock.monotonic()
        if layer.missing:
            return failed(layer, layer.missing)
        key = f"{digest}/{self._revision}"
        held = self._cache.get(key) if layer.cache_s else None
        if held is not None and now < held[0]:
            return held[1]
        if now < self._broken_until:
            return failed(layer, "the OPA server failed repeatedly and is left alone for a while")
        try:
            answer = await self._ask(document)
        except EffectError as error:
            self._failures += 1
            if self._failures >= FAILURES_MAX:
                self._broken_until = self._clock.monotonic() + BREAK_S
                self._failures = 0
            return failed(layer, str(error))
        self._failures = 0
        verdict = verdict_of(layer, answer)
        if layer.cache_s and not verdict.error:
            self._cache[key] = (now + layer.cache_s, verdict)
            while len(self._cache) > CACHE_ENTRIES_MAX:
                self._cache.popitem(last=False)
        return verdict

    async def _ask(self, document: Mapping[str, Any]) -> Any:
        try:
            client = await self._opened()
        except (OSError, ssl.SSLError, ValueError) as error:
            raise EffectError(f"the OPA client cannot be set up: {type(error).__name__}") from None
        url = f"{client.root_url}/data/{self.layer.decision.strip('/')}"
        try:
            async with client._request("POST", url, json={"input": document}) as response:
                status = response.status
                body = await response.content.read(ANSWER_BYTES_MAX + 1)
                while len(body) <= ANSWER_BYTES_MAX and not response.content.at_eof():
                    body += await response.content.read(ANSWER_BYTES_MAX + 1 - len(body))
        except TimeoutError:
            raise EffectError(f"the OPA server took longer than {self.layer.timeout_s * 1000:.0f} ms") from None
        except Exception as error:  # whatever the client library raises: the server gave no answer
            raise EffectError(f"the OPA server cannot be asked: {type(error).__name__}") from None
        if status != 200:
            raise EffectError(f"the OPA server answered with status {status}")
        if len(body) > ANSWER_BYTES_MAX:
            raise EffectError("the OPA server's answer is too long")
        try:
            answer = json.loads(body)
        except ValueError:
            raise EffectError("the OPA server answered with something that is no JSON") from None
        if not isinstance(answer, dict) or "result" not in answer:
            raise EffectError("the OPA server has no result: is the decision path right?")
        return answer["result"]

    async def healthy(self) -> str:
        """Return an empty text when the server is up, else what is wrong; for `doctor`."""
        try:
            client = await self._opened()
            base = client.root_url.rsplit("/", 1)[0]
            async with client._request("GET", f"{base}/health") as response:
                return "" if response.status == 200 else f"status {response.status}"
        except Exception as error:  # a server that cannot be asked is not healthy, whatever the reason
            return type(error).__name__

    async def _opened(self) -> Any:
        if self._client is None:
            token = await self._secret(self.layer.token) if self.layer.token else ""
            certificate = await self._secret(self.layer.certificate) if self.layer.certificate else ""
            client = self._make(token, certificate)
            await client._init_session()
            self._client = client
        return self._client

    def _make(self, token: str, certificate: str) -> Any:
        try:
            import aiohttp  # noqa: PLC0415
            from opa_client.opa_async import AsyncOpaClient  # noqa: PLC0415
        except ImportError:
            raise MissingPartError("the OPA client", "all") from None
        ca = self.layer.ca

        class Client(AsyncOpaClient):  # type: ignore[misc]
            """The library's client, without redirects and retries, with a CA of our own."""

            async def _init_session(self) -> None:
                context: Any = None
                if self.ssl:
                    context = ssl.create_default_context(cafile=ca or None)
                    if certificate:
                        _load_certificate(context, certificate)
                self._connector = aiohttp.TCPConnector(ssl=context if context is not None else True)
                self._session = aiohttp.ClientSession(
                    headers=self.headers,
                    connector=self._connector,
                    timeout=aiohttp.ClientTimeout(total=self.timeout),
                    trust_env=False,
                )

            @asynccontextmanager
            async def _request(self, method: str, url: str, **kwargs: Any) -> AsyncIterator[Any]:
                async with self._session.request(method, url, allow_redirects=False, **kwargs) as response:
                    yield response

        parts = urlsplit(self.layer.opa)
        secure = parts.scheme == "https"
        host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else str(parts.hostname)
        return Client(
            host=host,
            port=parts.port or (443 if secure else 80),
            ssl=secure,
            token=token or None,
            retries=0,
            timeout=self.layer.timeout_s,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close_connection()


def _load_certificate(context: ssl.SSLContext, pem: str) -> None:
    """Load a client certificate with its key from text: through memory, never through a file that stays."""
    handle = os.memfd_create("agentos-certificate")
    try:
        os.write(handle, pem.encode())
        context.load_cert_chain(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)
