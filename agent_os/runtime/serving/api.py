"""The routes of the model gateway: `/v1/chat/completions`, `/v1/messages` and the like, for whoever is let in.

A caller's headers end here: what reaches a provider is built from the permitted action and the provider's own key.
Threats: an agent that asks for `Authorization` (there is none to give), a field that names another tenant, an error that
tells a provider's words or a key.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Protocol

from agent_os.core.errors import ActionError, AgentOSError, DeniedError, MissingPartError
from agent_os.effects.models.client import RefusedError, UnavailableError
from agent_os.effects.models.server import BODY_BYTES_MAX, HttpRequest, HttpResponse
from agent_os.guards.models import anthropic, openai
from agent_os.guards.models.neutral import Request
from agent_os.runtime.gateway import ModelGateway
from agent_os.runtime.serving.approvals import ApprovalApi
from agent_os.runtime.serving.callers import Caller, Callers
from agent_os.runtime.serving.stops import StopApi
from agent_os.runtime.serving.webhooks import HookApi

if TYPE_CHECKING:
    from agent_os.runtime.serving.metrics import Metrics

JSON_DEPTH_SAFE: Final = 200
METRICS: Final = "/metrics"
FLAGS: Final = "x-agentos-flags"
"""Header of an answer (comment of a stream) that names what was found in it."""
_PATHS: Final = frozenset(
    {METRICS, "/v1/models", "/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens", "/v1/embeddings"}
)
"""Paths that are named in metrics; whatever else is asked for is `other`."""


class Gateways(Protocol):
    """Who has the gateway of a caller."""

    def of(self, caller: Caller | None) -> AbstractAsyncContextManager[ModelGateway]:
        """Yield the gateway of a caller's session. Raises UnavailableError when there is no room for one."""
        ...


class OneGateway:
    """The gateway of a single caller who is known already: a sandbox's own connection."""

    def __init__(self, gateway: ModelGateway) -> None:
        self._gateway = gateway

    @asynccontextmanager
    async def of(self, _caller: Caller | None) -> AsyncIterator[ModelGateway]:
        """Yield the gateway."""
        yield self._gateway


