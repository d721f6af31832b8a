"""`plan_sandbox`: a policy's confinement, a workspace and facts about the host become one SandboxPlan. Pure.

Nothing is looked up here: `paths_of_interest` says which paths the caller must know about, `HostFacts.paths` brings them.
The private root holds what the policy grants and nothing else; a hidden or read-only path inside a writable one is mounted
over it with every directory in between pinned, because a mount point cannot be renamed away but its parent can.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Final

from agent_os.core.errors import EnforcementError
from agent_os.guards.confine.environment import DEFAULT_PATH, NEVER, sandbox_environment
from agent_os.guards.confine.inputs import Confinement, HostFacts, Limits, within
from agent_os.guards.confine.landlock import plan_landlock
from agent_os.guards.confine.plan import MOUNTS_MAX, Identity, Mount, NetworkPlan, SandboxPlan
from agent_os.guards.confine.protect import Guarded, held_places, protection_of
from agent_os.guards.confine.seccomp import call_rules, compile_rules

NAMESPACES: Final = ("user", "mount", "pid", "network", "ipc", "uts", "cgroup")
INDISPENSABLE: Final = ("user-namespace", "mount-namespace", "pid-namespace", "seccomp")
"""Layers the sandbox is made of: `--allow-missing` does not let them go."""
SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/var")
MERGED_USR: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
HARMLESS_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")
GRANTABLE_DEVICES: Final = ("/dev/nvidia", "/dev/dri", "/dev/kfd")
LOADER_FILES: Final = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime", "/etc/mime.types", "/etc/protocols",
                       "/etc/services")  # fmt: skip
OWN: Final = ("/proc", "/dev", "/sys")
PRIVATE_TMP: Final = ("/tmp", "/var/tmp")  # noqa: S108
PROXY_PORT: Final = 3128
HELD_NAMES: Final = "/run/agentos/held-names"
"""Inside: the names held at a workspace's root, so that git does not take their stand-ins for new files."""
RESOLVER: Final = "127.0.0.53"
PID_MAX_SPARE: Final = 301


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a run adds to the policy. `protected` are existing protected paths found below the workspace.

    `guard` says that the egress guard stands ready outside; `hide` are our own files (state, policy, keys).
    """

    cwd: str = ""
    outside: Mapping[str, str] | None = None
    values: Mapping[str, str] | None = None
    extra_names: tuple[str, ...] = ()
    guard: bool = False
    hide: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    protect_workspace: bool = True
    upper: str = ""
    """A folder that takes the changes of a snapshot run; empty: the workspace is changed in place."""
    allow_missing: tuple[str, ...] = ()
    shown: Mapping[str, str] | None = None
    """Single host files shown read-only under another path: path inside -> file outside (the guard's CA bundle)."""
    files: Mapping[str, str] | None = None
    """Small read-only files by path inside, such as the guard's CA bundle."""
    read_only: tuple[str, ...] = ()
    """Further read-only paths that the caller itself needs inside (the code of a tool server)."""


def paths_of_interest(confinement: Confinement, workspace: str, options: RunOptions) -> tuple[str, ...]:
    """Return the host paths whose facts `plan_sandbox` needs."""
    wanted = [*confinement.read_only, *confinement.read_write, *confinement.hidden, workspace, *options.read_only]
    wanted += [
        *confinement.sockets,
        *options.hide,
        *(options.shown or {}).values(),
        *MERGED_USR,
        *LOADER_FILES,
        "/etc",
    ]
    wanted += [f"/dev/{name}" for name in HARMLESS_DEVICES]
    wanted += [f"/etc/{name}" for name in ("passwd", "group", "hosts", "resolv.conf", "nsswitch.conf", "gitconfig")]
    if "/" in (*confinement.read_only, *confinement.read_write):
        wanted += ROOT_EXPANDED
    source = workspace
    for rule in held_places():
        wanted.append(f"{source}/{rule.pattern}")
        wanted += [f"{source}/{'/'.join(rule.parts[:size])}" for size in range(1, len(rule.parts))]
    wanted += [f"{source}/{path}" for path in options.protected]
    return tuple(dict.fromkeys(wanted))


ROOT_EXPANDED: Final = ("/usr", "/etc", "/opt", "/var", "/srv", "/home", "/root", "/mnt", "/media", *MERGED_USR)


def plan_sandbox(
    confinement: Confinement, workspace: str, host: HostFacts, options: RunOptions | None = None
) -> SandboxPlan:
    """Return the plan of one run.

    Raises EnforcementError for what no plan can express here: a workspace that would be the whole machine, a program to be
    run as root, a protected name that is a symbolic link.
    """
    options = options or RunOptions()
    fact = host.path(workspace)
    if workspace == "/" or fact.kind != "dir" or any(within(workspace, own) for own in OWN) or workspace in SYSTEM:
        raise EnforcementError(
            ["workspace"], "give a folder that exists and is not part of the system: --workspace DIR"
        )
    missing, notes = _missing(confinement, host), list[str]()
    identity = _identity(confinement, host)
    root = _Root(confinement, workspace, host, options, identity, notes)
    mounts = root.build()
    if any(mount.idmap for mount in mounts) and not host.idmapped_mounts:
        missing["idmapped-workspace"] = host.missing.get("idmapped-mounts", "this file system cannot map owners")
    if len(mounts) > MOUNTS_MAX:
        raise EnforcementError(["private-root"], f"more than {MOUNTS_MAX} mounts")
    namespaces = tuple(name for name in NAMESPACES if name in host.namespaces)
    own_network = "network" in namespaces
    counted = "memory" in host.controllers
    rules = call_rules(sockets=own_network, memory_counted=counted)
    for layer in options.allow_missing:
        if layer in INDISPENSABLE and layer in missing:
            raise EnforcementError([layer], "the sandbox is made of it and cannot be had without")
    network = network_plan(confinement, guard=options.guard, own_network=own_network)
    limits = confinement.limits
    cwd = options.cwd or workspace
    if not any(mount.kind in ("bind", "overlay") and within(cwd, mount.target) for mount in mounts):
        cwd = identity.home
    return SandboxPlan(
        workspace=workspace,
        cwd=cwd,
        namespaces=namespaces,
        mounts=mounts,
        landlock=plan_landlock(host.landlock_abi, mounts, network_namespace=own_network),
        seccomp=compile_rules(rules, host.machine),
        seccomp_rules=rules,
        identity=identity,
        limits=limits,
        rlimits=_rlimits(limits, counted),
        memory_by="cgroup" if counted else "poller",
        pids_by=_pids_by(host),
        pid_max=limits.processes + PID_MAX_SPARE if host.pid_max_namespaced and limits.processes else 0,
        environment=_environment(identity, mounts, confinement, options, network, cwd),
        network=network,
        missing=missing,
        allowed_missing=tuple(layer for layer in options.allow_missing if layer in missing),
        notes=tuple(notes),
    )


def _missing(confinement: Confinement, host: HostFacts) -> dict[str, str]:
    missing = {
        f"{name}-namespace": host.missing.get(f"{name}-namespace", "this kernel or user cannot make one")
        for name in NAMESPACES
        if name not in host.namespaces
    }
    if host.landlock_abi < 1:
        missing["landlock"] = host.missing.get("landlock", "not in this kernel")
    if not host.seccomp:
        missing["seccomp"] = host.missing.get("seccomp", "no filter mode in this kernel")
    if confinement.limits.cpus and "cpu" not in host.controllers:
        missing["cpu-limit"] = host.missing.get("cpu-limit", "no writable cpu cgroup")
    if confinement.limits.io_bytes_per_second:
        missing["io-limit"] = "disk bandwidth is not limited on any machine yet: leave io_bytes_per_second out"
    return missing


def _identity(confinement: Confinement, host: HostFacts) -> Identity:
    user, group = confinement.user or "sandbox", confinement.group or confinement.user or "sandbox"
    if user in ("root", "0") or group in ("root", "0"):
        raise EnforcementError(["process.run_as_user"], "root inside a sandbox is refused: name another user")
    uid = int(user) if user.isdecimal() else 1000
    gid = int(group) if group.isdecimal() else 1000
    name = "sandbox" if user.isdecimal() else user
    return Identity(
        user=name,
        group="sandbox" if group.isdecimal() else group,
        uid=uid,
        gid=gid,
        home=f"/home/{name}",
        host_uid=None if host.root else host.uid,
        host_gid=None if host.root else host.gid,
    )


class _Root:
    """Collects the steps of one private root. Lives for one call of `plan_sandbox`."""

    def __init__(
        self,
        confinement: Confinement,
        workspace: str,
        host: HostFacts,
        options: RunOptions,
        identity: Identity,
        notes: list[str],
    ) -> None:
        self.confinement, self.workspace, self.host = confinement, workspace, host
        self.options, self.identity, self.notes = options, identity, notes
        self.grants: dict[str, bool] = {}
        self.links: dict[str, str] = {}
        self.extra: list[Mount] = []

    def build(self) -> tuple[Mount, ...]:
        conf = self.confinement
        self._grant(conf.read_only, writable=False)
        self._grant(self.options.read_only, writable=False)
        self._grant(conf.read_write, writable=True)
        if conf.include_workdir:
            self.grants[self.workspace] = True
        # INVARIANT: where one path is granted both ways, an explicit read-only wins (deny inside allow).
        for path in conf.read_only:
            real = self.host.path(path).real or path
            if real in self.grants and real != self.workspace:
                self.grants[real] = False
        # A plain list of writable file systems of our own; everything else is bound from the host.
        steps: dict[str, Mount] = {mount.target: mount for mount in self._own()}
        for path in sorted(self.grants, key=lambda p: p.count("/")):
            above = self._covering(path)
            if above is not None and self.grants[above] == self.grants[path] and path != self.workspace:
                continue
            if above is not None and self.grants[above] and not self.grants[path]:
                for pin in self._pins(path, above):
                    steps.setdefault(pin.target, pin)
            steps[path] = self._bind(path, writable=self.grants[path])
        for path, target in self.links.items():
            if self._covering(path) is None:
                steps[path] = Mount("link", path, source=target)
        for mount in (*self._etc(), *self._private_files()):
            steps.setdefault(mount.target, mount)
        for mount in self._protected():
            if mount.why == "pinned":
                steps.setdefault(mount.target, mount)
            else:
                steps[mount.target] = mount
        for mount in self._hidden():
            if mount.why == "pinned":
                steps.setdefault(mount.target, mount)
            else:
                steps[mount.target] = mount
        return tuple(sorted(steps.values(), key=lambda m: (m.target.count("/") if m.target != "/" else 0, m.target)))

    def _grant(self, paths: Iterable[str], *, writable: bool) -> None:
        for path in paths:
            if path == "/":
                if writable:
                    raise EnforcementError(["filesystem_policy"], "'/' cannot be writable: name the folders")
                self.notes.append(
                    "'/' stands for the system and home folders; /proc, /dev, /sys, /run and /tmp are never shared"
                )
                self._grant([p for p in ROOT_EXPANDED if self.host.path(p).kind != "missing"], writable=False)
                continue
            if path.startswith("/dev/") and path.startswith(GRANTABLE_DEVICES):
                self.extra.append(Mount("bind", path, path, writable=True, exec=False, devices=True))
                continue
            if any(within(path, own) for own in OWN):
                if path not in ("/proc", "/dev") and path.removeprefix("/dev/") not in HARMLESS_DEVICES:
                    self.notes.append(f"{path}: not shared; the sandbox has its own /proc and /dev and no /sys")
                continue
            if path in PRIVATE_TMP:
                continue
            fact = self.host.path(path)
            if fact.kind == "missing":
                self.notes.append(f"{path}: does not exist here, nothing to grant")
                continue
            real = fact.real or path
            if real != path:
                self.links[path] = real if fact.kind != "link" or not fact.target else fact.target
            if real in PRIVATE_TMP or any(within(real, own) for own in OWN):
                self.notes.append(f"{path}: leads to a place that is never shared")
                continue
            self.grants[real] = self.grants.get(real, False) or writable

    def _covering(self, path: str) -> str | None:
        """Return the nearest granted path strictly above `path`."""
        above = [other for other in self.grants if other != path and within(path, other)]
        return max(above, key=len, default=None)

    def _bind(self, path: str, *, writable: bool) -> Mount:
        idmap = None
        if self.host.root and (writable or not any(within(path, system) for system in SYSTEM)):
            fact = self.host.path(self.workspace if within(path, self.workspace) else path)
            idmap = (fact.uid, fact.gid)
        if path == self.workspace and self.options.upper:
            return Mount("overlay", path, path, upper=self.options.upper, writable=True, idmap=idmap, recursive=False)
        return Mount("bind", path, path, writable=writable, idmap=idmap, recursive=idmap is None)

    def _pins(self, path: str, top: str) -> list[Mount]:
        pins, parent = [], path.rpartition("/")[0]
        while parent != top and within(parent, top) and parent:
            pins.append(Mount("pin", parent, why="pinned"))
            parent = parent.rpartition("/")[0]
        return pins

    def _own(self) -> list[Mount]:
        limits, home = self.confinement.limits, self.identity.home
        own = [
            Mount("proc", "/proc"),
            Mount("tmpfs", "/tmp", writable=True, size=limits.tmp_bytes, inodes=limits.tmp_files, mode=0o1777),  # noqa: S108
            Mount("tmpfs", home, writable=True, size=limits.tmp_bytes, inodes=limits.tmp_files, mode=0o700),
            Mount("dir", "/var"),
            Mount("link", "/var/tmp", source="/tmp"),  # noqa: S108
            Mount("dir", "/run"),
            Mount("dir", "/dev"),
            Mount("tmpfs", "/dev/shm", writable=True, exec=False, size=limits.shm_bytes, inodes=10_000, mode=0o1777),  # noqa: S108
            Mount("devpts", "/dev/pts"),
            Mount("link", "/dev/ptmx", source="pts/ptmx"),
            Mount("link", "/dev/fd", source="/proc/self/fd"),
            Mount("link", "/dev/stdin", source="/proc/self/fd/0"),
            Mount("link", "/dev/stdout", source="/proc/self/fd/1"),
            Mount("link", "/dev/stderr", source="/proc/self/fd/2"),
        ]
        own += [Mount("bind", f"/dev/{name}", f"/dev/{name}", writable=True, exec=False, devices=True)
                for name in HARMLESS_DEVICES if self.host.path(f"/dev/{name}").kind != "missing"]  # fmt: skip
        for name in MERGED_USR:
            fact = self.host.path(name)
            if fact.kind == "link" and (fact.real in self.grants or self._covering(fact.real) is not None):
                own.append(Mount("link", name, source=fact.target))
        if "/var" in self.grants:
            own = [mount for mount in own if not mount.target.startswith("/var")]
        for path in self.confinement.sockets:
            if self.host.path(path).kind == "socket":
                own.append(Mount("bind", path, path, writable=True, exec=False, why="a socket the policy names"))
            else:
                self.notes.append(f"{path}: no such socket now")
        return own + self.extra

    def _etc(self) -> list[Mount]:
        person = self.identity
        files = {
            "/etc/passwd": f"{person.user}:x:{person.uid}:{person.gid}::{person.home}:/bin/sh\n"
            "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
            "/etc/group": f"{person.group}:x:{person.gid}:\nnogroup:x:65534:\n",
            "/etc/hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
            "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
            "/etc/resolv.conf": f"nameserver {RESOLVER}\noptions timeout:2 attempts:1\n",
        }
        steps = []
        held = [rule.pattern for rule in held_places() if "/" not in rule.pattern and rule.pattern != ".git"]
        files["/etc/gitconfig"] = f"[core]\n\texcludesFile = {HELD_NAMES}\n[safe]\n\tdirectory = *\n"
        files[HELD_NAMES] = "".join(f"/{name}\n" for name in held)
        whole = "/etc" in self.grants
        for path, content in files.items():
            if not path.startswith("/etc/") or not whole or self.host.path(path).kind == "file":
                steps.append(Mount("file", path, content=content, mode=0o644))
            elif self.host.path(path).kind == "link":
                self.notes.append(f"{path}: a link in the host's /etc, left as it is")
        if not whole:
            steps += [Mount("bind", path, self.host.path(path).real) for path in LOADER_FILES
                      if self.host.path(path).kind != "missing" and path not in self.grants]  # fmt: skip
        return steps

    def _private_files(self) -> list[Mount]:
        steps = [Mount("file", path, content=text, mode=0o444) for path, text in (self.options.files or {}).items()]
        for inside, outside in (self.options.shown or {}).items():
            fact = self.host.path(outside)
            idmap = (fact.uid, fact.gid) if self.host.root else None
            steps.append(Mount("bind", inside, fact.real or outside, exec=False, idmap=idmap, recursive=idmap is None))
        return steps

    def _protected(self) -> list[Mount]:
        conf = self.confinement
        if not (conf.protect and self.options.protect_workspace):
            return []
        steps: list[Mount] = []
        for relative in self.options.protected:
            rule = protection_of(relative)
            path = f"{self.workspace}/{relative}"
            if rule is not None and not self._excepted(relative) and self._needed(rule) and self._top(path):
                steps += self._guard(path, rule)
        for rule in held_places() if conf.include_workdir else ():
            if self._excepted(rule.pattern) or self.options.upper:
                continue
            path = f"{self.workspace}/{rule.pattern}"
            fact = self.host.path(f"{self.workspace}/{rule.pattern}")
            if fact.kind != "missing":
                if fact.kind == "link":
                    raise EnforcementError(
                        [f"protected path {rule.pattern}"],
                        "a symbolic link cannot be protected in place: replace it by the file or use --snapshot",
                    )
                if rule.pattern != ".git" or fact.kind == "file":
                    steps += self._guard(path, rule)
                continue
            if any(
                self.host.path(f"{self.workspace}/{'/'.join(rule.parts[:n])}").kind != "dir"
                for n in range(1, len(rule.parts))
            ):
                continue
            steps += self._pins(path, self.workspace)
            step = self._stand_in(path, rule.absent == "dir")
            steps.append(replace(step, hold=rule.absent, why=rule.why, content=rule.content))
        return steps

    def _top(self, path: str) -> str:
        """Return the granted folder through which a path of the workspace is reached; empty: it is not reached."""
        if self.confinement.include_workdir:
            return self.workspace
        return path if path in self.grants else self._covering(path) or ""

    def _needed(self, rule: Guarded) -> bool:
        """A snapshot's changes are filtered when they are committed: only what must not be *read* is covered there."""
        return not self.options.upper or rule.protection != "read_only"

    def _excepted(self, relative: str) -> bool:
        for entry in self.confinement.protect_except:
            name = entry.removeprefix(self.workspace + "/").removeprefix("./")
            if relative == name or relative.startswith(name + "/") or fnmatchcase(relative, name):
                return True
        return False

    def _guard(self, path: str, rule: Guarded) -> list[Mount]:
        relative = path[len(self.workspace) + 1 :]
        fact = self.host.path(f"{self.workspace}/{relative}")
        if fact.kind == "link":
            raise EnforcementError(
                [f"protected path {relative}"],
                "a symbolic link cannot be protected in place: replace it by the file or use --snapshot",
            )
        if fact.kind not in ("file", "dir"):
            return []
        if fact.kind == "file" and fact.links > 1:
            self.notes.append(f"{relative}: has {fact.links} hard links; another name of it may lie in the workspace")
        top = self._top(path)
        if rule.protection == "read_only" and not self.grants.get(top, False):
            return []
        pins = self._pins(path, top) if self.grants.get(top, False) and path != top else []
        if rule.protection == "read_only":
            return [*pins, replace(self._bind(path, writable=False), why=rule.why)]
        mask = self._stand_in(path, fact.kind == "dir")
        if rule.protection == "hidden":
            mask = replace(mask, mode=0)
        return [*pins, replace(mask, why=rule.why)]

    def _stand_in(self, path: str, directory: bool) -> Mount:
        if directory:
            return Mount("empty", path, mode=0o555)
        return Mount("file", path, content="", mode=0o444)

    def _hidden(self) -> list[Mount]:
        steps: list[Mount] = []
        for path in (*self.confinement.hidden, *self.options.hide):
            fact = self.host.path(path)
            if fact.kind == "missing":
                continue
            real = fact.real or path
            above = real if real in self.grants else self._covering(real)
            if above is None:
                continue
            if real == self.workspace or within(self.workspace, real):
                raise EnforcementError(["workspace"], "it lies in a folder that must stay hidden: choose another")
            if self.grants[above]:
                steps += self._pins(real, above)
            steps.append(replace(self._stand_in(real, fact.kind == "dir"), mode=0, why="hidden"))
        return steps


def network_plan(confinement: Confinement, *, guard: bool, own_network: bool) -> NetworkPlan:
    """Return the network part: guarded if endpoints are named, the guard stands ready and a network is ours."""
    if not (confinement.network and guard and own_network):
        return NetworkPlan()
    ports = tuple(sorted({80, 443, *confinement.ports} - {53, PROXY_PORT}))
    return NetworkPlan("guarded", ports, PROXY_PORT, dns=True)


def _rlimits(limits: Limits, counted: bool) -> dict[str, int]:
    table = {
        "NOFILE": limits.open_files,
        "NPROC": limits.processes,
        "CORE": 0,
        "FSIZE": limits.file_bytes,
        "NICE": 0,
        "RTPRIO": 0,
        "MEMLOCK": 8 * 1024 * 1024,
        "MSGQUEUE": 819_200,
        "SIGPENDING": 4096,
        "CPU": math.ceil(limits.cpu_seconds),
    }
    if not counted:
        table["DATA"] = limits.memory_bytes
    return {name: value for name, value in table.items() if value or name in ("CORE", "NICE", "RTPRIO")}


def _pids_by(host: HostFacts) -> tuple[str, ...]:
    by = ["rlimit"]
    by += ["cgroup"] if "pids" in host.controllers else []
    by += ["pid_max"] if host.pid_max_namespaced else []
    return tuple(by)


def _environment(
    identity: Identity,
    mounts: Sequence[Mount],
    confinement: Confinement,
    options: RunOptions,
    network: NetworkPlan,
    cwd: str,
) -> dict[str, str]:
    outside = options.outside or {}
    shown = [mount.target for mount in mounts if mount.kind == "bind" and not mount.hold]
    search = [part for part in outside.get("PATH", "").split(":") if part.startswith("/")]
    kept = [part for part in search if any(within(part, root) for root in shown)]
    kept += [part for part in DEFAULT_PATH.split(":") if part not in kept]
    values = {**confinement.values, **(options.values or {})}
    names = [
        name
        for name in outside
        if any(fnmatchcase(name, glob) for glob in confinement.environment) and not NEVER.match(name)
    ]
    if network.mode == "guarded":
        proxy = f"http://127.0.0.1:{network.proxy_port}"
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            values.setdefault(name, proxy)
            values.setdefault(name.lower(), proxy)
        values.setdefault("NO_PROXY", "localhost,127.0.0.1,::1")
        values.setdefault("no_proxy", "localhost,127.0.0.1,::1")
        values.setdefault("NODE_USE_ENV_PROXY", "1")
    return sandbox_environment(
        outside,
        home=identity.home,
        user=identity.user,
        workspace=cwd,
        path=":".join(kept),
        extra_names=(*names, *options.extra_names),
        values=values,
    )
