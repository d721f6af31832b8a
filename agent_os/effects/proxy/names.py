"""The DNS responder of a sandbox, and its table of synthetic addresses.

Names are never looked up here: a name that policy can allow is answered with an address of 198.18.0.0/15 (RFC 2544,
never routed) that maps back to that one name, so that each connection is judged for the name the program asked for
and is connected to what the guard's own resolver says at that moment. Anything else is NXDOMAIN. HTTPS/SVCB records,
which carry ECH keys, are answered empty. Threats: DNS as a way out (labels of a query), rebinding, pinning games with
TTL 0. RFC 1035.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from agent_os.core import canonical
from agent_os.core.errors import ActionError
from agent_os.effects.proxy.limits import ADDRESS_FORMS_KEPT, DNS_MESSAGE_BYTES_MAX, SYNTHETIC_NAMES_MAX

_FIRST: Final = int(ipaddress.IPv4Address("198.18.0.16"))
_NETWORK: Final = ipaddress.IPv4Network("198.18.0.0/15")
TTL_SECONDS: Final = 30
_A, _AAAA, _ANY = 1, 28, 255
_IN: Final = 1
_NOERROR, _FORMERR, _NXDOMAIN, _NOTIMP, _REFUSED = 0, 1, 3, 4, 5


class SyntheticNames:
    """One sandbox's names and addresses, one to one; an address is never given to a second name."""

    def __init__(self, most: int = SYNTHETIC_NAMES_MAX) -> None:
        self._by_name: dict[str, str] = {}
        self._by_address: dict[str, str] = {}
        self._most = most

    def address(self, name: str) -> str | None:
        """Return the address of a canonical name; None when the sandbox has asked for too many names."""
        held = self._by_name.get(name)
        if held is None:
            if len(self._by_name) >= self._most:
                return None
            held = str(ipaddress.IPv4Address(_FIRST + len(self._by_name)))
            self._by_name[name] = held
            self._by_address[held] = name
        return held

    def name(self, address: str) -> str | None:
        """Return the name an address was given for."""
        return self._by_address.get(address)

    @staticmethod
    @lru_cache(ADDRESS_FORMS_KEPT)
    def covers(address: str) -> bool:
        """Whether an address is of the synthetic range (and so means nothing outside this table)."""
        try:
            return ipaddress.ip_address(address) in _NETWORK
        except ValueError:
            return False


class DnsQueryError(ValueError):
    """Not one well-formed question."""


def parse_query(message: bytes) -> tuple[int, int, str, int, bytes]:
    """Return (id, flags, name, type, the question's bytes). Raises DnsQueryError."""
    if not 12 < len(message) <= DNS_MESSAGE_BYTES_MAX:
        raise DnsQueryError("size")
    identifier, flags, questions, answers, _, _ = struct.unpack(">6H", message[:12])
    if flags & 0x8000 or questions != 1 or answers:
        raise DnsQueryError("not one question")
    labels, at = [], 12
    while True:
        if at >= len(message):
            raise DnsQueryError("name ends early")
        size = message[at]
        at += 1
        if size == 0:
            break
        if size > 63 or at + size > len(message) or at - 12 + size > 254:
            raise DnsQueryError("label")
        labels.append(message[at : at + size])
        at += size
    if at + 4 > len(message):
        raise DnsQueryError("question ends early")
    kind, family = struct.unpack(">2H", message[at : at + 4])
    if family != _IN:
        raise DnsQueryError("class")
    try:
        name = b".".join(labels).decode("ascii")
    except UnicodeDecodeError:
        raise DnsQueryError("name is not ascii") from None
    if any(b"." in label for label in labels):
        raise DnsQueryError("dot inside a label")
    return identifier, flags, name, kind, message[12 : at + 4]


def answer_query(
    message: bytes,
    names: SyntheticNames,
    resolvable: Callable[[str], bool],
    noted: Callable[[str, str], None] = lambda name, verdict: None,
) -> bytes | None:
    """Return the response to one query, or None for what deserves none. `noted(name, verdict)` hears of each."""
    try:
        identifier, flags, raw, kind, question = parse_query(message)
    except DnsQueryError:
        if len(message) < 12 or message[2] & 0x80:
            return None
        return message[:2] + struct.pack(">5H", 0x8000 | _FORMERR, 0, 0, 0, 0)

    def reply(code: int, address: str = "") -> bytes:
        head = struct.pack(">6H", identifier, 0x8080 | (flags & 0x0100) | code, 1, 1 if address else 0, 0, 0)
        if not address:
            return head + question
        record = struct.pack(">3HIH", 0xC00C, _A, _IN, TTL_SECONDS, 4) + ipaddress.IPv4Address(address).packed
        return head + question + record

    if flags & 0x7800:
        return reply(_NOTIMP)
    try:
        name = canonical.host(raw)
    except ActionError:
        noted("(malformed)", "deny")
        return reply(_NXDOMAIN)
    if not resolvable(name):
        noted(name, "deny")
        return reply(_NXDOMAIN)
    if kind not in (_A, _ANY):
        return reply(_NOERROR)
    address = names.address(name)
    noted(name, "allow" if address else "deny")
    return reply(_NOERROR, address) if address else reply(_REFUSED)
