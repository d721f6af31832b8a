"""The system call filter: a rule table and its compiler to classic BPF. Pure: bytes out, nothing is loaded here.

The threat: a program inside the sandbox reaches for kernel surface that no ordinary program needs (mounts, tracing, other
name spaces, BPF, io_uring, keys, raw sockets, terminal injection) or leaves a set-user-id file in a shared workspace.
Families are denied by name; calls newer than the table answer ENOSYS, so that a new kernel never widens the sandbox.
Where an argument decides, only the low 32 bits that the kernel itself reads are compared (an `ioctl` request with junk in
its upper half is the same request).

Sources: Linux UAPI headers (numbers), Documentation/userspace-api/seccomp_filter.rst (order: architecture first).
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agent_os.core.errors import EnforcementError

MAX_INSTRUCTIONS: Final = 4096
"""BPF_MAXINSNS of the kernel; a longer program is refused."""
LAST_KNOWN_CALL: Final = 450
"""set_mempolicy_home_node (Linux 5.17): every later call answers ENOSYS and C libraries fall back."""
X32_BIT: Final = 0x40000000

AUDIT_ARCH: Final[Mapping[str, int]] = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_KILL: Final = 0x80000000
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000

_ABSENT: Final = -1
"""Name -> numbers on x86_64 and aarch64."""
CALLS: Final[Mapping[str, tuple[int, int]]] = {
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "kcmp": (312, 272), "pidfd_getfd": (438, 438), "bpf": (321, 280),
    "perf_event_open": (298, 241), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "userfaultfd": (323, 282), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105),
    "finit_module": (313, 273), "delete_module": (176, 106), "create_module": (174, _ABSENT),
    "query_module": (178, _ABSENT), "get_kernel_syms": (177, _ABSENT), "reboot": (169, 142), "clock_settime": (227, 112),
    "clock_adjtime": (305, 266), "settimeofday": (164, 170), "adjtimex": (159, 171), "swapon": (167, 224),
    "swapoff": (168, 225), "setns": (308, 268), "unshare": (272, 97), "clone": (56, 220), "clone3": (435, 435),
    "acct": (163, 89), "quotactl": (179, 60), "quotactl_fd": (443, 443), "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264), "lookup_dcookie": (212, 18), "iopl": (172, _ABSENT), "ioperm": (173, _ABSENT),
    "modify_ldt": (154, _ABSENT), "vhangup": (153, 58), "syslog": (103, 116), "sethostname": (170, 161),
    "setdomainname": (171, 162), "nfsservctl": (180, 42), "personality": (135, 92), "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263), "move_pages": (279, 239), "mbind": (237, 235), "migrate_pages": (256, 238),
    "set_mempolicy": (238, 237), "set_mempolicy_home_node": (450, 450), "uselib": (134, _ABSENT), "ustat": (136, _ABSENT),
    "sysfs": (139, _ABSENT), "_sysctl": (156, _ABSENT), "afs_syscall": (183, _ABSENT), "tuxcall": (184, _ABSENT),
    "security": (185, _ABSENT), "getpmsg": (181, _ABSENT), "putpmsg": (182, _ABSENT), "vserver": (236, _ABSENT),
    "socket": (41, 198), "socketpair": (53, 199), "ioctl": (16, 29), "chmod": (90, _ABSENT), "fchmod": (91, 52),
    "fchmodat": (268, 53), "open": (2, _ABSENT), "openat": (257, 56), "openat2": (437, 437), "creat": (85, _ABSENT),
    "mkdir": (83, _ABSENT), "mkdirat": (258, 34), "mknod": (133, _ABSENT), "mknodat": (259, 33),
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "getpid": (39, 172), "write": (1, 64),
    "execve": (59, 221), "execveat": (322, 281), "fork": (57, _ABSENT), "vfork": (58, _ABSENT), "connect": (42, 203),
    "bind": (49, 200), "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "unlink": (87, _ABSENT),
    "unlinkat": (263, 35), "rename": (82, _ABSENT), "renameat": (264, 38), "renameat2": (316, 276), "rmdir": (84, _ABSENT),
    "link": (86, _ABSENT), "linkat": (265, 37), "symlink": (88, _ABSENT), "symlinkat": (266, 36), "truncate": (76, 45),
    "chown": (92, _ABSENT), "lchown": (94, _ABSENT), "fchownat": (260, 54), "utimensat": (280, 88), "setxattr": (188, 5),
    "lsetxattr": (189, 6), "setitimer": (38, 103), "prlimit64": (302, 261), "setrlimit": (160, 164),
}  # fmt: skip

_MOUNTING: Final = (
    "mount", "umount2", "pivot_root", "chroot", "open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick",
    "mount_setattr",
)  # fmt: skip
_ADMINISTRATION: Final = (
    "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "create_module", "query_module",
    "get_kernel_syms", "reboot", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd", "syslog", "vhangup", "nfsservctl",
)  # fmt: skip
_OBSOLETE: Final = (
    "uselib", "ustat", "sysfs", "_sysctl", "afs_syscall", "tuxcall", "security", "getpmsg", "putpmsg", "vserver",
)  # fmt: skip
NAMESPACE_FLAGS: Final = 0x7E020080
"""CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET; clone() reads NEWTIME as a signal bit."""
CLONE_NAMESPACE_FLAGS: Final = 0x7E020000
CLONE_THREAD: Final = 0x00010000
SET_ID_BITS: Final = 0o6000
O_CREATES: Final = 0o100 | 0o20000000  # O_CREAT, __O_TMPFILE
TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD = 0x5412, 0x541C, 0x541D, 0x5423
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
SOCK_STREAM, SOCK_DGRAM, SOCK_RAW = 1, 2, 3
IPPROTO_TCP, IPPROTO_UDP, NETLINK_ROUTE = 6, 17, 0
PER_LINUX, ADDR_NO_RANDOMIZE, PERSONALITY_QUERY = 0, 0x0040000, 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Test:
    """One comparison of an argument's low half: `value & mask` is (or, `negated`, is not) one of `values`."""

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF
    negated: bool = False

    def to_json(self) -> dict[str, object]:
        """Return the printable form."""
        relation = "not in" if self.negated else "in"
        return {"argument": self.argument, "mask": hex(self.mask), relation: [hex(value) for value in self.values]}


