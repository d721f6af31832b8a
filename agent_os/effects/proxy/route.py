"""From a name and a port to a judged, admitted destination. Every connection anew; nothing is remembered between
them.

A name that no rule could allow is never looked up (a lookup is egress too). All addresses of a name are judged
together: one private address among public ones denies. The connection then goes to the judged addresses, in order,
and to no others.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from agent_os.core.action import NetConnect
from agent_os.core.decision import Decision
from agent_os.core.errors import ActionError, AgentOSError, DeniedError, EffectError
from agent_os.core.ports import Admission, Outcome
from agent_os.core.principal import Principal
from agent_os.effects.proxy.flows import Flow, end_flow
from agent_os.effects.proxy.inference import serves_inference
from agent_os.effects.proxy.limits import ADDRESS_FORMS_KEPT, ADDRESSES_MAX, ADMISSIONS_MAX, NAMES_LOOKED_UP_MAX
from agent_os.effects.proxy.meter import Meter
from agent_os.effects.proxy.names import SyntheticNames
from agent_os.effects.proxy.parts import Parts
from agent_os.effects.proxy.rules import Treatment
from agent_os.effects.proxy.stream import Stream
from agent_os.effects.proxy.upstream import UpstreamError, connect, connect_through, secure


@dataclass(slots=True)
class Route:
    """An admitted destination. `admission` is None only in observe mode, for what would have been denied."""

    host: str
    port: int
    addresses: tuple[str, ...]
    treatment: Treatment
    admission: Admission | None
    stated: Mapping[str, Any]

    @property
    def authority(self) -> str:
        """`host:port` for people."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@lru_cache(ADDRESS_FORMS_KEPT)
