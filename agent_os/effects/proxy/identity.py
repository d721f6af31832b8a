"""Who is calling: peer -> process -> executable, bound to the sandbox it should come from.

Peer of a unix socket: SO_PEERCRED. Peer of a TCP socket: its address pair in the network namespace's
`/proc/<pid>/net/tcp` -> socket inode -> the process that holds it -> `/proc/<pid>/exe`. The first use of a path pins
its file (device, inode, mtime, size, SHA-256): a program replaced later is not the program that policy allows.
Threat: a program that uses another's rights. Limits, said in SECURITY.md: LD_PRELOAD and interpreter options run
foreign code under a permitted executable; what a process says of itself (its command line) can only restrict (the
script), never grant. What still holds then is the destination, the request and the credential binding. A peer that
cannot be established yields None, and policy denies wherever it names binaries.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import struct
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from agent_os.core.errors import EffectError
from agent_os.core.executable import Executable
from agent_os.core.principal import ANONYMOUS, Principal
from agent_os.effects.proxy.limits import EXECUTABLE_BYTES_MAX, PROCESS_CACHE_MAX
from agent_os.effects.proxy.procfs import (
    ancestors,
    exe_name,
    held_by_another,
    holds,
    network_of,
    pids,
    same_network,
    script,
    socket_of_pair,
    start_time,
)

_NETLINK_SOCK_DIAG, _BY_FAMILY, _NO_COOKIE = 4, 20, (0xFFFFFFFF, 0xFFFFFFFF)  # linux/sock_diag.h, inet_diag.h
DIAGNOSIS_SECONDS_MAX: Final = 1.0
HASHED_INLINE_BYTES_MAX: Final = 4 * 1024 * 1024
PINS_MAX: Final = 16384
"""Executables pinned for the life of a guard; a further one has no identity."""


class NotHashedError(EffectError):
    """The peer's program was never hashed and is large: `learn` it on a thread, then ask again."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        super().__init__("the program was never hashed")


class ForeignPeerError(EffectError):
    """The peer is not one this listener serves."""


@dataclass(frozen=True, eq=False)
class ListenerIdentity:
    """On whose behalf a listener serves, and how its peers are recognised.

    `sandbox_pid`: host pid of a process in the sandbox's network namespace, 0 for this host's own. `token`: what a
    client must send as the password of Proxy-Authorization or SOCKS5. `uid`: the only user whose processes may connect.
    `executables`: whether to look up the peer's program; without it the fact is stated as missing.
    """

    principal: Principal = ANONYMOUS
    sandbox_pid: int = 0
    token: str = field(default="", repr=False)
    uid: int | None = None
    executables: bool = True
    label: str = ""


class Ends:
    """The two addresses of an accepted TCP connection, as a socket would tell them."""

    __slots__ = ("_local", "_peer", "family")

    def __init__(self, family: int, peer: tuple[str, int], local: tuple[str, int]) -> None:
        self.family, self._peer, self._local = family, peer, local

    def getpeername(self) -> tuple[str, int]:
        """Return address and port of the client."""
        return self._peer

    def getsockname(self) -> tuple[str, int]:
        """Return the address and port that it connected to."""
        return self._local


@dataclass(frozen=True, slots=True)
class Peer:
    """An established peer. `changed` is set when its program is not the file that was pinned for its path."""

    pid: int
    uid: int
    executable: Executable | None
    changed: bool = False


@dataclass(frozen=True, slots=True)
class _File:
    device: int
    inode: int
    mtime: int
    size: int


