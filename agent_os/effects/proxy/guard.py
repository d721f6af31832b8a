"""The egress guard as one object: listeners, limits, reload, drain. The composition root gives it its ports.

Everything a connection does is in `front`, `tunnel` and `exchange`; here is what outlives one. A sweep every half
second ends what is too slow, too long, idle, over its bytes, or no longer allowed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

from agent_os.core.errors import EffectError
from agent_os.core.ports import Clock, Door, Resolver
from agent_os.effects.models.client import Providers
from agent_os.effects.proxy.accepting import Accepting
from agent_os.effects.proxy.authority import CertificateAuthority, UpstreamContexts
from agent_os.effects.proxy.carriage import Carriage, Known
from agent_os.effects.proxy.carried import Served
from agent_os.effects.proxy.content import FindRestorer, Stage
from agent_os.effects.proxy.credentials import SecretStore
from agent_os.effects.proxy.dns import DnsUdp, serve_dns
from agent_os.effects.proxy.flows import Flow, FlowTable, end_flow
from agent_os.effects.proxy.front import refuse_connection, serve
from agent_os.effects.proxy.identity import Identities, ListenerIdentity
from agent_os.effects.proxy.inference import MODEL_VARIABLES
from agent_os.effects.proxy.limits import Limits
from agent_os.effects.proxy.names import SyntheticNames
from agent_os.effects.proxy.parts import GuardRevision, Inference, Parts
from agent_os.effects.proxy.rules import EgressRules
from agent_os.effects.proxy.stream import Stream
from agent_os.effects.proxy.upstream import CorporateProxy
from agent_os.effects.unix_names import short_name

CARRIER_VARIABLE: Final = "AGENTOS_CARRIER"
"""Variable of the guard's environment that is its `carry`."""
SWEEP_SECONDS: Final = 0.5
RECHECK_SECONDS: Final = 2.0
"""How often what is open is judged again without a reload: an expired or revoked grant, a halt and a lost right cut it."""
RECHECKS_AT_ONCE_MAX: Final = 64
"""Connections judged side by side then (after a policy reload an engine may be asked for each)."""
KINDS: Final = frozenset({"proxy", "socks", "transparent", "tcp", "dns-udp", "dns-tcp", "policy", "control"})
_BUNDLE_VARIABLES: Final = (
    "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT", "NODE_EXTRA_CA_CERTS",
    "npm_config_cafile", "CARGO_HTTP_CAINFO", "AWS_CA_BUNDLE", "DENO_CERT", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
)  # fmt: skip


@dataclass(eq=False, slots=True)
class Listener:
    """One socket being served."""

    kind: str
    identity: ListenerIdentity
    address: Any
    closer: Any

    def close(self) -> None:
        """Take no new connections; running ones stay."""
        self.closer()


