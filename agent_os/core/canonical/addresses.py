"""IP addresses: one spelling, and what kind of address it is. Pure: nothing is resolved here.

Threat: an address that means "inside" written so that a check does not see it: IPv4 inside IPv6 (mapped, compatible,
NAT64, 6to4, Teredo), zone ids, and the metadata services of clouds outside the link-local range. An address carries the
classes of every IPv4 address embedded in it, so a rule about `loopback` also sees `64:ff9b::7f00:1`.
Sources: the IANA special-purpose registries (RFC 6890 and successors), RFC 6052, RFC 3056, RFC 4380.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Any, Final

from agent_os.core.errors import ActionError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_CACHE: Final = 4096
_CLASSES_4: Final = (
    ("unspecified", "0.0.0.0/32"),
    ("this-network", "0.0.0.0/8"),
    ("private", "10.0.0.0/8"),
    ("cgnat", "100.64.0.0/10"),
    ("metadata", "100.100.100.200/32"),  # Alibaba Cloud
    ("loopback", "127.0.0.0/8"),
    ("metadata", "168.63.129.16/32"),  # Azure host
    ("link-local", "169.254.0.0/16"),
    ("metadata", "169.254.169.254/32"),
    ("metadata", "169.254.170.2/32"),  # ECS task credentials
    ("metadata", "169.254.170.23/32"),  # EKS pod identity
    ("private", "172.16.0.0/12"),
    ("protocol", "192.0.0.0/24"),
    ("metadata", "192.0.0.192/32"),  # Oracle Cloud
    ("documentation", "192.0.2.0/24"),
    ("6to4", "192.88.99.0/24"),
    ("private", "192.168.0.0/16"),
    ("benchmarking", "198.18.0.0/15"),
    ("documentation", "198.51.100.0/24"),
    ("documentation", "203.0.113.0/24"),
    ("multicast", "224.0.0.0/4"),
    ("reserved", "240.0.0.0/4"),
    ("broadcast", "255.255.255.255/32"),
)
_CLASSES_6: Final = (
    ("unspecified", "::/128"),
    ("loopback", "::1/128"),
    ("compatible", "::/96"),
    ("mapped", "::ffff:0:0/96"),
    ("translated", "::ffff:0:0:0/96"),
    ("nat64", "64:ff9b::/96"),
    ("nat64", "64:ff9b:1::/48"),
    ("discard", "100::/64"),
    ("teredo", "2001::/32"),
    ("benchmarking", "2001:2::/48"),
    ("protocol", "2001::/23"),
    ("documentation", "2001:db8::/32"),
    ("documentation", "3fff::/20"),
    ("6to4", "2002::/16"),
    ("private", "fc00::/7"),
    ("metadata", "fd00:ec2::/32"),  # AWS instance and pod metadata
    ("metadata", "fd20:ce::254/128"),  # Google Compute Engine
    ("link-local", "fe80::/10"),
    ("site-local", "fec0::/10"),
    ("multicast", "ff00::/8"),
)


def _ranges(table: tuple[tuple[str, str], ...]) -> tuple[tuple[int, int, str], ...]:
    networks = ((name, ipaddress.ip_network(text)) for name, text in table)
    return tuple((int(net.network_address), int(net.broadcast_address), name) for name, net in networks)


_RANGES_4: Final = _ranges(_CLASSES_4)
_RANGES_6: Final = _ranges(_CLASSES_6)
NEVER: Final = frozenset(
    {
        "loopback",
        "unspecified",
        "this-network",
        "link-local",
        "metadata",
        "multicast",
        "broadcast",
        "reserved",
        "discard",
    }
)
"""Classes that no policy can open: nothing of an agent's business lives there."""
EMBEDDING: Final = frozenset({"mapped", "compatible", "translated", "nat64", "6to4", "teredo"})
"""Classes that say how an address is written or carried, not where it leads."""
METADATA_HOSTS: Final = frozenset(
    {"metadata.google.internal", "metadata.goog", "metadata", "instance-data", "instance-data.ec2.internal"}
)
GATEWAY_ALIASES: Final = frozenset({"host.openshell.internal", "host.containers.internal", "host.docker.internal"})


def parse_ip(value: str) -> Address | None:
    """Return the address of a plain literal (no brackets, no zone id, dotted-quad IPv4 only), or None."""
    if not value or "%" in value or "/" in value:
        return None
    try:
        return ipaddress.ip_address(value)
    except ValueError:
        return None


def ip(value: Any, *, field: str = "ip") -> str:
    """Return a canonical IP address; IPv4-mapped IPv6 becomes IPv4. Raises ActionError for anything else."""
    address = parse_ip(value) if isinstance(value, str) else None
    if address is None:
        raise ActionError("is not an IP address", field=field, hint="no brackets, zone id or prefix length")
    return str(unmapped(address))


