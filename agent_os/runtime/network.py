"""Composition of the egress guard: what a compiled policy says about destinations, and a guard wired to a session.

`PolicyRules` answers the questions of `effects/proxy/rules.py` from a policy; verdicts are always `decide`'s. Every layer
must agree: a name is answered if each layer could allow it, and traffic is inspected if any layer wants to look.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from agent_os.core.errors import EffectError
from agent_os.core.ports import Clock, Door, Resolver
from agent_os.core.principal import Principal
from agent_os.effects.clock import SystemClock
from agent_os.effects.models.client import Providers
from agent_os.effects.models.local import LocalModels
from agent_os.effects.proxy import EgressGuard, Limits, Listener, ListenerIdentity, Treatment
from agent_os.effects.proxy.content import Stage
from agent_os.effects.proxy.guard import CARRIER_VARIABLE
from agent_os.effects.proxy.parts import Inference
from agent_os.effects.proxy.request import is_json
from agent_os.effects.proxy.upstream import CorporateProxy
from agent_os.effects.resolver import SystemResolver
from agent_os.effects.secret_store import SecretVault
from agent_os.guards.egress.findings import FindingRule
from agent_os.guards.privacy.restore import ByteRestorer
from agent_os.monitor import Monitor
from agent_os.policy import Policy
from agent_os.policy.globs import compile_any
from agent_os.policy.network.hosts import HostSelector
from agent_os.policy.schema.network import NetworkMiddleware
from agent_os.runtime.content import content_stages
from agent_os.runtime.models import models_folder
from agent_os.runtime.sources import secret_stores

REDACT_KEYS: Final = "openshell/regex"
"""The middleware that is built in: API keys in request bodies are replaced by a mark."""
NAMES_MAX: Final = 4096
"""Names and destinations whose treatment is remembered; past it the memory is emptied."""
LOGIN: Final = frozenset({"login"})
"""A secret that may only stand in a login asks for no look into requests."""
BODY_PLACES: Final = frozenset({"body"})
_STRICTEST: Final = ("deny", "check").index
CONTROL: Final = "control.sock"
"""Name of the control socket of a guard in `net/<pid>/` of the state directory."""


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


async def open_guard(
    policy: Policy,
    door: Door,
    *,
    state: Path,
    vault: SecretVault | None = None,
    clock: Clock | None = None,
    resolver: Resolver | None = None,
    limits: Limits | None = None,
    observe: bool = False,
    stages: Sequence[Stage] | None = None,
    roots: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> EgressGuard:
    """Return a started guard for a session: `door` is its monitor, `state` the state directory.

    `roots` (or `$AGENTOS_UPSTREAM_CA`) is a PEM file of more upstream roots, `$AGENTOS_UPSTREAM_PROXY` a corporate proxy
    (`http://[user:password@]host:port`), `$AGENTOS_UPSTREAM_NO_PROXY` names that go direct. Raises EffectError.
    """
    env = os.environ if environment is None else environment
    roots = roots or (Path(env["AGENTOS_UPSTREAM_CA"]) if env.get("AGENTOS_UPSTREAM_CA") else None)
    models = _models(policy, vault, state)
    guard = EgressGuard(
        door=door,
        resolver=resolver or SystemResolver(),
        rules=PolicyRules(policy),
        state=state,
        clock=clock or SystemClock(),
        secrets=secret_stores(policy, vault=vault, environment=env),
        stages=content_stages(policy, limits) if stages is None else stages,
        limits=limits,
        observe=observe,
        corporate=corporate_proxy(env),
        restorer=_restorer,
        inference=_inference(policy, models) if models is not None else None,
        roots=roots,
        carry=env.get(CARRIER_VARIABLE, ""),
    )
    if models is not None:
        guard.on_stop.append(models.aclose)
    await guard.start()
    await guard.serve_control(state / "net" / str(os.getpid()) / CONTROL)
    return guard


def _models(policy: Policy, vault: SecretVault | None, state: Path) -> Providers | None:
    """Return the providers behind `https://inference.local`, or None where the policy has no models."""
    from agent_os.runtime.gateway import endpoints_of, key_source  # noqa: PLC0415 - only policies with models pay for it

    endpoints = endpoints_of(policy)
    if not endpoints:
        return None
    return Providers(endpoints, key_source(policy, vault), local=LocalModels(models_folder(state)))


def _inference(policy: Policy, models: Providers) -> Inference:
    """Return what answers `inference.local` for the monitor of a connection."""
    from agent_os.runtime.gateway import ModelGateway  # noqa: PLC0415
    from agent_os.runtime.serving.api import Api, OneGateway, declared_hosts  # noqa: PLC0415

    links = declared_hosts(policy)

    def handler(door: Door) -> Any:
        if not isinstance(door, Monitor):
            raise EffectError("models need the session's monitor")
        return Api(OneGateway(ModelGateway(door, models, link_allowed=links))).handle

    return handler


def _restorer(door: Door, content_type: str) -> ByteRestorer | None:
    """Return what puts originals back into a response of this session, once pseudonyms of it went out."""
    book = getattr(getattr(getattr(door, "session", None), "privacy", None), "book", None)
    if book is None or not len(book):
        return None
    return ByteRestorer(book, escape="json" if is_json(content_type) else "none")


def corporate_proxy(environment: Mapping[str, str]) -> CorporateProxy | None:
    """Return the operator's proxy for upstream traffic, or None. Raises ValueError for what is no http proxy URL."""
    from urllib.parse import unquote, urlsplit  # noqa: PLC0415

    given = environment.get("AGENTOS_UPSTREAM_PROXY", "")
    if not given:
        return None
    parts = urlsplit(given)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError("AGENTOS_UPSTREAM_PROXY must be http://[user:password@]host:port")
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
    direct = tuple(name.strip() for name in environment.get("AGENTOS_UPSTREAM_NO_PROXY", "").split(",") if name.strip())
    return CorporateProxy(parts.hostname, parts.port or 3128, user, direct)


