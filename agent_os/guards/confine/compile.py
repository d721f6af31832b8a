"""From policy files to a Confinement: `filesystem_policy`, `process`, `landlock` and whether any network is named. Pure.

Files of one layer are united (a pack and the file that extends it), layers are narrowed: what one of them does not grant,
the sandbox does not have. Globs in `deny` and `hidden` are kept apart: the caller looks for what they match.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agent_os.guards.confine.inputs import Confinement, Limits, narrow

if TYPE_CHECKING:
    from agent_os.policy.schema import PolicyFile


def confinement_of(layers: Sequence[Sequence[PolicyFile]], workspace: str) -> Confinement:
    """Return what all layers together grant. Relative paths are taken against `workspace` (absolute, canonical).

    A layer with `default: abstain` that says nothing of files leaves them to the other layers.
    """
    confinements = [
        _layer(files, workspace)
        for files in layers
        if any(file.filesystem_policy is not None or file.default == "deny" for file in files)
    ]
    return narrow(confinements) if confinements else Confinement(include_workdir=False)


def _layer(files: Sequence[PolicyFile], workspace: str) -> Confinement:
    result = Confinement(include_workdir=False, protect=True)
    limits = Limits()
    # The file itself comes first in `files`, then what it extends: what is one value is the nearest file's.
    for file in reversed(files):
        section, process, landlock = file.filesystem_policy, file.process, file.landlock
        if section is not None:
            denied = [_absolute(path, workspace) for path in (*section.deny, *section.hidden)]
            result = replace(
                result,
                include_workdir=result.include_workdir or section.include_workdir,
                read_only=_union(result.read_only, (_absolute(path, workspace) for path in section.read_only)),
                read_write=_union(result.read_write, (_absolute(path, workspace) for path in section.read_write)),
                hidden=_union(result.hidden, (path for path in denied if not _magic(path))),
                hidden_globs=_union(result.hidden_globs, _globs(denied)),
                protect=result.protect and section.protect,
                protect_except=_union(result.protect_except, section.protect_except),
            )
            changes: dict[str, Any] = {}
            if section.max_file_bytes is not None:
                changes["file_bytes"] = section.max_file_bytes
            if section.quota is not None:
                changes["disk_bytes"] = section.quota
            limits = replace(limits, **changes)
        if landlock is not None and landlock.compatibility == "hard_requirement":
            result = replace(result, landlock="hard_requirement")
        if process is not None:
            result = replace(
                result,
                user=_name(process.run_as_user) or result.user,
                group=_name(process.run_as_group) or result.group,
                environment=_union(result.environment, process.env),
                values={**result.values, **process.set_env},
                sockets=_union(result.sockets, (_absolute(path, workspace) for path in process.unix_sockets)),
                terminal=result.terminal and process.tty,
            )
            if process.limits is not None:
                limits = _limited(limits, process.limits)
        ports = _ports(file)
        if ports is not None:
            result = replace(result, network=True, ports=tuple(sorted({*result.ports, *ports})))
    return replace(result, limits=limits)


def _limited(limits: Limits, section: Any) -> Limits:
    names = {
        "memory": "memory_bytes",
        "swap": "swap_bytes",
        "processes": "processes",
        "cpus": "cpus",
        "cpu_time": "cpu_seconds",
        "wall_time": "wall_seconds",
        "output": "output_bytes",
        "disk": "disk_bytes",
        "open_files": "open_files",
        "io_bytes_per_second": "io_bytes_per_second",
    }
    given = {ours: getattr(section, theirs) for theirs, ours in names.items()}
    return replace(limits, **{name: value for name, value in given.items() if value is not None})


def _ports(file: PolicyFile) -> set[int] | None:
    """Return the ports of every endpoint, or None when the file names no network at all.

    Models are reached at `https://inference.local`, so a file that names some needs the guard too.
    """
    policies = file.network_policies
    models = file.models is not None and any(
        provider.kind not in ("scripted", "langchain") for provider in file.models.providers.values()
    )
    if not policies:
        return {443} if models else None
    document = policies.model_dump(mode="json") if hasattr(policies, "model_dump") else policies
    found: set[int] = set()
    _collect_ports(document, found, 0)
    return found


def _collect_ports(value: Any, found: set[int], depth: int) -> None:
    if depth > 8:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("port", "ports"):
                for port in item if isinstance(item, list) else [item]:
                    if isinstance(port, int) and not isinstance(port, bool) and 0 < port < 65536:
                        found.add(port)
            else:
                _collect_ports(item, found, depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _collect_ports(item, found, depth + 1)
    elif hasattr(value, "model_dump"):
        _collect_ports(value.model_dump(mode="json"), found, depth + 1)


def _union(known: tuple[str, ...], more: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*known, *more)))


def _name(value: str | int | None) -> str:
    return "" if value is None else str(value)


def _magic(path: str) -> bool:
    return any(char in path for char in "*?[{")


def _globs(paths: Iterable[str]) -> Iterable[str]:
    """Yield the globs, and for `**/` in the middle the form without it too: it stands for no folder as well."""
    for path in paths:
        if _magic(path):
            yield path
            if "/**/" in path:
                yield path.replace("/**/", "/", 1)


def _absolute(path: str, workspace: str) -> str:
    full = path if path.startswith("/") else f"{workspace}/{path}"
    parts = [part for part in full.split("/") if part not in ("", ".")]
    return "/" + "/".join(parts)
