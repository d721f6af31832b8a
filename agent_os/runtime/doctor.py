"""What this machine and user can enforce, layer by layer, tried for real: `agentos doctor`.

A layer is not believed from a version number: a sandbox is built, a probe runs inside it and says what it met. Where a
layer is missing the report says what it would take. Nothing outside a temporary folder is touched, but that the launcher and
the guard's carrier are compiled where they can be, and kept.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent_os.core.errors import AgentOSError, EnforcementError
from agent_os.effects.sandbox import cgroups, probe
from agent_os.effects.sandbox.launch import Launcher
from agent_os.effects.stores.directory import state_path
from agent_os.guards.confine import Confinement, HostFacts, Limits
from agent_os.runtime import speed
from agent_os.runtime.sandbox.prepare import Captured, SandboxSettings, prepare, run_captured

PROBE_SECONDS: Final = 15.0
OWN: Final = "agent-os-runtime"
SYSTEM_PYTHONS: Final = ("/usr/bin/python3", "/usr/local/bin/python3")
_PROBE: Final = r"""
import ctypes, json, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def refused(f):
    try: f(); return False
    except OSError: return True
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines() if ":" in line)
def outside(name): return os.readlink("/proc/self/ns/" + name) != os.environ["P_" + name.upper()]
seen = {name: outside(name) for name in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")}
seen["no_new_privs"] = status["NoNewPrivs"].strip() == "1"
seen["capabilities"] = all(int(status[k], 16) == 0 for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))
seen["seccomp"] = status["Seccomp"].strip() == "2" and libc.unshare(0x10000000) == -1
seen["private_root"] = not os.path.exists("/sys/kernel") and refused(lambda: open("/planted", "w"))
seen["landlock"] = refused(lambda: open("/proc/self/comm", "w"))
seen["descriptors"] = all("proc" in os.readlink("/proc/self/fd/" + fd) for fd in os.listdir("/proc/self/fd")
                          if int(fd) > 2 and os.path.lexists("/proc/self/fd/" + fd))
seen["network"] = refused(lambda: socket.create_connection(("192.0.2.1", 9), 1))
seen["core"] = __import__("resource").getrlimit(4) == (0, 0)
print(json.dumps(seen))
"""


@dataclass(frozen=True, slots=True)
class Layer:
    """One row. `state`: enforced, partly, missing or n/a. `detail` says how; `fix` what it would take."""

    name: str
    state: str
    detail: str
    fix: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the printable form."""
        return {"layer": self.name, "state": self.state, "detail": self.detail, "fix": self.fix}


def report() -> dict[str, Any]:
    """Return what was found: the machine, one row a layer, and whether sandboxes can be had at all."""
    host = probe.host_facts()
    seen, failure, launcher = asyncio.run(_tried(host))
    layers = [*_layers(host, seen, failure), launcher]
    return {
        "kernel": host.kernel,
        "machine": host.machine,
        "user": host.uid,
        "sandbox": not failure and all(layer.state != "missing" for layer in layers[:9]),
        "failure": failure,
        "layers": [layer.to_json() for layer in layers],
        "speed": [part.to_json() for part in speed.parts(_kept(state_path(os.environ)))],
        "collisions": collisions(),
    }


def _kept(home: Path) -> Path | None:
    return home if home.is_dir() else None


def collisions(installed: Mapping[str, Sequence[str]] | None = None) -> list[str]:
    """Return other distributions of this environment that install a top-level `agent_os` too.

    Two distributions that write one package overwrite each other's files: what runs is then a mixture of both.
    `installed` is top-level package -> distributions; by default what is installed here.
    """
    if installed is None:
        installed = importlib.metadata.packages_distributions()
    return sorted({name for name in installed.get("agent_os", ()) if name != OWN})


def _launcher_row(launcher: Launcher | None) -> Layer:
    if launcher is None:
        return Layer("launcher", "missing", "the process that builds sandboxes cannot be started")
    if launcher.kind == "compiled":
        return Layer("launcher", "enforced", "compiled here, pinned, run from sealed memory")
    return Layer("launcher", "enforced", f"in Python ({launcher.why_python}): the same layers, slower starts",
                 "a C compiler with the C library's headers (Debian: gcc libc6-dev)")  # fmt: skip


