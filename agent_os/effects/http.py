"""HTTP requests to exactly the addresses that were judged.

Carries out `net.request` for the monitor. It resolves nothing, follows nothing and remembers nothing: the permit names
the addresses (`resolved_ips`), a redirect is returned to the tool (which asks anew), cookies and proxy settings of the
environment do not exist. The name stays in SNI, in the certificate check and in `Host`.

Threats: a name that resolves to another address between check and connection (DNS rebinding); an environment proxy that
sees everything; a response without end, or 1 MB that unpacks to 10 GB; a header that smuggles a second request.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import ssl
import time
import zlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

import httpx

from agent_os.core import canonical
from agent_os.core.action import Action, NetRequest
from agent_os.core.carried import Carried, content_digest
from agent_os.core.errors import EffectError
from agent_os.core.label import UNTRUSTED
from agent_os.core.ports import Outcome, Permit

RESPONSE_BYTES_MAX: Final = 8 * 1024 * 1024
REQUEST_BYTES_MAX: Final = 32 * 1024 * 1024
HEADER_BYTES_MAX: Final = 32 * 1024
CONNECT_SECONDS_MAX: Final = 10.0
REQUEST_SECONDS_MAX: Final = 60.0
ADDRESSES_TRIED_MAX: Final = 4
CLIENTS_MAX: Final = 32
KEEPALIVE_SECONDS: Final = 15.0
_NOT_THE_CALLERS: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "te", "trailer", "expect",
     "accept-encoding", "proxy-authorization", "proxy-connection", "forwarded", "x-forwarded-host"}
)  # fmt: skip
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PATH_SAFE: Final = "/:@!$&'()*+,;=~%"
_SINGLE_HEADERS: Final = frozenset({"content-type", "location", "content-length", "etag", "last-modified"})


class Http:
    """The effector of `net.request`.

    `trust` is an SSL context of the operator's (a company's own authority); certificates are always verified.
    """

    def __init__(
        self,
        *,
        carried: Carried,
        trust: ssl.SSLContext | None = None,
        response_bytes_max: int = RESPONSE_BYTES_MAX,
        request_seconds_max: float = REQUEST_SECONDS_MAX,
    ) -> None:
        if trust is not None and trust.verify_mode is not ssl.CERT_REQUIRED:
            raise EffectError("the SSL context does not verify certificates")
        self._trust, self._carried = trust, carried
        self._response_bytes_max, self._seconds_max = response_bytes_max, request_seconds_max
        self._transports: OrderedDict[tuple[Any, ...], httpx.AsyncHTTPTransport] = OrderedDict()

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of action this effector carries out."""
        return frozenset({"net.request"})

    async def aclose(self) -> None:
        """Close every connection."""
        while self._transports:
            _, transport = self._transports.popitem()
            await transport.aclose()

    async def execute(self, permit: Permit, action: Action) -> Outcome:
        """Send one request and return `{"status", "headers", "content" (bytes), "truncated"}`.

        Raises EffectError when no judged address answers, at the permit's deadline or after `request_seconds_max`, and
        for content that is not what the action says. A longer response is cut, and says so.
        """
        if not isinstance(action, NetRequest):
            raise EffectError(f"http cannot carry out {action.kind}")
        if not permit.resolved_ips:
            raise EffectError("net.request: no address was judged, so none is connected to")
        content = self._content(action)
        headers = _request_headers(action, content)
        seconds = self._seconds_max
        if permit.deadline:
            seconds = max(0.0, min(seconds, permit.deadline - time.monotonic()))
        try:
            async with asyncio.timeout(seconds):
                return await self._first_that_answers(permit.resolved_ips, action, headers, content)
        except TimeoutError:
            raise EffectError(f"net.request: no whole answer within {seconds:g} s") from None

    def _content(self, action: NetRequest) -> bytes:
        """Return the bytes to send: the judged body, or carried bytes by their judged digest."""
        if action.body is None:
            content = self._carried.bytes_for(action.body_digest) if action.body_digest else b""
        elif isinstance(action.body, str):
            content = action.body.encode()
        else:
            content = canonical.json_bytes(action.body)
        if action.body_digest and content_digest(content) != action.body_digest:
            raise EffectError("net.request: the body is not what its digest says")
        if len(content) > REQUEST_BYTES_MAX:
            raise EffectError(f"net.request: the body is larger than {REQUEST_BYTES_MAX} bytes")
        return content

    async def _first_that_answers(
        self, addresses: tuple[str, ...], action: NetRequest, headers: list[tuple[str, str]], content: bytes
    ) -> Outcome:
        failure = "no address"
        for address in addresses[:ADDRESSES_TRIED_MAX]:
            try:
                return await self._send(address, action, headers, content)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:  # nothing was sent: the next may be tried
                failure = _failure(error)
            except httpx.HTTPError as error:
                raise EffectError(f"net.request: {_failure(error)}") from None
        raise EffectError(f"net.request: {failure}")

    async def _send(self, address: str, action: NetRequest, headers: list[tuple[str, str]], content: bytes) -> Outcome:
        ip = ipaddress.ip_address(address)
        netloc = f"[{ip}]" if ip.version == 6 else str(ip)
        request = httpx.Request(
            action.method,
            f"{action.scheme}://{netloc}:{action.port}{request_target(action)}",
            headers=headers,
            content=content,
            extensions={
                "sni_hostname": action.host,
                "timeout": {"connect": CONNECT_SECONDS_MAX, "read": self._seconds_max, "write": self._seconds_max,
                            "pool": CONNECT_SECONDS_MAX},
            },
        )  # fmt: skip
        response = await self._transport(action, address).handle_async_request(request)
        try:
            if not isinstance(response.stream, httpx.AsyncByteStream):
                raise EffectError("net.request: the response cannot be read")
            body, truncated = await self._body(response)
        finally:
            await response.aclose()
        value = {
            "status": response.status_code,
            "headers": _response_headers(response.headers),
            "content": body,
            "truncated": truncated,
        }
        return Outcome(value, UNTRUSTED, usage={"bytes": float(len(content) + len(body))})

    def _transport(self, action: NetRequest, address: str) -> httpx.AsyncHTTPTransport:
        """Return the connections for one name at one address.

        INVARIANT: connections are shared by (scheme, name, port, address) and no further, so a connection whose
        certificate was checked for one name never carries a request for another.
        """
        key = (asyncio.get_running_loop(), action.scheme, action.host, action.port, address)
        transport = self._transports.get(key)
        if transport is None:
            if len(self._transports) >= CLIENTS_MAX:
                _, oldest = self._transports.popitem(last=False)
                asyncio.ensure_future(oldest.aclose())  # noqa: RUF006 - the loop holds it until closed
            transport = httpx.AsyncHTTPTransport(
                verify=self._trust or ssl.create_default_context(),
                trust_env=False,
                retries=0,
                limits=httpx.Limits(max_connections=16, keepalive_expiry=KEEPALIVE_SECONDS),
            )
            self._transports[key] = transport
        self._transports.move_to_end(key)
        return transport

    async def _body(self, response: httpx.Response) -> tuple[bytes, bool]:
        """Return at most `response_bytes_max` decoded bytes and whether there were more."""
        limit, parts, size = self._response_bytes_max, [], 0
        async for part in _decoded(response, limit):
            parts.append(part)
            size += len(part)
            if size > limit:
                return b"".join(parts)[:limit], True
        return b"".join(parts), False