def unmapped(address: Address) -> Address:
    """Return the IPv4 address of an IPv4-mapped IPv6 one (a socket reaches the same peer); others unchanged."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def embedded_ipv4(address: Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address an IPv6 address carries (mapped, compatible, translated, NAT64, 6to4, Teredo), if any."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    number = int(address)
    top = number >> 32
    if top in (0xFFFF, 0xFFFF0000, 0x64FF9B << 64, 0) and number > 0xFFFF:
        return ipaddress.IPv4Address(number & 0xFFFFFFFF)
    if number >> 80 == 0x64FF9B0001:  # local-use NAT64 prefix: RFC 8215 leaves the layout open, /96 is the usual one
        return ipaddress.IPv4Address(number & 0xFFFFFFFF)
    if number >> 112 == 0x2002:
        return ipaddress.IPv4Address((number >> 80) & 0xFFFFFFFF)
    if top >> 64 == 0x20010000:
        return ipaddress.IPv4Address((number & 0xFFFFFFFF) ^ 0xFFFFFFFF)
    return None


@lru_cache(maxsize=_CACHE)
def ip_classes(value: str) -> frozenset[str]:
    """Return the classes of a canonical IP literal and of what it embeds; empty for an ordinary public address.

    Raises ActionError when `value` is no IP literal: a check must not read "unknown" as "public".
    """
    address = parse_ip(value)
    if address is None:
        raise ActionError("is not an IP address", field="ip")
    return _classes(address)


def _classes(address: Address) -> frozenset[str]:
    number = int(address)
    ranges = _RANGES_4 if address.version == 4 else _RANGES_6
    found = {name for low, high, name in ranges if low <= number <= high}
    inner = embedded_ipv4(address)
    if inner is not None:
        found |= _classes(inner)
    if "loopback" in found or "unspecified" in found:
        found.discard("compatible")
    return frozenset(found)


def embedded(value: str) -> str:
    """Return the IPv4 address that an IPv6 literal carries, or an empty text."""
    address = parse_ip(value)
    inner = embedded_ipv4(address) if address is not None else None
    return "" if inner is None else str(inner)


def is_link_local_ip(value: str) -> bool:
    """Whether an address is link-local (169.254.0.0/16, fe80::/10), also when embedded."""
    return "link-local" in ip_classes(value)


def is_metadata_ip(value: str) -> bool:
    """Whether an address is one of a cloud's metadata services, also when embedded."""
    return "metadata" in ip_classes(value)


def is_never_allowed_ip(value: str) -> bool:
    """Whether no policy can open this address (NEVER)."""
    return not NEVER.isdisjoint(ip_classes(value))


def is_internal_ip(value: str) -> bool:
    """Whether an address is anything but an ordinary public one; what it embeds decides for embedding forms."""
    return bool(ip_classes(value) - EMBEDDING)


def is_metadata_host(name: str) -> bool:
    """Whether a host name is known to lead to a cloud's metadata service."""
    return name.strip().rstrip(".").lower() in METADATA_HOSTS


def is_gateway_alias(name: str) -> bool:
    """Whether a host name is an alias that container engines give the host machine."""
    return name.lower() in GATEWAY_ALIASES


_IPV4_IN_6: Final = 0xFFFF00000000
"""`::ffff:0:0`: where IPv4 lies within the mapped range."""
_OWN: Final = frozenset({"loopback", "link-local", "unspecified"})
"""Classes that taint an allow-list which reaches into them. Wide ranges that merely hold a metadata service or a
reserved address are usual (`fc00::/7`, `100.64.0.0/10`); those single addresses stay denied one by one."""
_OWN_4: Final = tuple((low, high) for low, high, name in _RANGES_4 if name in _OWN)
_OWN_6: Final = tuple((low, high) for low, high, name in _RANGES_6 if name in _OWN)
_INTERNAL_4: Final = tuple((low, high) for low, high, name in _RANGES_4 if name not in EMBEDDING)
_INTERNAL_6: Final = tuple((low, high) for low, high, name in _RANGES_6 if name not in EMBEDDING)


def parse_net(value: str) -> Network | None:
    """Return the network of a CIDR or a bare address; host bits are dropped. None when it is neither."""
    if not value or "%" in value:
        return None
    try:
        return ipaddress.ip_network(value, strict=False)
    except ValueError:
        return None


def _overlaps(net: Network, four: tuple[tuple[int, int], ...], six: tuple[tuple[int, int], ...]) -> bool:
    low, high = int(net.network_address), int(net.broadcast_address)
    if net.version == 4:
        return any(low <= end and start <= high for start, end in four)
    if any(low <= end and start <= high for start, end in six):
        return True
    mapped = ((start + _IPV4_IN_6, end + _IPV4_IN_6) for start, end in four)
    return any(low <= end and start <= high for start, end in mapped)


def overlaps_own(net: Network) -> bool:
    """Whether a network reaches into loopback, link-local or unspecified addresses; IPv4-mapped counts as IPv4."""
    return _overlaps(net, _OWN_4, _OWN_6)


def overlaps_internal(net: Network) -> bool:
    """Whether a network holds an address that is not an ordinary public one."""
    return _overlaps(net, _INTERNAL_4, _INTERNAL_6)


def contains(net: Network, address: Address) -> bool:
    """Whether a network holds an address, IPv4 and IPv4-mapped IPv6 being the same."""
    address = unmapped(address)
    if isinstance(net, ipaddress.IPv6Network) and isinstance(address, ipaddress.IPv4Address):
        return int(net.network_address) <= int(address) + _IPV4_IN_6 <= int(net.broadcast_address)
    return address in net