async def _tried(host: HostFacts) -> tuple[dict[str, bool], str, Layer]:
    launcher, row = None, _launcher_row(None)
    folder = Path(tempfile.mkdtemp(prefix="agentos-doctor-"))
    try:
        (folder / "ws").mkdir()
        (folder / "state").mkdir(mode=0o700)
        (folder / "ws" / "probe.py").write_text(_PROBE)
        names = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
        facts = {f"P_{name.upper()}": os.readlink(f"/proc/self/ns/{name}") for name in names}
        python = next((path for path in SYSTEM_PYTHONS if Path(path).exists()), sys.executable)  # noqa: ASYNC240
        needed = () if python.startswith("/usr/") else (sys.base_prefix, sys.prefix)
        confinement = Confinement(
            read_only=("/usr", "/lib", "/lib64", "/bin", *needed), limits=Limits(wall_seconds=PROBE_SECONDS)
        )
        settings = SandboxSettings(workspace=str(folder / "ws"), values=facts)
        home = state_path(os.environ)
        launcher = await asyncio.to_thread(Launcher, state=_kept(home) or folder / "state")
        row = _launcher_row(launcher)
        made = prepare(confinement, settings, state=folder / "state")
        done: Captured = await run_captured(made, [python, "-I", "-S", "probe.py"], launcher=launcher)
        if done.ended.returncode:
            said = done.stderr.decode(errors="replace")[-300:]
            return {}, f"the probe ended with {done.ended.returncode}: {said}", row
        found: dict[str, bool] = json.loads(done.stdout)
        return found, "", row
    except EnforcementError as error:
        told = all(name in host.missing for name in error.missing)  # its own row says the cause and what to do
        return {}, f"not tried without {', '.join(error.missing)}" if told else str(error), row
    except (AgentOSError, OSError, ValueError) as error:
        return {}, f"{type(error).__name__}: {error}", row
    finally:
        if launcher is not None:
            await asyncio.to_thread(launcher.close)
        shutil.rmtree(folder, ignore_errors=True)


def _layers(host: HostFacts, seen: Mapping[str, bool], failure: str) -> list[Layer]:
    rows = []
    for name, key in (
        ("user-namespace", "user"), ("mount-namespace", "mnt"), ("pid-namespace", "pid"), ("network-namespace", "net"),
        ("ipc-namespace", "ipc"), ("uts-namespace", "uts"), ("cgroup-namespace", "cgroup"),
    ):  # fmt: skip
        why = host.missing.get(name, failure)
        rows.append(
            _row(name, seen.get(key), "a name space of its own", why, _fix(host, name, failure, _namespace_fix(host)))
        )
    rows.append(_row("private-root", seen.get("private_root"), "only what the policy names exists inside", failure))
    rows.append(_row("seccomp", seen.get("seccomp"), "system call filter loaded and tried", host.missing.get("seccomp", failure),
                     _fix(host, "seccomp", failure, "a kernel with CONFIG_SECCOMP_FILTER")))  # fmt: skip
    rows.append(_landlock(host, seen.get("landlock"), failure))
    rows.append(_row("capabilities", seen.get("capabilities"), "all sets empty, bounding set too", failure))
    rows.append(_row("no-new-privileges", seen.get("no_new_privs"), "set-user-id programs gain nothing", failure))
    rows.append(_row("descriptors", seen.get("descriptors"), "nothing inherited but three streams", failure))
    rows.append(_row("no-way-out", seen.get("network"), "without the guard no address answers", failure))
    rows.append(_identity(host))
    rows += _limits(host)
    rows.append(_egress(host))
    rows.append(
        _row(
            "snapshots",
            host.overlay,
            "overlay file system with user attributes",
            "no overlay file system",
            "modprobe overlay",
        )
    )
    return rows


def _row(name: str, good: bool | None, detail: str, why: str, fix: str = "") -> Layer:
    if good:
        return Layer(name, "enforced", detail)
    return Layer(name, "missing", why or "the probe inside found it open", fix)


