"""What a compiled policy says about destinations: the answers to the questions of `effects/proxy/rules.py`.

Verdicts are always `decide`'s. Every layer must agree: a name is answered if each layer could allow it, and traffic is
inspected if any layer wants to look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from agent_os.effects.proxy import Treatment
from agent_os.guards.egress.findings import FindingRule
from agent_os.policy import Policy
from agent_os.policy.globs import compile_any
from agent_os.policy.network.hosts import HostSelector
from agent_os.policy.schema.network import NetworkMiddleware

REDACT_KEYS: Final = "openshell/regex"
"""The middleware that is built in: API keys in request bodies are replaced by a mark."""
NAMES_MAX: Final = 4096
"""Names and destinations whose treatment is remembered; past it the memory is emptied."""
LOGIN: Final = frozenset({"login"})
"""A secret that may only stand in a login asks for no look into requests."""
BODY_PLACES: Final = frozenset({"body"})
_STRICTEST: Final = ("deny", "check").index


class PolicyRules:
    """`EgressRules` of one policy revision."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._layers = [
            [item.section for item in layer.by_kind.get("net.connect", ()) if item.section.name == "network_policies"]
            for layer in policy.compiled
        ]
        self._content = self._governs_content()
        self._middlewares = self._middleware_table()
        self._secrets = self._secret_table()
        self._names: dict[str, bool] = {}
        self._treatments: dict[tuple[str, int], Treatment] = {}

    @property
    def digest(self) -> str:
        """The policy's digest."""
        return self._policy.digest

    def _governs_content(self) -> bool:
        """Whether anything beside the network section judges what requests hold."""
        for layer in self._policy.compiled:
            if any(item.section.name == "privacy" for item in layer.by_kind.get("net.request", ())):
                return True
            if any(not kinds or "net.request" in kinds for _, kinds in layer.rego):
                return True
        return False

    def _middleware_table(self) -> list[tuple[HostSelector, NetworkMiddleware]]:
        return [
            (HostSelector(item.endpoints.include, item.endpoints.exclude), item)
            for section, _layer, _unit in self._policy.sections("network_middlewares")
            for item in sorted(section.values(), key=lambda item: item.order)
            if item.endpoints is not None
        ]

    def _secret_table(self) -> dict[str, list[tuple[Any, frozenset[str]]]]:
        table: dict[str, list[tuple[Any, frozenset[str]]]] = {}
        for section, _layer, _unit in self._policy.sections("secrets"):
            for name, secret in section.items():
                patterns = [pattern.lower().replace(".", "/") for pattern in secret.destinations]
                table.setdefault(name, []).append((compile_any(patterns), frozenset(secret.where)))
        return table

    def resolvable(self, host: str) -> bool:
        """Whether every layer has a rule that could allow a connection to this canonical name."""
        held = self._names.get(host)
        if held is None:
            if len(self._names) >= NAMES_MAX:
                self._names.clear()
            held = self._names[host] = self._policy.resolvable(host)
        return held

    def treatment(self, host: str, port: int) -> Treatment:
        """Return how traffic to a destination is handled: inspected if any entry, secret, detector or engine looks."""
        held = self._treatments.get((host, port))
        if held is None:
            if len(self._treatments) >= NAMES_MAX:
                self._treatments.clear()
            held = self._treatments[host, port] = self._treat(host, port)
        return held

    def _treat(self, host: str, port: int) -> Treatment:
        entries = [
            entry
            for sections in self._layers
            for section in sections
            for entry in section.inspections(host, port)  # type: ignore[attr-defined]
        ]
        dotted = host.replace(".", "/")
        secret = any(where - LOGIN and matches(dotted) for rows in self._secrets.values() for matches, where in rows)
        logins = {(str(entry["login"]), bool(entry["login_plain"])) for entry in entries}
        middlewares = [item for selector, item in self._middlewares if selector.matches(host)]
        unknown = [item.middleware for item in middlewares if item.middleware != REDACT_KEYS]
        reasons = {
            "requests": any(entry["requests"] for entry in entries),
            "privacy or rego": self._content,
            "secrets": secret,
            "middlewares": bool(middlewares),
            "tls or content options": any(
                (entry["upstream_tls"] and not entry["login"]) or entry["content"] for entry in entries
            ),
        }
        excused = bool(entries) and all(entry["uninspected"] for entry in entries)
        inspect = any(reasons.values()) and not excused
        sealed = inspect and any(entry["tls"] == "skip" and not entry["uninspected"] for entry in entries)
        reads = [entry for entry in entries if entry["reads_body"] or entry["websocket_graphql"]]
        return Treatment(
            inspect=inspect or not entries,
            sealed=sealed,
            body=self._content or bool(reads) or bool(middlewares),
            redact_keys=bool(middlewares),
            raw=bool(entries) and all(entry["uninspected"] or entry["protocol"] == "tcp" for entry in entries),
            graphql_messages=any(entry["websocket_graphql"] for entry in entries),
            unavailable=_unavailable(unknown, len(logins)),
            login=next(iter(logins))[0] if len(logins) == 1 else "",
            login_plain=next(iter(logins))[1] if len(logins) == 1 else False,
            body_bytes=0 if self._content else max((int(entry["body_bytes"]) for entry in reads), default=0),
            encoded_slash=any(entry["allow_encoded_slash"] for entry in entries),
            why=", ".join(reason for reason, holds in reasons.items() if holds),
            **_options(entries),
        )

    def secret_places(self, name: str, host: str, port: int) -> frozenset[str]:
        """Return where in a request to this destination a secret may stand."""
        dotted = host.replace(".", "/")
        found = [where for matches, where in self._secrets.get(name, ()) if matches(dotted)]
        return frozenset().union(*found) if found else frozenset()

    def secret_names(self) -> frozenset[str]:
        """Return the names of the secrets that may go anywhere at all."""
        return frozenset(self._secrets)

    def secrets_in_bodies(self, host: str, port: int) -> bool:
        """Whether any secret may stand in a request body towards this destination."""
        return any(self.secret_places(name, host, port) >= BODY_PLACES for name in self._secrets)

    def reachable(self) -> Sequence[Mapping[str, Any]]:
        """Return what may be reached, one entry an endpoint, of every layer."""
        return [dict(row) for sections in self._layers for section in sections for row in section.reachable()]  # type: ignore[attr-defined]