@dataclass(frozen=True, slots=True)
class CallRule:
    """Calls that answer `errno` (a name) when every test holds; with no tests, always. `why` is for the reader."""

    calls: tuple[str, ...]
    answer: str
    why: str
    tests: tuple[Test, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return the printable form."""
        form: dict[str, object] = {"calls": list(self.calls), "answer": self.answer, "why": self.why}
        if self.tests:
            form["when"] = [test.to_json() for test in self.tests]
        return form


def call_rules(*, sockets: bool, memory_counted: bool) -> tuple[CallRule, ...]:
    """Return the rule table. `sockets`: internet sockets may be made (the sandbox has a network name space of its own).

    `memory_counted`: a cgroup counts shared memory; without one, memory that no resident-set count sees is denied.
    """
    internet = (AF_INET, AF_INET6) if sockets else ()
    rules = [
        CallRule(
            _MOUNTING,
            "EPERM", "the private root must stay as it was built"),
        CallRule(("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd"), "EPERM",
                 "no reaching into other processes"),
        CallRule(("bpf", "perf_event_open", "userfaultfd", "fanotify_init", "fanotify_mark", "lookup_dcookie"), "EPERM",
                 "kernel programming and tracing surface"),
        CallRule(("io_uring_setup", "io_uring_enter", "io_uring_register"), "ENOSYS",
                 "io_uring performs calls that no filter sees"),
        CallRule(("keyctl", "add_key", "request_key"), "EPERM", "key rings are not name-spaced"),
        CallRule(_ADMINISTRATION,
                 "EPERM", "administration of the machine"),
        CallRule(("clock_settime", "clock_adjtime", "settimeofday", "adjtimex"), "EPERM", "the clock is the machine's"),
        CallRule(("setns",), "EPERM", "no other name spaces"),
        CallRule(("clone3",), "ENOSYS", "its flags lie in memory, out of the filter's sight; libraries fall back to clone"),
        CallRule(("unshare",), "EPERM", "no new name spaces", (Test(0, (0,), NAMESPACE_FLAGS, negated=True),)),
        CallRule(("clone",), "EPERM", "no new name spaces", (Test(0, (0,), CLONE_NAMESPACE_FLAGS, negated=True),)),
        CallRule(("open_by_handle_at", "name_to_handle_at"), "EPERM", "file handles pass by every mount"),
        CallRule(("iopl", "ioperm", "modify_ldt", "sethostname", "setdomainname"), "EPERM", "machine state"),
        CallRule(("move_pages", "mbind", "migrate_pages", "set_mempolicy", "set_mempolicy_home_node"), "EPERM",
                 "memory placement"),
        CallRule(_OBSOLETE, "ENOSYS",
                 "obsolete"),
        CallRule(("personality",), "EPERM", "old execution domains weaken memory protection",
                 (Test(0, (PER_LINUX, ADDR_NO_RANDOMIZE, PERSONALITY_QUERY), negated=True),)),
        CallRule(("ioctl",), "EPERM", "typing into a terminal, taking the console, changing line discipline",
                 (Test(1, (TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD)),)),
        CallRule(("socket",), "EAFNOSUPPORT", "families beyond local and internet sockets",
                 (Test(0, (AF_UNIX, AF_NETLINK, *internet), negated=True),)),
        CallRule(("socket",), "EPROTONOSUPPORT", "netlink other than the address lists getaddrinfo reads",
                 (Test(0, (AF_NETLINK,)), Test(2, (NETLINK_ROUTE,), negated=True))),
        CallRule(("socketpair",), "EAFNOSUPPORT", "local pairs only", (Test(0, (AF_UNIX,), negated=True),)),
        CallRule(("openat2",), "ENOSYS", "its mode lies in memory, out of the filter's sight; callers fall back"),
        CallRule(("chmod", "fchmod"), "EPERM", "no set-user-id or set-group-id files",
                 (Test(1, (0,), SET_ID_BITS, negated=True),)),
        CallRule(("fchmodat",), "EPERM", "no set-user-id or set-group-id files",
                 (Test(2, (0,), SET_ID_BITS, negated=True),)),
        CallRule(("creat", "mkdir", "mknod"), "EPERM", "no set-user-id or set-group-id files",
                 (Test(1, (0,), SET_ID_BITS, negated=True),)),
        CallRule(("mkdirat", "mknodat"), "EPERM", "no set-user-id or set-group-id files",
                 (Test(2, (0,), SET_ID_BITS, negated=True),)),
        CallRule(("open",), "EPERM", "no set-user-id or set-group-id files",
                 (Test(1, (0,), O_CREATES, negated=True), Test(2, (0,), SET_ID_BITS, negated=True))),
        CallRule(("openat",), "EPERM", "no set-user-id or set-group-id files",
                 (Test(2, (0,), O_CREATES, negated=True), Test(3, (0,), SET_ID_BITS, negated=True))),
    ]  # fmt: skip
    if sockets:
        rules += [
            CallRule(("socket",), "ESOCKTNOSUPPORT", "stream and datagram only, no raw sockets",
                     (Test(0, internet), Test(1, (SOCK_STREAM, SOCK_DGRAM), 0xF, negated=True))),
            CallRule(("socket",), "EPROTONOSUPPORT", "TCP and UDP only: no MPTCP, SCTP, ICMP",
                     (Test(0, internet), Test(2, (0, IPPROTO_TCP, IPPROTO_UDP), negated=True))),
        ]  # fmt: skip
    if not memory_counted:
        rules.append(CallRule(("memfd_create", "memfd_secret", "shmget"), "EPERM",
                              "memory that only a cgroup would count"))  # fmt: skip
    return tuple(rules)


def reading_rules() -> tuple[CallRule, ...]:
    """Return the rules of a process that only computes: what it was given is open, and it may open nothing more."""
    paths = (
        "open", "openat", "openat2", "creat", "unlink", "unlinkat", "rename", "renameat", "renameat2", "rmdir", "link", "linkat",
        "symlink", "symlinkat", "truncate", "chmod", "fchmodat", "chown", "lchown", "fchownat", "utimensat", "setxattr",
        "lsetxattr", "mkdir", "mkdirat", "mknod", "mknodat",
    )  # fmt: skip
    return (
        CallRule(paths, "EACCES", "no file is opened, made or changed"),
        CallRule(("socket", "socketpair", "connect", "bind"), "EACCES", "no network"),
        CallRule(("execve", "execveat", "fork", "vfork"), "EPERM", "no other program"),
        CallRule(("clone",), "EPERM", "threads only", (Test(0, (0,), CLONE_THREAD),)),
        CallRule(("kill", "tkill"), "EPERM", "no signals"),
        CallRule(("setitimer", "setrlimit", "prlimit64"), "EPERM", "its time and memory are bounded for good"),
        *call_rules(sockets=False, memory_counted=False),
    )


def compile_rules(rules: Sequence[CallRule], machine: str) -> bytes:
    """Return the BPF program (8 bytes an instruction, native order) that enforces `rules` on `machine`.

    The verdict of the first rule whose tests hold; no rule: allowed. Raises EnforcementError for an unknown machine.
    """
    if machine not in AUDIT_ARCH:
        raise EnforcementError(["seccomp"], f"no system call table for {machine}")
    column = 0 if machine == "x86_64" else 1
    code: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, 4),
        (_EQUAL, 1, 0, AUDIT_ARCH[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
    ]
    enosys = _ERRNO | errno.ENOSYS
    # x32 numbers lie above the table too: one comparison answers both.
    code += [(_GREATER, 0, 1, LAST_KNOWN_CALL), (_RETURN, 0, 0, enosys)]
    for rule in rules:
        answer = _ERRNO | getattr(errno, rule.answer)
        for name in rule.calls:
            number = CALLS[name][column]
            if number == _ABSENT:
                continue
            body = _body(rule.tests, answer)
            if len(body) > 255:
                raise EnforcementError(["seccomp"], f"rule for {name} is too long")
            code += [(_EQUAL, 0, len(body), number), *body]
    code.append((_RETURN, 0, 0, _ALLOW))
    if len(code) > MAX_INSTRUCTIONS:
        raise EnforcementError(["seccomp"], f"more than {MAX_INSTRUCTIONS} instructions")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


_LOAD, _AND, _EQUAL, _GREATER, _RETURN = 0x20, 0x54, 0x15, 0x25, 0x06


def _body(tests: Sequence[Test], answer: int) -> list[tuple[int, int, int, int]]:
    """Return code that answers if every test holds, and falls out of its end (call number reloaded) if not."""
    tail: list[tuple[int, int, int, int]] = [(_RETURN, 0, 0, answer)]
    if not tests:
        return tail
    tail.append((_LOAD, 0, 0, 0))
    for test in reversed(tests):
        block: list[tuple[int, int, int, int]] = [(_LOAD, 0, 0, 16 + 8 * test.argument)]
        if test.mask != 0xFFFFFFFF:
            block.append((_AND, 0, 0, test.mask))
        count = len(test.values)
        miss = len(tail) - 1  # to the reload of the call number
        for index, value in enumerate(test.values):
            later = count - index - 1
            last = later == 0
            if test.negated:
                block.append((_EQUAL, later + miss, 0, value))
            else:
                block.append((_EQUAL, later, miss if last else 0, value))
        if not test.values and not test.negated:
            block.append((_EQUAL, miss, miss, 0))
        tail = block + tail
    return tail
