"""The sandbox of a tool server: what its manifest asks for, the policy grants *and* its caller holds. Pure.

The caller is the session (which holds what the policy grants) or a sub-agent with a part of that. A folder that is mounted
can be read, listed, written and deleted in: so a right to some of these is no right to the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from agent_os.core.manifest import Needs
from agent_os.core.principal import Capability
from agent_os.guards.confine.inputs import MIB, Confinement, within

SYSTEM_ROOTS: Final[tuple[str, ...]] = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt")
PROGRAM_ROOTS: Final[tuple[str, ...]] = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ssl", "/etc/pki", "/etc/ca-certificates",
)  # fmt: skip
"""What a sub-agent's server needs to run at all; of `/etc` and `/opt` it gets no more than the agent holds."""
SERVER_PROCESSES_MAX: Final = 128
EVERYWHERE: Final = ("/",)


@dataclass(frozen=True, slots=True)
class HeldRights:
    """What a caller holds, in the sandbox's words: paths (and all below them), whether any network, secrets by name.

    `secrets` None: every secret.
    """

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    network: bool = False
    secrets: frozenset[str] | None = frozenset()


@dataclass(frozen=True, slots=True)
class ServerConfinement:
    """What a server gets, which of its wishes the policy does not grant, which secrets it may name and hosts it may reach."""

    confinement: Confinement
    refused: tuple[str, ...]
    secrets: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()


def held_rights(capabilities: Iterable[Capability], *, is_folder: Callable[[str], bool]) -> HeldRights:
    """Return a sub-agent's capabilities as what a sandbox can be given.

    A scope of an exact target that is a folder grants no file below it, so it grants no mount: `is_folder` tells.
    """
    held = tuple(capabilities)
    read, below = _scopes(held, "fs.read", is_folder)
    listed, _ = _scopes(held, "fs.list", is_folder)
    written, _ = _scopes(held, "fs.write", is_folder)
    deleted, _ = _scopes(held, "fs.delete", is_folder)
    readable = (*(path for path in read if path not in below), *_overlap(below, listed))
    secrets = [one.scope for one in held if one.verb in ("*", "secret.use")]
    return HeldRights(
        read=tuple(dict.fromkeys(readable)),
        write=_overlap(_overlap(written, deleted), readable),
        network=any(one.verb in ("*", "net.connect") for one in held),
        secrets=None if None in secrets else frozenset().union(*(scope for scope in secrets if scope is not None)),
    )


def _scopes(
    held: Sequence[Capability], verb: str, is_folder: Callable[[str], bool]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return every path one verb extends to, and those of them that stand for a whole folder."""
    found: list[str] = []
    folders: list[str] = []
    for one in held:
        if one.verb not in ("*", verb):
            continue
        for entry in EVERYWHERE if one.scope is None else sorted(one.scope):
            whole = entry.endswith("/")
            path = entry.rstrip("/") or "/"
            if not whole and is_folder(path):
                continue
            found.append(path)
            if whole and is_folder(path):
                folders.append(path)
    return tuple(dict.fromkeys(found)), tuple(dict.fromkeys(folders))


def server_confinement(
    policy: Confinement, needs: Needs, code: Sequence[str], workspace: str, held: HeldRights | None = None
) -> ServerConfinement:
    """Return the narrowed confinement. `code` are the folders of the server's own program, always readable.

    A wish is granted if a granted path of the policy covers it; the workspace is granted by `include_workdir`. Of what is
    granted a caller that is not the session (`held`) gets the part it holds, which is no refusal.
    """
    writable = (*policy.read_write, *((workspace,) if policy.include_workdir else ()))
    readable = (*policy.read_only, *writable)
    wanted_write = [_absolute(path, workspace) for path in needs.write]
    wanted_read = [_absolute(path, workspace) for path in needs.read]
    over = tuple(path for path in policy.read_only if path != workspace or not policy.include_workdir)
    refused = [f"write {path}" for path in wanted_write if not _writable(path, writable, over)]
    refused += [f"read {path}" for path in wanted_read if not _covered(path, readable)]
    if needs.hosts and not policy.network:
        refused.append("hosts: the policy names no endpoint")
    write: tuple[str, ...] = tuple(wanted_write)
    read = tuple(path for path in (*wanted_read, *wanted_write) if _covered(path, readable))
    secrets, roots = needs.secrets, SYSTEM_ROOTS
    if held is not None:
        write, read = _overlap(write, held.write), _overlap(read, held.read)
        secrets = tuple(name for name in secrets if held.secrets is None or name in held.secrets)
        roots = PROGRAM_ROOTS
    # INVARIANT: the nearest grant of the policy says whether a path is writable, however deep the wish or the right lies.
    write = tuple(path for path in write if _writable(path, writable, over))
    read = tuple(path for path in read if not _covered(path, write))
    whole = workspace in write
    system = [path for path in policy.read_only if any(within(path, root) for root in roots)]
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
            network=policy.network and bool(needs.hosts) and (held is None or held.network),
            environment=(),
            values={},
            sockets=(),
            terminal=False,
            limits=limits,
            written=tuple(dict.fromkeys((*policy.written, *policy.read_write))),
        ),
        tuple(refused),
        secrets,
        needs.hosts,
    )


def _writable(path: str, writable: Sequence[str], read_only: Sequence[str]) -> bool:
    """Return whether the nearest granted path above is a writable one; of two grants of one path read-only wins."""
    nearest = max((len(root) for root in writable if within(path, root)), default=0)
    denied = max((len(root) for root in read_only if within(path, root)), default=0)
    return nearest > denied


def _overlap(left: Sequence[str], right: Sequence[str]) -> tuple[str, ...]:
    """Return the paths that lie within both."""
    kept = [path for path in left if _covered(path, right)]
    kept += [path for path in right if _covered(path, left)]
    return tuple(dict.fromkeys(kept))


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
