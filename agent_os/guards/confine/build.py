"""`plan_sandbox`: a policy's confinement, a workspace and facts about the host become one SandboxPlan. Pure.

Nothing is looked up here: `paths_of_interest` says which paths the caller must know about, `HostFacts.paths` brings them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final

from agent_os.core.errors import ActionError, EnforcementError
from agent_os.guards.confine.environment import DEFAULT_PATH, NEVER, sandbox_environment
from agent_os.guards.confine.inputs import Confinement, HostFacts, Limits, within
from agent_os.guards.confine.landlock import plan_landlock
from agent_os.guards.confine.options import OWN, PROXY_PORT, SYSTEM, RunOptions, paths_of_interest
from agent_os.guards.confine.plan import MOUNTS_MAX, Identity, Mount, NetworkPlan, SandboxPlan
from agent_os.guards.confine.root import PrivateRoot
from agent_os.guards.confine.seccomp import call_rules, compile_rules

__all__ = ["PROXY_PORT", "RunOptions", "network_plan", "paths_of_interest", "plan_sandbox"]
NAMESPACES: Final = ("user", "mount", "pid", "network", "ipc", "uts", "cgroup")
INDISPENSABLE: Final = ("user-namespace", "mount-namespace", "pid-namespace", "seccomp")
"""Layers the sandbox is made of: `--allow-missing` does not let them go."""
LET_GO: Final = (
    "network-namespace", "ipc-namespace", "uts-namespace", "cgroup-namespace", "landlock", "idmapped-workspace", "cpu-limit",
    "io-limit", "io-limit-of-buffered-writes",
)  # fmt: skip
"""Layers that `--allow-missing` lets go."""
PID_MAX_SPARE: Final = 301
BUFFERED_WRITES: Final = "io-limit-of-buffered-writes"


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
    root = PrivateRoot(confinement, workspace, host, options, identity, notes)
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
        if layer not in LET_GO and layer not in INDISPENSABLE:
            raise ActionError(f"{layer!r} is no layer", field="allow-missing", hint=", ".join(LET_GO))
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
        if "io" not in host.controllers:
            missing["io-limit"] = host.missing.get("io-limit", "no writable io cgroup")
        elif BUFFERED_WRITES in host.missing:
            missing[BUFFERED_WRITES] = host.missing[BUFFERED_WRITES]
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
