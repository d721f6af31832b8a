"""Where a name may lead: the check of resolved addresses against server-side request forgery. Pure.

Every address of a name is judged; one bad address denies all. Threat: a name under an attacker's control that resolves
to the metadata service, to loopback or into the private network, first or on a second lookup (rebinding: the guard
connects to the judged addresses and never looks up again). IPv4 inside IPv6 is judged as what it leads to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agent_os.core.canonical import addresses as ip
from agent_os.core.errors import ActionError

CONTROL_PORTS: Final = frozenset({2379, 2380, 6443, 10250, 10255})
"""etcd, the Kubernetes API and kubelets: never an agent's business."""
_OWN: Final = frozenset({"loopback", "link-local", "unspecified"})
_LOCAL: Final = frozenset({"loopback"})


class AllowedIps:
    """The `allowed_ips` of an endpoint. `problem` says why the list is unusable (then it allows nothing)."""

    __slots__ = ("networks", "problem")

    def __init__(self, entries: Sequence[str]) -> None:
        self.networks: list[ip.Network] = []
        self.problem = ""
        for entry in entries:
            network = ip.parse_net(entry.strip())
            if network is None:
                self.problem = self.problem or f"{entry!r} is neither an address nor a CIDR"
            elif ip.overlaps_own(network):
                self.problem = self.problem or f"{entry!r} reaches into loopback, link-local or unspecified addresses"
            else:
                self.networks.append(network)

    def __bool__(self) -> bool:
        return bool(self.networks or self.problem)

    def holds(self, address: str) -> bool:
        """Return whether an address is listed."""
        parsed = ip.parse_ip(address)
        return parsed is not None and any(ip.contains(network, parsed) for network in self.networks)


def is_literal(host: str) -> bool:
    """Return whether a canonical host is an address (names never end in a number, see core/canonical/hosts.py)."""
    return ":" in host or (host[-1:].isdigit() and ip.parse_ip(host) is not None)


def forbidden(address: str, *, strict: bool, local: bool = False) -> bool:
    """Return whether no rule can open an address. `local` opens loopback, nothing else."""
    classes = ip.ip_classes(address)
    never = ip.NEVER if strict else _OWN
    return not never.isdisjoint(classes - _LOCAL if local else classes)


def address_problem(
    host: str,
    port: int,
    resolved: Sequence[str] | None,
    allowed: AllowedIps,
    *,
    exact: bool,
    strict: bool,
    local: bool = False,
) -> str:
    """Return why a destination's addresses are denied, or an empty text.

    `resolved` None: unknown, which denies, unless the host is itself an address. `exact`: the policy names this very
    host. That opens private addresses in the reference; strict opens them where `allowed_ips` (or, loopback alone,
    `local`) declares them, and an address that is itself named. Raises nothing: an address that cannot be read denies.
    """
    literal = is_literal(host)
    if literal and resolved is None:
        resolved = (host,)
    if resolved is None:
        return "its addresses are unknown"
    if not resolved:
        return "it has no address"
    if allowed.problem:
        return "allowed_ips is invalid"
    if port in CONTROL_PORTS and (strict or exact or literal or allowed):
        return "the port is a control-plane port"
    never = ip.NEVER if strict else _OWN
    try:
        for address in resolved:
            classes = ip.ip_classes(address)
            if classes and not never.isdisjoint(classes - _LOCAL if local else classes):
                own = strict and classes <= _LOCAL
                return "it leads to this machine" if own else "it leads to an address that no rule can open"
            if literal and not allowed and address != host:
                return "it leads to another address than itself"
            if allowed and not (allowed.holds(address) or (local and "loopback" in classes)):
                return "it leads to an address outside allowed_ips"
            if strict:
                internal = _undeclared(address, classes, allowed, itself=literal and exact, local=local)
            else:
                internal = not allowed and not exact and not literal and bool(classes - ip.EMBEDDING)
            if internal:
                return "it leads to an internal address"
    except ActionError:
        return "one of its addresses cannot be read"
    return ""


def _undeclared(address: str, classes: frozenset[str], allowed: AllowedIps, *, itself: bool, local: bool) -> bool:
    """Return whether an address is not an ordinary public one and nothing declares it.

    `itself`: the policy names the address as its host. What an IPv6 address embeds counts by itself: a list that holds
    the prefix of a translator does not open the private network behind it.
    """
    if not classes or (local and "loopback" in classes):
        return False
    if not allowed:
        return not itself
    carried = ip.embedded(address)
    return bool(carried) and bool(ip.ip_classes(carried)) and not allowed.holds(carried)