def _fix(host: HostFacts, name: str, failure: str, fix: str) -> str:
    """What mends a row is said where that row itself fails, not where another one kept it from being tried."""
    return fix if name in host.missing or not failure else ""


def _namespace_fix(host: HostFacts) -> str:
    if host.root:
        return "in a container: start it with user name spaces allowed (a seccomp profile that lets clone)"
    return "see the line above, or run as root"


def _landlock(host: HostFacts, good: bool | None, failure: str) -> Layer:
    if not good:
        return Layer("landlock", "missing", host.missing.get("landlock", failure or "the probe inside found it open"),
                     _fix(host, "landlock", failure if host.landlock_abi else "",
                          "Linux 5.13 or later with landlock among the LSMs (boot parameter lsm=landlock,…)"))  # fmt: skip
    gained = [
        what
        for abi, what in (
            (2, "rename"),
            (3, "truncate"),
            (4, "TCP"),
            (5, "device ioctl"),
            (6, "signal and abstract socket scopes"),
        )
        if host.landlock_abi >= abi
    ]
    return Layer("landlock", "enforced" if host.landlock_abi >= 6 else "partly", f"ABI {host.landlock_abi}: files, {', '.join(gained)}",
                 "" if host.landlock_abi >= 6 else "Linux 6.12 or later adds signal scopes (the pid name space stands in front)")  # fmt: skip


def _identity(host: HostFacts) -> Layer:
    if not host.root:
        return Layer("identity", "enforced", f"uid {host.uid} outside, without privileges; another number inside")
    if host.idmapped_mounts:
        return Layer("identity", "enforced", "a transient uid per run, owners of the workspace mapped")
    return Layer(
        "identity", "missing", host.missing.get("idmapped-mounts", ""), "Linux 5.12 or later, or an ordinary user"
    )


def _limits(host: HostFacts) -> list[Layer]:
    version, controllers = cgroups.available()
    rows = []
    if "memory" in controllers:
        rows.append(Layer("memory-limit", "enforced", f"cgroup version {version}, swap included"))
    else:
        rows.append(
            Layer("memory-limit", "partly", "RLIMIT_DATA per process, resident memory polled; memfd and SysV memory denied",
                  "root, or a cgroup name space whose root this user may write, counts memory exactly; "
                  "a systemd user scope is not used by itself"))  # fmt: skip
    by = ["RLIMIT_NPROC in the user name space"]
    by += ["pids cgroup"] if "pids" in controllers else []
    by += ["pid_max of the pid name space"] if host.pid_max_namespaced else []
    rows.append(Layer("process-limit", "enforced", ", ".join(by)))
    if "cpu" in controllers:
        rows.append(Layer("cpu-limit", "enforced", f"cpu cgroup version {version}; RLIMIT_CPU"))
    else:
        rows.append(
            Layer(
                "cpu-limit",
                "partly",
                "RLIMIT_CPU per process; a policy with `cpus` is refused",
                "root, or a writable cgroup root",
            )
        )
    rows.append(Layer("disk-limit", "partly", "sizes of private file systems, RLIMIT_FSIZE, free space of the workspace watched",
                      "a workspace on a file system of its own"))  # fmt: skip
    rows.append(_io_limit(cgroups.io_version() if "io" in controllers else 0))
    return rows


def _io_limit(version: int) -> Layer:
    if version == 2:
        return Layer("io-limit", "enforced", "io cgroup version 2: reads and writes of every disk the run can reach")
    if version == 1:
        return Layer("io-limit", "partly", "blkio cgroup version 1: reads and direct writes, not writes the kernel buffers",
                     "version 2 control groups, or --allow-missing io-limit-of-buffered-writes")  # fmt: skip
    return Layer(
        "io-limit", "partly", "a policy with io_bytes_per_second is refused", "root, or a writable cgroup root with io"
    )


def _egress(host: HostFacts) -> Layer:
    if "network" not in host.namespaces:
        return Layer("egress-guard", "missing", "needs a network name space of its own")
    return Layer(
        "egress-guard", "enforced", "listeners made inside and handed out: any address, IPv4 and IPv6, DNS by policy"
    )