async def _decoded(response: httpx.Response, limit: int) -> AsyncIterator[bytes]:
    """Yield decoded bytes, never more than `limit` + 1 from one piece, so that a bomb unpacks no further."""
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding in ("", "identity"):
        async for part in response.aiter_raw():
            yield part
        return
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise EffectError("net.request: the response has a content coding that was not asked for")
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        async for part in response.aiter_raw():
            yield inflate.decompress(part, limit + 1)
            while inflate.unconsumed_tail:
                yield inflate.decompress(inflate.unconsumed_tail, limit + 1)
    except zlib.error:
        raise EffectError("net.request: the response is not what its content coding says") from None


def request_target(action: NetRequest) -> str:
    """Return the request target (RFC 9112, 3.2.1) of the canonical path and query."""
    target = quote(action.path, safe=_PATH_SAFE)
    if not target.startswith("/"):
        raise EffectError("net.request: the path does not begin with a slash")
    return f"{target}?{urlencode(dict(action.query), doseq=True)}" if action.query else target


def _request_headers(action: NetRequest, content: bytes) -> list[tuple[str, str]]:
    if not _TOKEN.fullmatch(action.method):
        raise EffectError("net.request: the method is no token")
    default = {"http": 80, "https": 443}.get(action.scheme)
    if default is None:
        raise EffectError("net.request: the scheme must be https or http")
    name = f"[{action.host}]" if ":" in action.host else action.host
    headers = [("host", name if action.port == default else f"{name}:{action.port}")]
    size = 0
    for header, value in action.headers.items():
        if header.lower() in _NOT_THE_CALLERS:
            raise EffectError(f"net.request: the header {header!r} is set by the runtime alone")
        for item in value if isinstance(value, (list, tuple)) else (value,):
            if (
                not isinstance(item, str)
                or not _TOKEN.fullmatch(header)
                or re.search(r"[\x00-\x08\x0a-\x1f\x7f]", item)
            ):
                raise EffectError("net.request: a header is malformed")
            size += len(header) + len(item)
            headers.append((header.lower(), item))
    if size > HEADER_BYTES_MAX:
        raise EffectError(f"net.request: headers larger than {HEADER_BYTES_MAX} bytes")
    names = {header for header, _ in headers}
    if "user-agent" not in names:
        headers.append(("user-agent", "agent-os"))
    if isinstance(action.body, str) and "content-type" not in names:
        headers.append(("content-type", "text/plain; charset=utf-8"))
    headers.append(("accept-encoding", "gzip, deflate"))
    if content or action.method in ("POST", "PUT", "PATCH"):
        headers.append(("content-length", str(len(content))))
    return headers


def _response_headers(headers: httpx.Headers) -> dict[str, str]:
    """Return headers by lower-case name; `set-cookie` is left out (nothing keeps cookies), repeats are joined."""
    shown: dict[str, str] = {}
    size = 0
    for name, value in headers.multi_items():
        lower = name.lower()
        size += len(lower) + len(value)
        if size > HEADER_BYTES_MAX:
            break
        if lower == "set-cookie" or (lower in shown and lower in _SINGLE_HEADERS):
            continue
        shown[lower] = f"{shown[lower]}, {value}" if lower in shown else value
    return shown


_FAILURES: Final[Mapping[type[Exception], str]] = {
    httpx.ConnectTimeout: f"no connection within {CONNECT_SECONDS_MAX:g} s",
    httpx.ConnectError: "the connection failed",
    httpx.RemoteProtocolError: "the server broke the protocol",
    httpx.LocalProtocolError: "the request is malformed",
    httpx.TimeoutException: "timed out",
    httpx.ReadError: "the connection broke off",
    httpx.WriteError: "the connection broke off",
}


def _failure(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate is not valid for this name ({cause.verify_message})"
        if isinstance(cause, ssl.SSLError):
            return "the TLS handshake failed"
        cause = cause.__cause__ or cause.__context__
    return next((said for kind, said in _FAILURES.items() if isinstance(error, kind)), type(error).__name__)
