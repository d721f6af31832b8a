"""Who answers over HTTP, and the form of what is said: shared by the routes of approvals and of stops.

Threats: a field of a request that says who somebody is (only the credential does), a web page that posts on behalf of a person
(a body must say that it is JSON, which no form can).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from agent_os.core.errors import ActionError
from agent_os.effects.models.server import HttpRequest, HttpResponse

BODY_BYTES_MAX: Final = 2 << 20


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who may answer: as a credential says, never as a request does."""

    user: str
    tenant: str = "default"
    groups: frozenset[str] = frozenset()
    operator: bool = False
    """The user this server runs as: of every tenant."""


People = Callable[[Mapping[str, str]], Awaitable[Person | None]]
"""Returns the person that a request's headers (lower-case names) authenticate, or None."""


def json_body(request: HttpRequest) -> dict[str, Any] | HttpResponse:
    """Return the object that a body holds, or the answer to one that does not say it is JSON. Raises ActionError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        return error_response(415, "invalid_request_error", "a body of content-type application/json is needed")
    if len(request.body) > BODY_BYTES_MAX:
        return error_response(413, "invalid_request_error", f"more than {BODY_BYTES_MAX} bytes")
    try:
        body = json.loads(request.body or b"{}")
    except (ValueError, RecursionError):
        raise ActionError("is no JSON", field="body") from None
    if not isinstance(body, dict):
        raise ActionError("must be an object", field="body")
    return body


def json_response(status: int, body: Any) -> HttpResponse:
    """Return an answer of plain JSON."""
    return HttpResponse(status, json.dumps(body, ensure_ascii=False, default=list).encode())


def error_response(status: int, kind: str, message: str) -> HttpResponse:
    """Return an error as OpenAI's API has it."""
    return json_response(status, {"error": {"type": kind, "message": message, "code": kind, "param": None}})