class Api:
    """The routes of the API. Without `callers` who calls is known already (a sandbox's own connection)."""

    def __init__(
        self,
        gateways: Gateways,
        callers: Callers | None = None,
        approvals: ApprovalApi | None = None,
        metrics: Metrics | None = None,
        hooks: HookApi | None = None,
        stops: StopApi | None = None,
    ) -> None:
        self._gateways, self._callers, self._approvals, self._metrics = gateways, callers, approvals, metrics
        self._hooks, self._stops = hooks, stops

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one request; no exception of the runtime leaves it."""
        if self._metrics is None:
            return await self._handle(request)
        started = time.perf_counter()
        response = await self._handle(request)
        path = request.path if request.path in _PATHS else "other"
        self._metrics.requests.labels(path, str(response.status)).inc()
        self._metrics.seconds.labels(path).observe(time.perf_counter() - started)
        if response.stream is not None:
            response.stream = _counted(self._metrics, response.stream)
        return response

    async def admits(self, request: HttpRequest) -> HttpResponse | int:
        """Return how many bytes a request may have, or the refusal of somebody nobody knows; its body is not looked at."""
        if self._hooks is not None and self._hooks.serves(request.path):
            return self._hooks.bytes_max
        if self._approvals is not None and self._approvals.serves(request.path):
            return await self._approvals.admits(request)
        try:
            known = self._callers is None or await self._callers.who(request.headers) is not None
        except AgentOSError as error:
            return _error(openai, 502, "api_error", str(error))
        return BODY_BYTES_MAX if known else self._stranger(request)

    @staticmethod
    def _stranger(request: HttpRequest) -> HttpResponse:
        protocol = anthropic if request.path.startswith("/v1/messages") else openai
        return _error(protocol, 401, "authentication_error", "show this server's token as the API key")

    async def _handle(self, request: HttpRequest) -> HttpResponse:
        if self._approvals is not None and self._approvals.serves(request.path):
            return await self._approvals.handle(request)
        if self._stops is not None and self._stops.serves(request.path):
            return await self._stops.handle(request)
        if self._hooks is not None and self._hooks.serves(request.path):
            return await self._hooks.handle(request)
        protocol = anthropic if request.path.startswith("/v1/messages") else openai
        try:
            caller = await self._callers.who(request.headers) if self._callers is not None else None
            if self._callers is not None and caller is None:
                return self._stranger(request)
            if request.path == METRICS:
                return self._exposition(caller)
            if caller is not None and "models" not in caller.may:
                return _error(protocol, 403, "permission_error", "this credential is not for models")
            async with AsyncExitStack() as stack:
                gateway = await stack.enter_async_context(self._gateways.of(caller))
                response = await self._route(request, gateway)
                if response.stream is not None:  # the session is in use until the stream ends
                    response.stream = _while_used(response.stream, stack.pop_all())
                return response
        except DeniedError as error:
            reason = error.decision.reason.removeprefix("denied by ")
            return _error(protocol, 403, "permission_error", f"denied by policy: {reason}", error)
        except ActionError as error:
            return _error(protocol, 400, "invalid_request_error", str(error))
        except UnavailableError as error:
            return _error(protocol, 503, "overloaded_error", str(error))
        except RefusedError as error:
            return _error(protocol, 502, "api_error", str(error))
        except AgentOSError as error:
            return _error(protocol, 502, "api_error", str(error))

    def _exposition(self, caller: Caller | None) -> HttpResponse:
        if caller is None or not caller.may & {"metrics", "all-metrics"}:
            return _error(openai, 403, "permission_error", "this credential may not read metrics")
        if self._metrics is None:
            return _error(openai, 501, "not_installed", str(MissingPartError("the Prometheus client", "metrics")))
        page, content_type = self._metrics.page(None if "all-metrics" in caller.may else caller.principal.tenant)
        return HttpResponse(200, page, content_type=content_type)

    async def _route(self, request: HttpRequest, gateway: ModelGateway) -> HttpResponse:
        match (request.method, request.path):
            case ("GET", "/v1/models"):
                return self._models(request, gateway)
            case ("POST", "/v1/chat/completions"):
                return await self._answer(openai, request, gateway)
            case ("POST", "/v1/messages"):
                return await self._answer(anthropic, request, gateway)
            case ("POST", "/v1/messages/count_tokens"):
                body = _body(request)
                asked = anthropic.parse_request({"max_tokens": 1, **body} if isinstance(body, Mapping) else body)
                return _json(200, {"input_tokens": asked.estimate()})
            case ("POST", "/v1/embeddings"):
                body = _body(request)
                model = body.get("model") if isinstance(body, Mapping) else None
                if not isinstance(model, str):
                    raise ActionError("must name a model", field="model")
                return _json(200, {**await gateway.embeddings(model, body), "model": model})
            case ("GET" | "POST", _):
                return _error(
                    openai, 404, "not_found_error", "no such path: /v1/models, /v1/chat/completions, /v1/messages"
                )
        return _error(openai, 405, "invalid_request_error", "GET and POST only")

    def _models(self, request: HttpRequest, gateway: ModelGateway) -> HttpResponse:
        rows = gateway.models()
        if "anthropic-version" in request.headers:
            data = [
                {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}
                for name, _ in rows
            ]
            ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
            return _json(200, {"data": data, "has_more": False, **ends})
        data = [{"id": name, "object": "model", "created": 0, "owned_by": provider} for name, provider in rows]  # type: ignore[dict-item]
        return _json(200, {"object": "list", "data": data})

    async def _answer(self, protocol: ModuleType, request: HttpRequest, gateway: ModelGateway) -> HttpResponse:
        asked: Request = protocol.parse_request(_body(request))
        about = {"id": _id(protocol), "model": asked.model, "created": int(time.time())}
        if not asked.stream:
            answer = await gateway.complete(asked)
            response = _json(200, protocol.render_answer(answer, **about))
            if answer.flags:
                response.headers[FLAGS] = ",".join(answer.flags)
            return response
        # The first piece is waited for: a denial is a status, not a stream that begins and breaks off.
        pieces = gateway.stream(asked)
        first = [delta async for delta in _take_one(pieces)]
        writer = protocol.Writer(**about, usage=asked.stream_usage)
        return HttpResponse(200, content_type="text/event-stream", stream=_events(writer, first, pieces))


async def _while_used(stream: AsyncIterator[bytes], stack: AsyncExitStack) -> AsyncIterator[bytes]:
    """Yield a stream and then leave what it stood on."""
    async with stack:
        try:
            async for part in stream:
                yield part
        finally:
            await stream.aclose()  # type: ignore[attr-defined]


async def _counted(metrics: Metrics, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield a stream, counted as under way until it ends."""
    with metrics.streams.track_inprogress():
        try:
            async for part in stream:
                yield part
        finally:
            await stream.aclose()  # type: ignore[attr-defined]


async def _take_one(pieces: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for piece in pieces:
        yield piece
        return


async def _events(writer: Any, first: list[Any], pieces: Any) -> AsyncIterator[bytes]:
    """Yield the bytes of a stream; an error inside it ends it as one."""
    try:
        for delta in first:
            if delta.kind != "flag":
                yield writer.write(delta)
        async for delta in pieces:
            yield writer.write(delta) if delta.kind != "flag" else f": {FLAGS}: {delta.text}\n\n".encode()
        yield writer.end()
    except AgentOSError as error:
        yield writer.error(str(error))
    finally:
        await pieces.aclose()


def _body(request: HttpRequest) -> Any:
    try:
        return json.loads(request.body)
    except (ValueError, RecursionError):
        raise ActionError("is no JSON", field="body") from None


def _id(protocol: ModuleType) -> str:
    return ("msg_" if protocol is anthropic else "chatcmpl-") + secrets.token_hex(12)


def _json(status: int, body: Any) -> HttpResponse:
    return HttpResponse(status, json.dumps(body, ensure_ascii=False).encode())


def _error(
    protocol: ModuleType, status: int, kind: str, message: str, denied: DeniedError | None = None
) -> HttpResponse:
    """Return an error as the caller's protocol has it; a denial says its rules and what would be allowed."""
    error: dict[str, Any] = {"type": kind, "message": message}
    if denied is not None:
        error.update(rules=list(denied.decision.rules), advice=denied.decision.advice)
    if protocol is anthropic:
        return _json(status, {"type": "error", "error": error})
    return _json(status, {"error": {**error, "code": kind, "param": None}})
