"""Halting, quarantining and releasing over HTTP, as routes of `agentos serve`.

    GET  /v1/stops
    POST /v1/stops              {"scope": "all|tenant|user|agent|role|task", "name", "reason", "ends"}
    POST /v1/stops/ID/release   {"reason"}

Whoever answers asks may stop and release: a person's credential, never a key of agents, and where the policy names approvers
one of them. The user who runs the server stops everything; others what is of their own tenant, and nothing of another exists
for them.
Threats: an agent that releases itself with the key it was given for models, a tenant that stops another, a web page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from agent_os.core.errors import ActionError, AgentOSError, DeniedError, IntegrityError
from agent_os.core.stop import SCOPES
from agent_os.effects.models.server import HttpRequest, HttpResponse
from agent_os.runtime.serving.people import People, Person, error_response, json_body, json_response
from agent_os.runtime.stopping import StopDesk, may_stop

if TYPE_CHECKING:
    from agent_os.core.stop import Stop
    from agent_os.policy import Policy

ROOT: Final = "/v1/stops"


class Served(Protocol):
    """The session that is served (`AgentOS`)."""

    @property
    def policy(self) -> Policy: ...
    @property
    def state(self) -> Any: ...


class StopApi:
    """The routes, over the served session's state and policy."""

    def __init__(self, session: Served, people: People) -> None:
        self._session, self._people = session, people

    @staticmethod
    def serves(path: str) -> bool:
        """Return whether a path is one of these routes."""
        return path == ROOT or path.startswith(ROOT + "/")

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one request; no exception of the runtime leaves it but tampering."""
        try:
            person = await self._people(request.headers)
            if person is None:
                return error_response(
                    401, "authentication_error", "show an approver's token: the key of an agent is none"
                )
            may_stop(self._session.policy, person.user, person.groups)
            words = [word for word in request.path[len(ROOT) :].split("/") if word]
            if request.method == "GET" and not words:
                return json_response(
                    200, {"object": "list", "data": [_shown(each) for each in self._desk(person).list()]}
                )
            if request.method == "POST":
                return await self._write(self._desk(person), words, request)
            return error_response(405, "invalid_request_error", "GET and POST only")
        except DeniedError as error:
            return error_response(403, "permission_error", error.decision.reason)
        except ActionError as error:
            return error_response(400, "invalid_request_error", str(error))
        except IntegrityError:
            raise
        except AgentOSError as error:
            return error_response(503, "api_error", str(error))

    async def _write(self, desk: StopDesk, words: list[str], request: HttpRequest) -> HttpResponse:
        body = json_body(request)
        if isinstance(body, HttpResponse):
            return body
        match words:
            case []:
                given = _fields(body, {"scope": "", "name": "", "reason": "", "ends": False})
                if given["scope"] not in SCOPES:
                    raise ActionError("must be one of " + ", ".join(SCOPES), field="scope")
                return json_response(200, _shown(await desk.stop(**given)))
            case [stop_id, "release"]:
                given = _fields(body, {"reason": ""})
                if stop_id not in {each.id for each in desk.list()}:
                    return error_response(404, "not_found_error", "there is no such stop")
                return json_response(200, {**_shown(await desk.release(stop_id, **given)), "released": True})
        return error_response(404, "not_found_error", "there is no such stop")

    def _desk(self, person: Person) -> StopDesk:
        return StopDesk(self._session.state, person.user, {"over": "http"}, "" if person.operator else person.tenant)


def _fields(body: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a body with defaults. Raises ActionError naming one that is unknown or of another type."""
    for name, value in body.items():
        if name not in known:
            raise ActionError(f"unknown key {name!r}", field=name)
        if type(value) is not type(known[name]):
            raise ActionError("must be a text" if isinstance(known[name], str) else "must be true or false", field=name)
    return {**known, **body}


def _shown(stop: Stop) -> dict[str, Any]:
    return {"object": "stop", **stop.to_json()}
