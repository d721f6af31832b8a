"""What the guard asks of a compiled policy, as a port. Values only; composed in `agent_os/runtime/network.py`.

The guard never interprets policy itself. Verdicts come from the Door; this port only says how a destination is to be
looked at (inspected or passed through), which names may be answered, and what to tell an agent that asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agent_os.guards.egress.findings import FindingRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Treatment:
    """How traffic to one host and port is handled.

    `inspect`: TLS is terminated and every request judged. `body`: request bodies are read whole before they are judged.
    `messages`: WebSocket text messages are judged one by one. `encoded_slash`: `%2F` may stand in a path.
    `sealed`: policy wants to look and may not open TLS here: TLS is refused.
    `raw`: the policy says that any protocol passes here, HTTP/2 without TLS included.
    `response_findings`: what responses may not hold. `archives`: `check` or `deny`, both directions.
    `login`: the guard logs in there for the program (postgres, imap, smtp), `login_plain` without TLS.
    `redact_keys`: API keys in request bodies are replaced before judging. `unavailable`: why nothing may pass here.
    `pins`: accepted public keys (`sha256:<hex>` of the SPKI), empty for any. `why`: what asked for inspection.
    """

    inspect: bool = True
    sealed: bool = False
    body: bool = False
    messages: bool = True
    graphql_messages: bool = False
    tls_minimum: str = "1.2"
    pins: tuple[str, ...] = ()
    client_certificate: tuple[str, str] = ("", "")
    encoded_slash: bool = False
    body_bytes: int = 0
    redact_keys: bool = False
    raw: bool = False
    login: str = ""
    login_plain: bool = False
    unavailable: str = ""
    content_types: tuple[str, ...] = ()
    request_bytes: int = 0
    response_bytes: int = 0
    response_findings: tuple[FindingRule, ...] = ()
    archives: str = ""
    total_bytes: int = 0
    why: str = ""


class EgressRules(Protocol):
    """The network side of one policy revision."""

    @property
    def digest(self) -> str:
        """The policy's digest."""
        ...

    def resolvable(self, host: str) -> bool:
        """Whether any rule could allow a connection to this canonical name."""
        ...

    def treatment(self, host: str, port: int) -> Treatment:
        """Return how traffic to a destination is handled (strictest of all rules that could apply)."""
        ...

    def secret_places(self, name: str, host: str, port: int) -> frozenset[str]:
        """Return where in a request to a destination a secret may stand.

        Of: header, basic, path, query, body, websocket, login. Empty: nowhere.
        """
        ...

    def secret_names(self) -> frozenset[str]:
        """Return the names of the secrets that may go anywhere at all."""
        ...

    def secrets_in_bodies(self, host: str, port: int) -> bool:
        """Whether any secret may stand in a request body towards this destination."""
        ...

    def reachable(self) -> Sequence[Mapping[str, Any]]:
        """Return what may be reached, as plain JSON for `policy.local`."""
        ...
