"""`agentos serve`: the model gateway over HTTP on loopback, for unmodified OpenAI and Anthropic clients.

A caller shows a token of this server's (or of an issuer's); who that is stands with the token, never in a field of the request.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent_os.core.errors import EffectError, MissingPartError
from agent_os.effects.models.server import Server
from agent_os.effects.stores.identity import current_identity
from agent_os.policy import Policy
from agent_os.runtime.budget import account_rows
from agent_os.runtime.sdk import AgentOS
from agent_os.runtime.serving.api import Api, declared_hosts
from agent_os.runtime.serving.approvals import ApprovalApi
from agent_os.runtime.serving.callers import Callers, same
from agent_os.runtime.serving.people import People, Person
from agent_os.runtime.serving.sessions import Sessions
from agent_os.runtime.serving.stops import StopApi
from agent_os.runtime.serving.webhooks import HookApi
from agent_os.runtime.sources import secret_stores

if TYPE_CHECKING:
    from agent_os.runtime.serving.metrics import Metrics

PORT: Final = 8377
TOKEN_BYTES: Final = 24


@dataclass(slots=True)
class Serving:
    """A running gateway. `token` is what callers show (empty where a file names them), `approver_token` what the person
    who started it shows to answer."""

    session: AgentOS
    sessions: Sessions
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
        await self.sessions.aclose()
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
    callers: Callers | None = None,
) -> Serving:
    """Open a session and serve its gateway and its approvals on 127.0.0.1. Raises EffectError, PolicyError.

    `token` is for agents, who then act as `principal`; `callers` instead knows many, each with a session of its own.
    `approver_token` is for the user who runs this, and must be another.
    """
    session = AgentOS.open(policy, principal=principal, workspace=workspace, state=state)
    await session.__aenter__()
    try:
        sessions = Sessions(policy, session, state=session.state, link_allowed=declared_hosts(policy))
        chosen = "" if callers is not None else token or secrets.token_urlsafe(TOKEN_BYTES)
        known = callers or Callers.single(chosen, session.principal)
        approving = approver_token or secrets.token_urlsafe(TOKEN_BYTES)
        if same(approving, chosen) or await known.who({"authorization": f"Bearer {approving}"}) is not None:
            raise EffectError(
                "the approver's token must not be the agents' token: an agent does not answer its own asks"
            )
        people = _people(approving, known)
        approvals = ApprovalApi(session.monitor.ports, session.stores.approvals, people)
        stops = StopApi(session, people)
        api = Api(sessions, known, approvals, _metrics(session), _hooks(policy, session), stops)
        server = Server(api.handle, admits=api.admits)
        await server.start(port=port)
    except BaseException:
        await session.__aexit__(None, None, None)
        raise
    return Serving(session, sessions, server, chosen, approving)


def _metrics(session: AgentOS) -> Metrics | None:
    """Return the meters of a session's state; None where the extra is not installed."""
    from agent_os.runtime.serving.metrics import Metrics  # noqa: PLC0415

    try:
        return Metrics(session.state.usage.totals, lambda: account_rows(session.stores.budgets.accounts()))
    except MissingPartError:
        return None


def _hooks(policy: Policy, session: AgentOS) -> HookApi:
    """Return the webhooks of the policy's `secrets:` (`webhook.NAME`), which start what waits for them in the ledger."""
    state = session.state
    secrets_of = secret_stores(policy, vault=state.stores.vault, environment=os.environ)

    async def signal(name: str, event_id: str, payload: Any) -> Sequence[str]:
        from agent_os.runtime.tasks.happened import webhook_called  # noqa: PLC0415 - only calls pay for the tasks' imports

        stopped = state.stores.stops.current
        return await webhook_called(state.path, state.keys, state.environment, name, event_id, payload, stopped=stopped)

    return HookApi(secrets_of, state.audit, session.monitor.ports.clock, signal)


def _people(token: str, callers: Callers) -> People:
    """Return who may answer asks: whoever shows the approver's token is the user this process runs as, with its groups from
    the kernel; others are those of the callers' file that may answer.
    """
    local = current_identity()

    async def people(headers: Mapping[str, str]) -> Person | None:
        shown = headers.get("authorization", "").removeprefix("Bearer ")
        if same(shown, token):
            return Person(local.user, groups=local.groups, operator=True)
        caller = await callers.who(headers)
        if caller is None or "approvals" not in caller.may:
            return None
        return Person(caller.principal.user, caller.principal.tenant, caller.groups)

    return people
