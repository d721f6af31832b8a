"""What `/proc` says of processes and sockets: which process holds a socket, what it runs, who started it. Reads only.

Everything may be gone by the time it is read: what cannot be read is empty, and whoever asks denies then. A process's word for
itself (its command line) is used for the script of an interpreter only. Source: proc(5).
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from typing import Final

from agent_os.effects.proxy.limits import ANCESTORS_MAX
from agent_os.effects.proxy.scripts import INTERPRETER, script_of

_ESTABLISHED: Final = "01"
COMMAND_LINE_BYTES_MAX: Final = 65_536
DESCENDANTS_MAX: Final = 4096
"""Processes that are asked whether they hold a socket as well."""


def socket_of_pair(
    sandbox_pid: int, family: int, source: tuple[str, int], destination: tuple[str, int]
) -> tuple[int, int] | None:
    """Return (inode, uid) of the socket with this local and remote address in a network namespace."""
    want = f"{_hex_address(family, source)} {_hex_address(family, destination)} {_ESTABLISHED}"
    mapped = family == socket.AF_INET6 and source[0].startswith("::ffff:")
    names = ("tcp6", "tcp") if family == socket.AF_INET6 else ("tcp", "tcp6")
    for name in names:
        wanted = want
        if name == "tcp6" and family == socket.AF_INET:
            wanted = f"{_hex_mapped(source)} {_hex_mapped(destination)} {_ESTABLISHED}"
        elif name == "tcp" and family == socket.AF_INET6:
            if not mapped:
                continue
            plain = [(host.removeprefix("::ffff:"), port) for host, port in (source[:2], destination[:2])]
            wanted = " ".join(_hex_address(socket.AF_INET, pair) for pair in plain) + f" {_ESTABLISHED}"
        try:
            with open(f"/proc/{sandbox_pid or 'self'}/net/{name}", "rb") as file:
                table = file.read()
        except OSError:
            continue
        at = table.find(wanted.encode())
        if at >= 0:
            fields = table[at : table.find(b"\n", at)].split()
            inode, uid = int(fields[8]), int(fields[6])
            if inode:
                return inode, uid
    return None


def _hex_address(family: int, pair: tuple[str, int]) -> str:
    raw = socket.inet_pton(family, pair[0].split("%")[0])
    words = [raw[at : at + 4][::-1].hex() for at in range(0, len(raw), 4)]
    return f"{''.join(words).upper()}:{pair[1]:04X}"


def _hex_mapped(pair: tuple[str, int]) -> str:
    return _hex_address(socket.AF_INET6, ("::ffff:" + pair[0], pair[1]))


def pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def network_of(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return ""


def same_network(pid: int, sandbox_pid: int) -> bool:
    """Whether two processes share their network, mount and pid namespaces' network (the sandbox's mark)."""
    own = network_of(sandbox_pid)
    return bool(own) and network_of(pid) == own


def holds(pid: int, target: str) -> bool:
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    for name in reversed(names):
        with contextlib.suppress(OSError):
            if os.readlink(f"{folder}/{name}") == target:
                return True
    return False


def held_by_another(pid: int, target: str, sandbox_pid: int) -> bool:
    """Whether a process of another program holds a socket too, of those that can have got it from `pid` or given it.

    In a sandbox these are all of its processes; on the machine itself, whose processes nobody guards against each other, the
    parents and children of `pid`. Whoever started this process is not asked: it could do as it likes with the guard.
    """
    name = exe_name(pid)
    others = [parent for parent in _parents(pid) if parent not in _started_by(os.getpid())] + _descendants(pid)
    if sandbox_pid:
        others += _descendants(_parent(sandbox_pid))
    return any(exe_name(other) != name and holds(other, target) for other in dict.fromkeys(others))


@functools.lru_cache(maxsize=4)
def _started_by(pid: int) -> frozenset[int]:
    """A process and those that it descends from, as they were when it was first asked."""
    return frozenset([pid, *_parents(pid)])


def _descendants(pid: int) -> list[int]:
    """The processes below a process, as far as they can be seen."""
    found, at = [pid], 0
    while at < len(found) <= DESCENDANTS_MAX:
        folder = f"/proc/{found[at]}/task"
        at += 1
        with contextlib.suppress(OSError):
            for task in os.listdir(folder):
                with open(f"{folder}/{task}/children", encoding="ascii") as file:
                    found += [int(child) for child in file.read().split()]
    return found[1:]


def exe_name(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def _fields(pid: int) -> list[bytes]:
    """The fields of /proc/<pid>/stat after the name, which may hold anything."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def _parent(pid: int) -> int:
    fields = _fields(pid)
    return int(fields[1]) if len(fields) > 1 else 0


def _parents(pid: int) -> list[int]:
    """The parents of a process, nearest first; the machine's first process is none."""
    found: list[int] = []
    while len(found) < ANCESTORS_MAX and (pid := _parent(pid)) > 1:
        found.append(pid)
    return found


def start_time(pid: int) -> int:
    fields = _fields(pid)
    return int(fields[19]) if len(fields) > 19 else 0


def ancestors(pid: int, sandbox_pid: int) -> tuple[str, ...]:
    """Executables of the parents, nearest first, up to the sandbox's first process (or the machine's)."""
    found: list[str] = []
    for parent in [] if pid == sandbox_pid else _parents(pid):
        if sandbox_pid and not same_network(parent, sandbox_pid):
            break
        name = exe_name(parent)
        if not name:
            break
        found.append(name)
        if parent == sandbox_pid:
            break
    return tuple(found)


def script(pid: int, executable: str) -> str:
    """The script of an interpreter, as a path in its own view; empty if none is plain."""
    program = os.path.basename(executable)
    if not INTERPRETER.fullmatch(program):
        return ""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            arguments = file.read(COMMAND_LINE_BYTES_MAX).split(b"\0")[1:]
    except OSError:
        return ""
    return script_of(program, [os.fsdecode(word) for word in arguments])
