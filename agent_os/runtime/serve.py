"""`agentos serve`: the model gateway over HTTP on loopback, for unmodified OpenAI and Anthropic clients.

A caller shows a token of this server's; who that is stands with the token, never in a field of the request. Its headers end
here: what reaches a provider is built from the permitted action and the provider's own key. Threats: an agent that asks for
`Authorization` (there is none to give), a field that names another tenant, an error that tells a provider's words or a key.
"""

from __future__ import annotations

import hmac
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from agent_os.core.errors import ActionError, AgentOSError, DeniedError, EffectError
from agent_os.effects.models.client import RefusedError, UnavailableError
from agent_os.effects.models.server import HttpRequest, HttpResponse, Server
from agent_os.effects.stores.identity import current_identity
from agent_os.guards.models import anthropic, openai
from agent_os.guards.models.neutral import Request
from agent_os.policy import Policy
from agent_os.policy.globs import compile_any
from agent_os.runtime.approval_api import ApprovalApi, People, Person
from agent_os.runtime.gateway import ModelGateway
from agent_os.runtime.sdk import AgentOS

PORT: Final = 8377
TOKEN_BYTES: Final = 24
JSON_DEPTH_SAFE: Final = 200


@dataclass(slots=True)
class Serving:
    """A running gateway. `token` is what callers show, `approver_token` what the person who started it shows to answer."""

    session: AgentOS
    server: Server
    token: str
    approver_token: str = ""

    @property
    def url(self) -> str:
        """The root of the API, without `/v1`."""
        return f"http://127.0.0.1:{self.server.port}"

    async def aclose(self) -> None:
        """Stop serving, then close the session."""
        await self.server.aclose()
        await self.session.__aexit__(None, None, None)


async def start_serving(
    policy: Policy,
    *,
    principal: str,
    workspace: Path,
    state: Path | None = None,
    port: int = PORT,
    token: str = "",
    approver_token: str = "",
) -> Serving:
    """Open a session and serve its gateway and its approvals on 127.0.0.1. Raises EffectError, PolicyError.

    `token` is for agents; `approver_token` is for the user who runs this, and must be another.
    """
    session = AgentOS.open(policy, principal=principal, workspace=workspace, state=state)
    await session.__aenter__()
    try:
        gateway = ModelGateway(session.monitor, session.providers, link_allowed=declared_hosts(policy))
        chosen = token or secrets.token_urlsafe(TOKEN_BYTES)
        approving = approver_token or secrets.token_urlsafe(TOKEN_BYTES)
        if hmac.compare_digest(approving.encode(), chosen.encode()):
            raise EffectError(
                "the approver's token must not be the agents' token: an agent does not answer its own asks"
            )
        approvals = ApprovalApi(session.monitor.ports, session.stores.approvals, local_person(approving))
        server = Server(Api(gateway, chosen, approvals).handle)
        await server.start(port=port)
    except BaseException:
        await session.__aexit__(None, None, None)
        raise
    return Serving(session, server, chosen, approving)


def local_person(token: str) -> People:
    """Return who shows the approver's token: the user this process runs as, with its groups, from the kernel."""
    person = current_identity()

    def people(headers: Mapping[str, str]) -> Person | None:
        shown = headers.get("authorization", "").removeprefix("Bearer ")
        same = hmac.compare_digest(shown.encode(), token.encode())
        return Person(person.user, groups=person.groups) if same else None

    return people


def declared_hosts(policy: Policy) -> Callable[[str], bool]:
    """Return whether a host is named by the policy's network section: where links in answers may point."""
    hosts = [
        endpoint.host
        for section, _layer, _unit in policy.sections("network_policies")
        for entry in section.values()
        for endpoint in entry.endpoints
        if endpoint.host
    ]
    matches = compile_any([host.replace(".", "/") for host in hosts], crossing=False)
    return lambda host: matches(host.lower().replace(".", "/"))


