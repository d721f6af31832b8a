"""Webhooks on `agentos serve`: a signed call from outside starts the runs of the schedules that wait for it.

    POST /v1/hooks/NAME    webhook-id, webhook-timestamp, webhook-signature: v1,BASE64 …

The signature is HMAC-SHA256 over `ID.TIMESTAMP.BODY` (the Standard Webhooks scheme) under the secret `webhook.NAME` that
the policy's `secrets:` section names; a hook the policy does not name does not exist. It starts schedules of those whom the
secret's `who` names, and without one those of the tenant `default`. What the body says vouches for nothing: the run has its
owner's rights, and reads it as untrusted text. Threats: a forged call, one that is replayed (late ones are refused, an id starts
a schedule once), a guess at the secret by timing, a hook whose secret can be guessed, a call meant for one tenant that another
one's schedule hears.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from agent_os.core.errors import ActionError, AgentOSError
from agent_os.core.ports import AuditSink, Clock
from agent_os.core.principal import ANONYMOUS, Principal
from agent_os.effects.models.server import HttpRequest, HttpResponse
from agent_os.policy import Policy
from agent_os.policy.who import compile_who

ROOT: Final = "/v1/hooks/"
TOLERANCE_SECONDS: Final = 300.0
BODY_BYTES_MAX: Final = 256 * 1024
SECRET_BYTES_MIN: Final = 16
SIGNATURES_MAX: Final = 8
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
_ID: Final = re.compile(r"[\x21-\x7e]{1,200}")
PREFIX: Final = "webhook."

Signal = Callable[[str, str, Any], Awaitable[Sequence[str]]]
"""(name of the hook, id of the event, payload) -> ids of the runs it started. Raises ActionError where nothing waits."""


class Secrets(Protocol):
    """`effects.secret_store.SecretStores`."""

    async def get(self, name: str) -> Any: ...


class HookApi:
    """The route of webhooks."""

    bytes_max = BODY_BYTES_MAX

    def __init__(self, secrets: Secrets, audit: AuditSink, clock: Clock, signal: Signal) -> None:
        self.secrets, self._audit, self._clock, self._signal = secrets, audit, clock, signal

    @staticmethod
    def serves(path: str) -> bool:
        """Return whether a path is a webhook's."""
        return path.startswith(ROOT)

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one call: 202 with the runs it started, 401 for what is not signed now, 404 for what is not there."""
        name = request.path[len(ROOT) :]
        if request.method != "POST":
            return _said(405, "POST only")
        if not _NAME.fullmatch(name):
            return _said(404, "there is no such hook")
        if len(request.body) > BODY_BYTES_MAX:
            return _said(413, f"more than {BODY_BYTES_MAX} bytes")
        try:
            secret = await self.secrets.get(PREFIX + name)
            if secret is None:
                return _said(404, "there is no such hook")
            key = _key(secret.value)
            event = signed(request.headers, request.body, key, self._clock.now())
            if not event:
                return _said(401, "not signed, or not now")
            return await self._start(name, event, request)
        except ActionError as error:
            return _said(404, str(error))
        except AgentOSError as error:
            return _said(503, str(error))

    async def _start(self, name: str, event: str, request: HttpRequest) -> HttpResponse:
        payload = _payload(request)
        runs = list(await self._signal(name, event, payload))
        record = {"type": "event.received", "time": self._clock.now(), "event": "webhook", "name": name, "runs": runs}
        await self._audit.append({**record, "id": event, "bytes": len(request.body)})
        return HttpResponse(202, json.dumps({"id": event, "runs": runs}).encode())


def hears(policy: Policy, secret: str) -> Callable[[Principal], bool]:
    """Return whose schedules a hook with this secret starts: whom every file that says `who` names, else the tenant `default`."""
    tests = [
        test
        for section, _layer, _unit in policy.sections("secrets")
        if secret in section and (test := compile_who(section[secret].who)) is not None
    ]
    return lambda owner: all(test(owner) for test in tests) if tests else owner.tenant == ANONYMOUS.tenant


def signed(headers: Mapping[str, str], body: bytes, key: bytes, now: float) -> str:
    """Return the id of an event that is signed with this key, now; an empty string otherwise."""
    event, moment = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not _ID.fullmatch(event) or not re.fullmatch(r"[0-9]{1,12}", moment):
        return ""
    if abs(now - int(moment)) > TOLERANCE_SECONDS:
        return ""
    wanted = signature(key, event, int(moment), body).encode()
    given = headers.get("webhook-signature", "").split(" ")[:SIGNATURES_MAX]
    right = [hmac.compare_digest(wanted, each.encode("utf-8", "replace")) for each in given]
    return event if any(right) else ""


def signature(key: bytes, event: str, moment: int, body: bytes) -> str:
    """Return the signature of an event: `v1,` and the HMAC-SHA256 in base64."""
    digest = hmac.new(key, f"{event}.{moment}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def _key(secret: str) -> bytes:
    """Return the key of a secret: `whsec_BASE64`, or its own bytes. Raises AgentOSError for one that is too short."""
    if secret.startswith("whsec_"):
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except (ValueError, binascii.Error):
            raise AgentOSError("the hook's secret is no base64 after whsec_") from None
    else:
        key = secret.encode()
    if len(key) < SECRET_BYTES_MIN:
        raise AgentOSError(f"the hook's secret has less than {SECRET_BYTES_MIN} bytes")
    return key


def _payload(request: HttpRequest) -> Any:
    """Return the body as JSON where it says that it is and does, else as text."""
    if "json" in request.headers.get("content-type", ""):
        try:
            return json.loads(request.body)
        except (ValueError, RecursionError):
            pass
    return request.body.decode("utf-8", "replace")


def _said(status: int, message: str) -> HttpResponse:
    return HttpResponse(status, json.dumps({"error": {"type": "webhook", "message": message}}).encode())
