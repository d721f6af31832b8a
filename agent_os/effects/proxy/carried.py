"""One connection in the carrier, a listener it accepts on, and where a head leads if that is plain. Judges nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from agent_os.core.ports import Admission
from agent_os.effects.proxy import answers, front, http1
from agent_os.effects.proxy.accepting import Accepting
from agent_os.effects.proxy.carrier import SECURE, Carrier, ends_of
from agent_os.effects.proxy.flows import Flow
from agent_os.effects.proxy.identity import ForeignPeerError, ListenerIdentity, NotHashedError, Peer
from agent_os.effects.proxy.inference import serves_inference
from agent_os.effects.proxy.names import SyntheticNames
from agent_os.effects.proxy.parts import Parts
from agent_os.effects.proxy.route import Route, addresses_of, route_meter
from agent_os.effects.proxy.rules import Treatment
from agent_os.effects.proxy.upstream import ATTEMPTS_MAX
from agent_os.guards.egress import split_head

HEADS_KEPT: Final = 1024
"""Heads (of at most 1 KiB) of which it is remembered what they ask for."""
_NOBODY_ASKS: Final = Peer(0, -1, None)


@dataclass(eq=False, slots=True)
class Served:
    """A listener that the carrier may accept on; `number` is its name there."""

    parts: Parts
    accepting: Accepting
    identity: ListenerIdentity
    names: SyntheticNames
    number: int = -1
    anonymous: bool = field(init=False)
    """Nobody asks who connects."""

    def __post_init__(self) -> None:
        self.anonymous = not self.identity.executables and self.identity.uid is None

    def peer(self, ends: bytes) -> Peer | None:
        """Return the established peer of a connection; None where `front` must look at it."""
        if self.anonymous:
            return _NOBODY_ASKS
        told = ends_of(ends)
        if told is None:
            return None
        try:
            found = self.parts.identities.identify(told, self.identity)
        except (OSError, ForeignPeerError, NotHashedError):
            return None
        return None if found is None or found.changed else found


class Carried:
    """One connection in the carrier, from its admission on."""

    __slots__ = ("_carrier", "_seen", "admission", "failed", "flow", "generation", "route", "served", "slot", "tried")

    def __init__(
        self,
        carrier: Carrier,
        slot: int,
        generation: int,
        served: Served,
        flow: Flow,
        route: Route,
        admission: Admission,
    ) -> None:
        self._carrier, self.slot, self.generation = carrier, slot, generation
        self.served, self.flow, self.route, self.admission = served, flow, route, admission
        self.tried, self._seen = 0, (0, 0)
        self.failed = False
        """No address could be connected to."""

    @property
    def counts(self) -> tuple[int, int]:
        """Bytes up and down so far."""
        return self._carrier.counts(self.slot)

    @property
    def mode(self) -> str:
        """What it is, as the flow table says it."""
        return "pass tls" if self._carrier.state(self.slot) == SECURE else "pass"

    def moved(self) -> bool:
        """Return whether a byte passed since this was asked last."""
        seen, self._seen = self._seen, self.counts
        return seen != self._seen

    def cut(self) -> None:
        """End it with a reset."""
        self._carrier.cut(self.slot, self.generation)
        self._carrier.flush()

    def try_next(self) -> bool:
        """Have it connect to its next judged address; False: there is none left to try."""
        route = self.route
        if self.tried >= min(len(route.addresses), ATTEMPTS_MAX):
            return False
        address = self.flow.connected = route.addresses[self.tried]
        self.tried += 1
        seconds = self.served.parts.limits.connect_seconds
        self._carrier.open(self.slot, self.generation, address, route.port, route.host.encode(), seconds)
        return True


@lru_cache(HEADS_KEPT)
def asked_by(raw: bytes) -> tuple[str, int, http1.Head] | None:
    """Return host, port and head of a whole CONNECT, read as `front` reads it; None for anything else."""
    try:
        if split_head(raw) != (raw, b""):
            return None
        head = http1.parse_request(raw)
        return (*front.connect_target(head), head) if head.method == "CONNECT" else None
    except http1.HttpError:
        return None


async def plain_route(served: Served, head: bytes, peer: Peer) -> Route | None:
    """Return where a CONNECT leads if that is plain; None for everything that `front` must look at."""
    parts, identity = served.parts, served.identity
    asked = asked_by(head)
    if asked is None or (identity.token and not front.authorised(asked[2], identity.token)):
        return None
    host, port = served.names.name(asked[0]) or asked[0], asked[1]
    if host == answers.POLICY_HOST or serves_inference(parts, host):
        return None
    if parts.corporate is not None and parts.corporate.serves(host):
        return None
    treatment = parts.rules.treatment(host, port)
    addresses = await addresses_of(parts, identity.principal.session, host, port) if _passes(treatment) else ()
    if not addresses or any(SyntheticNames.covers(address) for address in addresses):
        return None
    stated = {"executable": peer.executable, "resolved_ips": addresses}
    route = Route(host, port, addresses, treatment, None, stated)
    return route if route_meter(parts, identity.principal, route) is None else None


def _passes(treatment: Treatment) -> bool:
    return not (treatment.inspect or treatment.login or treatment.unavailable)
