"""Composition of the egress guard: a guard wired to a session, and what it takes of another policy revision."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from agent_os.core.errors import EffectError
from agent_os.core.ports import Clock, Door, Resolver
from agent_os.core.principal import Principal
from agent_os.effects.clock import SystemClock
from agent_os.effects.models.client import Endpoint, Key, Providers
from agent_os.effects.models.local import LocalModels
from agent_os.effects.proxy import EgressGuard, GuardRevision, Limits, Listener, ListenerIdentity
from agent_os.effects.proxy.content import Stage
from agent_os.effects.proxy.guard import CARRIER_VARIABLE
from agent_os.effects.proxy.parts import Inference
from agent_os.effects.proxy.request import is_json
from agent_os.effects.proxy.response import is_live
from agent_os.effects.proxy.upstream import CorporateProxy
from agent_os.effects.resolver import SystemResolver
from agent_os.effects.secret_store import SecretVault
from agent_os.effects.unix_names import short_name
from agent_os.guards.privacy.restore import ByteRestorer
from agent_os.monitor import Monitor
from agent_os.policy import Policy
from agent_os.runtime.content import content_stages
from agent_os.runtime.egress_rules import PolicyRules
from agent_os.runtime.models import models_folder
from agent_os.runtime.sources import secret_stores

FLOW_ROW_CHARS_MAX: Final = 65_536
"""A line of the flow log; a longer one is no row."""
CONTROL: Final = "control.sock"
"""Name of the control socket of a guard in `net/<pid>/` of the state directory."""


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
    endpoints, key = _endpoints(policy, vault)
    models = Providers(endpoints, key, local=LocalModels(models_folder(state))) if endpoints else None
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
    guard.environ = env
    if models is not None:
        guard.models = models
        guard.on_stop.append(models.aclose)
    await guard.start()
    await guard.serve_control(state / "net" / str(os.getpid()) / CONTROL)
    return guard


def _endpoints(policy: Policy, vault: SecretVault | None) -> tuple[Mapping[str, Endpoint], Key]:
    """Return the providers behind `https://inference.local` (none where the policy has no models) and their keys' source."""
    from agent_os.runtime.model_routes import endpoints_of, key_source  # noqa: PLC0415 - only policies with models pay for it

    return endpoints_of(policy), key_source(policy, vault)


def _inference(policy: Policy, models: Providers) -> Inference:
    """Return what answers `inference.local` for the monitor of a connection."""
    from agent_os.runtime.gateway import ModelGateway  # noqa: PLC0415
    from agent_os.runtime.inspection import declared_hosts  # noqa: PLC0415
    from agent_os.runtime.serving.api import Api, OneGateway  # noqa: PLC0415

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
    return ByteRestorer(book, escape="json" if is_json(content_type) or is_live(content_type) else "none")


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


def prepare_guard(
    guard: EgressGuard, policy: Policy, *, vault: SecretVault | None = None
) -> Callable[[], Awaitable[int]]:
    """Make everything a guard needs of another policy; return what puts it in force and says how many connections it cut.

    All of it holds from the first step of that on: rules, secrets and their sources, detectors, models. Raises PolicyError,
    EffectError: nothing has changed then.
    """
    revision = GuardRevision(
        PolicyRules(policy),
        secret_stores(policy, vault=vault, environment=guard.environ),
        content_stages(policy, guard.limits),
    )
    endpoints, key = _endpoints(policy, vault)
    models = guard.models
    if models is None and endpoints:
        models = Providers(endpoints, key, local=LocalModels(models_folder(guard.state)))

    async def take() -> int:
        if models is not None:
            if guard.models is None:
                guard.models = models
                guard.on_stop.append(models.aclose)
            models.reconfigure(endpoints, key)
            revision.inference = _inference(policy, models) if endpoints else None
        return await guard.reload(revision)

    return take


def prepare_guard_soon(guard: EgressGuard, policy: Policy, vault: SecretVault | None = None) -> Callable[[], None]:
    """The same for any thread, without waiting for what is closed; nothing to do where the guard does not stand."""
    parts = guard.parts
    if parts is None:
        return lambda: None
    take, loop = prepare_guard(guard, policy, vault=vault), parts.loop

    def begin() -> None:
        guard.keep(loop.create_task(taken()))

    async def taken() -> None:
        await take()

    def soon() -> None:
        loop.call_soon_threadsafe(begin)

    return soon


async def reload_guard(guard: EgressGuard, policy: Policy, *, vault: SecretVault | None = None) -> int:
    """Put a new policy revision in force in the guard (after the monitor); return how many connections were closed."""
    return await prepare_guard(guard, policy, vault=vault)()


def flow_rows(state: Path, *, since: float | None = None, until: float | None = None) -> Iterator[dict[str, Any]]:
    """Yield the rows of the flow log between two times (seconds since the epoch), oldest first; what is no row is left out."""
    from datetime import UTC, datetime  # noqa: PLC0415

    for path in sorted((state / "flows").glob("????-??-??.jsonl")):
        with open(path, encoding="utf-8", errors="replace") as file:
            while line := file.readline(FLOW_ROW_CHARS_MAX):
                try:
                    row = json.loads(line)
                    moment = datetime.fromisoformat(row["time"]).astimezone(UTC).timestamp()
                except (ValueError, TypeError, KeyError):
                    continue
                if (since is None or moment >= since) and (until is None or moment < until):
                    yield row


def live_tables(state: Path) -> list[dict[str, Any]]:
    """Return the live table of every guard that runs on this state directory; sockets of dead ones are removed."""
    tables = []
    for path in sorted((state / "net").glob("*/" + CONTROL)):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        sock.settimeout(2.0)
        try:
            with short_name(path) as name:
                sock.connect(name)
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