class Identities:
    """Looks peers up; keeps pins for the life of the guard and a bounded cache of processes."""

    def __init__(self) -> None:
        self._diagnosis = SocketDiagnosis()
        self._hashing = False
        self._pins: dict[tuple[int, str], tuple[_File, str]] = {}
        self._digests: OrderedDict[_File, str] = OrderedDict()
        self._processes: OrderedDict[tuple[int, int], tuple[Executable | None, bool]] = OrderedDict()
        self._likely: OrderedDict[tuple[int, int], None] = OrderedDict()

    def identify(
        self, connection: socket.socket | Ends, identity: ListenerIdentity, *, hashing: bool = False
    ) -> Peer | None:
        """Return the peer of an accepted connection, or None when it cannot be established.

        Raises ForeignPeerError for a peer of another sandbox or user, NotHashedError (unless `hashing`) for a program of
        more than HASHED_INLINE_BYTES_MAX that is seen for the first time.
        """
        self._hashing = hashing
        if not identity.executables and identity.uid is None and connection.family != socket.AF_UNIX:
            return Peer(0, -1, None)  # nobody asks who it is
        if isinstance(connection, socket.socket) and connection.family == socket.AF_UNIX:
            found: tuple[int, int] | None = _unix_peer(connection)
            if found is not None and identity.sandbox_pid and not same_network(found[0], identity.sandbox_pid):
                raise ForeignPeerError("the peer is not in this sandbox")
        else:
            found = self._tcp_peer(connection, identity.sandbox_pid, wanted=identity.executables)
        if found is None:
            return None
        pid, uid = found
        if identity.uid is not None and uid != identity.uid:
            raise ForeignPeerError("the peer belongs to another user")
        if not identity.executables or pid <= 0:
            return Peer(pid, uid, None)
        executable, changed = self._executable(pid, identity.sandbox_pid)
        return Peer(pid, uid, executable, changed)

    # ---- TCP: address pair -> inode -> process -------------------------------------------------------------------

    def _tcp_peer(self, connection: socket.socket | Ends, sandbox_pid: int, *, wanted: bool) -> tuple[int, int] | None:
        local, remote = connection.getsockname(), connection.getpeername()
        if sandbox_pid:
            found = socket_of_pair(sandbox_pid, connection.family, remote, local)
        else:
            found = self._diagnosis.find(connection.family, remote, local)
        if found is None:
            return None
        inode, uid = found
        if not wanted:
            return 0, uid
        pid = self._holder(inode, sandbox_pid)
        return (0, uid) if pid is None else (pid, uid)

    def _holder(self, inode: int, sandbox_pid: int) -> int | None:
        """Return the process that holds a socket; recently seen processes are asked first."""
        target = f"socket:[{inode}]"
        for pid, start in reversed(self._likely):
            if start_time(pid) == start and holds(pid, target):
                return None if held_by_another(pid, target, sandbox_pid) else pid
        namespace = network_of(sandbox_pid or os.getpid())
        holders = [pid for pid in pids() if network_of(pid) == namespace and holds(pid, target)]
        if not holders:
            return None
        if len({exe_name(pid) for pid in holders}) > 1:
            return None  # shared by different programs: nobody can say who wrote the bytes
        pid = holders[0]
        self._likely[(pid, start_time(pid))] = None
        self._likely.move_to_end((pid, start_time(pid)))
        while len(self._likely) > 16:
            self._likely.popitem(last=False)
        return pid

    # ---- process -> executable -----------------------------------------------------------------------------------

    def _executable(self, pid: int, sandbox_pid: int) -> tuple[Executable | None, bool]:
        start = start_time(pid)
        name = exe_name(pid)
        if not start or not name:
            return None, False
        held = self._processes.get((pid, start))
        if held is not None and held[0] is not None and held[0].path == name and held[0].script == script(pid, name):
            return held
        answer = self._examine(pid, name, sandbox_pid)
        if start_time(pid) != start or exe_name(pid) != name:
            return None, False  # it exec'ed or was replaced while we looked
        self._processes[(pid, start)] = answer
        while len(self._processes) > PROCESS_CACHE_MAX:
            self._processes.popitem(last=False)
        return answer

    def _examine(self, pid: int, name: str, sandbox_pid: int) -> tuple[Executable | None, bool]:
        if name.endswith(" (deleted)"):
            return Executable(name.removesuffix(" (deleted)"), (), "", ""), True
        try:
            digest, record = self._digest(f"/proc/{pid}/exe", hashing=self._hashing)
        except OSError:
            return None, False
        if len(self._pins) >= PINS_MAX and (sandbox_pid, name) not in self._pins:
            return None, False
        pin = self._pins.setdefault((sandbox_pid, name), (record, digest))
        changed = pin[1] != digest
        return Executable(name, ancestors(pid, sandbox_pid), f"sha256:{digest}", script(pid, name)), changed

    def learn(self, pid: int) -> None:
        """Hash the program of a process, on whatever thread this runs."""
        with contextlib.suppress(OSError):
            self._digest(f"/proc/{pid}/exe", hashing=True)

    def _digest(self, path: str, *, hashing: bool) -> tuple[str, _File]:
        with open(path, "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            record = _File(status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
            held = self._digests.get(record)
            if held is None:
                if status.st_size > EXECUTABLE_BYTES_MAX:
                    raise OSError("executable is too large to hash")
                if status.st_size > HASHED_INLINE_BYTES_MAX and not hashing:
                    raise NotHashedError(int(path.split("/")[2]))
                held = hashlib.file_digest(file, "sha256").hexdigest()
                self._digests[record] = held
                while len(self._digests) > PROCESS_CACHE_MAX:
                    self._digests.popitem(last=False)
        return held, record


class SocketDiagnosis:
    """Asks this machine's kernel for the socket of an address pair (sock_diag(7)): one exact lookup.

    `/proc/net/tcp` lists every socket, those in TIME_WAIT too: milliseconds on a busy machine. In a sandbox's namespace
    it is short, and no netlink socket of ours reaches there without privileges.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def find(self, family: int, source: tuple[str, int], destination: tuple[str, int]) -> tuple[int, int] | None:
        """Return (inode, uid) of the socket with this local and remote address, or None. Raises OSError."""
        if self._socket is None:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
            self._socket.settimeout(DIAGNOSIS_SECONDS_MAX)
        pair = [socket.inet_pton(family, end[0].partition("%")[0]) for end in (source, destination)]
        ports = struct.pack(">HH", source[1], destination[1])
        identity = ports + b"".join(raw.ljust(16, b"\0") for raw in pair) + struct.pack("=III", 0, *_NO_COOKIE)
        request = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + identity
        self._socket.send(struct.pack("=IHHII", 16 + len(request), _BY_FAMILY, 1, 1, 0) + request)
        answer = self._socket.recv(8192)
        if len(answer) < 88 or struct.unpack_from("=H", answer, 4)[0] != _BY_FAMILY:
            return None
        if answer[20:24] != ports or answer[24:56] != identity[4:36]:
            return None
        uid, inode = struct.unpack_from("=II", answer, 16 + 64)
        return (inode, uid) if inode else None


def _unix_peer(connection: socket.socket) -> tuple[int, int] | None:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", raw)
    return (pid, uid) if pid > 0 else None