def is_literal(host: str) -> bool:
    """Whether a canonical host is an address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def open_route(parts: Parts, flow: Flow, host: str, port: int) -> Route:
    """Resolve, judge and admit. Raises DeniedError, or EffectError when the name does not resolve."""
    flow.host, flow.port = host, port
    if serves_inference(parts, host):  # no destination: requests become model calls, which the door judges
        return Route(host, port, (), Treatment(why="answered by the model gateway"), None, {})
    flow.deadline, flow.idle_limit = 0.0, parts.limits.idle_seconds  # each step from here on has a bound of its own
    peer = flow.peer
    executable = peer.executable if peer is not None and not peer.changed else None
    if peer is not None and peer.changed:
        parts.flows.note(
            "alert", flow, rule="egress.executable-changed", program=peer.executable and peer.executable.path
        )
    known, flow.known = flow.known, None
    if known is not None and known[:2] == (host, port):
        addresses = known[2]  # one connection, one lookup
    else:
        addresses = await addresses_of(parts, flow.principal.session, host, port)
    stated = {"executable": executable, "resolved_ips": addresses}
    action = NetConnect(principal=flow.principal, host=host, port=port)
    admission: Admission | None = None
    try:
        admission = await admit(parts, flow, action, stated)
    except DeniedError as error:
        denied(parts, flow, error.decision, f"connect {host}:{port}", addresses)
        if parts.observe:
            parts.flows.observed(action, peer, addresses)
        if not (parts.observe and addresses and all(_public(address) for address in addresses)):
            if parts.observe and addresses:
                parts.failed(f"{host}:{port}: it leads to no public address, and observing opens none but those")
            raise
        flow.verdict = "observed"
    else:
        addresses = tuple(address for address in addresses if address in admission.permit.resolved_ips)
        flow.verdict = "allow"
        flow.rules = admission.decision.rules
    if not addresses or any(SyntheticNames.covers(address) for address in addresses):
        await settle(parts, flow, admission, Outcome(error="no-address"))
        raise DeniedError(parts.refusal("egress.no-address", "no judged address to connect to"))
    flow.addresses = addresses
    treatment = parts.rules.treatment(host, port)  # of the revision that the admission holds under: nothing was awaited
    flow.passes = not treatment.inspect
    if treatment.unavailable:
        await settle(parts, flow, admission, Outcome(error="unavailable"))
        raise DeniedError(parts.refusal("egress.middleware", treatment.unavailable))
    return Route(host, port, addresses, treatment, admission, stated)


async def admit(parts: Parts, flow: Flow, action: NetConnect, stated: Mapping[str, Any]) -> Admission:
    """Admit an action of a flow under the policy revision that is in force when this returns. Raises what `Door.admit` does.

    An intent takes a moment to be durable: where the policy was reloaded meanwhile, it is judged again by the new one.
    """
    for _ in range(ADMISSIONS_MAX):
        rules = parts.rules
        admission = await parts.door.admit(action, stated=stated)
        flow.stands(parts.door, admission)  # before anything is awaited: a reload from here on sees it
        if parts.rules is rules or await parts.door.holds(admission):
            return admission
        await settle(parts, flow, admission, Outcome(error="cancelled"))
    raise DeniedError(parts.refusal("egress.reload", "the policy changed while this was judged; ask again"))


async def addresses_of(parts: Parts, session: str, host: str, port: int) -> tuple[str, ...]:
    """Return every address of a host that any rule could allow, none of another one.

    Looking a name up tells it to others: the distinct ones of a session are counted, and there is a most. Raises DeniedError
    past it and where there are too many addresses to judge, EffectError when the name does not resolve.
    """
    if is_literal(host):
        return (host,)
    if not parts.observe and not parts.rules.resolvable(host):
        return ()
    names = parts.looked_up.setdefault(session, set())
    if host not in names:
        if len(names) >= NAMES_LOOKED_UP_MAX:
            reason = "this session has looked up as many names as it may"
            parts.flows.note("alert", None, session=session, rule="egress.names", reason=reason)
            raise DeniedError(parts.refusal("egress.names", reason))
        names.add(host)
    try:
        async with asyncio.timeout(parts.limits.connect_seconds):
            found = await parts.resolver.resolve(host, port)
    except TimeoutError:
        raise EffectError("the name was not resolved in time") from None
    if len(found) > ADDRESSES_MAX:
        raise DeniedError(parts.refusal("egress.addresses", "the name has too many addresses to judge"))
    return tuple(found)


def _public(address: str) -> bool:
    return ipaddress.ip_address(address).is_global


def denied(
    parts: Parts, flow: Flow, decision: Decision, what: str, addresses: Sequence[str] = (), **asked: str
) -> None:
    """Count and log a denial; `addresses`: where the name led, for the operator (the client is not told).

    `asked`: method and url of a request that was denied as one.
    """
    flow.denied += 1
    flow.verdict, flow.rules, flow.reason = "deny", decision.rules, decision.reason
    parts.flows.counts["denied"] += 1
    verb, _, place = what.partition(" ")
    named = place if decision.reason.startswith(f"{verb} ") else what  # a reason names its method, or the whole place
    parts.told(decision.reason if place in decision.reason else f"{named}: {decision.reason}")
    parts.flows.note(
        "denied", flow, what=what, rules=list(decision.rules), reason=decision.reason, observed=parts.observe,
        **({"addresses": list(addresses)} if addresses else {}), **asked,
    )  # fmt: skip


async def settle(parts: Parts, flow: Flow | None, admission: Admission | None, outcome: Outcome) -> None:
    """Close an admission of a flow; a record that cannot be written is counted (the intent is there)."""
    if admission is None:
        return
    if flow is not None:
        flow.standing.pop(admission.permit.nonce, None)
    try:
        await parts.door.settle(admission, outcome)
    except (AgentOSError, ActionError):
        parts.flows.counts["log_errors"] += 1


@dataclass(frozen=True, slots=True)
class Account:
    """What a connection had moved, and the time, when a request of it was admitted."""

    up: int
    down: int
    time: float

    @staticmethod
    def of(parts: Parts, flow: Flow) -> Account:
        """Return it as it is now."""
        return Account(flow.up, flow.down, parts.clock.monotonic())


async def settle_request(
    parts: Parts, flow: Flow, admission: Admission | None, outcome: Outcome, began: Account, *, method: str, url: str
) -> None:
    """Log a request that was let through and close its admission."""
    up, down = flow.up - began.up, flow.down - began.down
    if parts.flows.logs:
        parts.flows.note(
            "request", flow, method=method, url=url, status=(outcome.value or {}).get("status", 0), error=outcome.error,
            address=flow.connected, bytes_up=up, bytes_down=down, seconds=round(parts.clock.monotonic() - began.time, 4),
            audit=admission.permit.nonce if admission is not None else "",
        )  # fmt: skip
    done = Outcome(outcome.value, error=outcome.error, detail=outcome.detail, usage={"bytes": float(up + down)})
    await settle(parts, flow, admission, done)


def route_meter(parts: Parts, principal: Principal, route: Route) -> Meter | None:
    """Return what counts this agent's bytes to a route's destination, or None where they are not limited."""
    most = route.treatment.total_bytes or parts.limits.destination_bytes
    return parts.flows.meter(principal, route.host, route.port, most)


async def connect_upstream(parts: Parts, flow: Flow, route: Route, *, tls: bool) -> Stream:
    """Connect to the judged addresses of a route, with verified TLS if asked. Raises UpstreamError."""
    if parts.corporate is not None and parts.corporate.serves(route.host):
        stream, address = await connect_through(parts.loop, parts.corporate, route.host, route.port, parts.limits)
    else:
        stream, address = await connect(parts.loop, route.addresses, route.port, parts.limits)
    flow.earlier_up, flow.earlier_down = flow.up, flow.down
    flow.upstream, flow.connected = stream, address
    stream.meter = route_meter(parts, flow.principal, route)
    stream.on_spent = lambda: end_flow(flow, "byte budget of this destination spent")
    if tls:
        try:
            await secure(stream, route.host, route.treatment, parts.contexts, parts.limits)
        except UpstreamError:
            flow.upstream = None
            raise
    return stream