async def serve_sandbox(
    guard: EgressGuard,
    listeners: Sequence[tuple[str, socket.socket]],
    principal: Principal,
    *,
    sandbox_pid: int,
    door: Door | None = None,
    label: str = "",
    executables: bool = True,
) -> list[Listener]:
    """Serve the listeners that a sandbox made in its network namespace, as one identity; descriptors are duplicated.

    Kinds as in `effects/proxy` (`tcp` is the transparent one). Close the returned listeners when the sandbox ends.
    """
    identity = ListenerIdentity(principal, sandbox_pid=sandbox_pid, label=label, executables=executables)
    return [await guard.serve_listener(sock.dup(), kind, identity, door=door) for kind, sock in listeners]


async def serve_loopback(
    guard: EgressGuard, principal: Principal, *, door: Door | None = None, token: str = "", port: int = 0
) -> tuple[Listener, str]:
    """Serve an HTTP and SOCKS5 proxy on loopback for this user's processes; return the listener and its URL."""
    sock = socket.create_server(("127.0.0.1", port), backlog=1024)
    identity = ListenerIdentity(principal, token=token, uid=os.geteuid())
    listener = await guard.serve_listener(sock, "proxy", identity, door=door)
    credentials = f"agent:{token}@" if token else ""
    return listener, f"http://{credentials}127.0.0.1:{listener.address[1]}"


async def reload_guard(guard: EgressGuard, policy: Policy, *, vault: SecretVault | None = None) -> int:
    """Put a new policy revision in force in the guard (after the monitor); return how many connections were closed.

    With `vault` the policy's secrets come from the sources it names now; without, from those of the start.
    """
    secrets = secret_stores(policy, vault=vault, environment=os.environ) if vault is not None else None
    return await guard.reload(PolicyRules(policy), secrets=secrets)


def reload_guard_soon(guard: EgressGuard, policy: Policy) -> None:
    """The same from any thread, without waiting for what is closed."""
    if guard.parts is not None:
        rules, loop = PolicyRules(policy), guard.parts.loop
        loop.call_soon_threadsafe(lambda: guard.keep(loop.create_task(guard.reload(rules))))


def live_tables(state: Path) -> list[dict[str, Any]]:
    """Return the live table of every guard that runs on this state directory; sockets of dead ones are removed."""
    import json  # noqa: PLC0415

    tables = []
    for path in sorted((state / "net").glob("*/" + CONTROL)):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        sock.settimeout(2.0)
        try:
            sock.connect(str(path))
            data = b""
            while piece := sock.recv(1 << 16):
                data += piece
            tables.append({"pid": int(path.parent.name), **json.loads(data)})
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            path.parent.rmdir()
        except (OSError, ValueError):
            continue
        finally:
            sock.close()
    return tables
