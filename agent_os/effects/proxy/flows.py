"""The live table of flows and the flow log: what went where, on whose behalf, with which verdict. No payload, no
header.

One JSON line a flow at its end (and one an alert at once) in `flows/<day>.jsonl`, 0600, bounded; the last
FLOW_HISTORY_MAX stay in memory for `agentos net top`. A log that cannot be written is counted and shown, and does not
stop traffic: the audit of the monitor is the record that must be there before anything happens.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from agent_os.core.action import NetConnect, NetRequest
from agent_os.core.canonical.addresses import ip_classes
from agent_os.core.ports import Admission, Door
from agent_os.core.principal import Principal
from agent_os.effects.proxy.identity import Peer
from agent_os.effects.proxy.limits import FLOW_HISTORY_MAX, FLOW_LOG_BYTES_MAX, METERS_MAX, OBSERVED_MAX
from agent_os.effects.proxy.meter import Meter
from agent_os.effects.proxy.stream import Stream

_numbers = itertools.count(1)
_plainly = json.JSONEncoder(separators=(",", ":")).encode


def _line(row: Mapping[str, Any]) -> bytes:
    return _plainly(row).encode() + b"\n"


try:
    import orjson
except ImportError:
    _encode = _line
else:

    def _encode(row: Mapping[str, Any]) -> bytes:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


class Moving(Protocol):
    """What moves a flow's bytes in another process."""

    @property
    def counts(self) -> tuple[int, int]:
        """Bytes up and down so far."""
        ...

    @property
    def mode(self) -> str:
        """What the flow is, as its row says it."""
        ...

    def moved(self) -> bool:
        """Return whether a byte passed since this was asked last."""
        ...

    def cut(self) -> None:
        """End it at once."""
        ...


class Standing(NamedTuple):
    """Something that was let through a door and is under way."""

    door: Door
    admission: Admission


@dataclass(slots=True, eq=False)
class Flow:
    """One connection of a client, from accept to close."""

    door: str
    principal: Principal
    label: str
    client: Stream
    started: float
    known: tuple[str, int, tuple[str, ...]] | None = None
    """Host, port and what the host resolved to, where that was asked for this connection already."""
    number: int = field(default_factory=lambda: next(_numbers))
    upstream: Stream | None = None
    carried: Moving | None = None
    """Set while the carrier has the sockets; `client` is a stream that does nothing then."""
    peer: Peer | None = None
    host: str = ""
    port: int = 0
    addresses: tuple[str, ...] = ()
    connected: str = ""
    mode: str = "opening"
    verdict: str = ""
    rules: tuple[str, ...] = ()
    reason: str = ""
    requests: int = 0
    denied: int = 0
    deadline: float = 0.0
    on_deadline: str = ""
    earlier_up: int = 0
    earlier_down: int = 0
    """Bytes of upstream connections before the present one."""
    idle_since: float = 0.0
    idle_limit: float = 0.0
    ended: str = ""
    ending: bool = False
    resting: bool = False
    """Between two requests."""
    last: str = ""
    task: Any = None
    standing: dict[str, Standing] = field(default_factory=dict)
    """What of this connection was admitted and is not settled, by permit: the connection itself, and requests under way."""
    passes: bool = False
    """Its bytes go on unread."""

    def stands(self, door: Door, admission: Admission) -> None:
        """Hold on to what was admitted until it is settled."""
        self.standing[admission.permit.nonce] = Standing(door, admission)

    async def holds(self) -> bool:
        """Return whether everything of this flow that is under way may go on; what cannot be judged may not."""
        for nonce, (door, admission) in list(self.standing.items()):
            try:
                allowed = await door.holds(admission)
            except Exception:  # a rule that cannot be judged restricts
                allowed = False
            if not allowed and nonce in self.standing:  # else it was over while it was judged
                return False
        return True

    @property
    def up(self) -> int:
        """Bytes sent upstream so far."""
        if self.carried is not None:
            return self.carried.counts[0]
        if self.upstream is None:
            return self.earlier_up
        lent = self.client.lent
        return self.earlier_up + self.upstream.sent + (lent.count if lent is not None else 0)

    @property
    def down(self) -> int:
        """Bytes received from upstream so far."""
        if self.carried is not None:
            return self.carried.counts[1]
        upstream = self.upstream
        if upstream is None:
            return self.earlier_down
        return self.earlier_down + upstream.received + (upstream.lent.count if upstream.lent is not None else 0)

    def usage(self, now: float) -> dict[str, float]:
        """Return what an outcome says was used: bytes both ways, and seconds.

        Whole numbers are integers: the audit's canonical form writes both the same, and integers much faster.
        """
        seconds = round(now - self.started, 3)
        return {"bytes": self.up + self.down, "seconds": seconds if seconds % 1 else int(seconds)}

    def to_json(self, now: float) -> dict[str, Any]:
        """Return one row of the live table."""
        program = self.peer.executable.path if self.peer is not None and self.peer.executable is not None else ""
        mode = self.mode if self.carried is None else self.carried.mode
        return {
            "flow": self.number, "door": self.door, "agent": self.principal.agent, "user": self.principal.user,
            "session": self.principal.session, "sandbox": self.label, "program": program,
            "pid": self.peer.pid if self.peer is not None else 0, "host": self.host, "port": self.port,
            "address": self.connected, "mode": mode, "verdict": self.verdict, "rules": list(self.rules),
            "requests": self.requests, "denied": self.denied, "last": self.last,
            "bytes_up": self.up, "bytes_down": self.down,
            "seconds": round(now - self.started, 3), "ended": self.ended, "reason": self.reason,
        }  # fmt: skip