class Api:
    """The routes of the API. `token` None: who calls is known already (a sandbox's own connection)."""

    def __init__(self, gateway: ModelGateway, token: str | None, approvals: ApprovalApi | None = None) -> None:
        self._approvals = approvals
        self._gateway, self._token = gateway, token.encode() if token is not None else None

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one request; no exception of the runtime leaves it."""
        if self._approvals is not None and self._approvals.serves(request.path):
            return await self._approvals.handle(request)
        protocol = anthropic if request.path.startswith("/v1/messages") else openai
        try:
            if not self._known(request.headers):
                return _error(protocol, 401, "authentication_error", "show this server's token as the API key")
            return await self._route(request)
        except DeniedError as error:
            return _error(protocol, 403, "permission_error", f"denied by policy: {error.decision.reason}", error)
        except ActionError as error:
            return _error(protocol, 400, "invalid_request_error", str(error))
        except UnavailableError as error:
            return _error(protocol, 503, "overloaded_error", str(error))
        except RefusedError as error:
            return _error(protocol, 502, "api_error", str(error))
        except AgentOSError as error:
            return _error(protocol, 502, "api_error", str(error))

    def _known(self, headers: Mapping[str, str]) -> bool:
        if self._token is None:
            return True
        shown = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(shown.encode(), self._token)

    async def _route(self, request: HttpRequest) -> HttpResponse:
        match (request.method, request.path):
            case ("GET", "/v1/models"):
                return self._models(request)
            case ("POST", "/v1/chat/completions"):
                return await self._answer(openai, request)
            case ("POST", "/v1/messages"):
                return await self._answer(anthropic, request)
            case ("POST", "/v1/messages/count_tokens"):
                body = _body(request)
                asked = anthropic.parse_request({"max_tokens": 1, **body} if isinstance(body, Mapping) else body)
                return _json(200, {"input_tokens": asked.estimate()})
            case ("POST", "/v1/embeddings"):
                body = _body(request)
                model = body.get("model") if isinstance(body, Mapping) else None
                if not isinstance(model, str):
                    raise ActionError("must name a model", field="model")
                return _json(200, {**await self._gateway.embeddings(model, body), "model": model})
            case ("GET" | "POST", _):
                return _error(
                    openai, 404, "not_found_error", "no such path: /v1/models, /v1/chat/completions, /v1/messages"
                )
        return _error(openai, 405, "invalid_request_error", "GET and POST only")

    def _models(self, request: HttpRequest) -> HttpResponse:
        rows = self._gateway.models()
        if "anthropic-version" in request.headers:
            data = [
                {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"}
                for name, _ in rows
            ]
            ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
            return _json(200, {"data": data, "has_more": False, **ends})
        data = [{"id": name, "object": "model", "created": 0, "owned_by": provider} for name, provider in rows]  # type: ignore[dict-item]
        return _json(200, {"object": "list", "data": data})

    async def _answer(self, protocol: ModuleType, request: HttpRequest) -> HttpResponse:
        asked: Request = protocol.parse_request(_body(request))
        about = {"id": _id(protocol), "model": asked.model, "created": int(time.time())}
        if not asked.stream:
            answer = await self._gateway.complete(asked)
            return _json(200, protocol.render_answer(answer, **about))
        # The first piece is waited for: a denial is a status, not a stream that begins and breaks off.
        pieces = self._gateway.stream(asked)
        first = [delta async for delta in _take_one(pieces)]
        writer = protocol.Writer(**about, usage=asked.stream_usage)
        return HttpResponse(200, content_type="text/event-stream", stream=_events(writer, first, pieces))


async def _take_one(pieces: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for piece in pieces:
        yield piece
        return


async def _events(writer: Any, first: list[Any], pieces: Any) -> AsyncIterator[bytes]:
    """Yield the bytes of a stream; an error inside it ends it as one."""
    try:
        for delta in first:
            yield writer.write(delta)
        async for delta in pieces:
            yield writer.write(delta)
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
