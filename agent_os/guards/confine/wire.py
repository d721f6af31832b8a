"""The form in which a plan reaches a launcher: numbers and byte strings in one fixed order. Pure.

Both launchers (the Python one and the compiled one) read exactly this, so that neither needs a parser worth the name and
both are judged by the same tests. A number is eight bytes, little-endian; a string is its length as a number, its bytes
and one zero byte. There are no tags, no optional parts and no versions to negotiate: whatever does not fit ends the launcher.
What has a meaning for people (a mount's flags, a limit's name) is turned into the kernel's numbers here, once.

    request  = MAGIC kind ...
    start    = seed cgroups* terminal rows columns argv* plan          plant = token cgroups*
    forget   = token                                                       keep  = token
    plan     = host_name cwd flags own_cgroup uid gid transient host_uid host_gid pid_max
               mounts* landlock(size fs net scoped rules*) seccomp rlimits* environment* network(guarded ports* proxy dns)
    mount    = kind target source upper data attributes options uid gid mode

Source of the numbers: Linux UAPI (`linux/mount.h`, `linux/sched.h`, `asm-generic/resource.h`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Final

from agent_os.guards.confine.plan import Mount, SandboxPlan

MAGIC: Final = 0x31534F41
"""Changes with every change of the form."""
START, PLANT, FORGET, KEEP = 1, 2, 3, 4
BIND, FILESYSTEM, FOLDER, LINK, FILE, EMPTY, PIN, OVERLAY = range(1, 9)
WRITABLE, RECURSIVE, IDMAPPED = 1, 2, 4
"""Bits of a mount's options."""

_KINDS: Final = {
    "bind": BIND, "tmpfs": FILESYSTEM, "proc": FILESYSTEM, "devpts": FILESYSTEM, "dir": FOLDER, "link": LINK, "file": FILE,
    "empty": EMPTY, "pin": PIN, "overlay": OVERLAY,
}  # fmt: skip
_CLONE: Final = {
    "mount": 0x00020000, "uts": 0x04000000, "ipc": 0x08000000, "user": 0x10000000, "pid": 0x20000000, "network": 0x40000000,
}  # fmt: skip
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV, _ATTR_NOEXEC = 1, 2, 4, 8
_RLIMITS: Final = {
    "CPU": 0, "FSIZE": 1, "DATA": 2, "STACK": 3, "CORE": 4, "NPROC": 6, "NOFILE": 7, "MEMLOCK": 8, "AS": 9,
    "SIGPENDING": 11, "MSGQUEUE": 12, "NICE": 13, "RTPRIO": 14,
}  # fmt: skip
_number: Final = struct.Struct("<Q").pack
_mount_numbers: Final = struct.Struct("<5Q").pack


def encode_arguments(argv: Sequence[str]) -> bytes:
    """Return a program's arguments, the program's name first. Raises ValueError for a zero byte in one."""
    return _strings(argv)


def encode_start(
    plan: bytes,
    arguments: bytes,
    *,
    seed: str = "",
    cgroups: Sequence[str] = (),
    terminal: tuple[int, int] | None = None,
) -> bytes:
    """Return the request that starts encoded arguments under an encoded plan.

    `seed` names a prepared process (none: a new one, which enters `cgroups`). `terminal` is (rows, columns) of one to be
    made inside.
    """
    rows, columns = terminal or (0, 0)
    parts = [_number(MAGIC), _number(START), _string(seed), _strings(cgroups)]
    parts += [_number(terminal is not None), _number(rows), _number(columns), arguments, plan]
    return b"".join(parts)


def encode_plant(token: str, cgroups: Sequence[str]) -> bytes:
    """Return the request that prepares a process in control groups, to be used once under the name `token`."""
    return b"".join((_number(MAGIC), _number(PLANT), _string(token), _strings(cgroups)))


def encode_keep(token: str) -> bytes:
    """Return the request, sent with a list of stand-ins and their workspace, to take them away should the supervisor die."""
    return b"".join((_number(MAGIC), _number(KEEP), _string(token)))


def encode_forget(token: str) -> bytes:
    """Return the request that ends a prepared process, or lets go of a list that was kept."""
    return b"".join((_number(MAGIC), _number(FORGET), _string(token)))


def encode_plan(plan: SandboxPlan) -> bytes:
    """Return what a launcher carries out of a plan. The other fields are for people, the supervisor and the audit.

    Raises ValueError for a string with a zero byte in it, KeyError for a limit or mount this form does not know.
    """
    person, landlock, network = plan.identity, plan.landlock, plan.network
    flags = 0
    for name in plan.namespaces:
        flags |= 0 if name == "cgroup" else _CLONE[name]
    transient = person.host_uid is None
    numbers = (flags, "cgroup" in plan.namespaces, person.uid, person.gid, transient, person.host_uid or 0,
               person.host_gid or 0, plan.pid_max)  # fmt: skip
    parts = [_string(plan.host_name), _string(plan.cwd), *map(_number, numbers), _number(len(plan.mounts))]
    parts += map(_mount, plan.mounts)
    size = 0 if not landlock.abi else 8 if landlock.abi < 4 else 16 if landlock.abi < 6 else 24
    parts += map(_number, (size, landlock.handled_fs, landlock.handled_net, landlock.scoped, len(landlock.rules)))
    for rule in landlock.rules:
        parts += (_string(rule.path), _number(rule.access))
    parts += (_bytes(plan.seccomp), _number(len(plan.rlimits)))
    for name, value in plan.rlimits.items():
        parts += (_number(_RLIMITS[name]), _number(value))
    parts.append(_strings(f"{name}={value}" for name, value in plan.environment.items()))
    parts += map(_number, (network.mode == "guarded", len(network.tcp_ports), *network.tcp_ports))
    parts += map(_number, (network.proxy_port, network.dns))
    return b"".join(parts)


def _mount(step: Mount) -> bytes:
    source, data, attributes = step.source, step.content, 0
    options = (WRITABLE if step.writable else 0) | (RECURSIVE if step.recursive else 0)
    uid, gid = step.idmap or (0, 0)
    options |= IDMAPPED if step.idmap else 0
    if step.kind in ("bind", "overlay"):
        attributes = _ATTR_NOSUID | (0 if step.writable else _ATTR_RDONLY) | (0 if step.devices else _ATTR_NODEV)
        attributes |= 0 if step.exec else _ATTR_NOEXEC
    elif step.kind == "tmpfs":
        attributes = _MS_NOSUID | _MS_NODEV | (0 if step.exec else _MS_NOEXEC) | (0 if step.writable else _MS_RDONLY)
        source, data = "tmpfs", f"mode={step.mode:o},size={step.size},nr_inodes={max(step.inodes, 2)}"
    elif step.kind == "proc":
        attributes = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
        source, data = "proc", "hidepid=invisible,subset=pid"
    elif step.kind == "devpts":
        attributes = _MS_NOSUID | _MS_NOEXEC
        source, data = "devpts", "newinstance,ptmxmode=0666,mode=620"
    texts = (_string(step.target), _string(source), _string(step.upper), _string(data))
    return b"".join((_number(_KINDS[step.kind]), *texts, _mount_numbers(attributes, options, uid, gid, step.mode)))


def _string(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise ValueError("a zero byte cannot stand in a name, a value or an argument")
    return _bytes(data)


def _bytes(data: bytes) -> bytes:
    return b"".join((_number(len(data)), data, b"\0"))


def _strings(texts: Iterable[str]) -> bytes:
    parts = [_string(text) for text in texts]
    return b"".join((_number(len(parts)), *parts))
