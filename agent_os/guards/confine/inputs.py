"""What the sandbox plan is made from: the confinement a policy asks for, and what is known of the host. Pure values.

`Confinement` is the filesystem, process and network part of a policy in the sandbox's own words; several layers are
narrowed into one (a path must be granted by each). `HostFacts` is data that the effects floor gathered; nothing here looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds of one run. Bytes, counts and seconds; 0 means no limit of ours (the cgroup or host may have one)."""

    memory_bytes: int = 4 * GIB
    processes: int = 512
    cpus: float = 0.0
    open_files: int = 4096
    file_bytes: int = 8 * GIB
    tmp_bytes: int = 1 * GIB
    tmp_files: int = 200_000
    shm_bytes: int = 256 * MIB
    disk_bytes: int = 16 * GIB
    """How much the free space of the workspace's file system may shrink before the run is ended."""
    swap_bytes: int = 0
    """Swap beyond memory; 0 means none."""
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Processor time of each process."""
    output_bytes: int = 0
    io_bytes_per_second: int = 0

    def narrowed(self, other: Limits) -> Limits:
        """Return the smaller of each limit (0 is the largest)."""

        def least(name: str) -> float:
            a, b = float(getattr(self, name)), float(getattr(other, name))
            return min(a, b) if name == "swap_bytes" else min(a or b, b or a)

        return Limits(**{name: type(getattr(self, name))(least(name)) for name in self.__dataclass_fields__})


@dataclass(frozen=True, slots=True)
class Confinement:
    """What one policy asks of the sandbox. Paths are absolute and canonical; `hidden` wins over every grant.

    `network` says whether any egress could be allowed at all; without it there is no way out whatever runs outside.
    `ports` are the TCP ports of its endpoints: the ones caught for programs that do not speak to a proxy.
    """

    include_workdir: bool = True
    read_only: tuple[str, ...] = ()
    read_write: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    user: str = ""
    group: str = ""
    landlock: Literal["best_effort", "hard_requirement"] = "best_effort"
    network: bool = False
    ports: tuple[int, ...] = ()
    limits: Limits = Limits()
    environment: tuple[str, ...] = ()
    """Names (globs) passed on from outside beside the allow-list."""
    values: Mapping[str, str] = field(default_factory=dict)
    hidden_globs: tuple[str, ...] = ()
    protect: bool = True
    protect_except: tuple[str, ...] = ()
    sockets: tuple[str, ...] = ()
    """Unix sockets of the host that are shown inside."""
    terminal: bool = True
    written: tuple[str, ...] = ()
    """Further places that programs under this policy write, though this one may not: no link in them is followed."""


def narrow(layers: Sequence[Confinement]) -> Confinement:
    """Return the confinement that grants only what every layer grants; the hidden paths and limits of all hold.

    Raises ValueError for no layers.
    """
    if not layers:
        raise ValueError("no layers")
    result = layers[0]
    for layer in layers[1:]:
        readable_a, readable_b = (*result.read_only, *result.read_write), (*layer.read_only, *layer.read_write)
        write = _both(result.read_write, layer.read_write)
        read = tuple(path for path in _both(readable_a, readable_b) if path not in write)
        # A read-only path nested in what is left writable stays read-only: deny inside allow.
        result = replace(
            result,
            include_workdir=result.include_workdir and layer.include_workdir,
            read_only=tuple(dict.fromkeys((*read, *_inside((*result.read_only, *layer.read_only), write)))),
            read_write=write,
            hidden=tuple(dict.fromkeys((*result.hidden, *layer.hidden))),
            user=layer.user or result.user,
            group=layer.group or result.group,
            landlock="hard_requirement" if "hard_requirement" in (result.landlock, layer.landlock) else "best_effort",
            network=result.network and layer.network,
            ports=tuple(port for port in result.ports if port in layer.ports),
            limits=result.limits.narrowed(layer.limits),
            environment=tuple(name for name in result.environment if name in layer.environment),
            values={name: value for name, value in result.values.items() if layer.values.get(name) == value},
            hidden_globs=tuple(dict.fromkeys((*result.hidden_globs, *layer.hidden_globs))),
            protect=result.protect or layer.protect,
            protect_except=tuple(path for path in result.protect_except if path in layer.protect_except),
            sockets=tuple(path for path in result.sockets if path in layer.sockets),
            terminal=result.terminal and layer.terminal,
        )
    return result


def within(path: str, root: str) -> bool:
    """Return whether a canonical path is `root` or lies under it."""
    return root in (path, "/") or path.startswith(root + "/")


def sees_workspace(confinement: Confinement, workspace: str) -> bool:
    """Return whether anything of the workspace is granted: then its protected names must be known."""
    granted = (*confinement.read_only, *confinement.read_write)
    return confinement.include_workdir or any(within(path, workspace) or within(workspace, path) for path in granted)


def _both(left: Sequence[str], right: Sequence[str]) -> tuple[str, ...]:
    kept = [path for path in left if any(within(path, other) for other in right)]
    kept += [path for path in right if any(within(path, other) for other in left)]
    return tuple(dict.fromkeys(kept))


def _inside(paths: Sequence[str], roots: Sequence[str]) -> tuple[str, ...]:
    return tuple(path for path in paths if path not in roots and any(within(path, root) for root in roots))


PathKind = Literal["missing", "file", "dir", "link", "socket", "device"]


@dataclass(frozen=True, slots=True)
class PathFact:
    """One path of the host as `lstat` saw it. `real` is the canonical path with every link resolved."""

    kind: PathKind
    real: str = ""
    uid: int = 0
    gid: int = 0
    mode: int = 0
    links: int = 1
    target: str = ""
    """The text of a symbolic link."""
    through: tuple[str, ...] = ()
    """Where the symbolic links lie that its resolution passes through, each by its real path."""


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What this kernel and user offer. `namespaces` are those that can be made; `missing` says why one cannot."""

    machine: str
    kernel: str
    uid: int
    gid: int
    landlock_abi: int = 0
    namespaces: frozenset[str] = frozenset()
    seccomp: bool = False
    cgroup_version: int = 0
    """0: none writable, 1, 2; `controllers` are those that can limit this run."""
    controllers: frozenset[str] = frozenset()
    idmapped_mounts: bool = False
    pid_max_namespaced: bool = False
    overlay: bool = False
    host_name: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)
    paths: Mapping[str, PathFact] = field(default_factory=dict)

    @property
    def root(self) -> bool:
        """Whether the launcher runs as the host's root."""
        return self.uid == 0

    def path(self, path: str) -> PathFact:
        """Return what is known of a path; one that was not looked at counts as missing."""
        return self.paths.get(path, MISSING)


MISSING: Final = PathFact("missing")
