"""The egress guard: the one way out of a sandbox and of the SDK's HTTP effects.

Every connection is bound to who is calling (sandbox, agent, executable), to what exactly is asked, to where it really
goes (resolved once, judged, connected to exactly the judged address) and to what it carries. This package moves
bytes; it decides nothing: every connection and every request is admitted through the `Door` (core/ports.py) before
its first byte goes upstream, and settled after its last. Threat: an agent, or the program it was talked into running,
that wants to reach a place, or to carry data there, which policy does not allow.

What callers use (composed in `agent_os/runtime/network.py`):

    guard = EgressGuard(door=door, resolver=resolver, rules=rules, state=Path(...), secrets=store, limits=Limits())
    await guard.start()
    guard.serve_listener(sock, kind, identity)   # -> Listener; the guard owns the socket from here on
    guard.environment(proxy="http://127.0.0.1:3128", bundle="/etc/agentos/ca.pem")   # variables for a sandbox
    await guard.reload(GuardRevision(rules, ...))   # closes what is no longer allowed, keeps the rest
    await guard.stop()                           # drains, then closes

Kinds of listener. Sockets are created by whoever owns the network namespace, listening already, and handed over (by
SCM_RIGHTS from a sandbox); the guard accepts on them from its own namespace:

    "proxy"        stream (TCP or unix): HTTP CONNECT, absolute-form HTTP/1.1, and SOCKS5 by its first byte
    "socks"        stream: SOCKS5 only (names are resolved by the guard; `socks5h`)
    "transparent"  TCP: `getsockname()` of an accepted connection is the original destination
    "dns-udp"      datagram, bound to port 53: answers only names that policy can allow, with synthetic addresses
    "dns-tcp"      stream, the same
    "policy"       stream: `policy.local` only (what may be reached, the CA certificate)
    "control"      unix stream, 0600: the live table for `agentos net top`

`ListenerIdentity(principal, sandbox_pid=…, token=…, uid=…, label=…)` says on whose behalf a listener serves.
`sandbox_pid` is the host's pid of any process in the sandbox's network namespace (its init): executables are looked
up through it, and a peer from another network namespace is refused. DNS and transparent listeners share one table of
synthetic addresses when they are given the same identity object.

Names are imported on first use: what needs one room of this package (where a secret may go) does not load them all.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent_os.effects.proxy.guard import EgressGuard, Listener
    from agent_os.effects.proxy.identity import ListenerIdentity
    from agent_os.effects.proxy.limits import Limits
    from agent_os.effects.proxy.parts import GuardRevision
    from agent_os.effects.proxy.rules import EgressRules, Treatment

_ROOMS = {
    "EgressGuard": "guard",
    "EgressRules": "rules",
    "GuardRevision": "parts",
    "Limits": "limits",
    "Listener": "guard",
    "ListenerIdentity": "identity",
    "Treatment": "rules",
}
__all__ = ["EgressGuard", "EgressRules", "GuardRevision", "Limits", "Listener", "ListenerIdentity", "Treatment"]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    globals()[name] = value
    return value
