"""Logins the guard carries out for a program: the program's password is a placeholder, the server gets the secret.

For an endpoint with `login` the guard speaks the beginning of the protocol with the program (TLS with a certificate of the
guard's own, or none: the network is the sandbox's), judges the use of the secret like any other, logs in at the judged server
over verified TLS, and then relays. So a database or mail password is in no sandbox, no variable and no tool server.

Threats: a program that uses a password it was given in the clear, or a placeholder bound elsewhere; a server that does not know
the password (SCRAM) or is not who it should be (TLS); bytes slipped in before TLS begins.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from agent_os.core.errors import DeniedError
from agent_os.effects.proxy.clientside import take_up_tls
from agent_os.effects.proxy.fill import Resolved
from agent_os.effects.proxy.flows import Flow
from agent_os.effects.proxy.login_imap import imap_login
from agent_os.effects.proxy.login_parts import LoginSide
from agent_os.effects.proxy.login_postgres import postgres_login
from agent_os.effects.proxy.login_smtp import smtp_login
from agent_os.effects.proxy.parts import Parts
from agent_os.effects.proxy.route import Route, connect_upstream, denied
from agent_os.effects.proxy.stream import Stream
from agent_os.effects.proxy.upstream import secure
from agent_os.guards.egress.logins.scram import LoginError
from agent_os.guards.egress.placeholders import whole_placeholder

LOGIN_SECONDS_MAX: Final = 60.0
_LOGINS: Final[dict[str, Callable[[LoginSide], Awaitable[Stream | None]]]] = {
    "postgres": postgres_login,
    "imap": imap_login,
    "smtp": smtp_login,
}


async def log_in(parts: Parts, flow: Flow, route: Route) -> Stream | None:
    """Carry out a login; return the logged-in upstream to relay, None where the client ended before or was refused.

    Raises DeniedError after the client was told.
    """
    protocol = route.treatment.login
    flow.mode = f"login {protocol}"
    flow.deadline, flow.on_deadline = parts.clock.monotonic() + LOGIN_SECONDS_MAX, "login too slow"
    resolved = Resolved(parts, flow, route)

    async def secret(given: str) -> str:
        """Return the secret behind a whole placeholder, judged. Raises DeniedError."""
        name = whole_placeholder(given)
        if not name:
            decision = parts.refusal(
                "egress.login", "the password is no placeholder", "log in with agentos-secret:NAME as the password"
            )
            denied(parts, flow, decision, "login")
            raise DeniedError(decision)
        await resolved.need(name, "login")
        return resolved.values[name]

    async def upstream(tls: bool) -> Stream:
        return await connect_upstream(parts, flow, route, tls=tls)

    async def wrap(stream: Stream) -> None:
        if stream.buffer:
            raise LoginError("the server sent bytes before TLS began")
        await secure(stream, route.host, route.treatment, parts.contexts, parts.limits)

    async def unwrap() -> None:
        if flow.client.buffer:
            raise LoginError("bytes were sent before TLS began")
        await take_up_tls(parts, flow, route.host)

    async def accept_tls() -> None:
        await take_up_tls(parts, flow, route.host)

    side = LoginSide(
        client=flow.client, host=route.host, port=route.port, plain=route.treatment.login_plain,
        secret=secret, connect=upstream, secure=wrap, start_tls=unwrap, accept_tls=accept_tls,
    )  # fmt: skip
    try:
        connected = await _LOGINS[protocol](side)
    except LoginError as error:
        flow.reason = str(error)
        parts.flows.note("refused", flow, reason=str(error))
        await side.tell(str(error))
        return None
    except DeniedError as error:
        await side.tell(error.decision.reason)
        raise
    flow.deadline = 0.0
    return connected
