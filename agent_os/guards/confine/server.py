"""The sandbox of a tool server: what its manifest asks for *and* the policy grants, and nothing else. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from agent_os.core.manifest import Needs
from agent_os.guards.confine.inputs import MIB, Confinement, within

SYSTEM_ROOTS: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt")
SERVER_PROCESSES_MAX: Final = 128


@dataclass(frozen=True, slots=True)
class ServerConfinement:
    """What a server gets, and which of its wishes the policy does not grant."""

    confinement: Confinement
    refused: tuple[str, ...]


def server_confinement(policy: Confinement, needs: Needs, code: Sequence[str], workspace: str) -> ServerConfinement:
    """Return the narrowed confinement. `code` are the folders of the server's own program, always readable.

    A wish is granted if a granted path of the policy covers it; the workspace is granted by `include_workdir`.
    """
    writable = (*policy.read_write, *((workspace,) if policy.include_workdir else ()))
    readable = (*policy.read_only, *writable)
    wanted_write = [_absolute(path, workspace) for path in needs.write]
    wanted_read = [_absolute(path, workspace) for path in needs.read]
    refused = [f"write {path}" for path in wanted_write if not _covered(path, writable)]
    refused += [f"read {path}" for path in wanted_read if not _covered(path, readable)]
    if needs.hosts and not policy.network:
        refused.append("hosts: the policy names no endpoint")
    write = [path for path in wanted_write if _covered(path, writable)]
    read = [path for path in wanted_read if _covered(path, readable) and not any(within(path, w) for w in write)]
    whole = workspace in write
    system = [path for path in policy.read_only if any(within(path, root) for root in SYSTEM_ROOTS)]
    limits = policy.limits.narrowed(
        replace(policy.limits, memory_bytes=needs.memory_mb * MIB, processes=SERVER_PROCESSES_MAX, wall_seconds=0.0)
    )
    # The wall clock and output limits of the policy are per program started; a server lives as long as its session.
    limits = replace(limits, wall_seconds=0.0, output_bytes=0)
    inside_deny = [path for path in policy.read_only if any(within(path, w) and path != w for w in write)]
    return ServerConfinement(
        replace(
            policy,
            include_workdir=whole,
            read_only=tuple(dict.fromkeys((*system, *read, *inside_deny, *code))),
            read_write=tuple(dict.fromkeys(path for path in write if path != workspace)),
            network=policy.network and bool(needs.hosts),
            environment=(),
            values={},
            sockets=(),
            terminal=False,
            limits=limits,
        ),
        tuple(refused),
    )


def _absolute(path: str, workspace: str) -> str:
    full = path if path.startswith("/") else f"{workspace}/{path}"
    parts: list[str] = []
    for part in full.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def _covered(path: str, roots: Sequence[str]) -> bool:
    return any(within(path, root) for root in roots)
