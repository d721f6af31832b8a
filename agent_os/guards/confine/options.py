"""What a run adds to its policy, which host paths must be known for it, and the paths every private root is made around. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agent_os.guards.confine.inputs import Confinement
from agent_os.guards.confine.protect import held_places

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
ROOT_EXPANDED: Final = ("/usr", "/etc", "/opt", "/var", "/srv", "/home", "/root", "/mnt", "/media", *MERGED_USR)


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
    rules: tuple[str, ...] = ()
    """Those of `hide` that the policy was read from: nothing runs where a program could put others in their place."""
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
        *confinement.written,
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
