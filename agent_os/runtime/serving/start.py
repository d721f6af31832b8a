"""`agentos serve`: the model gateway over HTTP on loopback, for unmodified OpenAI and Anthropic clients.

A caller shows a token of this server's (or of an issuer's); who that is stands with the token, never in a field of the request.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent_os.core.errors import AgentOSError, EffectError, MissingPartError, PolicyError
from agent_os.effects.models.server import Server
from agent_os.effects.stores.identity import current_identity
from agent_os.policy import Policy
from agent_os.policy.workbench.rollout import plan_rollout
from agent_os.runtime.budget import account_rows
from agent_os.runtime.reload import load_candidate
from agent_os.runtime.sdk import AgentOS
from agent_os.runtime.serving.api import Api
from agent_os.runtime.serving.approvals import ApprovalApi
from agent_os.runtime.serving.callers import Callers, load_callers, same
from agent_os.runtime.serving.people import People, Person
from agent_os.runtime.serving.sessions import Sessions
from agent_os.runtime.serving.stops import StopApi
from agent_os.runtime.serving.webhooks import PREFIX, HookApi, hears
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
    hooks: HookApi
    callers: Callers
    token: str
    approver_token: str = ""

    @property
    def url(self) -> str:
        """The root of the API, without `/v1`."""
        return f"http://127.0.0.1:{self.server.port}"

    async def reload(self, sources: Sequence[str], callers: Path | None = None) -> str:
        """Put the present content of the policy's files, and of the callers' file, in force for every caller at once; return what
        that meant.

        Raises AgentOSError: nothing has changed. Calls under way end under the policy they were decided by.
        """
        fresh = await asyncio.to_thread(load_callers, callers) if callers is not None else None
        said = await self._reload_policy(sources)
        if fresh is None:
            return said
        self.callers.take(fresh)
        return f"{said}; the callers are those of {callers}"

    async def _reload_policy(self, sources: Sequence[str]) -> str:
        monitor = self.session.monitor
        audit, now = monitor.ports.audit, monitor.ports.clock.now()
        said = {"time": now, "session": monitor.principal.session, "before": monitor.policy.digest}
        try:
            candidate = await asyncio.to_thread(load_candidate, list(sources))
            rollout = plan_rollout(monitor.policy, candidate)
            if rollout.static:
                raise PolicyError(f"{', '.join(rollout.static)} cannot change under a running server: start it anew")
            take = self.sessions.prepared(candidate)
            secrets_of = _secrets(candidate, self.session)
        except AgentOSError as error:
            await audit.append({**said, "type": "policy.refused", "reason": str(error)[:1000]})
            raise
        if not rollout.changed:
            return "the policy has not changed"
        await audit.append({**said, "type": "policy.reloaded", "policy": candidate.digest})
        take()
        self.hooks.secrets = secrets_of
        return f"policy reloaded: {', '.join(rollout.dynamic)}"

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
        await session.stores.sessions.leave(session.composition.entry)  # no agent: those that call it are
        sessions = Sessions(policy, session, state=session.state)
        chosen = "" if callers is not None else token or secrets.token_urlsafe(TOKEN_BYTES)
        known = callers or Callers.single(chosen, session.principal)
        approving = approver_token or secrets.token_urlsafe(TOKEN_BYTES)
        if same(approving, chosen) or await known.who({"authorization": f"Bearer {approving}"}) is not None:
            raise EffectError(
                "the approver's token must not be the agents' token: an agent does not answer its own asks"
            )
        people = _people(approving, known)
        approvals = ApprovalApi(session.monitor.ports, session.stores.approvals, people)
        stops, hooks = StopApi(session, people), _hooks(policy, session)
        api = Api(sessions, known, approvals, _metrics(session), hooks, stops)
        server = Server(api.handle, admits=api.admits)
        await server.start(port=port)
    except BaseException:
        await session.__aexit__(None, None, None)
        raise
    return Serving(session, sessions, server, hooks, known, chosen, approving)


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

    async def signal(name: str, event_id: str, payload: Any) -> Sequence[str]:
        from agent_os.runtime.tasks.happened import webhook_called  # noqa: PLC0415 - only calls pay for the tasks' imports

        heard, stopped = hears(session.policy, PREFIX + name), state.stores.stops.current
        return await webhook_called(
            state.path, state.keys, state.environment, name, event_id, payload, heard=heard, stopped=stopped
        )

    return HookApi(_secrets(policy, session), state.audit, session.monitor.ports.clock, signal)


def _secrets(policy: Policy, session: AgentOS) -> Any:
    return secret_stores(policy, vault=session.state.stores.vault, environment=os.environ)


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
