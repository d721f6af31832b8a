"""The sandbox plan: everything the kernel will be asked to enforce for one run, as frozen, printable data. Pure.

`effects/sandbox` executes exactly this and nothing else; `agentos run --plan` prints it. What the plan cannot promise on
this host stands in `missing`, and a run refuses to start while that names a layer nobody explicitly let go.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from agent_os.guards.confine.inputs import Limits
from agent_os.guards.confine.seccomp import CallRule

PLAN_SCHEMA: Final = 1
MOUNTS_MAX: Final = 1024

MountKind = Literal["bind", "tmpfs", "proc", "devpts", "dir", "link", "file", "empty", "pin", "overlay"]


@dataclass(frozen=True, slots=True)
class Mount:
    """One step of building the private root, in order.

    `bind`: `source` of the host at `target` (`idmap`: (host uid, host gid) shown as the sandbox's user). `file`: a small
    read-only file with `content`. `empty`: an empty read-only folder. `link`: a symbolic link to `source`.
    `pin`: the place mounted on itself, so that it cannot be renamed away. `overlay`: `source` with changes kept in `upper`.
    `tmpfs`: private memory of `size` bytes, `inodes`.
    `hold` marks a place that does not exist yet: "dir" or "file" is put there for the length of the run and taken away.
    """

    kind: MountKind
    target: str
    source: str = ""
    writable: bool = False
    exec: bool = True
    devices: bool = False
    recursive: bool = True
    size: int = 0
    inodes: int = 0
    mode: int = 0o755
    content: str = ""
    idmap: tuple[int, int] | None = None
    hold: Literal["", "dir", "file"] = ""
    upper: str = ""
    why: str = ""

    @property
    def flags(self) -> str:
        """The mount's flags as text."""
        if self.kind not in ("bind", "tmpfs", "overlay"):
            return "read-only" if self.kind in ("file", "empty") else ""
        words = ["read-write" if self.writable else "read-only", "nosuid"]
        words += [] if self.devices else ["nodev"]
        words += [] if self.exec else ["noexec"]
        words += ["idmapped"] if self.idmap else []
        return ",".join(words)

    def to_json(self) -> dict[str, Any]:
        """Return the wire form, without the fields that say nothing."""
        form: dict[str, Any] = {"kind": self.kind, "target": self.target}
        for name in ("source", "upper", "size", "inodes", "content", "hold", "why"):
            if getattr(self, name):
                form[name] = getattr(self, name)
        if self.kind in ("bind", "tmpfs", "overlay"):
            form |= {"writable": self.writable, "exec": self.exec, "devices": self.devices, "recursive": self.recursive}
        if self.kind in ("tmpfs", "dir", "file", "empty"):
            form["mode"] = self.mode
        if self.idmap:
            form["idmap"] = list(self.idmap)
        return form


@dataclass(frozen=True, slots=True)
class LandlockRule:
    """Access bits below a path of the private root; bits that a plain file cannot have are dropped for files."""

    path: str
    access: int
    name: str

    def to_json(self) -> dict[str, Any]:
        """Return the wire form."""
        return {"path": self.path, "access": self.access, "name": self.name}


@dataclass(frozen=True, slots=True)
class LandlockPlan:
    """A Landlock ruleset. `abi` 0 means none; `handled_*` and `scoped` are the kernel's bit masks."""

    abi: int = 0
    handled_fs: int = 0
    handled_net: int = 0
    scoped: int = 0
    rules: tuple[LandlockRule, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the wire form."""
        return {
            "abi": self.abi,
            "handled_fs": self.handled_fs,
            "handled_net": self.handled_net,
            "scoped": self.scoped,
            "rules": [rule.to_json() for rule in self.rules],
        }


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the program is inside, and which host ids stand behind it. Never the host's uid 0."""

    user: str
    group: str
    uid: int
    gid: int
    home: str
    host_uid: int | None = None
    host_gid: int | None = None
    """None: a transient id is drawn for each run (the launcher is root)."""

    def to_json(self) -> dict[str, Any]:
        """Return the wire form."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """The only ways out. `none`: loopback and nothing else. `guarded`: listeners inside are handed to the egress guard.

    `tcp_ports` are caught for any address (transparent), `proxy_port` on loopback speaks HTTP CONNECT and SOCKS5,
    `dns` catches UDP and TCP port 53.
    """

    mode: Literal["none", "guarded"] = "none"
    tcp_ports: tuple[int, ...] = ()
    proxy_port: int = 0
    dns: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the wire form."""
        return {"mode": self.mode, "tcp_ports": list(self.tcp_ports), "proxy_port": self.proxy_port, "dns": self.dns}


@dataclass(frozen=True, slots=True)
class SandboxPlan:
    """One run, whole. `missing` maps a layer this host lacks to why; `allowed_missing` are those let go by name."""

    workspace: str
    cwd: str
    namespaces: tuple[str, ...]
    mounts: tuple[Mount, ...]
    landlock: LandlockPlan
    seccomp: bytes
    seccomp_rules: tuple[CallRule, ...]
    identity: Identity
    limits: Limits
    rlimits: Mapping[str, int]
    memory_by: Literal["cgroup", "poller", "none"]
    pids_by: tuple[str, ...]
    environment: Mapping[str, str]
    network: NetworkPlan
    host_name: str = "sandbox"
    pid_max: int = 0
    missing: Mapping[str, str] = field(default_factory=dict)
    allowed_missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def unenforced(self) -> tuple[str, ...]:
        """The layers that are missing and that nobody let go: a run must not start."""
        return tuple(layer for layer in self.missing if layer not in self.allowed_missing)

    def to_json(self) -> dict[str, Any]:
        """Return the wire form: what the launcher is given, and `agentos run --plan --json` prints."""
        return {
            "schema": PLAN_SCHEMA,
            "workspace": self.workspace,
            "cwd": self.cwd,
            "host_name": self.host_name,
            "namespaces": list(self.namespaces),
            "identity": self.identity.to_json(),
            "mounts": [mount.to_json() for mount in self.mounts],
            "landlock": self.landlock.to_json(),
            "seccomp": base64.b64encode(self.seccomp).decode(),
            "seccomp_rules": [rule.to_json() for rule in self.seccomp_rules],
            "capabilities": [],
            "no_new_privs": True,
            "limits": {name: getattr(self.limits, name) for name in self.limits.__dataclass_fields__},
            "rlimits": dict(self.rlimits),
            "pid_max": self.pid_max,
            "memory_by": self.memory_by,
            "pids_by": list(self.pids_by),
            "environment": dict(self.environment),
            "network": self.network.to_json(),
            "missing": dict(self.missing),
            "allowed_missing": list(self.allowed_missing),
            "notes": list(self.notes),
        }

    def to_text(self) -> str:
        """Return the plan for people: one block a layer, one line a fact. Variables are named without their values."""
        lines = [f"workspace     {self.workspace}", f"namespaces    {', '.join(self.namespaces) or 'none'}"]
        person = self.identity
        behind = "a transient uid" if person.host_uid is None else f"uid {person.host_uid}"
        lines.append(f"identity      {person.user} (uid {person.uid}, gid {person.gid}) backed by {behind} of the host")
        lines.append("capabilities  none, bounding set empty, no_new_privs")
        lines.append("private root")
        for mount in self.mounts:
            source = f" <- {mount.source}" if mount.source and mount.source != mount.target else ""
            why = f"  # {mount.why}" if mount.why else ""
            held = f" (held: no {mount.hold} there yet)" if mount.hold else ""
            lines.append(f"  {mount.kind:<7} {mount.target}{source}  {mount.flags}{held}{why}".rstrip())
        ll = self.landlock
        lines.append(
            f"landlock      ABI {ll.abi}, {len(ll.rules)} paths, scopes {ll.scoped:#x}"
            if ll.abi
            else "landlock      none"
        )
        lines += [f"  {rule.path}  {rule.name}" for rule in ll.rules]
        lines.append(
            f"seccomp       {len(self.seccomp) // 8} instructions, {len(self.seccomp_rules)} rules; default allow,"
        )
        lines.append("              calls newer than the table ENOSYS, foreign architectures killed")
        lines += [f"  {rule.answer:<15} {' '.join(rule.calls)}  # {rule.why}" for rule in self.seccomp_rules]
        limits = ", ".join(f"{name}={getattr(self.limits, name)}" for name in self.limits.__dataclass_fields__)
        lines.append(f"limits        {limits}")
        lines.append(f"  memory by {self.memory_by}; processes by {', '.join(self.pids_by) or 'nothing'}")
        lines.append("rlimits       " + ", ".join(f"{name}={value}" for name, value in self.rlimits.items()))
        lines.append("environment   " + " ".join(sorted(self.environment)))
        net = self.network
        if net.mode == "none":
            lines.append("network       none: loopback of its own, no way out")
        else:
            ports = ", ".join(map(str, net.tcp_ports))
            lines.append(
                f"network       the egress guard: proxy 127.0.0.1:{net.proxy_port}, any address TCP {ports}, DNS by policy"
            )
        for layer, why in self.missing.items():
            state = "let go by --allow-missing" if layer in self.allowed_missing else "REFUSED"
            lines.append(f"missing       {layer}: {why} [{state}]")
        lines += [f"note          {note}" for note in self.notes]
        return "\n".join(lines) + "\n"