class EgressGuard:
    """See the package docstring."""

    def __init__(
        self, *, door: Door, resolver: Resolver, rules: EgressRules, state: Path, clock: Clock,
        secrets: SecretStore | None = None, stages: Sequence[Stage] = (), limits: Limits | None = None,
        observe: bool = False, corporate: CorporateProxy | None = None, roots: Path | None = None,
        restorer: FindRestorer | None = None, inference: Inference | None = None, carry: str = "",
    ) -> None:  # fmt: skip
        """`state` is the state directory (`ca/` and `flows/` are made in it); `roots` is PEM of upstream roots.

        `observe`: what policy would deny passes to public addresses and is logged, for `policy learn`. `carry`: whether
        passed tunnels go to a carrier: `always` from the start, `never`, or (empty) once there are many.
        """
        if carry not in ("", "always", "never"):
            raise EffectError(f"{CARRIER_VARIABLE} is `always`, `never` or empty, not `{carry[:40]}`")
        self._carry = carry
        self._carriage: Carriage | None = None
        self._ports = (door, resolver, rules, clock, secrets, stages, observe, corporate)
        self._restorer, self._inference = restorer, inference
        self.limits, self.state, self._roots = limits or Limits(), state, roots
        self.environ: Mapping[str, str] = {}
        """Where its owner reads secrets and settings from."""
        self.models: Providers | None = None
        """What is behind `inference.local`, for its owner."""
        self.parts: Parts | None = None
        self.on_stop: list[Callable[[], Awaitable[None]]] = []
        """What is closed after the last connection."""
        self._listeners: set[Listener] = set()
        self._names: WeakKeyDictionary[ListenerIdentity, SyntheticNames] = WeakKeyDictionary()
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the CA and the flow log. Raises IntegrityError when the CA's key is open to others."""
        door, resolver, rules, clock, secrets, stages, observe, corporate = self._ports
        self.parts = Parts(
            loop=asyncio.get_running_loop(),
            clock=clock,
            door=door,
            resolver=resolver,
            rules=rules,
            limits=self.limits,
            authority=CertificateAuthority(self.state / "ca", roots=self._roots),
            contexts=UpstreamContexts(self._roots),
            identities=Identities(),
            flows=FlowTable(self.state / "flows", clock.now),
            secrets=secrets,
            stages=stages,
            restorer=self._restorer,
            observe=observe,
            corporate=corporate,
            inference=self._inference,
        )
        self._sweeper = asyncio.create_task(self._sweep(), name="egress-sweep")
        if self._carry != "never":
            accepted = lambda served, stream, known: self._accepted(  # noqa: E731
                served.parts, stream, served.identity, served.names, "proxy", known
            )
            self._carriage = Carriage(self.parts, self.state, accepted, self._run)
            if self._carry == "always":
                await self._carriage.start()
                if self._carriage.missing:
                    raise EffectError(f"there is no carrier: {self._carriage.missing}")

    @property
    def carrier_pid(self) -> int:
        """The process id of the carrier, 0 while there is none."""
        return self._carriage.pid if self._carriage is not None else 0

    @property
    def _started(self) -> Parts:
        if self.parts is None:
            raise EffectError("the egress guard is not started")
        return self.parts

    # ---- listeners ---------------------------------------------------------------------------------------------------

    async def serve_listener(
        self, sock: socket.socket, kind: str, identity: ListenerIdentity, *, door: Door | None = None
    ) -> Listener:
        """Serve a listening (or, for `dns-udp`, bound) socket from now on; the guard owns it.

        `door`: the monitor of this listener's session, where it is not the guard's own. Raises EffectError.
        """
        parts = self._started
        kind = "transparent" if kind == "tcp" else kind
        if kind not in KINDS:
            raise EffectError(f"unknown kind of listener {kind!r}: one of {', '.join(sorted(KINDS))}")
        if door is not None:
            parts = parts.with_door(door)
        sock.setblocking(False)
        names = self._names.setdefault(identity, SyntheticNames())
        address = sock.getsockname()
        if kind == "dns-udp":
            closer: Any = DnsUdp(parts, names, identity, sock).close
        else:
            opened = lambda stream: self._accepted(parts, stream, identity, names, kind)  # noqa: E731
            accepting = Accepting(parts.loop, sock, lambda: Stream(parts.loop, opened))
            closer = accepting.close
            if kind == "proxy" and sock.family != socket.AF_UNIX and self._carriage is not None:
                closer = self._carriage.offer(Served(parts, accepting, identity, names))
        listener = Listener(kind, identity, address, closer)
        self._listeners.add(listener)
        return listener

    async def serve_control(self, path: Path) -> Listener:
        """Serve the live table on a unix socket (0600) for `agentos net top`."""
        return await self.serve_listener(
            _private_socket(path), "control", ListenerIdentity(uid=os.geteuid(), executables=False)
        )

    def _accepted(
        self, parts: Parts, stream: Stream, identity: ListenerIdentity, names: SyntheticNames, kind: str,
        known: Known | None = None,
    ) -> None:  # fmt: skip
        flows, now = parts.flows, parts.clock.monotonic()
        if kind == "control":
            stream.write(json.dumps(flows.snapshot(now)).encode() + b"\n")
            stream.close()
            return
        if parts.draining:
            stream.abort()
            return
        if (
            len(flows.live) >= parts.limits.connections
            or flows.held_by(identity.principal) >= parts.limits.connections_per_agent
        ):
            flows.note("refused", None, reason="too many connections", agent=identity.principal.agent)
            refuse_connection(parts, stream, "this agent holds as many connections as it may; close some")
            return
        if kind == "proxy" and self._carriage is not None:
            self._carriage.accepted_here()
        flow = Flow(kind, identity.principal, identity.label, stream, now, known=known)
        flows.open(flow)
        self._run(
            flow, serve_dns(parts, flow, names) if kind == "dns-tcp" else serve(parts, flow, identity, names, kind)
        )

    def _run(self, flow: Flow, work: Coroutine[Any, Any, None]) -> None:
        """Serve a flow to its end, and take it out of the table then."""
        parts = self._started
        task = flow.task = parts.loop.create_task(self._served(parts, flow, work))
        parts.background.add(task)
        task.add_done_callback(parts.background.discard)

    async def _served(self, parts: Parts, flow: Flow, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            flow.client.abort()
            if flow.upstream is not None:
                flow.upstream.abort()
        except Exception as error:  # a defect of ours ends this connection and no other, and is seen
            flow.ended = f"failed: {type(error).__name__}"
            parts.flows.note("alert", flow, rule="runtime.failed", reason=type(error).__name__)
            parts.loop.call_exception_handler({"message": "egress connection failed", "exception": error})
        finally:
            flow.client.close()
            if flow.upstream is not None:
                flow.upstream.close()
            parts.flows.close(flow, parts.clock.monotonic())

    # ---- the life of connections ------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        parts, looked = self._started, 0.0
        rechecking: asyncio.Task[int] | None = None
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            _end_overdue(parts)
            parts.flows.flush()
            now = parts.clock.monotonic()
            if now - looked >= RECHECK_SECONDS and (rechecking is None or rechecking.done()):
                looked, rechecking = now, parts.loop.create_task(self._recheck(), name="egress-recheck")
                self.keep(rechecking)

    async def reload(self, revision: GuardRevision) -> int:
        """Put another policy revision in force; close what is no longer allowed and return how many that were.

        The door (the monitor) is reloaded by its owner, before this. What is under way ends under the stages it began with.
        """
        parts, rules = self._started, revision.rules
        parts.rules, parts.secrets, parts.stages = rules, revision.secrets, revision.stages
        parts.inference = revision.inference
        parts.known_secrets = {name: value for name, value in parts.known_secrets.items() if value}
        parts.flows.limit_again(
            lambda host, port: rules.treatment(host, port).total_bytes or parts.limits.destination_bytes
        )
        return await self._recheck()

    async def _recheck(self) -> int:
        """Close what is no longer allowed: by another policy, or because a grant, a right or an agent ended. Return how many."""
        parts = self._started
        flows, closed = [flow for flow in parts.flows.live.values() if flow.standing], 0
        for start in range(0, len(flows), RECHECKS_AT_ONCE_MAX):
            some = flows[start : start + RECHECKS_AT_ONCE_MAX]
            for flow, allowed in zip(some, await asyncio.gather(*(flow.holds() for flow in some)), strict=True):
                if (not allowed or _to_be_opened(flow, parts)) and not flow.ending:
                    end_flow(flow, "no longer allowed by policy")
                    closed += 1
            await asyncio.sleep(0)  # let others run between two lots
        return closed

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Hold on to a task until it is done; stopping ends it."""
        background = self._started.background
        background.add(task)
        task.add_done_callback(background.discard)

    async def stop(self) -> None:
        """Take nothing new, give running exchanges `drain_seconds`, close the rest."""
        parts = self._started
        parts.draining = True
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for flow in list(parts.flows.live.values()):
            if flow.resting:
                flow.ended = "the guard stops"
                flow.client.close()
        carriage = self._carriage
        if carriage is not None:
            self.keep(parts.loop.create_task(carriage.drained()))
        if parts.background:
            await asyncio.wait(parts.background, timeout=parts.limits.drain_seconds)
        if carriage is not None:
            carriage.cut_all("the guard stops")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(carriage.drained(), 1.0)
            await carriage.close()
        for task in list(parts.background):
            task.cancel()
        if parts.background:
            await asyncio.wait(parts.background, timeout=2.0)
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        for close in self.on_stop:
            await close()
        parts.flows.shut()

    def environment(self, *, proxy: str = "", socks: str = "", bundle: str = "", no_proxy: str = "") -> dict[str, str]:
        """Return variables for a sandbox or child process: proxy settings, where the CA bundle is, placeholders.

        A secret that policy names is there under its name as `agentos-secret:NAME`; where the policy has models, the
        variables of the usual clients lead them to `inference.local`.

        `bundle` is the path of `ca_bundle` as the child sees it (default: where it is here).
        """
        path = bundle or str(self.ca_bundle)
        result = {name: f"agentos-secret:{name}" for name in self._started.rules.secret_names() if name.isidentifier()}
        result.update(dict.fromkeys(_BUNDLE_VARIABLES, path))
        if self._inference is not None:
            result = {**MODEL_VARIABLES, **result}
        if proxy:
            for name in ("HTTP_PROXY", "HTTPS_PROXY", "WS_PROXY", "WSS_PROXY"):
                result[name] = result[name.lower()] = proxy
            result["NODE_USE_ENV_PROXY"] = "1"
            result["PIP_RETRIES"] = "1"  # it takes a denied tunnel for a broken network, and waits longer each time
            result["NO_PROXY"] = result["no_proxy"] = no_proxy
        if socks:
            result["ALL_PROXY"] = result["all_proxy"] = socks
        return result

    @property
    def ca_bundle(self) -> Path:
        """PEM file of the guard's CA and the system's roots, to be shown to sandboxes read-only."""
        return self._started.authority.bundle_path

    def snapshot(self) -> dict[str, Any]:
        """Return the live table."""
        return self._started.flows.snapshot(self._started.clock.monotonic())


def _private_socket(path: Path) -> socket.socket:
    """Return a listening unix socket that only this user can open."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    mask = os.umask(0o177)
    try:
        with short_name(path) as name:
            sock.bind(name)
    finally:
        os.umask(mask)
    sock.listen(16)
    return sock


def _end_overdue(parts: Parts) -> None:
    now = parts.clock.monotonic()
    for flow in list(parts.flows.live.values()):
        why = _overdue(flow, parts.limits, now)
        if why:
            end_flow(flow, why)


def _overdue(flow: Flow, limits: Limits, now: float) -> str:
    if flow.deadline and now > flow.deadline:
        return flow.on_deadline or "deadline"
    if now - flow.started > limits.total_seconds:
        return "open too long"
    streams = [stream for stream in (flow.client, flow.upstream) if stream is not None]
    if flow.carried is not None and flow.carried.moved():
        flow.idle_since = now
    elif any(stream.active or (stream.lent is not None and stream.lent.moved()) for stream in streams):
        for stream in streams:
            stream.active = False
        flow.idle_since = now
    elif flow.idle_limit and flow.idle_since and now - flow.idle_since > flow.idle_limit:
        return "idle"
    return ""


def _to_be_opened(flow: Flow, parts: Parts) -> bool:
    """Whether a tunnel that is passed unread is one that policy wants to look into, or closes."""
    if not flow.passes:
        return False
    treatment = parts.rules.treatment(flow.host, flow.port)
    return bool(treatment.inspect or treatment.unavailable)
