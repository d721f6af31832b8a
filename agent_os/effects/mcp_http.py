"""HTTP requests to one tool server's address, through the egress guard and no other way.

Every connection goes to the guard's loopback listener, which judges, records and inspects each request, puts secrets in for
placeholders, and verifies the server's certificate. Nothing is remembered here: no cookie, no redirect, no setting of the
environment. Threat: a server that answers without end, redirects elsewhere, or sets state that follows the client.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from agent_os.core.errors import EffectError

CONNECT_SECONDS_MAX: Final = 15.0
CONNECTIONS_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class Reply:
    """The head of an answer, and its body in pieces. Header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    pieces: AsyncIterator[bytes]


class HttpChannel:
    """The way to one address. `proxy` is the guard's listener (with its token), `bundle` the certificates to trust."""

    def __init__(self, url: str, headers: Mapping[str, str], *, proxy: str, bundle: Path) -> None:
        self._url, self._headers = url, dict(headers)
        self._transport = httpx.AsyncHTTPTransport(
            verify=ssl.create_default_context(cafile=str(bundle)),
            proxy=httpx.Proxy(proxy),
            trust_env=False,
            retries=0,
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX, keepalive_expiry=5.0),
        )

    @contextlib.asynccontextmanager
    async def send(self, method: str, body: bytes, headers: Mapping[str, str], seconds: float) -> AsyncIterator[Reply]:
        """Send one request and hand over its answer while it is open. Raises EffectError for what the network does."""
        request = httpx.Request(
            method,
            self._url,
            headers={**self._headers, **headers, "accept-encoding": "identity"},
            content=body,
            extensions={
                "timeout": {"connect": CONNECT_SECONDS_MAX, "read": seconds, "write": seconds, "pool": seconds}
            },
        )
        try:
            response = await self._transport.handle_async_request(request)
            try:
                fields = {name.lower(): value for name, value in response.headers.items()}
                yield Reply(response.status_code, fields, response.aiter_raw())
            finally:
                await response.aclose()
        except httpx.ProxyError as error:
            raise EffectError(f"the network guard did not let the connection through ({error})") from None
        except httpx.HTTPError as error:
            raise EffectError(f"the tool server's address was not reached: {type(error).__name__}") from None

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()