class FlowTable:
    """Live flows, the recent past, and the log on disk."""

    def __init__(self, folder: Path | None, now: Callable[[], float]) -> None:
        self.live: dict[int, Flow] = {}
        self.by_agent: dict[tuple[str, str, str], int] = {}
        self.history: deque[dict[str, Any]] = deque(maxlen=FLOW_HISTORY_MAX)
        self.counts = {"flows": 0, "requests": 0, "denied": 0, "alerts": 0, "log_errors": 0}
        self._meters: dict[tuple[str, str, str, str, int], Meter] = {}
        """By user, session, agent, host, port: only where bytes are limited."""
        self._folder, self._now = folder, now
        self._written = 0
        self._observed: set[str] = set()
        self._file: Any = None
        self._day = self._moment = ""
        self._second = -1

    def open(self, flow: Flow) -> None:
        """Enter a flow."""
        self.live[flow.number] = flow
        key = _agent(flow.principal)
        self.by_agent[key] = self.by_agent.get(key, 0) + 1
        self.counts["flows"] += 1

    def held_by(self, principal: Principal) -> int:
        """Return how many connections an agent has open."""
        return self.by_agent.get(_agent(principal), 0)

    def meter(self, principal: Principal, host: str, port: int, most: int) -> Meter | None:
        """Return the one meter of an agent's bytes to a destination, held to `most`; None where nothing limits them.

        Past METERS_MAX destinations a further one has a meter with nothing left.
        """
        key = (*_agent(principal), host, port)
        held = self._meters.get(key)
        if held is None:
            if not most:
                return None
            if len(self._meters) >= METERS_MAX:
                return Meter(1, 1)
            held = self._meters[key] = Meter()
        held.most = most
        return held

    def limit_again(self, most: Callable[[str, int], int]) -> None:
        """Hold every meter to what another policy revision allows its destination."""
        for (*_, host, port), meter in self._meters.items():
            meter.most = most(host, port)

    def close(self, flow: Flow, now: float) -> None:
        """Take a flow out and log it; idempotent."""
        if self.live.pop(flow.number, None) is None:
            return
        key = _agent(flow.principal)
        left = self.by_agent.get(key, 1) - 1
        if left > 0:
            self.by_agent[key] = left
        else:
            self.by_agent.pop(key, None)
        row = {"type": "flow", **flow.to_json(now)}
        self.history.append(row)
        self._log(row)

    @property
    def logs(self) -> bool:
        """Whether a log on disk is kept."""
        return self._folder is not None

    def note(self, kind: str, flow: Flow | None, **details: Any) -> None:
        """Log an event at once: a request, a denial, an alert. Names and ids only, never values."""
        row: dict[str, Any] = {"type": kind}
        if flow is not None:
            row.update(flow=flow.number, agent=flow.principal.agent, session=flow.principal.session, host=flow.host)
        row.update(details)
        if kind == "alert":
            self.counts["alerts"] += 1
            self.history.append(row)
        self._log(row)

    def observed(self, action: NetConnect, peer: Peer | None, addresses: Sequence[str] = ()) -> None:
        """Keep what policy would deny as a line for `agentos policy learn --actions`: no query, header or body.

        Where the name led stands in it unless all addresses are ordinary public ones.
        """
        if self._folder is None:
            return
        wire: dict[str, Any] = {"kind": action.kind, "host": action.host, "port": action.port}
        if isinstance(action, NetRequest):
            wire.update(method=action.method, path=action.path, scheme=action.scheme)
        if peer is not None and peer.executable is not None:
            wire.update(binary=peer.executable.path, ancestors=list(peer.executable.ancestors))
        if any(ip_classes(address) for address in addresses):
            wire["resolved_ips"] = sorted(addresses)
        line = json.dumps(wire, separators=(",", ":"))
        if line in self._observed or len(self._observed) >= OBSERVED_MAX:
            return
        self._observed.add(line)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path, flags = self._folder / "observed.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
            descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, line.encode() + b"\n")
            finally:
                os.close(descriptor)
        except OSError:
            self.counts["log_errors"] += 1

    def snapshot(self, now: float) -> dict[str, Any]:
        """Return what `agentos net top` shows."""
        return {
            "live": [flow.to_json(now) for flow in list(self.live.values())],
            "recent": list(self.history)[-50:],
            "counts": dict(self.counts),
        }

    def _log(self, row: dict[str, Any]) -> None:
        if self._folder is None:
            return
        now = self._now()
        if int(now) != self._second:
            self._second = int(now)
            self._moment = dt.datetime.fromtimestamp(self._second, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
        day = self._moment[:10]
        try:
            if self._file is None or day != self._day:
                self._reopen(day)
            if self._written > FLOW_LOG_BYTES_MAX:
                self.counts["log_errors"] += 1
                return
            line = _encode({"time": f"{self._moment}.{int(now % 1 * 1000):03d}+00:00", **row})
            self._file.write(line)
            self._written += len(line)
        except OSError:
            self.counts["log_errors"] += 1

    def _reopen(self, day: str) -> None:
        if self._folder is None:
            return
        if self._file is not None:
            self._file.close()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{day}.jsonl"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._file, self._day = os.fdopen(descriptor, "ab", buffering=64 * 1024), day
        self._written = os.fstat(descriptor).st_size

    def flush(self) -> None:
        """Write buffered lines out."""
        if self._file is not None:
            try:
                self._file.flush()
            except OSError:
                self.counts["log_errors"] += 1

    def shut(self) -> None:
        """Close the log."""
        if self._file is not None:
            self.flush()
            self._file.close()
            self._file = None


def end_flow(flow: Flow, why: str) -> None:
    """Cut a flow at once; a flow that is being ended is left to it (its admissions are being settled)."""
    if flow.ending:
        return
    flow.ending, flow.ended = True, why
    if flow.carried is not None:
        flow.carried.cut()
    elif flow.task is not None:
        flow.task.cancel()


def _agent(principal: Principal) -> tuple[str, str, str]:
    return principal.user, principal.session, principal.agent
