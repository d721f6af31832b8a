"""Approvals over HTTP: what waits, and a person's answers, as routes of `agentos serve`.

    GET  /v1/approvals[?state=waiting|…|all]        POST /v1/approvals/ID/approve   {"note", "for", "scope", "arguments"}
    GET  /v1/approvals/ID                           POST /v1/approvals/ID/deny      {"reason"}
    GET  /v1/approvals/standing                     POST /v1/approvals/standing/ID/revoke

Who answers is the person that the credential stands for, with its tenant and groups; a field of the request never says
it. Threats: an agent that answers with the key it was given for models (that key is nobody's here), a web page that posts
on behalf of a person (the server refuses every `Origin`; a body must say that it is JSON, which no form can), one tenant
that reads or answers another's asks (they do not exist for it), an answer given twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

from agent_os.core.approval import Answer, Approval
from agent_os.core.errors import ActionError, AgentOSError, IntegrityError
from agent_os.core.scope import LASTING, WIDTHS
from agent_os.effects.models.server import HttpRequest, HttpResponse
from agent_os.monitor import asking
from agent_os.monitor.wiring import Ports
from agent_os.runtime.serving.people import BODY_BYTES_MAX, People, Person, error_response, json_body, json_response

if TYPE_CHECKING:
    from agent_os.effects.stores.approvals import Approvals

ROOT: Final = "/v1/approvals"
LISTED_MAX: Final = 1_000
_FIELDS: Final = {"approve": {"note", "for", "scope", "arguments"}, "deny": {"reason"}}


class ApprovalApi:
    """The routes. `ports` are the session's: answers go to its store and its audit."""

    def __init__(self, ports: Ports, store: Approvals, people: People) -> None:
        self._ports, self._store, self._people = ports, store, people

    @staticmethod
    def serves(path: str) -> bool:
        """Return whether a path is one of these routes."""
        return path == ROOT or path.startswith(ROOT + "/")

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one request; no exception of the runtime leaves it but tampering."""
        person = await self._person(request)
        if isinstance(person, HttpResponse):
            return person
        words = [word for word in request.path[len(ROOT) :].split("/") if word]
        try:
            if request.method == "GET":
                return await self._read(person, words, request.query)
            if request.method == "POST":
                return await self._write(person, words, request)
        except ActionError as error:
            return error_response(400, "invalid_request_error", str(error))
        except IntegrityError:
            raise
        except AgentOSError as error:
            return error_response(503, "api_error", str(error))
        return error_response(405, "invalid_request_error", "GET and POST only")

    async def admits(self, request: HttpRequest) -> HttpResponse | int:
        """Return how many bytes an answer may have, or the refusal of whoever may give none; its body is not looked at."""
        person = await self._person(request)
        return person if isinstance(person, HttpResponse) else BODY_BYTES_MAX

    async def _person(self, request: HttpRequest) -> Person | HttpResponse:
        try:
            person = await self._people(request.headers)
        except AgentOSError as error:  # nobody can tell who calls: nobody answers
            return error_response(503, "api_error", str(error))
        if person is None:
            return error_response(401, "authentication_error", "show an approver's token: the key of an agent is none")
        return person

    async def _read(self, person: Person, words: list[str], query: str) -> HttpResponse:
        if not words:
            state = parse_qs(query).get("state", ["waiting"])[0]
            found = await self._store.list(None if state == "all" else state, tenant=person.tenant)
            data = [shown(each) for each in found[:LISTED_MAX]]
            return json_response(200, {"object": "list", "data": data, "has_more": len(found) > LISTED_MAX})
        if words == ["standing"]:
            grants = await self._store.list_standing(person.tenant)
            return json_response(200, {"object": "list", "data": [_standing(each) for each in grants[:LISTED_MAX]]})
        if len(words) == 1:
            approval = await self._find(person, words[0])
            return _missing() if approval is None else json_response(200, shown(approval))
        return _missing()

    async def _write(self, person: Person, words: list[str], request: HttpRequest) -> HttpResponse:
        body = json_body(request)
        if isinstance(body, HttpResponse):
            return body
        match words:
            case ["standing", grant, "revoke"]:
                return await self._revoke(person, grant)
            case [approval_id, ("approve" | "deny") as verb]:
                approval = await self._find(person, approval_id)
                if approval is None:
                    return _missing()
                return await self._answer(approval, _answer(verb, body, person))
        return _missing()

    async def _answer(self, approval: Approval, answer: Answer) -> HttpResponse:
        try:
            return json_response(200, shown(await asking.answer(self._ports, approval, answer)))
        except ActionError as error:
            now = await self._store.get(approval.id)
            over = now is None or now.state != "waiting"
            return error_response(409 if over else 403, "conflict_error" if over else "permission_error", str(error))

    async def _revoke(self, person: Person, grant: str) -> HttpResponse:
        if grant not in {each.grant.id for each in await self._store.list_standing(person.tenant)}:
            return _missing()
        record = {"type": "approval.revoked", "time": self._ports.clock.now(), "grant": grant, "user": person.user}
        await self._ports.audit.append({**record, "tenant": person.tenant})
        return json_response(200, {"id": grant, "revoked": await self._store.revoke_standing(grant)})

    async def _find(self, person: Person, approval_id: str) -> Approval | None:
        found = await self._store.get(approval_id)
        return found if found is not None and found.tenant == person.tenant else None


def shown(approval: Approval) -> dict[str, Any]:
    """Return the wire form of an ask."""
    data = asdict(approval)
    return {**data, "object": "approval", "preview": dict(approval.preview), "action": dict(approval.action)}


def _standing(each: Any) -> dict[str, Any]:
    grant = each.grant
    return {
        "object": "standing_grant",
        "id": grant.id,
        "state": each.state,
        "rules": list(grant.rules),
        "approvers": list(grant.approvers),
        "given_at": each.given_at,
        "expires_at": grant.expires_at,
        "uses": each.uses,
        "scope": grant.scope.to_json() if grant.scope is not None else None,
    }


def _answer(verb: str, body: Mapping[str, Any], person: Person) -> Answer:
    """Return the answer of a body. Raises ActionError naming the field that is wrong."""
    unknown = sorted(set(body) - _FIELDS[verb])
    if unknown:
        raise ActionError(f"unknown key {unknown[0]!r}", field=unknown[0])
    texts = {name: body.get(name, "") for name in ("note", "reason")}
    for name, value in texts.items():
        if not isinstance(value, str):
            raise ActionError("must be a text", field=name)
    if verb == "deny":
        return Answer(False, person.user, texts["reason"], groups=person.groups)
    lasting, width, arguments = body.get("for", "once"), body.get("scope", "exact"), body.get("arguments")
    if lasting not in LASTING:
        raise ActionError("must be one of " + ", ".join(LASTING), field="for")
    if width not in WIDTHS:
        raise ActionError("must be one of " + ", ".join(WIDTHS), field="scope")
    if arguments is not None and not isinstance(arguments, dict):
        raise ActionError("must be an object: every argument of the action", field="arguments")
    return Answer(
        True, person.user, texts["note"], lasting=lasting, width=width, arguments=arguments, groups=person.groups
    )


def _missing() -> HttpResponse:
    return error_response(404, "not_found_error", "there is no such approval")