def _unavailable(unknown: Sequence[str], logins: int) -> str:
    if unknown:
        return f"the middleware {unknown[0]!r} is not installed"
    return "endpoints of this host and port disagree about `login`" if logins > 1 else ""


def _options(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the strictest of what entries ask of the server and of bodies."""
    tls = [entry["upstream_tls"] for entry in entries if entry["upstream_tls"]]
    content = [entry["content"] for entry in entries if entry["content"]]
    pins = [frozenset(option["pins"]) for option in tls if option["pins"]]
    types = [frozenset(option["response_types"]) for option in content if option["response_types"]]
    options: dict[str, Any] = {"tls_minimum": max((option["minimum"] for option in tls), default="1.2")}
    if pins:
        options["pins"] = tuple(sorted(frozenset.intersection(*pins))) or ("none in common",)
    if types:
        options["content_types"] = tuple(sorted(frozenset.intersection(*types))) or ("none in common",)
    shown = [option for option in tls if option["client_certificate"]]
    if shown:
        options["client_certificate"] = (shown[0]["client_certificate"], shown[0]["client_key"])
    for name in ("request_bytes", "response_bytes", "total_bytes"):
        given = [option[name] for option in content if option[name]]
        if given:
            options[name] = min(given)
    options["response_findings"] = tuple(
        FindingRule(tuple(rule["find"]), rule["do"] == "deny", rule["score"])
        for option in content
        for rule in option["response_findings"]
    )
    options["archives"] = min(
        (option["archives"] for option in content if option["archives"]), key=_STRICTEST, default=""
    )
    return options
